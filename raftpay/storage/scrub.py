"""Reading again what lies on the disk, to find what has rotted there before it is needed.

Series of steps, for a thread beside the owner's: of a journal segment here, of a snapshot in snapshots.py, of sealed
history in archive/scrub.py. Each step reads and checks one piece, small enough not to hold the interpreter for long.
Nothing is judged here: a file may have been removed meanwhile, or cut; its owner knows, and is asked then.
"""

from array import array
from dataclasses import dataclass, field
from typing import Final

from raftpay.errors import CorruptionError
from raftpay.storage.disk import Disk, DiskFile
from raftpay.storage.records import SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header
from raftpay.storage.segment import Segment
from raftpay.storage.snapshots import OpenFile, Steps

STEP_BYTES: Final = 256 * 1024


class Rereading:
    """Opens files to read what the medium holds, and counts it. read_bytes: so far."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.read_bytes = 0

    def open(self, name: str) -> DiskFile:
        return _CountedFile(self, self._disk.open_uncached(name))


class _CountedFile:
    """A file that is only read."""

    def __init__(self, rereading: Rereading, file: DiskFile) -> None:
        self._rereading, self._file = rereading, file
        self.name = file.name
        self.size, self.close = file.size, file.close
        self.pwrite, self.preallocate, self.truncate, self.fdatasync = (
            file.pwrite,
            file.preallocate,
            file.truncate,
            file.fdatasync,
        )

    def pread(self, size: int, offset: int) -> bytes:
        # What cannot be read has taken its time too.
        self._rereading.read_bytes += min(size, max(0, self._file.size() - offset))
        return self._file.pread(size, offset)


@dataclass(frozen=True, slots=True)
class SegmentReading:
    """What is to be found in a segment of the journal.

    offsets, terms: of the entries from the header's first_index on. end: the byte behind the last of them. has_end:
    whether all is zero from there to the end of the file: these are all its entries, and no more are written to it.
    """

    name: str
    header: SegmentHeader
    salt: int
    offsets: "array[int]"
    terms: "array[int]"
    end: int
    has_end: bool


@dataclass(slots=True)
class SegmentDamage:
    """What was not. entries: their indexes. has_bad_header: the header. dirty: where bytes that are to be zero are
    not, each of at most STEP_BYTES.
    """

    entries: list[int] = field(default_factory=list)
    has_bad_header: bool = False
    dirty: list[tuple[int, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries or self.has_bad_header or self.dirty)

    def __str__(self) -> str:
        parts = ["the header"] if self.has_bad_header else []
        if self.entries:
            parts.append(f"{len(self.entries)} entries, from entry {self.entries[0]} to {self.entries[-1]}")
        if self.dirty:
            parts.append(f"what is to be zero behind byte {self.dirty[0][0]}")
        return ", ".join(parts)


def check_segment(reading: SegmentReading, open_file: OpenFile, damage: SegmentDamage) -> Steps:
    """Read a segment, and note what is not as it should be. Raises StorageError if it cannot be opened."""
    file = open_file(reading.name)
    try:
        segment = Segment(file, reading.header, reading.salt, is_linked=True)
        segment.offsets, segment.terms, segment.end = reading.offsets, reading.terms, reading.end
        damage.has_bad_header = not _has_header(file, reading)
        index = segment.first_index
        while index <= segment.last_index:
            yield
            last = max(index, segment.last_fitting(index, segment.last_index, STEP_BYTES))
            damage.entries += _damaged(segment, index, last)
            index = last + 1
        for start in range(segment.end, segment.size if reading.has_end else 0, STEP_BYTES):
            yield
            stop = min(start + STEP_BYTES, segment.size)
            if not _is_zero(file, start, stop):
                damage.dirty.append((start, stop))
    finally:
        file.close()


def _has_header(file: DiskFile, reading: SegmentReading) -> bool:
    try:
        data = file.pread(SEGMENT_HEADER_BYTES, 0)
        return decode_segment_header(data, reading.name, reading.header.cluster) == reading.header
    except CorruptionError:
        return False


def _damaged(segment: Segment, first: int, last: int) -> list[int]:
    """Those of the entries that are not what was written: all are read at once, and one by one where that fails."""
    try:
        segment.read(first, last)
    except CorruptionError:
        if first == last:
            return [first]
        return [index for each in range(first, last + 1) for index in _damaged(segment, each, each)]
    return []


def _is_zero(file: DiskFile, start: int, stop: int) -> bool:
    try:
        return not any(file.pread(stop - start, start))
    except CorruptionError:
        return False
