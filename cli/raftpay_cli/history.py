"""`raftpay history ACCOUNT`: a statement, every transfer of an account with the balance after it."""

from typing import Any, Final

import click
import msgspec
from rich.table import Table

from raftpay.client import Client
from raftpay.ledger.records import QUERY_LIMIT_MAX, AccountQuery, AccountRecord, BalanceRecord, TransferRecord
from raftpay.ledger.types import TIME_MAX, TransferFlag
from raftpay.ops import money
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.ledger import balance, flag_names, not_found, open_client, record_value
from raftpay_cli.output import emit, say, second, table
from raftpay_cli.periods import nanoseconds
from raftpay_cli.settings import Settings

HISTORY_LIMIT: Final = 50

# A change of an account: the balances after it, and the transfer that made it (None: a pending one expired).
Line = tuple[BalanceRecord, TransferRecord | None]


def _moment(_context: click.Context, parameter: click.Parameter, text: str | None) -> int:
    """An option's ISO 8601 time, UTC where no zone is given, as nanoseconds since the epoch."""
    if text is None:
        return 0 if parameter.name == "time_from" else TIME_MAX
    return nanoseconds(text)


@click.command(cls=Command)
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--from", "time_from", callback=_moment, metavar="TIME", help="Not before, ISO 8601, UTC.")
@click.option("--to", "time_to", callback=_moment, metavar="TIME", help="Not after, ISO 8601, UTC.")
@click.option("--code", type=click.IntRange(0, 65535), help="Only transfers with this code.")
@click.option("--direction", type=click.Choice(["debit", "credit"]), help="Only money that goes out, or comes in.")
@click.option("--oldest-first", is_flag=True, help="In the order of time; otherwise the newest comes first.")
@click.option("--limit", type=click.IntRange(1), default=HISTORY_LIMIT, show_default=True, help="At most so many.")
@pass_settings
def history(
    settings: Settings,
    account_id: str,
    time_from: int,
    time_to: int,
    code: int | None,
    direction: str | None,
    oldest_first: bool,
    limit: int,
) -> int:
    """Show the transfers of ACCOUNT, each with the balance after it."""
    query = AccountQuery(
        account_id,
        time_from=time_from,
        time_to=time_to,
        code=code,
        direction=direction or "",  # type: ignore[arg-type]  # a Choice of these
        newest_first=not oldest_first,
    )
    with open_client(settings) as client:
        record = client.lookup_accounts([account_id])[0]
        if record is None:
            return not_found("account", account_id, settings)
        lines, has_more = _collect(client, query, limit)
    account = record
    value = {"account": account_id, "lines": [_line_value(line) for line in lines], "has_more": has_more}
    emit(value, is_json=settings.is_json, table=lambda: [_table(account, lines)])
    if has_more:
        say(f"There are more than {limit}: choose with --from, --to, --code, --direction, or raise --limit.")
    return ExitCode.OK


def _collect(client: Client, query: AccountQuery, limit: int) -> tuple[list[Line], bool]:
    """Up to `limit` changes over as many pages as it takes, and whether there are more."""
    lines: list[Line] = []
    cursor = ""
    while True:
        # One more than is shown: a cursor alone does not say that anything comes behind it.
        wanted = min(limit + 1 - len(lines), QUERY_LIMIT_MAX)
        page = client.account_balances(msgspec.structs.replace(query, limit=wanted, cursor=cursor))
        ids = [change.transfer_id for change in page.items if change.transfer_id]
        found = dict(zip(ids, client.lookup_transfers(ids), strict=True)) if ids else {}
        lines += [(change, found.get(change.transfer_id)) for change in page.items]
        cursor = page.cursor
        if not cursor or len(lines) > limit:
            return lines[:limit], len(lines) > limit


def _line_value(line: Line) -> dict[str, Any]:  # Any: what json carries
    change, transfer = line
    return {
        "balances": msgspec.structs.asdict(change),
        "transfer": None if transfer is None else record_value(transfer),
    }


def _table(account: AccountRecord, lines: list[Line]) -> Table:
    numbers = ["out", "in", "balance"]
    shown = table("time (UTC)", "transfer", "with", "kind", *numbers, "reference", right=numbers, whole=["time (UTC)"])
    for change, transfer in lines:
        after = money.format(balance(change), account.currency)
        if transfer is None:
            shown.add_row(second(change.timestamp), "-", "-", "expired", "", "", after, "")
            continue
        is_out = transfer.debit_account == account.id
        amount = money.format(transfer.amount, account.currency)
        shown.add_row(
            second(change.timestamp),
            transfer.id,
            transfer.credit_account if is_out else transfer.debit_account,
            _kind(transfer),
            amount if is_out else "",
            "" if is_out else amount,
            after,
            transfer.reference,
        )
    return shown


def _kind(transfer: TransferRecord) -> str:
    """What kind of movement it is; what is only reserved must not read as money moved."""
    names = [name.removesuffix("_pending") for name in flag_names(TransferFlag(transfer.flags))]
    if transfer.pending_status:
        names = [name for name in names if name != "pending"]
        return ", ".join(
            ["pending" if transfer.pending_status == "pending" else f"pending, {transfer.pending_status}", *names]
        )
    return ", ".join(names)
