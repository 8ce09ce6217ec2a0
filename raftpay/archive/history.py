"""What the ledger asks of sealed rows: the answers of `raftpay.ledger.sealed.SealedHistory`, from the files.

Point reads cost some ten microseconds and a page or three of the file; ranges are read and filtered column by column.
A damaged lookup file is made again from its segment, once, before anything is refused.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from raftpay.archive.archive import Archive
from raftpay.archive.columns import BALANCES
from raftpay.archive.lookup_read import Lookup
from raftpay.archive.pages import PageDamagedError
from raftpay.ledger.sealed import AccountRow, AccountRows, FailedId, Movement, RowQuery
from raftpay.ledger.transfers import EXPIRY, TARGETED

_NUMBERS: Final = (
    "debit",
    "credit",
    "amount",
    "timestamp",
    "code",
    "flags",
    "link",
    "target_amount",
    "timeout_s",
)
_FILTERED: Final = ("flags", "timestamp", "code", "debit")
_FEW: Final = 16
# Rows of an account that are read at a time.
_ACCOUNT_ROWS: Final = 256

Answer = TypeVar("Answer")


class SealedFiles:
    """A SealedHistory over an archive. Asked by one thread, while another seals."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        # Of each account by its number, as far as was asked for, and from how many segments.
        self._currencies: list[str] = []
        self._currency_segments = 0

    @property
    def segments(self) -> int:
        return self._archive.segments

    def may_contain(self, ids: Sequence[str], *, segments: int) -> list[str]:
        suspects = self._archive.index.may_contain(ids)
        bases = self._archive.sealed.bases
        if not suspects or segments >= len(bases):
            return suspects
        # What was sealed later is passed over by its ordinal, without a look at the id.
        candidates = self._archive.index.candidates(suspects, segments=segments)
        return [id_ for id_, ordinals in candidates.items() if min(ordinals) < bases[segments]]

    def find(self, ids: Sequence[str]) -> Mapping[str, Movement | FailedId]:
        return self._repairing(lambda: self._find(ids))

    def count_before(self, time: int) -> int:
        return self._repairing(lambda: self._count_before(time))

    def rows(self, query: RowQuery) -> Sequence[Movement]:
        return self._repairing(lambda: self._rows(query))

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        return self._repairing(lambda: self._account_rows(account, query, looked_at_max))

    def last_account_row(self, account: int, *, last: int, time: int) -> AccountRow | None:
        return self._repairing(lambda: self._last_account_row(account, last, time))

    def _repairing(self, answer: Callable[[], Answer]) -> Answer:
        repaired: set[str] = set()
        while True:
            try:
                return answer()
            except PageDamagedError as error:
                if error.name in repaired:
                    raise
                repaired.add(error.name)
                self._archive.repair(error)

    # ---- by id

    def _find(self, ids: Sequence[str]) -> dict[str, Movement | FailedId]:
        sealed = self._archive.sealed
        # By segment: the places at which one of the ids may be, and which it is.
        suspects: dict[int, list[tuple[int, str]]] = {}
        for id_, ordinals in self._archive.index.candidates(ids).items():
            for ordinal in ordinals:
                number = sealed.segment_of_ordinal(ordinal)
                suspects.setdefault(number, []).append((ordinal - sealed.bases[number], id_))
        found: dict[str, Movement | FailedId] = {}
        for number, places in suspects.items():
            places.sort()
            end = bisect_left(places, sealed.headers[number].cut.rows.count, key=itemgetter(0))
            for movement in self._movements(number, self._confirmed(number, places[:end])):
                found[movement.id] = movement
            found.update(self._failed(number, places[end:]))
        return found

    def _confirmed(self, number: int, places: Sequence[tuple[int, str]]) -> list[int]:
        """Those of the segment's rows that have the id which they may have."""
        there = self._archive.lookup(number).ids([place for place, _ in places])
        return [place for (place, id_), known in zip(places, there, strict=True) if known == id_]

    def _failed(self, number: int, places: Sequence[tuple[int, str]]) -> Iterator[tuple[str, FailedId]]:
        """The same of its failed ids, whose places follow on those of its rows."""
        cut, lookup = self._archive.sealed.headers[number].cut, self._archive.lookup(number)
        for place, id_ in places:
            if lookup.failed_id(place - cut.rows.count) == id_:
                yield id_, FailedId(cut.failed.first + place - cut.rows.count)

    def _id_of_row(self, row: int) -> str:
        number = self._archive.sealed.segment_of_row(row)
        return self._archive.lookup(number).id(row - self._archive.sealed.headers[number].cut.rows.first)

    # ---- by row

    def _count_before(self, time: int) -> int:
        sealed = self._archive.sealed
        number = bisect_left(sealed.time_ends, time)
        if number == len(sealed.headers):
            return sealed.end
        lookup = self._archive.lookup(number)
        places = range(len(lookup))
        before = bisect_left(places, time, key=lambda place: lookup.number("timestamp", place))
        return sealed.headers[number].cut.rows.first + before

    def _rows(self, query: RowQuery) -> list[Movement]:
        found: list[Movement] = []
        for number, places in self._parts(query):
            if len(found) >= query.limit:
                break
            wanted = np.asarray(places)[self._are_wanted(number, places, query)].tolist()
            found += self._movements(number, wanted[: query.limit - len(found)])
        return found

    def _parts(self, query: RowQuery) -> Iterator[tuple[int, range]]:
        """The segments that have rows of those asked for, and the places of these, in the order asked for."""
        sealed = self._archive.sealed
        if query.first >= min(query.last, sealed.end):
            return
        first, last = sealed.segment_of_row(query.first), sealed.segment_of_row(min(query.last, sealed.end) - 1)
        numbers = range(first, last + 1)
        for number in reversed(numbers) if query.newest_first else numbers:
            span = sealed.headers[number].cut.rows
            places = range(max(0, query.first - span.first), min(span.count, query.last - span.first))
            if places:
                yield number, places[::-1] if query.newest_first else places

    def _are_wanted(self, number: int, places: Sequence[int], query: RowQuery, account: int = -1) -> NDArray[np.bool_]:
        lookup = self._archive.lookup(number)
        if len(places) <= _FEW:
            rows = lookup.tuples(places, _FILTERED)
            columns = {name: np.array([row[at] for row in rows], np.int64) for at, name in enumerate(_FILTERED)}
        else:
            columns = lookup.columns(places, _FILTERED)
        timestamps = columns["timestamp"]
        wanted: NDArray[np.bool_] = columns["flags"] != EXPIRY
        wanted &= (timestamps >= query.time_from) & (timestamps <= query.time_to)
        if query.code is not None:
            wanted &= columns["code"] == query.code
        if query.direction:
            wanted &= (columns["debit"] == account) == (query.direction == "debit")
        if query.currency is not None:
            currencies = self._currencies_of(columns["debit"].tolist())
            wanted &= np.array([currency == query.currency for currency in currencies], np.bool_)
        if query.reference is not None:
            wanted &= lookup.has_reference(places, query.reference)
        return wanted

    def _currencies_of(self, accounts: Sequence[int]) -> list[str]:
        while self._currency_segments < self._archive.segments:
            self._currencies += self._archive.lookup(self._currency_segments).currencies()
            self._currency_segments += 1
        return [self._currencies[account] for account in accounts]

    def _movements(self, number: int, places: Sequence[int]) -> list[Movement]:
        """The rows at these places of a segment, which ascend or descend."""
        if not places:
            return []
        lookup, first = self._archive.lookup(number), self._archive.sealed.headers[number].cut.rows.first
        rows = zip(places, lookup.ids(places), lookup.references(places), lookup.tuples(places, _NUMBERS), strict=True)
        movements: list[Movement] = []
        for place, id_, reference, numbers in rows:
            debit, credit, amount, timestamp, code, flags, link, target_amount, timeout_s = numbers
            target_id = self._id_of_row(link) if flags & TARGETED else ""
            movements.append(
                Movement(
                    first + place, id_, debit, credit, amount, timestamp, code, flags, reference, link, target_id,
                    target_amount, timeout_s,
                )
            )  # fmt: skip
        return movements

    # ---- by account

    def _account_rows(self, account: int, query: RowQuery, looked_at_max: int) -> AccountRows:
        rows: list[AccountRow] = []
        looked_at = 0
        for number, places in self._account_parts(account, query):
            room = min(len(places), looked_at_max - looked_at)
            if room and len(rows) < query.limit:
                wanted = np.flatnonzero(self._are_wanted(number, places[:room], query, account)).tolist()
                wanted = wanted[: query.limit - len(rows)]
                rows += self._with_balances(account, number, [places[at] for at in wanted])
                room = wanted[-1] + 1 if len(rows) == query.limit and wanted else room
                looked_at += room
            else:
                room = 0
            if room < len(places):
                return AccountRows(rows, looked_at, self._archive.sealed.headers[number].cut.rows.first + places[room])
        return AccountRows(rows, looked_at, None)

    def _account_parts(self, account: int, query: RowQuery) -> Iterator[tuple[int, list[int]]]:
        """The segments with rows of the account, and some of these by their places, in the order asked for."""
        for number, span in self._parts(query):
            if not self._knows(number, account):
                continue
            lookup = self._archive.lookup(number)
            first, last = min(span[0], span[-1]), max(span[0], span[-1]) + 1
            entries = lookup.entries_between(lookup.entries(account), first, last)
            for start in range(0, len(entries), _ACCOUNT_ROWS):
                if query.newest_first:
                    end = len(entries) - start
                    places = lookup.entry_places(entries[max(0, end - _ACCOUNT_ROWS) : end])
                    yield number, places[::-1]
                else:
                    yield number, lookup.entry_places(entries[start : start + _ACCOUNT_ROWS])

    def _knows(self, number: int, account: int) -> bool:
        """Whether the account was opened before the end of the segment: told from memory, no file is opened."""
        return account < self._archive.sealed.headers[number].cut.accounts.last

    def _with_balances(self, account: int, number: int, places: Sequence[int]) -> list[AccountRow]:
        if not places:
            return []
        balances = self._archive.lookup(number).tuples(places, BALANCES)
        rows: list[AccountRow] = []
        for movement, both in zip(self._movements(number, places), balances, strict=True):
            dp, d, cp, c = both[:4] if movement.debit == account else both[4:]
            rows.append(AccountRow(movement, (dp, d, cp, c)))
        return rows

    def _last_account_row(self, account: int, last: int, time: int) -> AccountRow | None:
        for number, span in self._parts(RowQuery(0, last, 1, newest_first=True)):
            header = self._archive.sealed.headers[number]
            if header.time_min > time or not self._knows(number, account):
                continue
            lookup = self._archive.lookup(number)
            entries = lookup.entries_between(lookup.entries(account), 0, span[0] + 1)
            place = self._last_until(lookup, entries, time)
            if place is not None:
                return self._with_balances(account, number, [place])[0]
        return None

    @staticmethod
    def _last_until(lookup: Lookup, entries: range, time: int) -> int | None:
        """The place of the last of the account's rows that is not after the time."""

        def time_at(entry: int) -> int:
            return lookup.number("timestamp", lookup.entry_places(range(entry, entry + 1))[0])

        if lookup.header.is_ascending:
            count = bisect_right(entries, time, key=time_at)
            return lookup.entry_places(entries[count - 1 : count])[0] if count else None
        # Imports after an expiry: their times tell nothing about those before.
        found = next((entry for entry in reversed(entries) if time_at(entry) <= time), None)
        return None if found is None else lookup.entry_places(range(found, found + 1))[0]
