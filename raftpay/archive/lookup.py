"""Beside each segment a file to read few rows from at once: by number, and by account. Parquet takes some milliseconds
for a row; this takes some microseconds, which is what a retry or a refund of an old transfer may cost the loop.

It holds no truth of its own: it is made from the rows of its segment, on this machine, and made again where it is lost
or damaged. Rows are of one width, each number as narrow as the segment's values allow (less their least); ids that are
all UUIDs take 16 bytes each. Accounts are named by their numbers, whose ids the ledger knows. Read by lookup_read.py.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from raftpay.archive.chain import Cut, SegmentFile
from raftpay.archive.columns import ACCOUNTS, PIECE_ROWS, TRANSFERS, Columns, Moves, Numbers, Segment, lengths_of
from raftpay.archive.pages import Paged, PagedFile, page_multiple
from raftpay.errors import CorruptionError
from raftpay.ledger.transfers import EXPIRY
from raftpay.storage.disk import DiskFile

FORMAT_VERSION: Final = 1
UUID_BYTES: Final = 16
# Every so many accounts of the directory one is kept in memory.
HEAD_STRIDE: Final = 512
_MAGIC: Final = b"raftpayL"
_HEAD: Final = struct.Struct("<8sII")
_UUID_CHARACTERS: Final = 36
_DASHES: Final = (8, 13, 18, 23)


class Section(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of the file. start: counted from the end of the header."""

    start: int
    size: int


class Field(msgspec.Struct, frozen=True, array_like=True):
    """Where a number lies in a row of the file: the value less `least`, little-endian, in `width` bytes, 0 for none."""

    offset: int
    width: int
    least: int


class LookupHeader(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a segment without reading on.

    files: of the segment, as this file was made from them. time_min, time_max: of its rows; the least above the
    greatest where it has none. is_ascending: whether no row has an earlier time than the one before it.
    has_uuids: whether each id is one, in its usual form, or that of an expiry. fields: in the order of the table.
    """

    cut: Cut
    files: list[SegmentFile]
    time_min: int
    time_max: int
    is_ascending: bool
    has_uuids: bool
    row_bytes: int
    fields: list[Field]
    sections: dict[str, Section]


def encode_lookup(segment: Segment, cut: Cut, files: list[SegmentFile]) -> Paged:
    """The file of a segment in parts: the header, then the sections, each beginning with a new page."""
    transfers = segment.transfers
    timestamps = transfers.numbers["timestamp"]
    fields, rows = _pack_rows(transfers)
    parts: dict[str, bytes | memoryview] = {"rows": rows}
    uuids = _pack_uuids(transfers.texts["id"], transfers.numbers["flags"])
    if uuids is None:
        parts["ids"], parts["id_ends"] = _pack_texts(transfers.texts["id"])
    else:
        parts["ids"] = uuids
    parts["references"], parts["reference_ends"] = _pack_texts(transfers.texts["reference"])
    parts["failed"], parts["failed_ends"] = _pack_texts(segment.failed.texts["id"])
    parts |= _pack_moves(segment.moves) | _pack_currencies(segment.tables[ACCOUNTS.name])
    sections: dict[str, Section] = {}
    start = 0
    for name, data in parts.items():
        sections[name] = Section(start, len(data))
        start += page_multiple(len(data))
    header = LookupHeader(
        cut=cut,
        files=files,
        time_min=int(timestamps.min()) if len(timestamps) else 1,
        time_max=int(timestamps.max()) if len(timestamps) else 0,
        is_ascending=bool((timestamps[1:] >= timestamps[:-1]).all()),
        has_uuids=uuids is not None,
        row_bytes=sum(field.width for field in fields),
        fields=fields,
        sections=sections,
    )
    body = msgspec.msgpack.encode(header)
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, len(body)) + body
    return Paged(head, *parts.values())


def read_header(file: DiskFile) -> tuple[LookupHeader, int]:
    """The header, and where the sections begin. Raises CorruptionError, also for a file of another version: it is made
    again like a damaged one.
    """
    pages = PagedFile(file)
    magic, version, length = _HEAD.unpack(pages.read(_HEAD.size, 0))
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise CorruptionError(f"{file.name}: not the lookup file of a segment, or of another version")
    try:
        header = msgspec.msgpack.decode(pages.read(length, _HEAD.size), type=LookupHeader)
    except ValueError as error:  # msgspec's errors
        raise CorruptionError(f"{file.name}: the header cannot be decoded: {error}") from error
    return header, page_multiple(_HEAD.size + length)


def _pack_rows(columns: Columns) -> tuple[list[Field], memoryview]:
    fields: list[Field] = []
    offset = 0
    for name in TRANSFERS.numbers if len(columns) else ():
        values = columns.numbers[name]
        least = int(values.min())
        width = ((int(values.max()) - least).bit_length() + 7) // 8
        if not fields:
            width = max(1, width)  # a row of no bytes has no place
        fields.append(Field(offset, width, least))
        offset += width
    rows = np.empty((len(columns), offset), np.uint8)
    for field, name in zip(fields, TRANSFERS.numbers, strict=False):
        if field.width:
            # The difference of two of 64 bits fits into 64 bits without a sign.
            differences = (columns.numbers[name].astype(np.int64) - np.int64(field.least)).astype("<u8", copy=False)
            cells = differences.view(np.uint8).reshape(len(columns), 8)
            rows[:, field.offset : field.offset + field.width] = cells[:, : field.width]
    return fields or [Field(0, 0, 0) for _ in TRANSFERS.numbers], memoryview(rows.reshape(-1).data)


def _pack_texts(texts: Sequence[str]) -> tuple[bytes, bytes]:
    """The texts one behind the other, and where each ends; nothing where all are empty."""
    pieces = ["".join(texts[start : start + PIECE_ROWS]) for start in range(0, len(texts), PIECE_ROWS)]
    data = b"".join([piece.encode() for piece in pieces])
    if not data:
        return b"", b""
    if len(data) == sum(map(len, pieces)):
        lengths = lengths_of(texts)
    else:
        lengths = np.fromiter((len(text.encode()) for text in texts), np.uint32, len(texts))
    return data, np.cumsum(lengths, dtype="<u4").tobytes()


def _pack_uuids(ids: Sequence[str], flags: Numbers) -> bytes | None:
    """16 bytes an id, zeros for those of expiries, which have none; None unless all the others are UUIDs."""
    named = (flags.astype(np.int64) & EXPIRY) == 0
    if not named.any() or (lengths_of(ids) != np.where(named, _UUID_CHARACTERS, 0)).any():
        return None
    parts: list[bytes] = []
    for start in range(0, len(ids), PIECE_ROWS):
        part = _pack_uuids_of("".join(ids[start : start + PIECE_ROWS]))
        if part is None:
            return None
        parts.append(part)
    packed = np.zeros((len(ids), UUID_BYTES), np.uint8)
    packed[named] = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, UUID_BYTES)
    return packed.tobytes()


def _pack_uuids_of(whole: str) -> bytes | None:
    """Of texts of 36 ASCII characters each, joined; None unless each is a UUID in lower case, with its dashes."""
    digits = whole.replace("-", "")
    characters = np.frombuffer(whole.encode(), np.uint8).reshape(-1, _UUID_CHARACTERS)
    if (characters[:, _DASHES] != ord("-")).any() or len(digits) != 2 * UUID_BYTES * len(characters):
        return None
    if digits != digits.lower():
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None


def _pack_moves(moves: Moves) -> dict[str, bytes]:
    """The directory of the accounts, and of each the rows that moved it, doubled, plus 1 where they credit it."""
    accounts = moves.accounts[moves.starts]
    return {
        "accounts": accounts.astype("<u4").tobytes(),
        "account_heads": accounts[::HEAD_STRIDE].astype("<u4").tobytes(),
        "entry_starts": np.append(moves.starts, len(moves.accounts)).astype("<u4").tobytes(),
        "entries": (moves.rows * np.uint32(2) + moves.is_credit).astype("<u4").tobytes(),
    }


def _pack_currencies(accounts: Columns) -> dict[str, bytes]:
    """The currencies of the accounts opened: their names, and of each account which one it has."""
    names: Mapping[str, int] = {name: place for place, name in enumerate(dict.fromkeys(accounts.texts["currency"]))}
    of_accounts = np.fromiter(map(names.__getitem__, accounts.texts["currency"]), "<u4", len(accounts))
    return {"currency_names": "\n".join(names).encode(), "account_currencies": of_accounts.tobytes()}
