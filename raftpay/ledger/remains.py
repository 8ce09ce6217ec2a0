"""What is left of dropped blocks: their open pending transfers, which can be posted, voided and released at any time.

They stay as columns, block by block, for there may be a million of them. A part is never changed: whether a transfer
in it is still open is said by Pendings, and once half of a part has ended it is replaced by one without those.
movements.py asks for them by row and slot, window.py adds them and tells which have ended, images keep the parts.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress

from msgspec import structs

from raftpay.ledger.sealed import Movement
from raftpay.ledger.transfers import Block


class Part:
    """rows: their numbers, ascending. cells: their columns, one after the other; only these mean anything in it.

    The slots, which ascend as well, are the links in the cells.
    """

    __slots__ = ("cells", "rows")

    def __init__(self, rows: "array[int]", cells: Block) -> None:
        self.rows = rows
        self.cells = cells

    def __len__(self) -> int:
        return len(self.rows)

    def movement(self, place: int) -> Movement:
        return structs.replace(self.cells.movement(place), row=self.rows[place])

    def only(self, selected: Sequence[int]) -> "Part":
        """Those for which a 1 stands in `selected`."""
        cells = Block(0, 0, 0)
        for source, column in zip(self.cells.columns(), cells.columns(), strict=True):
            column.extend(array(column.typecode, compress(source, selected)))
        for texts, kept in zip(self.cells.texts(), cells.texts(), strict=True):
            kept.extend(compress(texts, selected))
        return Part(array("i", compress(self.rows, selected)), cells)


class Remains:
    """_parts: ascending, none empty. _open_counts: how many transfers of each are still open.

    _first_rows, _first_slots: those of each part when it was added; no other part has anything up to the next.
    """

    __slots__ = ("_first_rows", "_first_slots", "_open_counts", "_parts")

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._open_counts: list[int] = []
        self._first_rows: list[int] = []
        self._first_slots: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def parts(self) -> list[Part]:
        """All of them, which do not change; but not all of their transfers are still open."""
        return self._parts[:]

    def add(self, part: Part) -> None:
        """Takes over a part that lies behind those that are there; all in it are open."""
        self._parts.append(part)
        self._open_counts.append(len(part))
        self._first_rows.append(part.rows[0])
        self._first_slots.append(part.cells.links[0])

    def restore(self, pendings: Iterable[Movement], part_rows: int) -> None:
        """Takes these in place of an empty table. They ascend."""
        rows, cells = array("i"), Block(0, 0, 0)
        for pending in pendings:
            rows.append(pending.row)
            cells.append(pending)
            if len(rows) == part_rows:
                self.add(Part(rows, cells))
                rows, cells = array("i"), Block(0, 0, 0)
        if rows:
            self.add(Part(rows, cells))

    def of_row(self, row: int) -> Movement:
        """The transfer of that row, which must be here."""
        part = self._parts[bisect_right(self._first_rows, row) - 1]
        place = bisect_left(part.rows, row)
        assert part.rows[place] == row
        return part.movement(place)

    def of_slot(self, slot: int) -> Movement:
        """The transfer of that slot, which must be here."""
        part, place = self._find(slot)
        return self._parts[part].movement(place)

    def has(self, slot: int) -> bool:
        """Whether that of the slot is here: it is open, or ended since its part was last shrunk."""
        return bool(self._parts) and slot >= self._first_slots[0] and self._find(slot)[1] >= 0

    def _find(self, slot: int) -> tuple[int, int]:
        number = bisect_right(self._first_slots, slot) - 1
        slots = self._parts[number].cells.links
        place = bisect_left(slots, slot)
        return number, place if place < len(slots) and slots[place] == slot else -1

    def end(self, slot: int) -> str:
        """Notes that that of the slot, which is here, has ended. Returns its id."""
        number, place = self._find(slot)
        self._open_counts[number] -= 1
        return self._parts[number].cells.ids[place]

    def shrink(self, slots: Iterable[int], is_open: Callable[[int], bool]) -> None:
        """Lets go of what has ended, where that is at least half of a part. slots: some that are or were here."""
        for slot in slots:
            number = bisect_right(self._first_slots, slot) - 1
            if number >= 0 and 2 * self._open_counts[number] <= len(self._parts[number]):
                self._shrink_part(number, is_open)

    def _shrink_part(self, number: int, is_open: Callable[[int], bool]) -> None:
        part = self._parts[number]
        if not self._open_counts[number]:
            for column in (self._parts, self._open_counts, self._first_rows, self._first_slots):
                del column[number]
            return
        smaller = part.only(bytes(map(is_open, part.cells.links)))
        assert len(smaller) == self._open_counts[number]
        self._parts[number] = smaller


def open_movements(parts: Iterable[Part], statuses: Sequence[int], open_status: int) -> Iterator[Movement]:
    """The transfers of the parts that are open according to the statuses."""
    for part in parts:
        for place, slot in enumerate(part.cells.links):
            if statuses[slot] == open_status:
                yield part.movement(place)
