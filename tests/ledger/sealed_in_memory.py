"""A SealedHistory in the plainest way: a list of rows, walked from end to end for each question. It is the measure for
the one that reads files."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from raftpay.ledger.sealed import (
    AccountRow,
    AccountRows,
    Balances,
    FailedId,
    Movement,
    RowQuery,
    SegmentRows,
)
from raftpay.ledger.transfers import EXPIRY, POST, VOID, balance_change

Row = TypeVar("Row")


def movements(segment: SegmentRows) -> Iterator[Movement]:
    for i in range(segment.last - segment.first):
        yield Movement(
            row=segment.first + i,
            id=segment.ids[i],
            debit=segment.debits[i],
            credit=segment.credits[i],
            amount=segment.amounts[i],
            timestamp=segment.timestamps[i],
            code=segment.codes[i],
            flags=segment.flags[i],
            reference=segment.references[i],
            link=segment.links[i],
            target_id=segment.target_ids[i],
            target_amount=segment.target_amounts[i],
            timeout_s=segment.timeouts[i],
        )


class SealedInMemory:
    """asked, searched: the number of ids with which `may_contain` and `find` were called each time."""

    def __init__(self) -> None:
        self.segments = 0
        self.movements: list[Movement] = []
        self.failed: list[str] = []
        self.by_id: dict[str, Movement | FailedId] = {}
        self.segments_of: dict[str, int] = {}
        self.account_currencies: list[str] = []
        # Of each account: its rows with the balances after them.
        self.histories: dict[int, list[AccountRow]] = {}
        self.balances: dict[int, Balances] = {}
        self.asked: list[int] = []
        self.searched: list[int] = []

    def seal(self, segment: SegmentRows) -> None:
        """Takes the next segment over, and makes sure that it follows from the one before."""
        assert segment.number == self.segments
        assert (segment.first, segment.first_failed) == (len(self.movements), len(self.failed))
        assert_balances(segment.opening, self.balances)
        for movement in movements(segment):
            self.movements.append(movement)
            if movement.id:
                assert movement.id not in self.by_id
                self.by_id[movement.id] = movement
            self._note(movement)
        for transfer_id in segment.failed:
            self.by_id[transfer_id] = FailedId(len(self.failed))
            self.failed.append(transfer_id)
        self.segments_of.update(dict.fromkeys((*segment.ids, *segment.failed), segment.number))
        self.account_currencies[segment.accounts.first :] = segment.accounts.currencies
        assert_balances(segment.closing, self.balances)
        self.segments += 1

    def _note(self, movement: Movement) -> None:
        reserved = movement.target_amount if movement.flags & (POST | VOID | EXPIRY) else 0
        pending, posted = balance_change(movement.flags, movement.amount, reserved)
        for account, place in ((movement.debit, 0), (movement.credit, 2)):
            balances = list(self.balances.get(account, (0, 0, 0, 0)))
            balances[place] += pending
            balances[place + 1] += posted
            after = self.balances[account] = (balances[0], balances[1], balances[2], balances[3])
            self.histories.setdefault(account, []).append(AccountRow(movement, after))

    # What the ledger asks.

    def may_contain(self, ids: Sequence[str], *, segments: int) -> list[str]:
        self.asked.append(len(ids))
        # A filter errs now and then on the safe side; this one on every id with a 7 in it.
        return [id_ for id_ in ids if self.segments_of.get(id_, segments) < segments or "7" in id_]

    def find(self, ids: Sequence[str]) -> dict[str, Movement | FailedId]:
        self.searched.append(len(ids))
        return {id_: self.by_id[id_] for id_ in ids if id_ in self.by_id}

    def count_before(self, time: int) -> int:
        return sum(movement.timestamp < time for movement in self.movements)

    def rows(self, query: RowQuery) -> list[Movement]:
        assert query.direction == ""
        span = self.movements[query.first : query.last]
        found = [movement for movement in ordered(span, query) if self._is_wanted(movement, query)]
        return found[: query.limit]

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        span = [row for row in self.histories.get(account, []) if query.first <= row.movement.row < query.last]
        walk = ordered(span, query)
        rows: list[AccountRow] = []
        looked_at = 0
        while looked_at < min(len(walk), looked_at_max) and len(rows) < query.limit:
            row = walk[looked_at]
            looked_at += 1
            side = {"debit": row.movement.debit, "credit": row.movement.credit}.get(query.direction, account)
            if side == account and self._is_wanted(row.movement, query):
                rows.append(row)
        rest = walk[looked_at:]
        return AccountRows(rows, looked_at, rest[0].movement.row if rest else None)

    def last_account_row(self, account: int, *, last: int, time: int) -> AccountRow | None:
        past = [
            row for row in self.histories.get(account, []) if row.movement.row < last and row.movement.timestamp <= time
        ]
        return past[-1] if past else None

    def _is_wanted(self, movement: Movement, query: RowQuery) -> bool:
        return (
            movement.flags != EXPIRY
            and query.code in (None, movement.code)
            and query.reference in (None, movement.reference)
            and query.currency in (None, self.account_currencies[movement.debit])
            and query.time_from <= movement.timestamp <= query.time_to
        )


def ordered(rows: list[Row], query: RowQuery) -> list[Row]:
    return rows[::-1] if query.newest_first else rows


def assert_balances(columns: Sequence[Sequence[int]], balances: dict[int, Balances]) -> None:
    assert {account: found for account, found in enumerate(zip(*columns, strict=True)) if any(found)} == {
        account: expected for account, expected in balances.items() if any(expected)
    }
