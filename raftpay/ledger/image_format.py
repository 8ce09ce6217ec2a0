"""The bytes of an image: which messages there are, and how they follow each other. image.py writes them, restoring.py
reads them.

An image is a stream of msgpack messages, each behind its length (u32, little-endian): the head, then each table in
parts, in the order of the classes below but for the blocks, which come last. How the stream is cut into chunks has no
meaning. Whether bytes were damaged on the way is for the storage room to say (crc).
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from raftpay.ledger.digest import FoldState
from raftpay.ledger.sealed import Movement

IMAGE_VERSION: Final = 2
# Rows of one message: some hundred kilobytes.
PART_ROWS: Final = 4096

_LENGTH: Final = struct.Struct("<I")
# Beyond every message that is written here, so that a damaged length asks for no gigabytes.
_MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024

Item = TypeVar("Item")


class CutHead(Struct, frozen=True, array_like=True):
    """A Cut without its balances."""

    number: int
    block: int
    row: int
    failed: int
    accounts: int
    time: int


class Head(Struct, frozen=True, array_like=True):
    """What is known before any row. version stands first in every version of this format.

    sizes: block_entries and segment_entries.
    volume: in decimal, for it has no upper bound.
    movements, failed, dropped_blocks: how many there are ever, and how many blocks of them are not here.
    pendings: how many slots.
    cuts: the first is that of the opening balances.
    """

    version: int
    sizes: tuple[int, int]
    time: int
    volume: str
    last_timestamp: int
    last_expiry_at: int
    is_overtaken: bool
    expiries: int
    accounts: int
    movements: int
    failed: int
    dropped_blocks: int
    pendings: int
    cuts: list[CutHead]
    fold: FoldState


class AccountsPart(Struct, frozen=True, array_like=True, tag=1):
    ids: list[str]
    currencies: list[str]
    references: list[str]
    codes: bytes
    flags: bytes
    guards: bytes
    limits: bytes
    created_at: bytes
    balances: list[bytes]


class BlockHead(Struct, frozen=True, array_like=True, tag=2):
    """What the next block begins with; its movements and failed ids follow."""

    first: int
    first_slot: int
    first_failed: int


class MovementsPart(Struct, frozen=True, array_like=True, tag=3):
    """Some rows of the block, in the order of Block.texts and Block.columns."""

    texts: tuple[list[str], list[str], list[str]]
    columns: list[bytes]


class FailedPart(Struct, frozen=True, array_like=True, tag=4):
    ids: list[str]


class StatusesPart(Struct, frozen=True, array_like=True, tag=5):
    """A part of Pendings.statuses."""

    statuses: bytes


class RemainsPart(Struct, frozen=True, array_like=True, tag=6):
    """Some of the open pending transfers of blocks that are not here."""

    movements: list[Movement]


class OpeningPart(Struct, frozen=True, array_like=True, tag=7):
    """Some of the balances at the first cut."""

    balances: list[bytes]


class FirstLimitsPart(Struct, frozen=True, array_like=True, tag=8):
    """Some pairs of Accounts.first_limits."""

    pairs: list[tuple[int, int]]


class ReversedPart(Struct, frozen=True, array_like=True, tag=9):
    """Some pairs of Transfers.reversed_amounts."""

    pairs: list[tuple[int, int]]


Part = (
    AccountsPart
    | BlockHead
    | MovementsPart
    | FailedPart
    | StatusesPart
    | RemainsPart
    | OpeningPart
    | FirstLimitsPart
    | ReversedPart
)

_encoder: Final = msgspec.msgpack.Encoder()
_version_decoder: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_int_decoder: Final = msgspec.msgpack.Decoder(int)
_head_decoder: Final = msgspec.msgpack.Decoder(Head)
_part_decoder: Final = msgspec.msgpack.Decoder(Part)


class ImageVersionError(ValueError):
    """The image is of a version that this release does not know. found: which."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the image of the ledger has version {found}, this release knows {IMAGE_VERSION}")
        self.found = found


def packed_message(content: Struct) -> bytes:
    body = _encoder.encode(content)
    return _LENGTH.pack(len(body)) + body


def read_image(chunks: Iterable[bytes]) -> tuple[Head, Iterator[Part]]:
    """The head, and the parts as they are asked for. Raises ImageVersionError, and ValueError for what is no image."""
    messages = _messages(chunks)
    first = next(messages, None)
    if first is None:
        raise ValueError("the image of the ledger is empty")
    parts = _version_decoder.decode(first)
    version = _int_decoder.decode(parts[0]) if parts else 0
    if version != IMAGE_VERSION:
        raise ImageVersionError(version)
    return _head_decoder.decode(first), map(_part_decoder.decode, messages)


def spans(count: int) -> Iterator[tuple[int, int]]:
    """The rows of each part of a table of so many."""
    return ((first, min(first + PART_ROWS, count)) for first in range(0, count, PART_ROWS))


def in_parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while part := list(islice(rest, PART_ROWS)):
        yield part


def _messages(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The messages of a stream, however it was cut."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > _MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of the image claims {length} bytes, at most {_MESSAGE_BYTES_MAX} are read")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[start + _LENGTH.size : end])
            start = end
        del buffer[:start]
    if buffer:
        raise ValueError(f"the image of the ledger ends within a message, {len(buffer)} bytes of it are there")
