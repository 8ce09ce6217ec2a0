"""MessagePack-RPC between clients and nodes: bytes in, messages out, messages in, bytes out. No sockets, no methods.

Both ends use it: the node's server and the client library. It knows the envelope only (request
`[0, id, method, params]`, response `[1, id, error, result]`); what stands in params and result stays encoded until its
reader decodes it with a type of its own through `decode_value`. So a batch of events, sent as one bin, passes through
here without becoming objects.

Rules: 1. Any bytes give messages or ProtocolError, and memory stays in proportion to message_bytes_max.
2. After a ProtocolError from `feed` the stream has lost its borders: the connection is closed.
3. A ProtocolError from `decode_value` concerns one message: it is answered, and the connection lives.
"""

from collections.abc import Sequence
from typing import Annotated, Final, TypeVar

import msgpack  # type: ignore[import-untyped]  # ships no types; skip, feed, tell and OutOfData are used
import msgspec
from msgspec import Meta, Raw, Struct

from raftpay.errors import ProtocolError

MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
METHOD_LENGTH_MAX: Final = 64
MESSAGE_ID_MAX: Final = 2**32 - 1
# The border finder's buffer never shrinks by itself; one that grew past this is replaced once it is empty.
BORDER_BUFFER_BYTES: Final = 256 * 1024

# The first byte of every message: a msgpack array of four. 0x93, an array of three, would be a notification.
_MESSAGE_START: Final = 0x94
_NOTIFICATION_START: Final = 0x93

MessageId = Annotated[int, Meta(ge=0, le=MESSAGE_ID_MAX)]
T = TypeVar("T")


class RpcRequest(Struct, array_like=True, tag=0, frozen=True):
    """message_id: chosen by the client, echoed in the response. params: an encoded msgpack array."""

    message_id: MessageId
    method: Annotated[str, Meta(max_length=METHOD_LENGTH_MAX)]
    params: Raw


class RpcError(Struct, frozen=True):
    """Why there is no result.

    code: one of the protocol's words ("not_leader", "unknown", "invalid" …).
    message: a sentence for people.
    leader: with not_leader, the client address ("host:port") of the node that leads, if known.
    """

    code: str
    message: str = ""
    leader: str | None = None


class RpcResponse(Struct, array_like=True, tag=1, frozen=True):
    """message_id: that of the request. error: None if it succeeded. result: encoded msgpack, nil beside an error."""

    message_id: MessageId
    error: RpcError | None
    result: Raw


RpcMessage = RpcRequest | RpcResponse

_ENCODER: Final = msgspec.msgpack.Encoder()
_MESSAGE_DECODER: Final[msgspec.msgpack.Decoder[RpcMessage]] = msgspec.msgpack.Decoder(RpcRequest | RpcResponse)


class RpcDecoder:
    """Cuts one connection's bytes into messages.

    message_bytes_max: the longest message accepted, in bytes, inclusive.
    """

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._message_bytes_max = message_bytes_max
        # Finds borders only: skip() builds no objects, and goes on where it ran out of bytes, so that a message
        # in many pieces is walked once. Its own limit is off, because this class bounds what it is given.
        self._borders = msgpack.Unpacker(read_size=4096, max_buffer_size=0)
        # Received and not yet returned; begins at a message's first byte.
        self._buffer = bytearray()
        # Position of the buffer's first byte in all that the border finder was fed.
        self._buffer_start = 0
        # The most that the border finder has held.
        self._buffer_size_peak = 0

    def feed(self, data: bytes) -> list[RpcMessage]:
        """Take bytes as they arrived and return the messages that are now whole, in order.

        Raises ProtocolError where the bytes are no such message, or one too long; the caller closes the connection.
        """
        if not self._buffer:
            whole = self._try_whole(data)
            if whole is not None:
                return [whole]
        self._buffer += data
        self._borders.feed(data)
        self._buffer_size_peak = max(self._buffer_size_peak, len(self._buffer))
        messages: list[RpcMessage] = []
        start = 0
        while start < len(self._buffer):
            self._check_start(self._buffer[start])
            end = self._find_end(start)
            if end is None:
                break
            messages.append(_decode_message(bytes(memoryview(self._buffer)[start:end])))
            start = end
        del self._buffer[:start]
        self._buffer_start += start
        if not self._buffer and self._buffer_size_peak > BORDER_BUFFER_BYTES:
            self._borders = msgpack.Unpacker(read_size=4096, max_buffer_size=0)
            self._buffer_start = self._buffer_size_peak = 0
        return messages

    def _try_whole(self, data: bytes) -> RpcMessage | None:
        """Decode data if it is exactly one message, the common case: a third of the cost of finding borders first."""
        if len(data) > self._message_bytes_max or data[:1] != b"\x94":
            return None
        try:
            return _MESSAGE_DECODER.decode(data)
        except (ValueError, RecursionError):
            # A part, several, or rubbish: the border finder tells which.
            return None

    def _find_end(self, start: int) -> int | None:
        """The position behind the message that begins at start, or None while its end has not arrived."""
        try:
            self._borders.skip()
        except msgpack.OutOfData:
            end, is_whole = len(self._buffer), False
        except (msgpack.UnpackException, ValueError, RecursionError) as error:
            raise ProtocolError(f"the bytes are no msgpack: {type(error).__name__} {error}".rstrip()) from error
        else:
            end, is_whole = self._borders.tell() - self._buffer_start, True
        if end - start > self._message_bytes_max:
            raise ProtocolError(
                f"a message is longer than {self._message_bytes_max} bytes: send fewer events or ids in one request"
            )
        return end if is_whole else None

    @staticmethod
    def _check_start(byte: int) -> None:
        """Refuse at its first byte what can be no message, rather than wait for its end."""
        if byte == _MESSAGE_START:
            return
        if byte == _NOTIFICATION_START:
            raise ProtocolError("notifications are not accepted: send a request, [0, id, method, params]")
        raise ProtocolError(
            f"a message begins with byte 0x{byte:02x}, expected 0x94, a msgpack array of four: "
            "the other side does not speak MessagePack-RPC"
        )


def _decode_message(data: bytes) -> RpcMessage:
    try:
        return _MESSAGE_DECODER.decode(data)
    except (ValueError, RecursionError) as error:
        # ValueError is the parent of msgspec's errors and of UnicodeDecodeError.
        raise ProtocolError(f"a message is no request or response: {error}") from error


def encode_request(message_id: int, method: str, params: Sequence[object]) -> bytes:
    """Return a request's bytes. params: values that msgpack knows, Structs, or Raw for what is encoded already."""
    return _ENCODER.encode((0, message_id, method, params))


def encode_response(message_id: int, result: object) -> bytes:
    """Return the bytes of a successful response."""
    return _ENCODER.encode((1, message_id, None, result))


def encode_error(message_id: int, code: str, message: str, *, leader: str | None = None) -> bytes:
    """Return the bytes of a response that carries an error. leader: "host:port", with not_leader only."""
    return _ENCODER.encode((1, message_id, RpcError(code, message, leader), None))


def decode_value(decoder: msgspec.msgpack.Decoder[T], data: Raw | bytes | memoryview) -> T:
    """Decode params, a result or a bin of events with the reader's own typed decoder.

    Raises ProtocolError that names the field and what was expected there. A decoder of a concrete type never yields
    msgpack extension types; list[Raw] costs 70 bytes for each element, so check `array_length` before.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


def array_length(data: Raw | bytes | memoryview) -> int:
    """Return how many elements the msgpack array at the start of data claims, without looking at them.

    Raises ProtocolError if no array is there.
    """
    head = bytes(memoryview(data)[:5])
    first = head[0] if head else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    if first == 0xDC and len(head) >= 3:
        return int.from_bytes(head[1:3], "big")
    if first == 0xDD and len(head) >= 5:
        return int.from_bytes(head[1:5], "big")
    raise ProtocolError(f"expected a msgpack array, found {f'byte 0x{first:02x}' if head else 'nothing'}")
