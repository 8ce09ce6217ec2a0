"""Reads what lookup.py writes: rows of a segment by their numbers, the rows of an account, ids, failed ids.

Many rows are read at a time and decoded column by column; texts only where they are asked for. Everything read is
checked by its page. Rows are named here by their place in the segment, from 0.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from raftpay.archive.columns import TRANSFERS, Ints
from raftpay.archive.lookup import HEAD_STRIDE, UUID_BYTES, Field, read_header
from raftpay.archive.pages import PagedFile
from raftpay.ledger.transfers import EXPIRY
from raftpay.storage.disk import DiskFile

# Rows further apart are read one by one rather than with all between them.
_GAP_ROWS: Final = 256
# Up to so many rows numpy's calls take longer than doing it by hand.
_FEW: Final = 16
_NO_UUID: Final = "0" * 2 * UUID_BYTES
_TWO_ENDS: Final = struct.Struct("<II")


class Lookup:
    """One segment's file. Raises CorruptionError wherever it is not what was written."""

    def __init__(self, file: DiskFile) -> None:
        self.header, self._start = read_header(file)
        self._pages = PagedFile(file)
        self._heads: list[int] | None = None
        self._fields = dict(zip(TRANSFERS.numbers, self.header.fields, strict=True))

    def __len__(self) -> int:
        return self.header.cut.rows.count

    # ---- numbers

    def columns(self, places: Sequence[int], names: Sequence[str]) -> dict[str, Ints]:
        """Those numbers of the rows at these places, which ascend or descend."""
        rows = self._rows(places)
        found: dict[str, Ints] = {}
        for name in names:
            field = self._fields[name]
            wide = np.zeros((len(rows), 8), np.uint8)
            wide[:, : field.width] = rows[:, field.offset : field.offset + field.width]
            found[name] = wide.view("<i8").reshape(-1) + np.int64(field.least)
        return found

    def tuples(self, places: Sequence[int], names: Sequence[str]) -> list[tuple[int, ...]]:
        """The same, row by row."""
        if len(places) > _FEW:
            columns = self.columns(places, names)
            return list(zip(*(columns[name].tolist() for name in names), strict=True))
        fields, width = [self._fields[name] for name in names], self.header.row_bytes
        found: list[tuple[int, ...]] = []
        for place in places:
            row = self._read("rows", place * width, width)
            found.append(tuple(int.from_bytes(row[f.offset : f.offset + f.width], "little") + f.least for f in fields))
        return found

    def number(self, name: str, place: int) -> int:
        field: Field = self._fields[name]
        data = self._read("rows", place * self.header.row_bytes + field.offset, field.width)
        return int.from_bytes(data, "little") + field.least

    def _rows(self, places: Sequence[int]) -> NDArray[np.uint8]:
        width = self.header.row_bytes
        if isinstance(places, range) and abs(places.step) == 1:
            whole = np.frombuffer(self._span(places[0], places[-1]) if places else b"", np.uint8)
            whole = whole.reshape(len(places), width)
            return whole[:: places.step]
        parts = [
            np.frombuffer(self._span(run[0], run[-1]), np.uint8).reshape(-1, width)[
                np.asarray(run) - min(run[0], run[-1])
            ]
            for run in _runs(places)
        ]
        return np.concatenate(parts) if parts else np.empty((0, width), np.uint8)

    def _span(self, one: int, other: int) -> bytes:
        """All rows from one to the other, both included."""
        first, last = min(one, other), max(one, other)
        width = self.header.row_bytes
        return self._read("rows", first * width, (last + 1 - first) * width)

    # ---- texts

    def id(self, place: int) -> str:
        """That of the transfer; "" for an expiry."""
        return self.ids((place,))[0]

    def ids(self, places: Sequence[int]) -> list[str]:
        """Of the rows at these places, which ascend or descend."""
        if not self.header.has_uuids:
            return self._texts("ids", "id_ends", places)
        found: list[str] = []
        for run in _runs(places):
            first, last = min(run[0], run[-1]), max(run[0], run[-1])
            digits = self._read("ids", first * UUID_BYTES, (last + 1 - first) * UUID_BYTES).hex()
            for place in run:
                text = digits[32 * (place - first) : 32 * (place - first) + 32]
                if text == _NO_UUID and self.number("flags", place) & EXPIRY:
                    found.append("")
                else:
                    found.append(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
        return found

    def references(self, places: Sequence[int]) -> list[str]:
        return self._texts("references", "reference_ends", places)

    def has_reference(self, places: Sequence[int], text: str) -> NDArray[np.bool_]:
        """Whether the rows at these places, which ascend or descend, have that reference."""
        wanted, found = np.frombuffer(text.encode(), np.uint8), np.zeros(len(places), np.bool_)
        if not len(places) or not self.header.sections["reference_ends"].size:
            return np.full(len(places), not text)
        first, last = min(places[0], places[-1]), max(places[0], places[-1])
        ends = np.frombuffer(self._read("reference_ends", 4 * first, 4 * (last + 1 - first)), "<u4").astype(np.int64)
        start = int.from_bytes(self._read("reference_ends", 4 * first - 4, 4), "little") if first else 0
        starts = np.concatenate((np.array([start]), ends[:-1]))
        at = np.asarray(places) - first
        fitting = np.flatnonzero(ends[at] - starts[at] == len(wanted))
        data = np.frombuffer(self._read("references", start, int(ends[-1]) - start), np.uint8)
        characters = data[(starts[at[fitting]] - start)[:, np.newaxis] + np.arange(len(wanted))]
        found[fitting] = (characters == wanted).all(axis=1)
        return found

    def failed_id(self, place: int) -> str:
        """The id of the segment that failed as number `place`."""
        return self._texts("failed", "failed_ends", (place,))[0]

    def currencies(self) -> list[str]:
        """Of the accounts opened in the segment, in their order."""
        sections = self.header.sections
        names = self._read("currency_names", 0, sections["currency_names"].size).decode().split("\n")
        places = np.frombuffer(self._read("account_currencies", 0, sections["account_currencies"].size), "<u4")
        return [names[place] for place in places.tolist()]

    def _texts(self, section: str, ends: str, places: Sequence[int]) -> list[str]:
        if not self.header.sections[section].size:
            return [""] * len(places)
        found: list[str] = []
        for run in _runs(places):
            first, last = min(run[0], run[-1]), max(run[0], run[-1])
            # Where the one before ends, the first one begins; before the very first there is none.
            data = self._read(ends, 4 * max(0, first - 1), 4 * (last + 1 - max(0, first - 1)))
            borders = struct.unpack(f"<{len(data) // 4}I", data)
            borders = borders if first else (0, *borders)
            whole = self._read(section, borders[0], borders[-1] - borders[0])
            found += [
                whole[borders[at] - borders[0] : borders[at + 1] - borders[0]].decode()
                for at in (place - first for place in run)
            ]
        return found

    # ---- accounts

    def entries(self, account: int) -> range:
        """The places of the account's rows among all entries of the segment; empty if none moved it."""
        if self._heads is None:
            size = self.header.sections["account_heads"].size
            self._heads = np.frombuffer(self._read("account_heads", 0, size), "<u4").tolist()
        block = bisect_right(self._heads, account) - 1
        if block < 0:
            return range(0)
        count = self.header.sections["accounts"].size // 4
        first = block * HEAD_STRIDE
        known = np.frombuffer(self._read("accounts", first * 4, 4 * min(HEAD_STRIDE, count - first)), "<u4")
        place = int(np.searchsorted(known, account))
        if place == len(known) or known[place] != account:
            return range(0)
        start, end = _TWO_ENDS.unpack(self._read("entry_starts", (first + place) * 4, 8))
        return range(start, end)

    def entries_between(self, entries: range, first: int, last: int) -> range:
        """Those of one account's entries whose rows lie from first to before last."""

        def place_at(entry: int) -> int:
            return int.from_bytes(self._read("entries", entry * 4, 4), "little") >> 1

        start = bisect_left(entries, first, key=place_at) if first > 0 else 0
        end = bisect_left(entries, last, key=place_at) if last < len(self) else len(entries)
        return entries[start:end]

    def entry_places(self, entries: range) -> list[int]:
        """The rows of consecutive entries of one account, ascending."""
        numbers = np.frombuffer(self._read("entries", entries.start * 4, len(entries) * 4), "<u4")
        return [number >> 1 for number in numbers.tolist()]

    def close(self) -> None:
        self._pages.close()

    def _read(self, section: str, offset: int, size: int) -> bytes:
        found = self.header.sections[section]
        assert offset + size <= found.size, (section, offset, size, found)
        return self._pages.read(size, self._start + found.start + offset) if size else b""


def _runs(places: Sequence[int]) -> Iterator[Sequence[int]]:
    """The places in parts whose rows lie close together."""
    start = 0
    for at in range(1, len(places) + 1):
        if at == len(places) or abs(places[at] - places[at - 1]) > _GAP_ROWS:
            yield places[start:at]
            start = at
