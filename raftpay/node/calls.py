"""One request of a client on its way through the node, and the ways it can end. The rooms of the node share this.

A call is answered or refused exactly once. A refusal's code tells the client first whether it happened: `unknown` means
that it may have; every other code means that it did not.
"""

from collections.abc import Callable
from typing import Final, Protocol

from raftpay.errors import DiskFullError, LeadershipLostError, MembershipError, NotLeaderError, ProtocolError
from raftpay.wire.rpc import encode_error, encode_response

# Nothing happened: send it to the named leader, later, or not at all.
NOT_LEADER: Final = "not_leader"
UNAVAILABLE: Final = "unavailable"
OVERLOADED: Final = "overloaded"
DISK_FULL: Final = "disk_full"
INVALID: Final = "invalid"
TOO_LARGE: Final = "too_large"
METHOD_NOT_FOUND: Final = "method_not_found"
PROTOCOL: Final = "protocol"
# It may have happened: send it again under the same ids.
UNKNOWN: Final = "unknown"


class Outlet(Protocol):
    """Where the bytes of a response go."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits there already that a question is better refused than answered."""
        ...

    def send(self, response: bytes) -> None:
        """Send the one response to a request that came in here. Does nothing once the client has gone."""
        ...


class Call:
    """A request that waits for its one answer. outlet: where the response goes. message_id: the client's number."""

    __slots__ = ("is_open", "message_id", "outlet")

    def __init__(self, outlet: Outlet, message_id: int) -> None:
        self.outlet = outlet
        self.message_id = message_id
        # Whether it still waits for its answer.
        self.is_open = True

    def answer(self, result: object) -> None:
        """Send the result."""
        self.answer_encoded(encode_response(self.message_id, result))

    def answer_encoded(self, response: bytes) -> None:
        """Send a response that is encoded already, under this call's number."""
        assert self.is_open, "a call is answered once"
        self.is_open = False
        self.outlet.send(response)

    def refuse(self, code: str, message: str, *, leader: str | None = None) -> None:
        """Send an error. leader: with NOT_LEADER, the client address of the node that leads."""
        self.answer_encoded(encode_error(self.message_id, code, message, leader=leader))


class Refusals:
    """Turns the errors of other rooms into refusals.

    name: this node. client_address: of a node, by its name; a client that is sent away is told where to.
    """

    def __init__(self, name: str, client_address: Callable[[str], str | None]) -> None:
        self._name = name
        self.client_address = client_address

    def refuse(self, call: Call, error: Exception) -> None:
        """Refuse the call for this reason. An error that no client may cause is raised again."""
        match error:
            case NotLeaderError(leader=leader):
                self.refuse_not_leader(call, leader)
            case LeadershipLostError():
                call.refuse(UNKNOWN, f"{error}; send the same request again, under the same ids")
            case DiskFullError():
                call.refuse(DISK_FULL, f"the disk of {self._name} is full, nothing was written: {error}")
            case ProtocolError():
                call.refuse(INVALID, str(error))
            case MembershipError():
                call.refuse(UNAVAILABLE if error.is_passing else INVALID, str(error))
            case _:
                raise error

    def refuse_not_leader(self, call: Call, leader: str | None) -> None:
        """Send the client to the leader, or tell it that none is known."""
        if leader is None or leader == self._name:
            call.refuse(
                UNAVAILABLE, f"{self._name} knows no leader that is ready; an election may be under way, try again"
            )
            return
        call.refuse(NOT_LEADER, f"{self._name} does not lead, {leader} does", leader=self.client_address(leader))
