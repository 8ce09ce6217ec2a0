"""One segment of the journal: a preallocated file of records and the places of its entries in memory.

A segment knows bytes and places. Which segment is written, what is synced, and what happens at its end is the journal's
business; what to think of a damaged one is recovery's. Only these two use it.
"""

from array import array
from bisect import bisect_right

from raftpay.errors import CorruptionError
from raftpay.storage.disk import ZERO_SLICE_BYTES, DiskFile
from raftpay.storage.records import (
    REBUILD_ADVICE,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_payload,
)

_ZEROS = bytes(ZERO_SLICE_BYTES)
# The first segment after a reset, until the marks say that it is that; opening then gives it its name.
RESET_NAME = "journal/reset.tmp"


def segment_name(number: int) -> str:
    return f"journal/{number:08d}.seg"


def segment_number(name: str) -> int | None:
    """The number in a name of the journal folder, None for other files."""
    stem, dot, suffix = name.partition(".")
    return int(stem) if dot and suffix == "seg" and stem.isascii() and stem.isdigit() else None


def erase(file: DiskFile, start: int, stop: int) -> None:
    """Write zeros over [start, stop). Durable after the next fdatasync."""
    for offset in range(start, stop, ZERO_SLICE_BYTES):
        file.pwrite(_ZEROS[: stop - offset], offset)


class Segment:
    """file, size: the open file and its length, all of it allocated.
    first_index, previous_term: as in its header.
    offsets, terms: byte and term of each entry from first_index on.
    end: the byte behind the last record; from here to size all is zero.
    is_linked: whether the name is known to be durable in its folder.
    """

    __slots__ = (
        "_salt",
        "end",
        "file",
        "first_index",
        "is_linked",
        "number",
        "offsets",
        "previous_term",
        "size",
        "terms",
    )

    def __init__(self, file: DiskFile, header: SegmentHeader, salt: int, *, is_linked: bool) -> None:
        self.file = file
        self.size = file.size()
        self.number = header.number
        self.first_index = header.first_index
        self.previous_term = header.previous_term
        self.is_linked = is_linked
        self.offsets = array("Q")
        self.terms = array("Q")
        self.end = SEGMENT_HEADER_BYTES
        self._salt = salt

    @property
    def last_index(self) -> int:
        """first_index - 1 while it is empty."""
        return self.first_index + len(self.offsets) - 1

    @property
    def last_term(self) -> int:
        return self.terms[-1] if self.terms else self.previous_term

    def offset_of(self, index: int) -> int:
        """Where the record of index begins, or would begin if it is the next one."""
        place = index - self.first_index
        return self.offsets[place] if place < len(self.offsets) else self.end

    def forget_from(self, index: int) -> None:
        """Drop the places of index and all later ones; the bytes are the caller's to erase."""
        self.end = self.offset_of(index)
        del self.offsets[index - self.first_index :]
        del self.terms[index - self.first_index :]

    def last_fitting(self, first: int, last: int, bytes_max: int) -> int:
        """The last entry from first on whose records, together, take no more than bytes_max; first - 1 if none fits."""
        place = first - self.first_index
        limit = self.offsets[place] + bytes_max
        if self.offset_of(last + 1) <= limit:
            return last
        return self.first_index + bisect_right(self.offsets, limit, place, last + 1 - self.first_index) - 2

    def read(self, first: int, last: int) -> list[bytes]:
        """Payloads of first to last, with one read of the file. Each is checked.

        Raises CorruptionError if one is not what was written.
        """
        start = self.offset_of(first)
        data = self.file.pread(self.offset_of(last + 1) - start, start)
        payloads = []
        for index in range(first, last + 1):
            place = index - self.first_index
            position = self.offsets[place] - start
            payload = decode_payload(data, position, self._salt, index=index, term=self.terms[place])
            if payload is None:
                raise CorruptionError(
                    f"{self.file.name}: entry {index} at byte {start + position} is not what was written there "
                    f"(crc, index or term differ). {REBUILD_ADVICE}"
                )
            payloads.append(payload)
        return payloads
