"""Checks what a caller passed and encodes it, before anything is sent. Each refusal is Rejected and names the field.

Only what the wire cannot carry is refused here: wrong types, integers of more than 64 bits, text that is no Unicode,
too many events. Whether an amount or an id is a good one, the ledger says, as a result.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from raftpay.errors import Rejected
from raftpay.ledger import (
    BATCH_EVENTS_MAX,
    Account,
    AccountFlag,
    AccountQuery,
    AccountsQuery,
    Transfer,
    TransferFlag,
    TransferQuery,
)
from raftpay.wire.rpc import MESSAGE_BYTES_MAX

# What a request adds around its events: the envelope and the headers of bin and array.
ENVELOPE_BYTES_MAX: Final = 128
EVENTS_BYTES_MAX: Final = MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX
LOOKUP_IDS_MAX: Final = BATCH_EVENTS_MAX
DEADLINE_S_MAX: Final = 86_400.0

Event = TypeVar("Event", bound=Account | Transfer)
Query = AccountQuery | TransferQuery | AccountsQuery

_ENCODER: Final = msgspec.msgpack.Encoder()
_PLACE: Final = re.compile(r" - at `\$(?P<path>[^`]*)`$")
# What msgspec calls the type that it found; ours is named as Python has it.
_FOUND: Final = re.compile(r", got `[^`]*`")


class EventKind(Generic[Event]):
    """What differs between the two kinds of events.

    name: as callers call the list of them. fate_shared: flags that tie an event to the others of its request; such a
    request is neither split nor shared.
    """

    def __init__(
        self, name: str, struct: type[Event], decoder: msgspec.msgpack.Decoder[list[Event]], *, fate_shared: int
    ) -> None:
        self.name: Final = name
        self.struct: Final[type[Event]] = struct
        self.decoder: Final = decoder
        self.fate_shared: Final = int(fate_shared)


ACCOUNT_EVENTS: Final = EventKind(
    "accounts",
    Account,
    msgspec.msgpack.Decoder(list[Account]),
    fate_shared=AccountFlag.LINKED | AccountFlag.IMPORTED,
)
TRANSFER_EVENTS: Final = EventKind(
    "transfers",
    Transfer,
    msgspec.msgpack.Decoder(list[Transfer]),
    fate_shared=TransferFlag.LINKED | TransferFlag.IMPORTED,
)


class EventBatch(Struct, frozen=True, gc=False):
    """Encoded events of one call that travel in one request.

    body: the events one after the other, without the header of the array that they will stand in.
    count: how many they are.
    is_alone: they must not share a request with the events of other calls.
    """

    body: bytes
    count: int
    is_alone: bool


def encode_events(kind: EventKind[Event], events: Sequence[Event]) -> list[EventBatch]:
    """Check and encode the events of one call, as few batches as the limits allow, in order."""
    if not isinstance(events, list | tuple):
        raise Rejected(f"{kind.name}: found {type(events).__name__}, expected a list of {kind.struct.__name__}")
    if set(map(type, events)) - {kind.struct}:
        index = next(i for i, event in enumerate(events) if type(event) is not kind.struct)
        raise Rejected(f"{kind.name}[{index}]: found {type(events[index]).__name__}, expected {kind.struct.__name__}")
    if len(events) <= BATCH_EVENTS_MAX:
        return _encode_some(kind, events, 0)
    return [
        batch
        for start in range(0, len(events), BATCH_EVENTS_MAX)
        for batch in _encode_some(kind, events[start : start + BATCH_EVENTS_MAX], start, is_part=True)
    ]


def _encode_some(
    kind: EventKind[Event], events: Sequence[Event], first: int, *, is_part: bool = False
) -> list[EventBatch]:
    """Encode at most BATCH_EVENTS_MAX events, in halves where they are too long together.

    first: position of the first of them in the call. is_part: the call has others.
    """
    if not events:
        return []
    encoded, decoded = _encode_checked(kind, events, first)
    # The decoded ones, because their flags are plain integers: an IntFlag takes ten times as long to ask.
    is_tied = any(event.flags & kind.fate_shared for event in decoded)
    if is_part and is_tied:
        raise Rejected(
            f"{kind.name}: more than {BATCH_EVENTS_MAX} (BATCH_EVENTS_MAX) events, some of them LINKED or IMPORTED: "
            "their fate is shared within one request, so send the chains in requests of your own making"
        )
    if len(encoded) <= EVENTS_BYTES_MAX:
        return [EventBatch(encoded[header_length(len(events)) :], len(events), is_tied)]
    if is_tied or len(events) == 1:
        raise Rejected(
            f"{kind.name}[{first}]: {len(events)} event(s) that must travel together are {len(encoded)} bytes long, "
            f"at most {EVENTS_BYTES_MAX} fit into a request"
        )
    middle = len(events) // 2
    return [
        *_encode_some(kind, events[:middle], first, is_part=True),
        *_encode_some(kind, events[middle:], first + middle, is_part=True),
    ]


def _encode_checked(kind: EventKind[Event], events: Sequence[Event], first: int) -> tuple[bytes, list[Event]]:
    """Return the events' bytes, and the events as the other side will read them."""
    try:
        encoded = _ENCODER.encode(events)
        # A struct does not check what it is built with. Decoding what will be sent does, by the server's own types,
        # for 0.6 us an event.
        return encoded, kind.decoder.decode(encoded)
    except (ValueError, TypeError, OverflowError, RecursionError):
        for index, event in enumerate(events):
            check_fields(event, f"{kind.name}[{first + index}]")
        raise


def check_fields(struct: Struct, where: str) -> None:
    """Raise Rejected for the first field whose value the wire cannot carry or the other side would not take."""
    types = msgspec.structs.fields(struct)
    for field in types:
        value = getattr(struct, field.name)
        check_value(value, field.type, f"{where}.{field.name}")


def check_value(value: object, expected: Any, where: str) -> bytes:  # Any: a type expression, as msgspec takes them
    """Return the encoded value, or raise Rejected if it is not of the expected type."""
    try:
        encoded = _ENCODER.encode(value)
        msgspec.msgpack.decode(encoded, type=expected)
    except OverflowError as error:
        raise Rejected(f"{where}: found an integer of more than 64 bits, expected at most 2^63-1") from error
    except UnicodeError as error:
        raise Rejected(f"{where}: found text that is no valid Unicode (a lone surrogate)") from error
    except (ValueError, TypeError, RecursionError) as error:
        text = str(error)
        place = _PLACE.search(text)
        path = place["path"] if place else ""
        raise Rejected(
            f"{where}{path}: {_FOUND.sub('', _PLACE.sub('', text))}, found {type(value).__name__}"
        ) from error
    return encoded


def encode_value(value: object, expected: Any, name: str) -> Raw:  # Any: as in check_value
    """Check and encode one argument."""
    return Raw(check_value(value, expected, name))


def header_length(count: int) -> int:
    """Bytes of the header of a msgpack array of count elements."""
    return 1 if count < 16 else 3 if count < 65_536 else 5


def join_events(batches: Sequence[EventBatch]) -> bytes:
    """The msgpack array of all their events, in order."""
    count = sum(batch.count for batch in batches)
    header = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    assert count <= BATCH_EVENTS_MAX
    return header + b"".join([batch.body for batch in batches])


def encode_query(query: Query, kind: type[Query]) -> Raw:
    """Check and encode a question."""
    if type(query) is not kind:
        raise Rejected(f"query: found {type(query).__name__}, expected {kind.__name__}")
    check_fields(query, "query")
    return Raw(_ENCODER.encode(query))


def encode_ids(ids: Sequence[str]) -> Raw:
    """Check and encode the ids of a lookup."""
    if not isinstance(ids, list | tuple):
        raise Rejected(f"ids: found {type(ids).__name__}, expected a list of str")
    if len(ids) > LOOKUP_IDS_MAX:
        raise Rejected(f"ids: found {len(ids)}, at most {LOOKUP_IDS_MAX} fit into one lookup: ask in parts")
    return Raw(check_value(ids, list[str], "ids"))


def check_deadline(deadline_s: float) -> float:
    """Return it if it is a time that can be waited for."""
    if type(deadline_s) not in (int, float) or not 0 < deadline_s <= DEADLINE_S_MAX or math.isnan(deadline_s):
        raise Rejected(f"deadline_s: found {deadline_s!r}, expected seconds, above 0 and at most {DEADLINE_S_MAX:g}")
    return deadline_s


def check_read(read: str) -> str:
    if read not in ("linearizable", "local"):
        raise Rejected(f"read: found {read!r}, expected 'linearizable' or 'local'")
    return read


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[ipv6]:port"."""
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
        raise Rejected(f"address: found {address!r}, expected host:port, as in 127.0.0.1:7201")
    return host, int(port)


def check_address(address: str | None) -> str | None:
    if address is not None:
        parse_address(address)
    return address


def check_addresses(addresses: Sequence[str]) -> list[str]:
    """Return them without repetitions, in order."""
    if isinstance(addresses, str) or not addresses:
        raise Rejected(f"addresses: found {addresses!r}, expected a list of at least one host:port")
    for address in addresses:
        parse_address(address)
    return list(dict.fromkeys(addresses))
