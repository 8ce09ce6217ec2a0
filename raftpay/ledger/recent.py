"""The rows in memory, asked in the same way as the sealed ones. history.py joins the two."""

from bisect import bisect_left
from collections.abc import Iterator

from raftpay.ledger.books import Books
from raftpay.ledger.sealed import AccountRow, AccountRows, Balances, Movement, RowQuery
from raftpay.ledger.transfers import EXPIRY, Block

_NOT_ASKED_FOR: Balances = (0, 0, 0, 0)


class RecentHistory:
    """Rows from the base on. The answers mean what they mean in SealedHistory. Holds nothing but the books."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def end_before(self, time: int) -> int | None:
        """The row behind the last one with a timestamp before that time; None where all are at or after it. For
        timestamps that ascend.
        """
        transfers = self._books.transfers
        for block in reversed(transfers.blocks):
            end = block.first + bisect_left(block.timestamps, time)
            if end > max(block.first, transfers.base):
                return end
        return None

    def rows(self, query: RowQuery) -> list[Movement]:
        found: list[Movement] = []
        for block, offset in self._walk(query):
            if len(found) == query.limit:
                break
            if self._is_wanted(query, block, offset):
                found.append(block.movement(offset))
        return found

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        rows = self._books.histories.rows[account]
        live = self._books.histories.first_live(account)
        span = range(bisect_left(rows, query.first, live), bisect_left(rows, query.last, live))
        walk = span[::-1] if query.newest_first else span
        found: list[int] = []
        looked_at = 0
        places = self._books.transfers.places(rows[position] for position in walk[:looked_at_max])
        if query.limit:
            for block, offset in places:
                looked_at += 1
                side = {"debit": block.debits, "credit": block.credits}.get(query.direction)
                if (side is None or side[offset] == account) and self._is_wanted(query, block, offset):
                    found.append(walk[looked_at - 1])
                    if len(found) == query.limit:
                        break
        rest = walk[looked_at:]
        return AccountRows(self._shown(account, found, query), looked_at, rows[rest[0]] if rest else None)

    def last_account_row(self, account: int, *, time: int) -> AccountRow | None:
        position = self._books.histories.last_not_after(account, time)
        if position is None:
            return None
        balances = self._books.histories.balances_at(account, [position])[0]
        return AccountRow(self._movement(account, position), balances)

    def _shown(self, account: int, positions: list[int], query: RowQuery) -> list[AccountRow]:
        """The account's rows at these positions, which are in the order of the query."""
        if not query.with_balances:
            return [AccountRow(self._movement(account, position), _NOT_ASKED_FOR) for position in positions]
        ascending = positions[::-1] if query.newest_first else positions
        balances = self._books.histories.balances_at(account, ascending)
        shown = [
            AccountRow(self._movement(account, position), after)
            for position, after in zip(ascending, balances, strict=True)
        ]
        return shown[::-1] if query.newest_first else shown

    def _movement(self, account: int, position: int) -> Movement:
        return self._books.transfers.movement(self._books.histories.rows[account][position])

    def _walk(self, query: RowQuery) -> Iterator[tuple[Block, int]]:
        rows = range(query.first, query.last)
        return self._books.transfers.places(rows[::-1] if query.newest_first else rows)

    def _is_wanted(self, query: RowQuery, block: Block, offset: int) -> bool:
        return (
            block.flags[offset] != EXPIRY
            and (query.code is None or block.codes[offset] == query.code)
            and (query.reference is None or block.references[offset] == query.reference)
            and (query.currency is None or self._books.accounts.currencies[block.debits[offset]] == query.currency)
            and query.time_from <= block.timestamps[offset] <= query.time_to
        )
