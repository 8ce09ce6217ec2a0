"""What the parent and a worker process say to each other: u32 length (big-endian), then one msgpack message.

A socketpair joins them, so both see at once, as the end of the stream, when the other is gone. Bytes in, messages
out; crew.py and worker.py do the reading and writing.
"""

import struct
from typing import Final

import msgspec
from msgspec import Struct

from raftpay.errors import ProtocolError

# A batch of 8190 events with the longest fields has 5 MB.
MESSAGE_BYTES_MAX: Final = 32 * 1024 * 1024

_LENGTH: Final = struct.Struct(">I")


class Start(Struct, frozen=True, array_like=True, tag=1):
    """The first message to a worker. noun: "payments" or "accounts", what its batches hold."""

    noun: str
    addresses: list[str]


class Submit(Struct, frozen=True, array_like=True, tag=2):
    """A batch to bring into the ledger. events: the msgpack array of them, in the ledger's own form."""

    number: int
    events: bytes
    deadline_s: float


class Answer(Struct, frozen=True, array_like=True, tag=3):
    """The ledger's answer to a batch. results: a byte for each event, the result's number."""

    number: int
    results: bytes


class Failure(Struct, frozen=True, array_like=True, tag=4):
    """There is no answer. may_have_happened: it may be in the ledger all the same, else it surely is not.

    is_final: the request itself was refused; to send it again is of no use.
    """

    number: int
    message: str
    may_have_happened: bool
    is_final: bool


class Ready(Struct, frozen=True, array_like=True, tag=5):
    """The first message of a worker: it has started, and can be given batches."""


Message = Start | Submit | Answer | Failure | Ready

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Start | Submit | Answer | Failure | Ready)


def encode_message(message: Message) -> bytes:
    payload = _ENCODER.encode(message)
    assert len(payload) <= MESSAGE_BYTES_MAX, f"a message of {len(payload)} bytes"
    return _LENGTH.pack(len(payload)) + payload


class MessageDecoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        # Received and not yet returned.
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes as they arrived and return the messages that are now whole. Raises ProtocolError on rubbish."""
        self._buffer += data
        messages: list[Message] = []
        position = 0
        while len(self._buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, position)
            if length > MESSAGE_BYTES_MAX:
                raise ProtocolError(
                    f"a worker's message claims {length} bytes, at most {MESSAGE_BYTES_MAX} are accepted"
                )
            end = position + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            try:
                messages.append(_DECODER.decode(memoryview(self._buffer)[position + _LENGTH.size : end]))
            except msgspec.MsgspecError as error:
                raise ProtocolError(f"a worker's message cannot be read: {error}") from error
            position = end
        del self._buffer[:position]
        return messages
