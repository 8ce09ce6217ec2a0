"""Opening a journal: scan every record, tell a torn tail from corruption, finish what a crash interrupted.

Called by `Journal.open` only, which goes on from what it returns. The rules:

1. Let K be the first entry that is not there as it should be, and D the highest entry known to be synced: by the
   marks, by any record before K, or by any believable record header behind it. K <= D is corruption, and nothing is
   changed on the disk.
2. K > D was never known to be synced. If what is missing of it looks like sectors that were never written (zeros), it
   is a torn tail, and is erased durably with all behind it. If every sector of it was written and yet it is wrong, no
   power loss explains it: corruption. So it is if K or an earlier entry lies behind it: a write went astray.
3. What is kept beyond D is written once more and synced before anybody relies on it: the page cache may hold what a
   failed fsync of the previous life has dropped. So are the marks, before anything else: a killed process may not have
   synced them, and a power loss would take them back, with them the end of a cut that was finished long ago.

What stays ambiguous: entries synced in the last moments before a power loss, after the last record that reached the
disk was written and before the kernel wrote the marks back. If the disk then also loses a sector of one of them (finds
zeros where there was data, or flips a bit of a record with zeros at the end of a sector, or wrote it into another
file), it is taken for a torn tail.
A killed process leaves no doubt at all: the marks are in the page cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from raftpay.errors import CorruptionError, StorageError
from raftpay.storage.disk import Disk, DiskFile
from raftpay.storage.marks import MARKS_NAME, Marks
from raftpay.storage.records import (
    REBUILD_ADVICE,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_header,
    decode_segment_header,
    find_headers,
    has_lost_sector,
    scan_records,
)
from raftpay.storage.segment import RESET_NAME, Segment, erase, segment_name, segment_number

_ZEROS = bytes(1 << 20)


@dataclass(slots=True)
class Recovery:
    """What opening found and did, for the log line and the operator."""

    segments: int = 0
    entries: int = 0
    bytes_scanned: int = 0
    torn_file: str = ""  # "" if nothing was torn
    torn_index: int = 0  # the first entry that was cut
    torn_offset: int = 0
    finished_truncation: bool = False  # one was interrupted by the crash
    removed_files: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.entries} entries in {self.segments} segments, {self.bytes_scanned} bytes checked"]
        if self.torn_file:
            parts.append(
                f"cut a torn tail from entry {self.torn_index} on ({self.torn_file}, byte {self.torn_offset}); "
                "it was never acknowledged"
            )
        if self.finished_truncation:
            parts.append("finished a truncation that a crash had interrupted")
        if self.removed_files:
            parts.append(f"removed {', '.join(self.removed_files)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Fault:
    """The first place where the journal is not as it should be."""

    name: str
    offset: int
    index: int
    reason: str
    is_torn: bool  # sectors that were never written explain it


class _Scan:
    """One opening. Collects segments as far as they are good, and what is known to be synced."""

    def __init__(self, disk: Disk, marks: Marks) -> None:
        self.disk = disk
        self.marks = marks
        self.recovery = Recovery()
        self.files: list[DiskFile] = []  # all that are open
        self.segments: list[Segment] = []
        self.durable_index = marks.now.synced_index
        self.fault: _Fault | None = None
        # Evidence of a write that went astray, "" if there is none.
        self.astray = ""

    @property
    def next_index(self) -> int:
        return self.segments[-1].last_index + 1 if self.segments else 1

    def numbers(self) -> list[int]:
        found = (segment_number(name) for name in self.disk.list("journal"))
        return sorted(number for number in found if number is not None)

    def finish_reset(self) -> None:
        """Give the segment of a reset its name if the marks count from it; else the reset never was."""
        if not self.disk.exists(RESET_NAME):
            return
        file = self.disk.open(RESET_NAME)
        try:
            header = decode_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0), RESET_NAME, self.marks.now.cluster)
        finally:
            file.close()
        if header is not None and header.number == self.marks.now.first_segment:
            self.disk.rename(RESET_NAME, segment_name(header.number))
        else:
            self.disk.remove(RESET_NAME)
        self.disk.fsync_folder("journal")

    def finish_compaction(self) -> None:
        """Remove what the marks say is compacted away."""
        self.remove([number for number in self.numbers() if number < self.marks.now.first_segment])

    def finish_truncation(self) -> None:
        """Do once more, and wholly, what the marks say was begun."""
        number, offset = self.marks.now.cut_segment, self.marks.now.cut_offset
        if number == 0:
            return
        if number not in self.numbers():
            raise CorruptionError(f"{segment_name(number)} is missing; {MARKS_NAME} was cutting it. {REBUILD_ADVICE}")
        self.remove([later for later in self.numbers() if later > number])
        file = self.disk.open(segment_name(number))
        erase(file, offset, file.size())
        file.fdatasync()
        file.close()
        self.marks.store_durably(cut_segment=0, cut_offset=0)
        self.recovery.finished_truncation = True

    def remove(self, numbers: list[int]) -> None:
        for number in numbers:
            self.disk.remove(segment_name(number))
            self.recovery.removed_files.append(segment_name(number))
        if numbers:
            self.disk.fsync_folder("journal")

    def read_all(self) -> None:
        """Read the segments in order; behind the first fault only the witnesses are heard."""
        numbers = self.numbers()
        expected = self.marks.now.first_segment
        for number in numbers:
            if self.fault is None and number != expected:
                self.blame(segment_name(expected), 0, "the file is missing", is_torn=True)
            expected = number + 1
            file = self.disk.open(segment_name(number))
            self.files.append(file)
            data = file.pread(file.size(), 0)
            self.recovery.bytes_scanned += len(data)
            is_kept = self.fault is None and self.read_segment(file, number, data, is_newest=number == numbers[-1])
            if not is_kept:
                self.hear_witnesses(file.name, data, 0)
        if self.fault is None and self.durable_index >= self.next_index:
            self.blame(segment_name(expected), 0, "the journal ends before it", is_torn=False)

    def read_segment(self, file: DiskFile, number: int, data: bytes, *, is_newest: bool) -> bool:
        """Take the segment's good records. False if none of it is used."""
        now = self.marks.now
        header = decode_segment_header(data[:SEGMENT_HEADER_BYTES], file.name, now.cluster)
        if header is None:
            if not is_newest or not _is_zero(data, 0):
                self.blame(file.name, 0, "the header was never written", is_torn=True)
            return False
        if header.number != number:
            self.blame(file.name, 0, f"it is segment {header.number} under another name", is_torn=False)
            return False
        if self.segments and not self.continues(header):
            return False
        segment = Segment(file, header, now.salt, is_linked=True)
        run = scan_records(data, now.salt, header.first_index, header.previous_term)
        segment.offsets.extend(run.offsets)
        segment.terms.extend(run.terms)
        segment.end = run.end
        self.segments.append(segment)
        self.durable_index = max(self.durable_index, run.durable_index)
        if not _is_zero(data, run.end):
            reason, is_torn = self.diagnose(data, segment)
            self.blame(file.name, run.end, reason, is_torn=is_torn)
            self.hear_witnesses(file.name, data, run.end)
        return True

    def continues(self, header: SegmentHeader) -> bool:
        """Whether a segment goes on where the one before it ends; blames the end of that one if not."""
        before = self.segments[-1]
        found, expected = (header.first_index, header.previous_term), (before.last_index + 1, before.last_term)
        if found == expected:
            return True
        reason = (
            f"{segment_name(header.number)} goes on at entry {found[0]} after term {found[1]}, not after {expected[1]}"
        )
        self.blame(before.file.name, before.end, reason, is_torn=found[0] > expected[0])
        return False

    def diagnose(self, data: bytes, segment: Segment) -> tuple[str, bool]:
        """What is wrong behind the good records of a segment, and whether unwritten sectors explain it."""
        start = segment.end
        header = decode_header(data, start, self.marks.now.salt)
        if header is None:
            return "the record's header is wrong", has_lost_sector(
                data, start, min(start + RECORD_HEADER_BYTES, len(data))
            )
        stop = start + RECORD_HEADER_BYTES + header.length
        if header.index != segment.last_index + 1 or header.term < segment.last_term or stop > len(data):
            return f"entry {header.index} of term {header.term} ({header.length} bytes) lies in its place", False
        return "the crc of the record is wrong", has_lost_sector(data, start, stop)

    def blame(self, name: str, offset: int, reason: str, *, is_torn: bool) -> None:
        self.fault = _Fault(name, offset, self.next_index, reason, is_torn)

    def hear_witnesses(self, name: str, data: bytes, start: int) -> None:
        """Learn from the headers behind the fault how far the journal was synced, and what lies in a wrong place."""
        for place, header in find_headers(data, start, self.marks.now.salt):
            self.durable_index = max(self.durable_index, header.durable_index)
            fault = self.fault
            if fault is None or header.index > fault.index:
                continue
            # The entry at the fault may be there in part; behind a header that was never written it may be whole.
            if (name, place) != (fault.name, fault.offset or SEGMENT_HEADER_BYTES):
                self.astray = f"; entry {header.index} lies in {name} at byte {place}, where it was never meant to be"

    def judge(self) -> None:
        """Raises CorruptionError unless the fault, if any, is a torn tail (rules 1 and 2)."""
        fault = self.fault
        if fault is None or (fault.index > self.durable_index and fault.is_torn and not self.astray):
            return
        raise CorruptionError(
            f"{fault.name}: entry {fault.index} at byte {fault.offset}: {fault.reason}{self.astray}; "
            f"entries up to {self.durable_index} were synced. {REBUILD_ADVICE}"
        )

    def cut(self) -> None:
        """Erase the torn tail and all behind it, and remove what was prepared and not used."""
        kept = self.segments[-1].number if self.segments else 0
        self.remove([number for number in self.numbers() if number > kept])
        if self.fault is None:
            return
        self.recovery.torn_file = self.fault.name
        self.recovery.torn_index = self.fault.index
        self.recovery.torn_offset = self.fault.offset
        if self.segments:
            last = self.segments[-1]
            erase(last.file, last.end, last.size)
            last.file.fdatasync()

    def write_again(self) -> None:
        """Make sure that all that is kept is on the disk (rule 3)."""
        for segment in self.segments:
            if segment.last_index > self.durable_index:
                is_known = segment.first_index <= self.durable_index
                start = segment.offset_of(self.durable_index + 1) if is_known else 0
                segment.file.pwrite(segment.file.pread(segment.end - start, start), start)
                segment.file.fdatasync()
        self.disk.fsync_folder("journal")
        last_index = self.next_index - 1
        if last_index > self.marks.now.synced_index:
            self.marks.store_durably(synced_index=last_index)

    def close(self, kept: Sequence[Segment] = ()) -> None:
        """Close the files of all but the kept segments."""
        keepers = [segment.file for segment in kept]
        for file in self.files:
            if file not in keepers:
                file.close()


def _is_zero(data: bytes, start: int) -> bool:
    """Whether all of data from start on is zeros."""
    for offset in range(start, len(data), len(_ZEROS)):
        stop = min(len(data), offset + len(_ZEROS))
        if not data.startswith(_ZEROS if stop - offset == len(_ZEROS) else _ZEROS[: stop - offset], offset):
            return False
    return True


def recover(disk: Disk, marks: Marks) -> tuple[list[Segment], Recovery]:
    """The segments with all that is durable, in order (none if the journal is new), and what was found.

    Raises CorruptionError, FormatVersionError, DataDirectoryError (another cluster's file), StorageError; then the
    files are as they were, but for the marks, and an interrupted truncation or compaction that was finished.
    """
    scan = _Scan(disk, marks)
    try:
        marks.store_durably()
        scan.finish_reset()
        scan.finish_compaction()
        scan.finish_truncation()
        scan.read_all()
        scan.judge()
        scan.cut()
        scan.write_again()
    except StorageError:
        scan.close()
        raise
    scan.close(scan.segments)
    scan.recovery.segments = len(scan.segments)
    scan.recovery.entries = sum(len(segment.offsets) for segment in scan.segments)
    return scan.segments, scan.recovery
