"""The bytes of the journal: a record, the header of a segment, a slot of the marks. Pure: bytes in, values out.

No file is opened here and no policy lives here; segment.py, recovery.py and marks.py read and write through it. All
numbers are little-endian; indexes, terms, offsets and sizes have 64 bits, only the length of one payload has 32.

Record, at a multiple of 8 in the file, after the previous one:

    record crc u32, header crc u32, magic u32, length u32, index u64, term u64, durable index u64, payload, zeros to 8

The record crc covers all that follows up to the end of the payload. The header crc covers magic to durable index
alone: it lets a header be believed when its payload is torn, and be found behind a bad record (`find_headers`). Both
start from the journal's salt, a random number, so that a payload made by a client cannot pass for a record.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from crc32c import crc32c

from raftpay.errors import CorruptionError, DataDirectoryError, FormatVersionError
from raftpay.storage.disk import SECTOR_BYTES

FORMAT_VERSION: Final = 1

RECORD_MAGIC: Final = 0xA7E51A4F
_RECORD = struct.Struct("<IIIIQQQ")
_FIELDS = struct.Struct("<IIQQQ")
_U32 = struct.Struct("<I")
_MAGIC_BYTES = _U32.pack(RECORD_MAGIC)
_PADDING = tuple(bytes(-length % 8) for length in range(8))
RECORD_HEADER_BYTES: Final = _RECORD.size

SEGMENT_HEADER_BYTES: Final = SECTOR_BYTES
_SEGMENT_MAGIC = b"raftpayJ"
_SEGMENT = struct.Struct("<8sIQQQQ")

MARKS_SLOT_BYTES: Final = 4096
_MARKS_MAGIC = b"raftpayM"
_MARKS = struct.Struct("<8sIQQIQQQQ")

REBUILD_ADVICE: Final = (
    "This node does not start. `raftpay node rebuild` puts its data aside; started again, it fetches everything from "
    "its peers, which count it as a voter only once it has"
)


def cluster_hash(cluster_id: str) -> int:
    """64 bits that tell one cluster's files from another's."""
    return int.from_bytes(hashlib.sha256(cluster_id.encode()).digest()[:8], "little")


def encode_record(salt: int, index: int, term: int, durable_index: int, payload: bytes) -> bytes:
    """One record, padded. durable_index: the last entry known to be synced when this is written; below index."""
    length = len(payload)
    fields = _FIELDS.pack(RECORD_MAGIC, length, index, term, durable_index)
    checked = _U32.pack(crc32c(fields, salt)) + fields
    record_crc = crc32c(payload, crc32c(checked, salt))
    return b"".join((_U32.pack(record_crc), checked, payload, _PADDING[length & 7]))


def decode_payload(data: bytes, position: int, salt: int, *, index: int, term: int) -> bytes | None:
    """The payload of the record at position if it is whole and the expected one, else None."""
    if position + RECORD_HEADER_BYTES > len(data):
        return None
    record_crc, _, magic, length, found_index, found_term, _ = _RECORD.unpack_from(data, position)
    end = position + RECORD_HEADER_BYTES + length
    if magic != RECORD_MAGIC or found_index != index or found_term != term or end > len(data):
        return None
    if crc32c(memoryview(data)[position + 4 : end], salt) != record_crc:
        return None
    return data[position + RECORD_HEADER_BYTES : end]


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What a header says whose own crc is right; its payload may be torn."""

    length: int
    index: int
    term: int
    durable_index: int


def decode_header(data: bytes, position: int, salt: int) -> RecordHeader | None:
    """The header at position if its own crc is right, else None."""
    if position + RECORD_HEADER_BYTES > len(data):
        return None
    _, header_crc, magic, length, index, term, durable_index = _RECORD.unpack_from(data, position)
    if magic != RECORD_MAGIC or crc32c(data[position + 8 : position + RECORD_HEADER_BYTES], salt) != header_crc:
        return None
    return RecordHeader(length, index, term, durable_index)


def find_headers(data: bytes, start: int, salt: int) -> Iterator[tuple[int, RecordHeader]]:
    """All believable headers from start on, wherever they lie, with their places: the witnesses behind a bad record."""
    found = data.find(_MAGIC_BYTES, start)
    while found >= 0:
        if found % 8 == 0 and found >= 8 and (header := decode_header(data, found - 8, salt)) is not None:
            yield found - 8, header
        found = data.find(_MAGIC_BYTES, found + 1)


@dataclass(frozen=True, slots=True)
class RecordRun:
    """The good records from a position on."""

    offsets: list[int]
    terms: list[int]
    end: int  # the byte behind the last good record
    durable_index: int  # the highest that a record of the run knows to be synced; 0 if none


def scan_records(data: bytes, salt: int, next_index: int, last_term: int) -> RecordRun:
    """Walk over the records of a segment as far as crc, index and term are right."""
    view, size, position = memoryview(data), len(data), SEGMENT_HEADER_BYTES
    offsets: list[int] = []
    terms: list[int] = []
    durable_max = 0
    unpack, last_header = _RECORD.unpack_from, size - RECORD_HEADER_BYTES
    while position <= last_header:
        record_crc, _, magic, length, index, term, durable = unpack(data, position)
        end = position + RECORD_HEADER_BYTES + length
        if magic != RECORD_MAGIC or index != next_index or end > size or term < last_term or durable >= index:
            break
        if crc32c(view[position + 4 : end], salt) != record_crc:
            break
        offsets.append(position)
        terms.append(term)
        if durable > durable_max:
            durable_max = durable
        position, next_index, last_term = (end + 7) & ~7, next_index + 1, term
    return RecordRun(offsets, terms, min(position, size), durable_max)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first sector of a segment."""

    cluster: int  # cluster_hash of the cluster it belongs to
    number: int  # that of its file name
    first_index: int  # of its first entry
    previous_term: int  # of the entry before that; 0 before entry 1

    def encode(self) -> bytes:
        body = _SEGMENT.pack(
            _SEGMENT_MAGIC, FORMAT_VERSION, self.cluster, self.number, self.first_index, self.previous_term
        )
        return (body + _U32.pack(crc32c(body))).ljust(SEGMENT_HEADER_BYTES, b"\0")


def decode_segment_header(data: bytes, name: str, cluster: int) -> SegmentHeader | None:
    """The header, or None if the sector was never written.

    Raises CorruptionError if it is damaged (a sector is written whole or not at all, so it cannot be torn),
    FormatVersionError, DataDirectoryError if it belongs to another cluster.
    """
    body = data[: _SEGMENT.size + 4]
    if not any(body):
        return None
    if len(body) < _SEGMENT.size + 4 or body[:8] != _SEGMENT_MAGIC:
        raise CorruptionError(f"{name}: byte 0 does not begin a segment of a journal. {REBUILD_ADVICE}")
    if crc32c(body[: _SEGMENT.size]) != _U32.unpack_from(body, _SEGMENT.size)[0]:
        raise CorruptionError(f"{name}: the crc of the header at byte 0 is wrong. {REBUILD_ADVICE}")
    _, version, found_cluster, number, first_index, previous_term = _SEGMENT.unpack_from(body)
    check_version(name, version)
    check_cluster(name, found_cluster, cluster)
    return SegmentHeader(found_cluster, number, first_index, previous_term)


def check_version(name: str, version: int) -> None:
    """Raises FormatVersionError for one that this release does not know."""
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"{name}: format version {version} found, {FORMAT_VERSION} expected. "
            "Run the release that wrote it, or a newer one"
        )


def check_cluster(name: str, found: int, expected: int) -> None:
    """Raises DataDirectoryError for another cluster's file."""
    if found != expected:
        raise DataDirectoryError(
            f"{name}: belongs to another cluster (mark {found:016x} found, {expected:016x} expected). "
            "Point this node to its own data directory, or put the file back where it came from"
        )


class MarksSlot(msgspec.Struct, frozen=True, gc=False):
    """What the journal remembers outside of its records. See marks.py."""

    sequence: int  # the newer of the two slots counts
    cluster: int
    salt: int  # of all crcs of the journal's records
    first_segment: int  # segments below are compacted away
    synced_index: int  # every entry up to it was synced; may lag behind, never lead
    cut_segment: int  # a truncation that may be half done: this segment, 0 if none
    cut_offset: int  # from this byte on; later segments are to go as well

    def encode(self) -> bytes:
        body = _MARKS.pack(
            _MARKS_MAGIC,
            FORMAT_VERSION,
            self.sequence,
            self.cluster,
            self.salt,
            self.first_segment,
            self.synced_index,
            self.cut_segment,
            self.cut_offset,
        )
        return body + _U32.pack(crc32c(body))


def decode_marks_slot(data: bytes) -> tuple[int, MarksSlot] | None:
    """Format version and content, or None if the slot is empty or damaged."""
    if len(data) < _MARKS.size + 4 or data[:8] != _MARKS_MAGIC:
        return None
    if crc32c(data[: _MARKS.size]) != _U32.unpack_from(data, _MARKS.size)[0]:
        return None
    _, version, *values = _MARKS.unpack_from(data)
    return version, MarksSlot(*values)


def has_lost_sector(data: bytes, start: int, stop: int) -> bool:
    """Whether some sector's part of [start, stop) looks as if its write had not reached the disk.

    Then it is zeros, at least at its end: the kernel may write a page back while a record is being copied into it.
    """
    while start < stop:
        end = min(stop, start - start % SECTOR_BYTES + SECTOR_BYTES)
        if not any(data[max(start, end - 8) : end]):
            return True
        start = end
    return False
