"""What is known of a segment without its rows: its cut, its link to the one before, its files and what they are called.

A segment is one Parquet file for each table that has rows in it. Their names give the number of the segment and the
beginning of its digest, which covers the digest of the segment before: a node that has a file of that name has the same
history up to there. Each file repeats in its metadata what is known of the segment, so that it can be read alone.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from raftpay.archive.columns import TABLES, Digest, Segment
from raftpay.errors import CorruptionError, FormatVersionError

FORMAT_VERSION: Final = 1
FOLDER: Final = "archive"
DERIVED_FOLDER: Final = "index"
_NAMED_DIGEST_BYTES: Final = 16
_TABLE_NAMES: Final = tuple(table.name for table in TABLES)
_NAME: Final = re.compile(
    rf"{FOLDER}/([0-9]{{8,}})-([0-9a-f]{{{2 * _NAMED_DIGEST_BYTES}}})-({'|'.join(_TABLE_NAMES)})\.parquet"
)


class Span(msgspec.Struct, frozen=True, array_like=True):
    """The rows of one table in a segment: first, and how many."""

    first: int
    count: int

    @property
    def last(self) -> int:
        """The number behind the last row."""
        return self.first + self.count


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """A segment, but for where it lies. time: of the ledger at its end. spans: of all tables, in their order."""

    number: int
    time: int
    previous: bytes
    digest: bytes
    spans: tuple[Span, Span, Span]

    @property
    def rows(self) -> Span:
        """The transfers and expiries."""
        return self.spans[0]

    @property
    def accounts(self) -> Span:
        return self.spans[1]

    @property
    def failed(self) -> Span:
        return self.spans[2]

    @property
    def tables(self) -> list[str]:
        """Those that have rows in the segment, and so a file."""
        return [name for name, span in zip(_TABLE_NAMES, self.spans, strict=True) if span.count]

    @property
    def file_names(self) -> list[str]:
        """Of all its files, sorted."""
        return sorted(file_name(self, table) for table in self.tables)

    def begin_digest(self) -> Digest:
        return Digest(self.previous, self.number, self.time)


class SegmentFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of a segment as it lies on this disk. sha256: of all its bytes, of which there are size_bytes."""

    name: str
    size_bytes: int
    sha256: bytes


def cut_of(segment: Segment, previous: bytes) -> Cut:
    spans = [Span(columns.first, len(columns)) for columns in (segment.tables[name] for name in _TABLE_NAMES)]
    return Cut(segment.number, segment.time, previous, segment.digest(previous), (spans[0], spans[1], spans[2]))


def lookup_name(cut: Cut) -> str:
    """Of the file that is derived from the segment."""
    return f"{DERIVED_FOLDER}/{_stem(cut)}.lookup"


def lookup_of(name: str) -> str:
    """Of the one that belongs to the segment of this file."""
    stem = name.removeprefix(f"{FOLDER}/").rpartition("-")[0]
    return f"{DERIVED_FOLDER}/{stem}.lookup"


def file_name(cut: Cut, table: str) -> str:
    return f"{FOLDER}/{_stem(cut)}-{table}.parquet"


def _stem(cut: Cut) -> str:
    return f"{cut.number:08d}-{cut.digest[:_NAMED_DIGEST_BYTES].hex()}"


def segments_in(names: Iterable[str]) -> dict[int, dict[str, list[str]]]:
    """The files of segments among these names: by number, then by the digest in the name."""
    found: dict[int, dict[str, list[str]]] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None:
            found.setdefault(int(match[1]), {}).setdefault(match[2], []).append(name)
    return found


def about(cut: Cut) -> dict[str, str]:
    """What each file of the segment says of it."""
    said = {
        "raftpay_format": str(FORMAT_VERSION),
        "segment": str(cut.number),
        "time": str(cut.time),
        "previous": cut.previous.hex(),
        "digest": cut.digest.hex(),
    }
    for name, span in zip(_TABLE_NAMES, cut.spans, strict=True):
        said |= {f"{name}_first": str(span.first), f"{name}_count": str(span.count)}
    return said


def read_about(name: str, said: Mapping[str, str]) -> Cut:
    """The segment that a file says it belongs to. Raises CorruptionError, FormatVersionError."""
    version = said.get("raftpay_format")
    if version is None:
        raise CorruptionError(f"{name}: does not say that it is a part of a segment of raftpay's")
    if version != str(FORMAT_VERSION):
        raise FormatVersionError(
            f"{name}: format version {version} found, {FORMAT_VERSION} expected. "
            "Run the release that wrote it, or a newer one"
        )
    try:
        spans = [Span(int(said[f"{table}_first"]), int(said[f"{table}_count"])) for table in _TABLE_NAMES]
        return Cut(
            int(said["segment"]),
            int(said["time"]),
            bytes.fromhex(said["previous"]),
            bytes.fromhex(said["digest"]),
            (spans[0], spans[1], spans[2]),
        )
    except (KeyError, ValueError) as error:
        raise CorruptionError(f"{name}: what it says of its segment cannot be read: {error!r}") from error
