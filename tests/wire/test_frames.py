"""Frames between peers: whole payloads come out as they went in, broken ones never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftpay.errors import FrameError
from raftpay.wire.frames import HEADER_BYTES, FrameDecoder, encode_frame


@given(payloads=st.lists(st.binary(max_size=300), max_size=8), sizes=st.lists(st.integers(1, 64), min_size=1))
def test_payloads_survive_any_cutting_of_the_stream(payloads: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(encode_frame(payload) for payload in payloads)
    decoder = FrameDecoder(300)

    received, position, turn = [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        received += decoder.feed(stream[position : position + size])
        position, turn = position + size, turn + 1

    assert received == payloads


@given(payload=st.binary(min_size=1, max_size=64), data=st.data())
def test_a_flipped_bit_is_never_delivered(payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(payload))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8

    try:
        delivered = FrameDecoder(64).feed(bytes(frame))
    except FrameError:
        delivered = []

    # A flip in the length may make the frame wait for more; it must not make it another payload.
    assert delivered == []


def test_a_frame_over_the_limit_is_refused_before_it_is_received() -> None:
    frame = encode_frame(b"x" * 65)

    with pytest.raises(FrameError, match="claims 65 bytes, at most 64"):
        FrameDecoder(64).feed(frame[:HEADER_BYTES])


def test_a_frame_of_exactly_the_limit_is_accepted() -> None:
    assert FrameDecoder(64).feed(encode_frame(b"x" * 64)) == [b"x" * 64]
