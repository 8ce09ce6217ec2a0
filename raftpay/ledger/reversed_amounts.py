"""How much of each transfer its reversals have sent back: in parts, which images share with the ledger.

There are as many entries as transfers were ever reversed, and an image is taken while all wait: a copy of a million of
them would take longer than a node may stand still. So an image only notes which parts there are, and a part is copied
when it is changed for the first time behind an image.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

# The rows of one part: one with an entry for each is copied in some tenths of a millisecond.
_PART_ROWS: Final = 1 << 14

Part = dict[int, int]


class ReversedAmounts:
    """row -> minor units, above 0; rows that nothing was sent back of are not in it.

    _parts: by the row divided by _PART_ROWS. _shared: the numbers of those that an image has, too.
    """

    __slots__ = ("_parts", "_shared")

    def __init__(self) -> None:
        self._parts: dict[int, Part] = {}
        self._shared: set[int] = set()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return pairs_of(list(self._parts.values()))

    def of(self, row: int) -> int:
        part = self._parts.get(row // _PART_ROWS)
        return part.get(row, 0) if part else 0

    def add(self, row: int, amount: int) -> None:
        """amount: below 0 for a reversal that is taken back."""
        part = self._own_part(row // _PART_ROWS)
        total = part.get(row, 0) + amount
        if total:
            part[row] = total
        else:
            part.pop(row, None)  # A transfer of nothing is sent back as nothing.

    def update(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Takes in what an image has, of rows that are not there."""
        for row, amount in pairs:
            self._own_part(row // _PART_ROWS)[row] = amount

    def _own_part(self, number: int) -> Part:
        if number in self._shared:
            self._shared.remove(number)
            self._parts[number] = self._parts[number].copy()
        return self._parts.setdefault(number, {})

    def shared_parts(self) -> list[Part]:
        """All parts as they are now, which stay so."""
        self._shared = set(self._parts)
        return list(self._parts.values())


def pairs_of(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """The rows in the parts, and how much of each was sent back."""
    return chain.from_iterable(part.items() for part in parts)
