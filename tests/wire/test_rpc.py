"""MessagePack-RPC: messages survive any cutting, and any bytes at all give messages or ProtocolError."""

import time
import tracemalloc

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftpay.errors import ProtocolError
from raftpay.wire.rpc import (
    BORDER_BUFFER_BYTES,
    MESSAGE_ID_MAX,
    RpcDecoder,
    RpcError,
    RpcMessage,
    RpcRequest,
    RpcResponse,
    array_length,
    decode_value,
    encode_error,
    encode_request,
    encode_response,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
IDS = st.integers(0, MESSAGE_ID_MAX)
MESSAGES = (
    st.builds(encode_request, IDS, st.text(max_size=64), st.lists(VALUES, max_size=4))
    | st.builds(encode_response, IDS, VALUES)
    | st.builds(
        lambda number, code, text, leader: encode_error(number, code, text, leader=leader),
        IDS,
        st.text(max_size=12),
        st.text(max_size=40),
        st.none() | st.text(max_size=20),
    )
)
CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def feed_in_pieces(decoder: RpcDecoder, stream: bytes, cuts: list[int]) -> list[RpcMessage]:
    received, position, turn = [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        received += decoder.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    return received


def encoded_again(message: RpcMessage) -> bytes:
    return msgspec.msgpack.encode(message)


@given(messages=st.lists(MESSAGES, max_size=6), cuts=CUTS)
def test_messages_survive_any_cutting_of_the_stream(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)

    received = feed_in_pieces(RpcDecoder(), stream, cuts)

    assert [encoded_again(message) for message in received] == messages


@given(messages=st.lists(MESSAGES, max_size=6))
def test_messages_that_arrive_together_come_out_in_order(messages: list[bytes]) -> None:
    received = RpcDecoder().feed(b"".join(messages))

    assert [encoded_again(message) for message in received] == messages


@given(stream=st.binary(max_size=400), cuts=CUTS)
@example(stream=b"\x94\xff", cuts=[1])
def test_any_bytes_give_messages_or_a_protocol_error(stream: bytes, cuts: list[int]) -> None:
    decoder = RpcDecoder(256)

    try:
        received = feed_in_pieces(decoder, stream, cuts)
    except ProtocolError:
        received = []

    assert all(isinstance(message, RpcRequest | RpcResponse) for message in received)


@given(stream=st.binary(max_size=300).map(lambda tail: b"\x94" + tail), cuts=CUTS)
def test_any_bytes_behind_a_good_start_give_messages_or_a_protocol_error(stream: bytes, cuts: list[int]) -> None:
    try:
        received = feed_in_pieces(RpcDecoder(256), stream, cuts)
    except ProtocolError:
        received = []

    assert all(isinstance(message, RpcRequest | RpcResponse) for message in received)


@given(messages=st.lists(MESSAGES, min_size=1, max_size=4), cuts=CUTS, data=st.data())
def test_a_mutated_stream_gives_messages_or_a_protocol_error(
    messages: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(messages))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(stream) - 1))
        stream[position] = data.draw(st.integers(0, 255))

    try:
        received = feed_in_pieces(RpcDecoder(512), bytes(stream), cuts)
    except ProtocolError:
        received = []

    assert all(isinstance(message, RpcRequest | RpcResponse) for message in received)


@given(value=st.binary(max_size=200))
@example(value=b"\x91" * 3000)
@example(value=b"\xdd\xff\xff\xff\xff")
@example(value=b"\x91\xa3\xed\xa0\x80")
def test_any_bytes_in_a_value_give_the_value_or_a_protocol_error(value: bytes) -> None:
    decoder = msgspec.msgpack.Decoder(list[str])

    try:
        decoded = decode_value(decoder, value)
    except ProtocolError:
        decoded = []

    assert all(isinstance(text, str) for text in decoded)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", "begins with byte 0x47", id="http"),
        pytest.param(b"\x16\x03\x01", "does not speak MessagePack-RPC", id="tls"),
        pytest.param(msgpack.packb([2, "note", []]), "notifications are not accepted", id="notification"),
        pytest.param(msgpack.packb([5, 1, "m", []]), r"Invalid value 5 - at `\$\[0\]`", id="unknown kind"),
        pytest.param(msgpack.packb([0, -1, "m", []]), r"Expected `int` >= 0 - at `\$\[1\]`", id="negative id"),
        pytest.param(msgpack.packb([0, 2**32, "m", []]), r"<= 4294967295 - at `\$\[1\]`", id="id too large"),
        pytest.param(msgpack.packb([0, 1.0, "m", []]), "got `float`", id="float id"),
        pytest.param(msgpack.packb([0, 1, b"m", []]), "Expected `str`, got `bytes`", id="method as bin"),
        pytest.param(msgpack.packb([0, 1, "m" * 65, []]), "length <= 64", id="method too long"),
        pytest.param(msgpack.packb([1, 1, "broken", None]), "Expected `object | null`, got `str`", id="error as str"),
        pytest.param(b"\x94\x00\x01\xa1\xff\x90", "can't decode byte 0xff", id="no utf-8"),
        pytest.param(b"\x94\x00\x01\xa3\xed\xa0\x80\x90", "can't decode byte 0xed", id="a surrogate"),
        pytest.param(b"\x94\x00\xc1", "no msgpack", id="an unused opcode"),
        pytest.param(b"\x94\x00\x01\xa1m" + b"\x91" * 2000, "no msgpack: StackError", id="nested too deep"),
        pytest.param(b"\x94\x00" + msgpack.packb(msgpack.ExtType(5, b"x")) + b"\xa1m\x90", "got `ext`", id="ext"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(stream: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        RpcDecoder().feed(stream)


def test_a_request_carries_its_params_undecoded() -> None:
    request = RpcDecoder().feed(encode_request(7, "create_transfers", [b"\x90", "linearizable"]))[0]

    assert isinstance(request, RpcRequest)
    assert (request.message_id, request.method) == (7, "create_transfers")
    assert array_length(request.params) == 2
    assert decode_value(msgspec.msgpack.Decoder(tuple[bytes, str]), request.params) == (b"\x90", "linearizable")


def test_an_error_comes_back_with_its_code_and_the_leader() -> None:
    response = RpcDecoder().feed(encode_error(9, "not_leader", "n2 leads", leader="127.0.0.1:7202"))[0]

    assert isinstance(response, RpcResponse)
    assert response.error == RpcError("not_leader", "n2 leads", "127.0.0.1:7202")


def test_a_wrong_value_is_refused_with_its_place() -> None:
    decoder = msgspec.msgpack.Decoder(tuple[list[str], str])

    with pytest.raises(ProtocolError, match=r"Expected `str`, got `int` - at `\$\[0\]\[1\]`"):
        decode_value(decoder, msgpack.packb([["a", 1], "local"]))


def test_an_extension_type_in_params_is_refused() -> None:
    request = RpcDecoder().feed(encode_request(1, "m", [msgspec.msgpack.Ext(5, b"x")]))[0]

    assert isinstance(request, RpcRequest)
    with pytest.raises(ProtocolError, match="got `ext`"):
        decode_value(msgspec.msgpack.Decoder(list[str]), request.params)


def test_an_array_tells_its_length_without_being_decoded() -> None:
    assert [array_length(msgpack.packb([0] * length)) for length in (0, 15, 16, 70_000)] == [0, 15, 16, 70_000]


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\xdc\x00", b"\xdd\x00\x00\x00"])
def test_what_is_no_array_has_no_length(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a msgpack array"):
        array_length(data)


def test_a_message_of_exactly_the_limit_is_accepted() -> None:
    message = encode_request(1, "m", [b"x" * 100])

    assert len(RpcDecoder(len(message)).feed(message)) == 1


def test_a_message_over_the_limit_is_refused_whole_or_in_parts() -> None:
    message = encode_request(1, "m", [b"x" * 100])

    with pytest.raises(ProtocolError, match="longer than"):
        RpcDecoder(len(message) - 1).feed(message)
    with pytest.raises(ProtocolError, match="longer than"):
        RpcDecoder(50).feed(message[:51])


def test_claims_of_great_lengths_cost_no_memory() -> None:
    claims = [
        b"\x94\x00\x01\xa1m\xdd\xff\xff\xff\xff",
        b"\x94\x00\x01\xa1m\xdf\xff\xff\xff\xff",
        b"\x94\x00\x01\xa1m\xc6\xff\xff\xff\xff",
        b"\x94\x00\x01\xdb\xff\xff\xff\xff",
    ]
    decoder = msgspec.msgpack.Decoder(list[str])
    tracemalloc.start()

    received = [RpcDecoder().feed(claim) for claim in claims]
    with pytest.raises(ProtocolError, match="truncated"):
        decode_value(decoder, b"\xdd\xff\xff\xff\xff")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert received == [[], [], [], []]
    assert peak < 200_000


def test_a_long_message_in_small_pieces_costs_in_proportion_to_its_length() -> None:
    def seconds(size: int) -> float:
        message = encode_request(1, "m", [b"x" * size])
        best = 1e9
        for _ in range(3):
            decoder = RpcDecoder()
            started = time.perf_counter()
            received = [
                one for start in range(0, len(message), 16_384) for one in decoder.feed(message[start : start + 16_384])
            ]
            best = min(best, time.perf_counter() - started)
            assert len(received) == 1
        return best

    small, large = seconds(500_000), seconds(8_000_000)

    # Sixteen times the bytes: linear is 16, quadratic 256. The margin is for a busy machine.
    assert large < 100 * small


def test_a_decoder_works_on_after_a_large_message_gave_its_memory_back() -> None:
    large = encode_request(1, "m", [b"x" * 2 * BORDER_BUFFER_BYTES])
    small = encode_request(2, "m", [])
    decoder = RpcDecoder()

    received = feed_in_pieces(decoder, large + small + small + large + small, [50_000])

    assert [message.message_id for message in received] == [1, 2, 2, 1, 2]
