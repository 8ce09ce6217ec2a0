"""Frames between peers: u32 length, u32 crc32c, payload; both numbers big-endian. Bytes in, payloads out, no sockets.

The raft transport is the only user. A frame that is too long or whose crc is wrong breaks the stream for good:
the connection it came on is closed, because nothing after it can be trusted to start where it seems to.
"""

import struct
from typing import Final

from crc32c import crc32c

from raftpay.errors import FrameError

_HEADER: Final = struct.Struct(">II")
HEADER_BYTES: Final = _HEADER.size


def encode_frame(payload: bytes) -> bytes:
    """Return the payload with its header in front."""
    return _HEADER.pack(len(payload), crc32c(payload)) + payload


class FrameDecoder:
    """Cuts a stream of bytes into payloads.

    frame_bytes_max: the longest payload accepted, in bytes, inclusive.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        # Received and not yet returned. A large frame arrives in many pieces, hence a bytearray that grows in place.
        self._buffer = bytearray()
        # Payload length and crc of the frame being received, or None between frames.
        self._expected: tuple[int, int] | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they arrived and return the payloads that are now whole, in order.

        Raises FrameError for a length over the limit or a wrong crc; the caller closes the connection.
        """
        self._buffer += data
        payloads: list[bytes] = []
        position = 0
        while True:
            if self._expected is None:
                if len(self._buffer) - position < HEADER_BYTES:
                    break
                self._expected = self._read_header(position)
                position += HEADER_BYTES
            length, crc = self._expected
            if len(self._buffer) - position < length:
                break
            payload = bytes(memoryview(self._buffer)[position : position + length])
            if crc32c(payload) != crc:
                raise FrameError(f"a frame of {length} bytes has a wrong crc: the bytes changed on the way")
            payloads.append(payload)
            position += length
            self._expected = None
        del self._buffer[:position]
        return payloads

    def _read_header(self, position: int) -> tuple[int, int]:
        length, crc = _HEADER.unpack_from(self._buffer, position)
        if length > self._frame_bytes_max:
            raise FrameError(
                f"a frame claims {length} bytes, at most {self._frame_bytes_max} are accepted: "
                "the other side is no raftpay node, or has a larger limit"
            )
        return length, crc
