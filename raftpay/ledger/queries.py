"""The questions about what is in the books. They change nothing. ledger.py passes them on.

A cursor is a letter for the kind of question, one for its direction, and the number of the row to go on from. A row
keeps its number, in memory and in the sealed history, so a cursor stays valid while new transfers arrive and old ones
leave the memory, and on every node.
"""

import re
from collections.abc import Sequence
from typing import Final, get_args

from raftpay.ledger.books import Books
from raftpay.ledger.history import History
from raftpay.ledger.records import (
    QUERY_LIMIT_MAX,
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    AccountStatus,
    BalanceRecord,
    CurrencyTotals,
    Direction,
    Page,
    TransferQuery,
    TransferRecord,
)
from raftpay.ledger.sealed import AccountRow, AccountRows, Movement, RowQuery
from raftpay.ledger.transfers import PENDING
from raftpay.ledger.types import TIME_MAX

# How many rows a page may look at, matching or not, and how many transfers it may show: some milliseconds each.
ROWS_PER_PAGE_MAX: Final = 16_384
TRANSFERS_PER_PAGE_MAX: Final = 2048
# The same for a page of one account. Its rows may lie far apart, and then each is read by itself.
ACCOUNT_ROWS_PER_PAGE_MAX: Final = 1024
ACCOUNT_ITEMS_PER_PAGE_MAX: Final = 256
# Among how many rows, of all accounts, such a page looks for those of its account: 32 segments of the usual size, for
# to see that one has none of them may take a read. It is a count of rows, which is the same on every node.
SPAN_PER_PAGE_MAX: Final = 64 * 131_072

_CURSOR: Final = re.compile(r"([ath])([on])([0-9]{1,10})")
_ACCOUNTS, _TRANSFERS, _HISTORY = "a", "t", "h"


def check_limit(limit: int) -> None:
    """Raises ValueError: the caller should ask for a page of 1 to QUERY_LIMIT_MAX."""
    if not 1 <= limit <= QUERY_LIMIT_MAX:
        raise ValueError(f"limit: found {limit}, expected 1 to {QUERY_LIMIT_MAX}; go on with the page's cursor")


def read_cursor(cursor: str, kind: str, *, newest_first: bool) -> int | None:
    """Where to go on, or None for a first page. Raises ValueError for what this question did not hand out."""
    if not cursor:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None or match[1] != kind or match[2] != _order(newest_first=newest_first):
        raise ValueError(
            f"cursor: found {cursor!r}, expected one from an earlier page of the same question; leave it empty to begin"
        )
    return int(match[3])


def write_cursor(kind: str, row: int | None, *, newest_first: bool) -> str:
    """The cursor that goes on from that row; empty where there is none."""
    return "" if row is None else f"{kind}{_order(newest_first=newest_first)}{row}"


def _order(*, newest_first: bool) -> str:
    return "n" if newest_first else "o"


def _resumed(span: tuple[int, int], cursor: int | None, *, newest_first: bool) -> tuple[int, int]:
    """What is left of the rows from first to before last for a page that goes on from the cursor."""
    first, last = span
    if cursor is None:
        return span
    return (first, min(last, cursor + 1)) if newest_first else (max(first, cursor), last)


def _page_of(span: tuple[int, int], size: int, *, newest_first: bool) -> tuple[tuple[int, int], int | None]:
    """The part of the rows from first to before last that a page walks, and the row to go on from; None at the end."""
    first, last = span
    if last - first <= size:
        return span, None
    return ((last - size, last), last - size - 1) if newest_first else ((first, first + size), first + size)


class Queries:
    """Holds nothing but the books and the history."""

    def __init__(self, books: Books, history: History) -> None:
        self._books = books
        self._all = history

    def lookup_accounts(self, ids: Sequence[str]) -> list[AccountRecord | None]:
        accounts = self._books.accounts
        rows = map(accounts.rows.get, ids)
        return [None if row is None else accounts.record(row) for row in rows]

    def lookup_transfers(self, ids: Sequence[str]) -> list[TransferRecord | None]:
        return [None if movement is None else self._transfer(movement) for movement in self._all.lookup(ids)]

    def account_transfers(self, query: AccountQuery) -> Page[TransferRecord]:
        answer, cursor = self._account_rows(query, with_balances=False)
        return Page([self._transfer(row.movement) for row in answer.rows], cursor)

    def account_balances(self, query: AccountQuery) -> Page[BalanceRecord]:
        answer, cursor = self._account_rows(query, with_balances=True)
        return Page([_balance(row) for row in answer.rows], cursor)

    def balance_at(self, account_id: str, time: int) -> BalanceRecord | None:
        """None when there is no such account, or was not yet at that time."""
        account = self._books.accounts.rows.get(account_id)
        if account is None or time < self._books.accounts.created_at[account]:
            return None
        row = self._all.last_account_row(account, time)
        return BalanceRecord(self._books.accounts.created_at[account], 0, 0, 0, 0) if row is None else _balance(row)

    def query_transfers(self, query: TransferQuery) -> Page[TransferRecord]:
        check_limit(query.limit)
        newest_first = query.newest_first
        cursor = read_cursor(query.cursor, _TRANSFERS, newest_first=newest_first)
        span = self._all.rows_between(query.time_from, query.time_to)
        span = _resumed(span, cursor, newest_first=newest_first)
        (first, last), rest = _page_of(span, ROWS_PER_PAGE_MAX, newest_first=newest_first)
        limit = min(query.limit, TRANSFERS_PER_PAGE_MAX)
        found = self._all.rows(
            RowQuery(
                first,
                last,
                limit,
                newest_first=newest_first,
                code=query.code,
                reference=query.reference,
                currency=query.currency,
                time_from=query.time_from,
                time_to=query.time_to,
            )
        )
        if len(found) == limit:
            next_row = found[-1].row + (-1 if newest_first else 1)
            rest = next_row if span[0] <= next_row < span[1] else None
        return Page([self._transfer(row) for row in found], write_cursor(_TRANSFERS, rest, newest_first=newest_first))

    def list_accounts(self, query: AccountsQuery) -> Page[AccountRecord]:
        check_limit(query.limit)
        if query.status is not None and query.status not in get_args(AccountStatus):
            raise ValueError(f"status: found {query.status!r}, expected one of {', '.join(get_args(AccountStatus))}")
        accounts = self._books.accounts
        cursor = read_cursor(query.cursor, _ACCOUNTS, newest_first=False)
        rows = range(*_resumed((0, len(accounts)), cursor, newest_first=False))

        def is_asked_for(row: int) -> bool:
            return (
                accounts.ids[row].startswith(query.prefix)
                and (query.currency is None or accounts.currencies[row] == query.currency)
                and (query.status is None or accounts.status(row) == query.status)
            )

        found: list[int] = []
        looked_at = 0
        for row in rows[:ROWS_PER_PAGE_MAX]:
            looked_at += 1
            if is_asked_for(row):
                found.append(row)
                if len(found) == query.limit:
                    break
        rest = rows[looked_at:]
        cursor_behind = write_cursor(_ACCOUNTS, rest[0] if rest else None, newest_first=False)
        return Page([accounts.record(row) for row in found], cursor_behind)

    def trial_balance(self) -> list[CurrencyTotals]:
        """One line a currency, by name; each sum is taken over the accounts themselves."""
        accounts = self._books.accounts
        columns = accounts.balance_columns()
        sums: dict[str, list[int]] = {}
        for row, currency in enumerate(accounts.currencies):
            line = sums.setdefault(currency, [0, 0, 0, 0, 0])
            line[0] += 1
            for place, column in enumerate(columns, start=1):
                line[place] += column[row]
        return [CurrencyTotals(currency, *sums[currency]) for currency in sorted(sums)]

    def _account_rows(self, query: AccountQuery, *, with_balances: bool) -> tuple[AccountRows, str]:
        """The rows that a page shows, and the cursor behind them."""
        check_limit(query.limit)
        if query.direction not in get_args(Direction):
            raise ValueError(f"direction: found {query.direction!r}, expected 'debit', 'credit' or '' for both")
        newest_first = query.newest_first
        cursor = read_cursor(query.cursor, _HISTORY, newest_first=newest_first)
        account = self._books.accounts.rows.get(query.account_id)
        if account is None:
            return AccountRows((), 0, None), ""
        span = self._behind(account, query.time_from - 1), self._behind(account, query.time_to)
        span = _resumed(span, cursor, newest_first=newest_first)
        (first, last), rest = _page_of(span, SPAN_PER_PAGE_MAX, newest_first=newest_first)
        answer = self._all.account_rows(
            account,
            RowQuery(
                first,
                last,
                min(query.limit, ACCOUNT_ITEMS_PER_PAGE_MAX),
                newest_first=newest_first,
                code=query.code,
                direction=query.direction,
                time_from=query.time_from,
                time_to=query.time_to,
                with_balances=with_balances,
            ),
            looked_at_max=ACCOUNT_ROWS_PER_PAGE_MAX,
        )
        next_row = rest if answer.next_row is None else answer.next_row
        return answer, write_cursor(_HISTORY, next_row, newest_first=newest_first)

    def _behind(self, account: int, time: int) -> int:
        """The row behind the last one of the account that is not after the time."""
        if time < 0:
            return 0
        if time >= TIME_MAX:
            return len(self._books.transfers)
        row = self._all.last_account_row(account, time)
        return 0 if row is None else row.movement.row + 1

    def _transfer(self, movement: Movement) -> TransferRecord:
        accounts, pendings = self._books.accounts, self._books.pendings
        return TransferRecord(
            id=movement.id,
            debit_account=accounts.ids[movement.debit],
            credit_account=accounts.ids[movement.credit],
            amount=movement.amount,
            currency=accounts.currencies[movement.debit],
            code=movement.code,
            reference=movement.reference,
            flags=movement.flags,
            target_id=movement.target_id,
            timeout_s=movement.timeout_s,
            timestamp=movement.timestamp,
            pending_status=pendings.status_name(movement.link) if movement.flags & PENDING else "",
        )


def _balance(row: AccountRow) -> BalanceRecord:
    return BalanceRecord(row.movement.timestamp, *row.balances, transfer_id=row.movement.id)
