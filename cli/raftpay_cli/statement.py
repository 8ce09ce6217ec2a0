"""`raftpay statement ACCOUNT`: what was booked in a period, from its opening to its closing balance.

Written as it is read, a page at a time: neither a table that measures all its rows nor a list of them is made.
"""

import json
import sys
from typing import Any, Final

import click
import msgspec

from raftpay.ledger.records import BalanceRecord
from raftpay.ledger.types import TIME_MAX, TransferFlag
from raftpay.ops import money
from raftpay.ops.statement import Line, Period, Statement, posted
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.ledger import not_found, open_client, record_value
from raftpay_cli.output import second
from raftpay_cli.periods import period
from raftpay_cli.root import complain
from raftpay_cli.settings import Settings

# Widths of the columns of text; longer words move what is behind them to the right.
_NUMBER: Final = 15
_TIME, _ID, _ACCOUNT, _KIND, _CODE = 19, 36, 20, 8, 5
_KINDS: Final = {TransferFlag.POST_PENDING: "post", TransferFlag.REVERSAL: "reversal"}


@click.command(cls=Command)
@click.argument("account_id", metavar="ACCOUNT")
@click.option("--from", "begin", metavar="DATE", help="The first day, or an instant: included. ISO 8601, UTC.")
@click.option("--to", "end", metavar="DATE", help="The last day, whole; or an instant: not included. ISO 8601, UTC.")
@pass_settings
def statement(settings: Settings, account_id: str, begin: str | None, end: str | None) -> int:
    """Print a statement of ACCOUNT: opening balance, each transfer that moved money, totals, closing balance.

    --from 2026-01-01 --to 2026-01-31 is January. Without --from it begins with the account, without --to it ends with
    what was in the books when the command began. Pending transfers are no lines until they are posted (see history).
    """
    asked = period(begin, end)
    with open_client(settings) as client:
        account = client.lookup_accounts([account_id])[0]
        if account is None:
            return not_found("account", account_id, settings)
        found = Statement(client, account, asked)
        if settings.is_json:
            _write_json(found, asked)
        else:
            _write_text(found, asked)
    if complaint := _complaint(found):
        complain(complaint)
        return ExitCode.REFUSED
    return ExitCode.OK


def _complaint(found: Statement) -> str:
    """What is wrong with a statement whose lines have all been read; empty if nothing is."""
    debits, credits_ = found.difference()
    if not debits and not credits_:
        return ""
    return (
        f"the statement of {found.account.id} does not add up: opening balance and lines exceed the closing balance by "
        f"{debits} minor units of debits and {credits_} of credits, expected 0. If transfers of the past were imported "
        "just now, run it again; else the books are damaged: run `raftpay check --deep`"
    )


# ---- JSON


def _write_json(found: Statement, asked: Period) -> None:
    """One document, a line of text for each line of the statement."""
    account = found.account
    head = {"account": account.id, "currency": account.currency, "from": asked.first, "to": _end(asked)}
    _write(_json({**head, "opening": _balances(found.opening)})[:-1] + ', "lines": [')
    separator = "\n"
    for lines in found.pages():
        _write(separator + ",\n".join(_json(_line_value(line)) for line in lines))
        separator = ",\n"
    tail = {
        "line_count": found.line_count,
        "debits": found.debits,
        "credits": found.credits,
        "closing": _balances(found.closing),
        "is_good": not _complaint(found),
    }
    _write("\n], " + _json(tail)[1:] + "\n")


def _end(asked: Period) -> int:
    return 0 if asked.last == TIME_MAX else asked.last + 1


# Any: what json carries.
def _line_value(line: Line) -> dict[str, Any]:
    return {
        "direction": "debit" if line.is_debit else "credit",
        "counterparty": line.counterparty,
        "balance": line.balance,
        "transfer": record_value(line.transfer),
    }


def _balances(record: BalanceRecord) -> dict[str, Any]:
    return {"balance": posted(record), **msgspec.structs.asdict(record)}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---- text


def _write_text(found: Statement, asked: Period) -> None:
    account, currency = found.account, found.account.currency
    begin = second(asked.first) if asked.first else "its opening"
    if _end(asked):
        end = f"before {second(asked.last + 1)}"
    elif found.closing.timestamp < asked.first:
        end = f"now, its last change was before, {second(found.closing.timestamp)}"
    else:
        end = f"its last change, {second(found.closing.timestamp)}"
    _write(f"Statement of {account.id}, {currency}, from {begin} to {end}, UTC\n\n")
    _write(_row("time (UTC)", ("out", "in", "balance"), _words("transfer", "with", "kind", "code", "reference")))
    _write(_row("", ("", "", money.format(posted(found.opening), currency)), "opening balance"))
    for lines in found.pages():
        _write("".join(_line_text(line, currency) for line in lines))
    totals = (money.format(found.debits, currency), money.format(found.credits, currency))
    _write(_row("", (*totals, money.format(posted(found.closing), currency)), "totals, closing balance"))
    _write(f"\n{found.line_count} {'line' if found.line_count == 1 else 'lines'}.{_reserved(found, currency)}\n")


def _line_text(line: Line, currency: str) -> str:
    transfer = line.transfer
    amount = money.format(transfer.amount, currency)
    numbers = (amount if line.is_debit else "", "" if line.is_debit else amount, money.format(line.balance, currency))
    kind, code = _kind(transfer.flags), str(transfer.code)
    words = _words(transfer.id, line.counterparty, kind, code, _on_one_line(transfer.reference))
    return _row(second(transfer.timestamp), numbers, words)


def _row(time: str, numbers: tuple[str, str, str], words: str) -> str:
    columns = [time.ljust(_TIME), *(number.rjust(_NUMBER) for number in numbers), words]
    return "  ".join(columns).rstrip() + "\n"


def _words(transfer_id: str, counterparty: str, kind: str, code: str, reference: str) -> str:
    columns = (transfer_id.ljust(_ID), counterparty.ljust(_ACCOUNT), kind.ljust(_KIND), code.rjust(_CODE), reference)
    return "  ".join(columns)


def _kind(flags: int) -> str:
    return next((kind for flag, kind in _KINDS.items() if flags & flag), "")


def _on_one_line(text: str) -> str:
    """A reference is its sender's text: what would move the cursor is written as an escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _reserved(found: Statement, currency: str) -> str:
    """What was pending at the end: in neither balance, but soon it may be."""
    closing = found.closing
    if not closing.debits_pending and not closing.credits_pending:
        return ""
    out, in_ = (money.format(amount, currency) for amount in (closing.debits_pending, closing.credits_pending))
    return f" Pending at the end: {out} out, {in_} in."


def _write(text: str) -> None:
    """Out at once: whoever reads it sees each page when it is there."""
    sys.stdout.write(text)
    sys.stdout.flush()
