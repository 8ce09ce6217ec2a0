"""`raftpay account …`: open accounts, look at them, and the operator's acts on them."""

from collections.abc import Iterator
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from raftpay.client import Client
from raftpay.ledger.records import QUERY_LIMIT_MAX, AccountRecord, AccountsQuery
from raftpay.ledger.types import Account, AccountFlag, OperatorAction
from raftpay.ops import money
from raftpay_cli.amounts import MINOR_HELP, parse_amount, show, split_currency
from raftpay_cli.command import Group, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.ledger import balance, flag_names, not_found, open_client, record_value, result_value, tell_refusal
from raftpay_cli.output import emit, facts, moment, say, table, word
from raftpay_cli.pay import load
from raftpay_cli.settings import Settings

LIST_LIMIT: Final = 100


@click.group(cls=Group)
def account() -> None:
    """Open accounts, look at them, freeze them, change their overdraft limit."""


account.add_command(load)


@account.command()
@click.argument("account_id", metavar="ID")
@click.argument("currency")
@click.option("--code", type=click.IntRange(0, 65535), default=0, help="Your own category, 0 to 65535.")
@click.option("--reference", default="", help="Free text, up to 140 characters.")
@click.option("--no-overdraft", is_flag=True, help="Debits must not exceed credits: the account cannot go below zero.")
@click.option("--overdraft-limit", metavar="AMOUNT", help="As --no-overdraft, but down to this far below zero.")
@click.option("--no-surplus", is_flag=True, help="Credits must not exceed debits: the account cannot go above zero.")
@click.option("--minor", is_flag=True, help=MINOR_HELP)
@pass_settings
def create(
    settings: Settings,
    account_id: str,
    currency: str,
    code: int,
    reference: str,
    no_overdraft: bool,
    overdraft_limit: str | None,
    no_surplus: bool,
    minor: bool,
) -> int:
    """Open the account ID in CURRENCY. Doing it again is harmless: the answer is then "exists".

    \b
    raftpay account create bank EUR
    raftpay account create alice EUR --no-overdraft
    raftpay account create bob EUR --overdraft-limit 500.00
    """
    flags = AccountFlag(0)
    if no_overdraft or overdraft_limit is not None:
        flags |= AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    if no_surplus:
        flags |= AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
    limit = 0 if overdraft_limit is None else _limit(overdraft_limit, currency, is_minor=minor)
    event = Account(account_id, currency, code=code, flags=int(flags), reference=reference, overdraft_limit=limit)
    with open_client(settings) as client:
        outcome = client.create_accounts([event])[0]
    text = Text.assemble(word(outcome.result.wire_name), f"  {account_id} ({currency})")
    value = result_value(account_id, outcome.result, outcome.timestamp)
    if outcome.is_ok or settings.is_json:
        emit(value, is_json=settings.is_json, table=lambda: [text])
    return ExitCode.OK if outcome.is_ok else tell_refusal(account_id, outcome.result)


@account.command("show")
@click.argument("account_id", metavar="ID")
@pass_settings
def show_account(settings: Settings, account_id: str) -> int:
    """Show the account ID: status, limits, balances."""
    with open_client(settings) as client:
        record = client.lookup_accounts([account_id])[0]
    if record is None:
        return not_found("account", account_id, settings)
    found = record
    emit(record_value(found), is_json=settings.is_json, table=lambda: [facts(_facts(found))])
    return ExitCode.OK


@account.command("list")
@click.option("--prefix", default="", metavar="TEXT", help="Only ids that begin with it.")
@click.option("--currency", help="Only accounts in this currency.")
@click.option("--status", type=click.Choice(["open", "frozen", "closed"]), help="Only accounts of this status.")
@click.option("--limit", type=click.IntRange(1), default=LIST_LIMIT, show_default=True, help="At most so many.")
@pass_settings
def list_accounts(settings: Settings, prefix: str, currency: str | None, status: str | None, limit: int) -> int:
    """List accounts in the order of their creation."""
    query = AccountsQuery(prefix=prefix, currency=currency, status=status)  # type: ignore[arg-type]  # a Choice of these
    with open_client(settings) as client:
        records, has_more = _collect(client, query, limit)
    value = {"accounts": [record_value(record) for record in records], "has_more": has_more}
    emit(value, is_json=settings.is_json, table=lambda: [_table(records)])
    if has_more:
        say(f"There are more than {limit}: choose with --prefix, --currency, --status, or raise --limit.")
    return ExitCode.OK


@account.command()
@click.argument("account_id", metavar="ID")
@pass_settings
def freeze(settings: Settings, account_id: str) -> int:
    """Freeze the account ID: nothing moves on it, but what is pending may still be voided or expire."""
    return _operate(settings, OperatorAction.FREEZE, account_id, done="frozen")


@account.command()
@click.argument("account_id", metavar="ID")
@pass_settings
def unfreeze(settings: Settings, account_id: str) -> int:
    """Let the account ID move again."""
    return _operate(settings, OperatorAction.UNFREEZE, account_id, done="no longer frozen")


@account.command()
@click.argument("account_id", metavar="ID")
@click.argument("amount")
@click.option("--minor", is_flag=True, help=MINOR_HELP)
@pass_settings
def limit(settings: Settings, account_id: str, amount: str, minor: bool) -> int:
    """Set how far below zero the account ID may go, such as 500.00."""
    with open_client(settings) as client:
        record = client.lookup_accounts([account_id])[0]
    if record is None:
        return not_found("account", account_id, settings)
    limit_minor = _limit(amount, record.currency, is_minor=minor)
    done = f"allowed to go {show(limit_minor, record.currency)} below zero"
    return _operate(settings, OperatorAction.SET_OVERDRAFT_LIMIT, account_id, overdraft_limit=limit_minor, done=done)


def _limit(text: str, currency: str, *, is_minor: bool) -> int:
    amount, named = split_currency(text)
    if named not in ("", currency):
        raise money.AmountError(f"{text!r}: the account is in {currency}")
    # Zero means the same in every unit.
    return 0 if amount == "0" else parse_amount(amount, currency, is_minor=is_minor)


def _operate(
    settings: Settings, action: OperatorAction, account_id: str, *, done: str, overdraft_limit: int = 0
) -> int:
    with open_client(settings) as client:
        outcome = client.operate(action, account_id, overdraft_limit=overdraft_limit)
    value = {**result_value(account_id, outcome.result, outcome.timestamp), "action": action.name.lower()}
    if outcome.is_ok or settings.is_json:
        emit(value, is_json=settings.is_json, table=lambda: [f"{account_id} is {done}"])
    return ExitCode.OK if outcome.is_ok else tell_refusal(account_id, outcome.result)


def _collect(client: Client, query: AccountsQuery, limit: int) -> tuple[list[AccountRecord], bool]:
    """Up to `limit` accounts over as many pages as it takes, and whether there are more."""
    records: list[AccountRecord] = []
    cursor = ""
    while True:
        wanted = min(limit - len(records), QUERY_LIMIT_MAX)
        page = client.list_accounts(
            AccountsQuery(query.prefix, query.currency, query.status, limit=wanted, cursor=cursor)
        )
        records += page.items
        cursor = page.cursor
        if not cursor or len(records) >= limit:
            return records, bool(cursor)


def _facts(record: AccountRecord) -> Iterator[tuple[str, str | Text]]:
    def amount(minor: int) -> str:
        return show(minor, record.currency)

    yield "account", record.id
    yield "status", word(record.status)
    yield "balance", Text(amount(balance(record)), style="bold")
    yield "posted", f"{amount(record.credits_posted)} credited, {amount(record.debits_posted)} debited"
    yield "pending", f"{amount(record.credits_pending)} to come in, {amount(record.debits_pending)} to go out"
    flags = AccountFlag(record.flags)
    if flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
        yield "overdraft", f"up to {amount(record.overdraft_limit)}"
        free = balance(record) - record.debits_pending + record.overdraft_limit
        yield "available", amount(free) if record.status == "open" else f"nothing while it is {record.status}"
    if flags:
        yield "flags", ", ".join(flag_names(flags))
    if record.code:
        yield "code", str(record.code)
    if record.reference:
        yield "reference", record.reference
    yield "created", moment(record.created_at)


def _table(records: list[AccountRecord]) -> Table:
    # No more than 80 columns hold; the rest is in `show` and in the JSON.
    numbers = ["balance", "pending in", "pending out", "overdraft"]
    shown = table("account", "currency", "status", *numbers, right=numbers, whole=["currency", "status"])
    for record in records:
        has_limit = record.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
        shown.add_row(
            record.id,
            record.currency,
            word(record.status),
            money.format(balance(record), record.currency),
            money.format(record.credits_pending, record.currency),
            money.format(record.debits_pending, record.currency),
            money.format(record.overdraft_limit, record.currency) if has_limit else "free",
        )
    return shown
