"""`raftpay transfer …`: move money, post, void or reverse what was moved, and look at one transfer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
from rich.text import Text

from raftpay.client import Client, new_id
from raftpay.errors import ClientError, OutcomeUnknown, Rejected
from raftpay.ledger.records import TransferRecord
from raftpay.ledger.types import Transfer, TransferFlag
from raftpay_cli.amounts import MINOR_HELP, parse_amount, show, split_currency
from raftpay_cli.command import Group, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.ledger import flag_names, not_found, open_client, record_value, result_value, tell_refusal
from raftpay_cli.output import emit, facts, moment, say, word
from raftpay_cli.settings import Settings

TARGETS: Final = {
    "post": TransferFlag.POST_PENDING,
    "void": TransferFlag.VOID_PENDING,
    "reverse": TransferFlag.REVERSAL,
}


class TransferGroup(Group):
    """`raftpay transfer bank alice 12.34` is `raftpay transfer create bank alice 12.34`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TransferGroup, subcommand_metavar="DEBIT CREDIT AMOUNT | create … | show ID")
def transfer() -> None:
    """Move money from one account to another.

    \b
    raftpay transfer bank alice 12.34            in the accounts' currency
    raftpay transfer bank alice 12.34 EUR        refused unless the accounts are in it
    raftpay transfer alice shop 9.50 --pending --timeout 3600
    raftpay transfer --post ID                   all that is pending; or a part: --post ID 5.00
    raftpay transfer --void ID
    raftpay transfer --reverse ID                all of it; or a part: --reverse ID 5.00
    raftpay transfer show ID

    `raftpay transfer create --help` lists all options.
    """


@dataclass(frozen=True, slots=True)
class _Asked:
    """The words of the command line, sorted. Empty where not given; amount None: all of the target."""

    debit_account: str
    credit_account: str
    amount: str | None
    currency: str


@transfer.command()
@click.argument("words", nargs=-1, metavar="[DEBIT CREDIT] [AMOUNT] [CURRENCY]")
@click.option("--id", "transfer_id", help="The transfer's id; a new one otherwise. Give it when you try again.")
@click.option("--currency", default="", help="Refuse the transfer unless the accounts are in this currency.")
@click.option("--code", type=click.IntRange(0, 65535), default=0, help="Your own category, 0 to 65535.")
@click.option("--reference", default="", help="Free text, up to 140 characters.")
@click.option("--pending", is_flag=True, help="Only reserve the amount; --post or --void it later.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(0),
    default=0,
    metavar="SECONDS",
    help="With --pending: expires after so long; 0 is never.",
)
@click.option("--post", metavar="ID", help="Post the pending transfer ID, all of it or AMOUNT.")
@click.option("--void", metavar="ID", help="Void the pending transfer ID.")
@click.option("--reverse", metavar="ID", help="Send the posted transfer ID back, all of it or AMOUNT.")
@click.option("--balancing-debit", is_flag=True, help="AMOUNT is a maximum: move what the debit account has.")
@click.option("--balancing-credit", is_flag=True, help="AMOUNT is a maximum: move what the credit account owes.")
@click.option("--closing-debit", is_flag=True, help="With --pending: close the debit account; voiding opens it again.")
@click.option(
    "--closing-credit", is_flag=True, help="With --pending: close the credit account; voiding opens it again."
)
@click.option("--minor", is_flag=True, help=MINOR_HELP)
@pass_settings
def create(
    settings: Settings,
    /,
    words: tuple[str, ...],
    transfer_id: str | None,
    currency: str,
    code: int,
    reference: str,
    timeout_s: int,
    minor: bool,
    **options: str | bool | None,
) -> int:
    """Create a transfer: AMOUNT from the account DEBIT to the account CREDIT.

    AMOUNT is written with the decimals of its currency: 12.34 of EUR, 1200 of JPY. A whole number of a currency that
    has decimals is refused, since 1234 could be meant as 1234.00 or as 12.34; --minor says that it is minor units.
    Repeat a transfer whose answer was lost with the same --id: it takes effect once.
    """
    target, flags = _flags(options)
    asked = _sort_words(words, currency, has_target=bool(target), is_void=bool(flags & TransferFlag.VOID_PENDING))
    event_id = transfer_id or new_id()
    with open_client(settings) as client:
        unit = asked.currency or _currency_of(client, asked, target)
        amount = None if asked.amount is None else parse_amount(asked.amount, unit, is_minor=minor)
        event = Transfer(
            event_id,
            asked.debit_account,
            asked.credit_account,
            amount,
            code=code,
            flags=int(flags),
            reference=reference,
            currency=unit,
            target_id=target,
            timeout_s=timeout_s,
        )
        return _send(settings, client, event)


@transfer.command("show")
@click.argument("transfer_id", metavar="ID")
@pass_settings
def show_transfer(settings: Settings, transfer_id: str) -> int:
    """Show the transfer ID as it is in the books."""
    with open_client(settings) as client:
        record = client.lookup_transfers([transfer_id])[0]
    if record is None:
        return not_found("transfer", transfer_id, settings)
    found = record
    emit(record_value(found), is_json=settings.is_json, table=lambda: [facts(_facts(found))])
    return ExitCode.OK


def _flags(options: dict[str, str | bool | None]) -> tuple[str, TransferFlag]:
    """The target's id, empty without one, and the flags."""
    targets = [name for name in TARGETS if options[name] is not None]
    if len(targets) > 1:
        raise click.UsageError(f"--{targets[0]} and --{targets[1]} exclude each other")
    flags = TransferFlag(0)
    for name, given in options.items():
        if name in TARGETS:
            flags |= TARGETS[name] if given is not None else TransferFlag(0)
        elif given:
            flags |= TransferFlag[name.upper()]
    return (str(options[targets[0]]) if targets else ""), flags


def _sort_words(words: Sequence[str], currency: str, *, has_target: bool, is_void: bool) -> _Asked:
    """Which word is what: [DEBIT CREDIT] [AMOUNT] [CURRENCY], accounts and amount only where they make sense."""
    rest = list(words)
    debit_account = credit_account = ""
    if not has_target:
        if len(rest) not in (3, 4):
            raise click.UsageError(
                "expected DEBIT CREDIT AMOUNT [CURRENCY], as in: raftpay transfer bank alice 12.34 EUR"
            )
        debit_account, credit_account = rest[:2]
        rest = rest[2:]
    elif is_void and rest:
        raise click.UsageError("--void takes all of the target: leave out accounts and amount")
    elif len(rest) > 2:
        raise click.UsageError("the target gives the accounts: expected nothing more than [AMOUNT [CURRENCY]]")
    amount, named = split_currency(" ".join(rest))
    if currency and named and currency != named:
        raise click.UsageError(f"{named} or --currency {currency}?")
    return _Asked(debit_account, credit_account, amount or None, named or currency)


def _currency_of(client: Client, asked: _Asked, target: str) -> str:
    """The currency that decides how the amount is read: that of the target, or of the accounts.

    Empty when no amount is given. Raises Rejected when what would give it does not exist.
    """
    if asked.amount is None:
        return ""
    if target:
        record = client.lookup_transfers([target])[0]
        found = "" if record is None else record.currency
    else:
        accounts = client.lookup_accounts([asked.debit_account, asked.credit_account])
        found = next((account.currency for account in accounts if account is not None), "")
    if not found:
        missing = f"transfer {target!r}" if target else f"account {asked.debit_account!r} or {asked.credit_account!r}"
        raise Rejected(f"there is no {missing}, so the currency of {asked.amount} is not known: correct the id")
    return found


def _send(settings: Settings, client: Client, event: Transfer) -> int:
    try:
        outcome = client.create_transfers([event])[0]
    except OutcomeUnknown as error:
        raise OutcomeUnknown(f"{error}\n{_again(event.id)}") from error
    except KeyboardInterrupt:
        say(f"It may have happened. {_again(event.id)}")
        raise
    record = _look_up(client, event.id) if outcome.is_ok else None
    value = {
        **result_value(event.id, outcome.result, outcome.timestamp),
        "transfer": None if record is None else record_value(record),
    }
    if outcome.is_ok or settings.is_json:
        pairs = [("result", word(outcome.result.wire_name)), *(_facts(record) if record else [("transfer", event.id)])]
        emit(value, is_json=settings.is_json, table=lambda: [facts(pairs)])
    return ExitCode.OK if outcome.is_ok else tell_refusal(event.id, outcome.result)


def _again(transfer_id: str) -> str:
    return f"See what became of it: raftpay transfer show {transfer_id}; or run it again with --id {transfer_id}"


def _look_up(client: Client, transfer_id: str) -> TransferRecord | None:
    """How it stands in the books. It has happened by now, so an error here must not read as if it had not."""
    try:
        return client.lookup_transfers([transfer_id])[0]
    except ClientError as error:
        say(f"It has been made, but could not be looked up: {error}")
        return None


def _facts(record: TransferRecord) -> Iterator[tuple[str, str | Text]]:
    yield "transfer", record.id
    yield "amount", Text(show(record.amount, record.currency), style="bold")
    yield "from", record.debit_account
    yield "to", record.credit_account
    if record.pending_status:
        yield "status", word(record.pending_status)
    if record.flags:
        yield "flags", ", ".join(flag_names(TransferFlag(record.flags)))
    if record.target_id:
        yield "target", record.target_id
    if record.timeout_s:
        yield "expires", moment(record.timestamp + record.timeout_s * 1_000_000_000)
    if record.code:
        yield "code", str(record.code)
    if record.reference:
        yield "reference", record.reference
    yield "time", moment(record.timestamp)
