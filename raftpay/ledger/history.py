"""All rows there ever were: those in memory and, below the base, those that the sealed history has.

Where a question reaches over the border, one part is asked first and the other for what is still missing, so that no
answer, page or cursor depends on where the border is. queries.py asks here; before a command is applied, ledger.py has
what it names recalled.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from msgspec import structs

from raftpay.ledger.books import Books
from raftpay.ledger.recent import RecentHistory
from raftpay.ledger.sealed import (
    AccountRow,
    AccountRows,
    FailedId,
    Movement,
    RowQuery,
    SealedHistory,
)
from raftpay.ledger.types import Command, CreateTransfers

_id_of: Final = attrgetter("id")
_target_id_of: Final = attrgetter("target_id")


class NothingSealed:
    """The sealed history of a ledger that keeps all its rows in memory."""

    segments: Final = 0

    def may_contain(self, ids: Sequence[str], *, segments: int) -> list[str]:
        return []

    def find(self, ids: Sequence[str]) -> Mapping[str, Movement | FailedId]:
        return {}

    def count_before(self, time: int) -> int:
        return 0

    def rows(self, query: RowQuery) -> Sequence[Movement]:
        return ()

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        return AccountRows((), 0, None)

    def last_account_row(self, account: int, *, last: int, time: int) -> AccountRow | None:
        return None


class History:
    def __init__(self, books: Books, sealed: SealedHistory) -> None:
        self._books = books
        self._sealed = sealed
        self._recent = RecentHistory(books)
        self._recalled: dict[str, Movement | FailedId] = {}

    # By id.

    def recall(self, command: Command) -> None:
        """Puts before the books what they have forgotten of the ids in the command. They forget it with the next."""
        books, transfers = self._books, self._books.transfers
        for id_ in self._recalled:
            transfers.recalled.pop(id_, None)
            books.failed_ids.pop(id_, None)
        batches = [request.events for request in command.requests if isinstance(request, CreateTransfers)]
        events = list(chain.from_iterable(batches))
        ids = filter(None, chain(map(_id_of, events), map(_target_id_of, events)))
        self._recalled = self._find_forgotten(ids)
        for id_, found in self._recalled.items():
            if isinstance(found, Movement):
                transfers.recalled[id_] = found
            else:
                books.failed_ids[id_] = None

    def lookup(self, ids: Sequence[str]) -> list[Movement | None]:
        """The transfer of each id, None where there is none."""
        transfers = self._books.transfers
        found = [transfers.find(id_) for id_ in ids]
        if not transfers.dropped_blocks or None not in found:
            return found
        forgotten = self._find_forgotten(id_ for id_, movement in zip(ids, found, strict=True) if id_ and not movement)
        older = [movement if isinstance(movement := forgotten.get(id_), Movement) else None for id_ in ids]
        return [recent or old for recent, old in zip(found, older, strict=True)]

    def _find_forgotten(self, ids: Iterable[str]) -> dict[str, Movement | FailedId]:
        """What is sealed under these ids, of the blocks that have left."""
        books, transfers = self._books, self._books.transfers
        suspects = self._sealed.may_contain(list(ids), segments=transfers.base_segment)
        if not suspects:
            return {}
        known = (transfers.rows, transfers.recalled, books.failed_ids)
        unknown = [id_ for id_ in dict.fromkeys(suspects) if not any(id_ in table for table in known)]
        first = transfers.blocks[0]
        return {
            id_: found
            for id_, found in (self._sealed.find(unknown) if unknown else {}).items()
            if (found.row < first.first if isinstance(found, Movement) else found.number < first.first_failed)
        }

    # By row.

    def rows_between(self, time_from: int, time_to: int) -> tuple[int, int]:
        """First row and end of all that may lie in this time."""
        if self._books.transfers.is_overtaken:
            return 0, len(self._books.transfers)
        return self._end_before(time_from), self._end_before(time_to + 1)

    def _end_before(self, time: int) -> int:
        end = self._recent.end_before(time)
        base = self._books.transfers.base
        if end is not None or not base:
            return end or 0
        return min(base, self._sealed.count_before(time))

    def rows(self, query: RowQuery) -> list[Movement]:
        """The rows that are wanted, the older ones and the recent ones."""
        found: list[Movement] = []
        for part, is_sealed in self._parts(query):
            rest = structs.replace(part, limit=query.limit - len(found))
            if rest.limit:
                found.extend(self._sealed.rows(rest) if is_sealed else self._recent.rows(rest))
        return found

    def _parts(self, query: RowQuery) -> list[tuple[RowQuery, bool]]:
        """What to ask whom, in the order of the answer: the question, and whether the sealed rows are meant."""
        base = self._books.transfers.base
        parts = []
        if query.first < min(base, query.last):
            parts.append((structs.replace(query, last=min(base, query.last)), True))
        if max(base, query.first) < query.last:
            parts.append((structs.replace(query, first=max(base, query.first)), False))
        return parts[::-1] if query.newest_first else parts

    # By account and row.

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        """The account's rows that are wanted, the older ones and the recent ones."""
        found: list[AccountRow] = []
        looked_at, next_row = 0, None
        for part, is_sealed in self._parts(query):
            rest = structs.replace(part, limit=query.limit - len(found))
            room = looked_at_max - looked_at
            answer = (self._sealed if is_sealed else self._recent).account_rows(account, rest, looked_at_max=room)
            found.extend(answer.rows)
            looked_at, next_row = looked_at + answer.looked_at, answer.next_row
            if next_row is not None:
                break
        return AccountRows(found, looked_at, next_row)

    def last_account_row(self, account: int, time: int) -> AccountRow | None:
        """The last row of the account, expiries included, that is not after the time."""
        recent = self._recent.last_account_row(account, time=time)
        base = self._books.transfers.base
        if recent is not None or not base:
            return recent
        return self._sealed.last_account_row(account, last=base, time=time)
