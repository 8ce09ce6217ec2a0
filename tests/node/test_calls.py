"""A call ends once, and a refusal says first whether it happened."""

import pytest

from raftpay.errors import (
    DiskFullError,
    EngineStoppedError,
    LeadershipLostError,
    NotLeaderError,
    ProtocolError,
    RaftpayError,
)
from raftpay.node.calls import Call, Refusals
from raftpay.wire.rpc import RpcDecoder, RpcError, RpcResponse

ADDRESSES = {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}


class Collected:
    """An outlet that keeps what was sent."""

    is_full = False

    def __init__(self) -> None:
        self.responses: list[bytes] = []

    def send(self, response: bytes) -> None:
        self.responses.append(response)

    def only(self) -> RpcResponse:
        (message,) = RpcDecoder().feed(b"".join(self.responses))
        assert isinstance(message, RpcResponse)
        return message


REFUSALS = [
    (NotLeaderError("n2"), RpcError("not_leader", "n1 does not lead, n2 does", "127.0.0.1:2")),
    (
        NotLeaderError(None),
        RpcError("unavailable", "n1 knows no leader that is ready; an election may be under way, try again"),
    ),
    # It has just been elected, and has not applied all of the log yet.
    (
        NotLeaderError("n1"),
        RpcError("unavailable", "n1 knows no leader that is ready; an election may be under way, try again"),
    ),
    (
        LeadershipLostError("entry 7 was sent"),
        RpcError("unknown", "entry 7 was sent; send the same request again, under the same ids"),
    ),
    (DiskFullError("no room"), RpcError("disk_full", "the disk of n1 is full, nothing was written: no room")),
    (ProtocolError("events: found none"), RpcError("invalid", "events: found none")),
]


@pytest.mark.parametrize(("error", "expected"), REFUSALS)
def test_each_error_has_its_refusal(error: RaftpayError, expected: RpcError) -> None:
    outlet = Collected()
    call = Call(outlet, 42)

    Refusals("n1", ADDRESSES.get).refuse(call, error)

    response = outlet.only()
    assert (response.message_id, response.error) == (42, expected)
    assert not call.is_open


def test_an_error_that_no_client_can_cause_is_raised_again() -> None:
    call = Call(Collected(), 1)

    with pytest.raises(EngineStoppedError):
        Refusals("n1", ADDRESSES.get).refuse(call, EngineStoppedError("broken"))

    assert call.is_open


def test_a_call_is_answered_once() -> None:
    outlet = Collected()
    call = Call(outlet, 1)
    call.answer([5, b"\0"])

    with pytest.raises(AssertionError, match="a call is answered once"):
        call.refuse("unknown", "late")

    assert len(outlet.responses) == 1
