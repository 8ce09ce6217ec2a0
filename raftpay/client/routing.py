"""Decides where a request goes, and what a failed attempt means. No sockets, no clock, no waiting: it says what to do.

One Effort is one request over all its attempts; attempts.py carries out what it decides. Rules:
1. What was never written to a socket did not happen. What was written and not answered may have happened.
2. `Rejected` and `NotCommitted` are said only if no attempt at all may have happened.
3. A request is repeated where that cannot make it happen twice: questions, and events, which carry ids.
4. Within one round every known node is asked at most once; between rounds there is a pause with jitter.
"""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

from raftpay.client.arguments import parse_address
from raftpay.errors import ClientError, NotCommitted, OutcomeUnknown, Rejected
from raftpay.wire.rpc import RpcError

# Addresses that one client keeps in mind: those it was given, and those that nodes named as the leader's.
ADDRESSES_MAX: Final = 16
# A new leader is found within some 300 ms: the search must not add much to that.
SEARCH_PAUSE_S: Final = 0.01
SEARCH_PAUSE_S_MAX: Final = 0.1
# A node without room or time gets more of it.
BUSY_PAUSE_S: Final = 0.05
BUSY_PAUSE_S_MAX: Final = 1.0


class Kind(Enum):
    """What a repetition of the request could do."""

    QUESTION = 1
    """Changes nothing: it never "happens", and may be asked at will."""
    EVENTS = 2
    """Takes effect at most once, by its ids, however often it is sent."""
    ACT = 3
    """Carries no id: a repetition could overtake a later act, so it is sent again only if it did not happen."""


class _Then(Enum):
    ELSEWHERE = 1
    SAME_AGAIN = 2
    NEVER = 3


# What an error code says: whether the request may have happened, and what to do next. Other codes may mean anything.
_MEANINGS: Final[dict[str, tuple[bool, _Then]]] = {
    "not_leader": (False, _Then.ELSEWHERE),
    "unavailable": (False, _Then.ELSEWHERE),
    "overloaded": (False, _Then.SAME_AGAIN),
    "disk_full": (False, _Then.SAME_AGAIN),
    "unknown": (True, _Then.ELSEWHERE),
    "invalid": (False, _Then.NEVER),
    "too_large": (False, _Then.NEVER),
    "method_not_found": (False, _Then.NEVER),
}


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the effort's address again after pause_s seconds."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    error: ClientError


Decision = Retry | GiveUp


class Router:
    """What one client knows of the cluster: the addresses, and which of them leads."""

    def __init__(self, addresses: list[str], dice: random.Random) -> None:
        assert addresses, "checked where the client is made"
        self._addresses = addresses[:ADDRESSES_MAX]
        # Clients spread their first guesses and local reads over the nodes.
        self._turn = dice.randrange(len(self._addresses))
        self.dice: Final = dice
        # Who answered last as the leader, or was named as it; None when that proved wrong.
        self.leader: str | None = None

    def choose(self, tried: set[str], *, wants_leader: bool) -> str | None:
        """The next address for a request that has been to those in tried, or None if it has been everywhere."""
        if wants_leader and self.leader is not None and self.leader not in tried:
            return self.leader
        for _ in self._addresses:
            self._turn = (self._turn + 1) % len(self._addresses)
            if self._addresses[self._turn] not in tried:
                return self._addresses[self._turn]
        return None

    def others(self, address: str) -> list[str]:
        """All known addresses but this one."""
        return [other for other in self._addresses if other != address]

    def name_leader(self, address: str | None, *, by: str) -> None:
        """Take a node's word on who leads, unless it names itself while it says that it does not lead."""
        if address is None or address == by or not self._learn(address):
            self.doubt(by)
        else:
            self.leader = address

    def doubt(self, address: str) -> None:
        """The node at this address does not lead, or cannot be reached."""
        if self.leader == address:
            self.leader = None

    def _learn(self, address: str) -> bool:
        if address in self._addresses:
            return True
        try:
            parse_address(address)
        except Rejected:
            return False
        if len(self._addresses) < ADDRESSES_MAX:
            self._addresses.append(address)
        return address in self._addresses


class Effort:
    """One request over all its attempts: where it goes next, and whether it may have happened.

    aimed: the one address that is to answer; such a request is sent once, and what that node says is final.
    """

    def __init__(
        self, method: str, kind: Kind, router: Router, *, wants_leader: bool, aimed: str | None = None
    ) -> None:
        self.method: Final = method
        self._kind = kind
        self._router = router
        self._wants_leader = wants_leader
        self._aimed = aimed
        # Where the next attempt goes, or the present one went.
        self.address: str = aimed or self._any_address()
        # An attempt was written and its answer is awaited.
        self._is_open = False
        # An attempt ended without an answer, or with one that leaves it open.
        self._is_uncertain = False
        # Asked since the last pause.
        self._tried: set[str] = set()
        self._attempts = 0
        self._pauses = 0
        # The last thing that went wrong, for the error that ends it.
        self._problem = ""

    @property
    def may_have_happened(self) -> bool:
        return self._kind is not Kind.QUESTION and (self._is_open or self._is_uncertain)

    def doubt(self) -> None:
        """Take over that an earlier effort with the same events may have happened."""
        self._is_uncertain = True

    def sent(self) -> None:
        self._is_open = True
        self._attempts += 1

    def succeeded(self) -> None:
        self._is_open = False
        if self._wants_leader and self._aimed is None:
            self._router.leader = self.address

    def unreachable(self, why: str) -> Decision:
        """No connection: nothing was sent."""
        self._problem = f"{self.address}: {why}"
        self._router.doubt(self.address)
        if self._aimed is not None:
            return self._give_up()
        return self._elsewhere()

    def lost(self, why: str) -> Decision:
        """It was sent, and no answer that can be understood came."""
        self._is_open = False
        self._is_uncertain = True
        self._problem = f"{self.address}: {why}"
        self._router.doubt(self.address)
        if self._aimed is not None or self._kind is Kind.ACT:
            return self._give_up()
        return self._elsewhere()

    def refused(self, error: RpcError) -> Decision:
        """The node answered with an error."""
        is_uncertain, then = _MEANINGS.get(error.code, (True, _Then.ELSEWHERE))
        self._is_open = False
        self._is_uncertain = self._is_uncertain or is_uncertain
        self._problem = f"{self.address}: {error.code}: {error.message}"
        if error.code == "not_leader":
            self._router.name_leader(error.leader, by=self.address)
        if then is _Then.NEVER:
            if self.may_have_happened:
                return self._give_up()
            return GiveUp(Rejected(f"{self.method}: {error.code}: {error.message}"))
        if self._aimed is not None or (is_uncertain and self._kind is Kind.ACT):
            return self._give_up()
        if then is _Then.SAME_AGAIN:
            return Retry(self._pause(BUSY_PAUSE_S, BUSY_PAUSE_S_MAX))
        return self._elsewhere()

    def not_understood(self, why: str) -> ClientError:
        """The node did it, and says so in words that this release does not know: asking again would not help."""
        self._is_uncertain = True
        self._problem = f"{self.address}: {why}"
        return self._give_up().error

    def out_of_time(self, deadline_s: float) -> ClientError:
        """The error for a caller whose deadline has come."""
        return self._give_up(f"no answer within {deadline_s:g} s").error

    def closed(self) -> ClientError:
        """The error for a caller whose client was closed meanwhile."""
        return self._give_up("the client was closed").error

    def _give_up(self, reason: str = "") -> GiveUp:
        attempts = f"sent {self._attempts} time{'s' if self._attempts != 1 else ''}" if self._attempts else "never sent"
        told = "; ".join(part for part in (reason, self._problem and f"last from {self._problem}") if part)
        found = f"{self.method}: {told or 'stopped'} ({attempts})"
        if not self.may_have_happened:
            return GiveUp(NotCommitted(f"{found}. It did not happen, and may be sent again"))
        if self._kind is Kind.ACT:
            return GiveUp(OutcomeUnknown(f"{found}. It may have happened: look at the account, then send it again"))
        return GiveUp(OutcomeUnknown(f"{found}. It may have happened: send the same again, under the same ids"))

    def _elsewhere(self) -> Retry:
        self._tried.add(self.address)
        untried = self._router.choose(self._tried, wants_leader=self._wants_leader)
        if untried is not None:
            self.address = untried
            return Retry(0.0)
        self._tried.clear()
        self.address = self._any_address()
        return Retry(self._pause(SEARCH_PAUSE_S, SEARCH_PAUSE_S_MAX))

    def _pause(self, first_s: float, longest_s: float) -> float:
        """Doubles from round to round, with jitter, so that many clients do not come back at one moment."""
        pause_s = min(longest_s, first_s * 2.0 ** min(self._pauses, 16))
        self._pauses += 1
        return pause_s * self._router.dice.uniform(0.5, 1.0)

    def _any_address(self) -> str:
        address = self._router.choose(set(), wants_leader=self._wants_leader)
        assert address is not None, "a router knows at least one address"
        return address
