"""Who was heard when, in one life of a node, and what must follow: rules about time, each by the node's own clock.

1. A node that has heard its leader within the shortest election timeout grants no pre-vote (Raft thesis 9.6), so that
   nobody deposes a leader that others hear; one whose connection the leader has closed may.
2. A leader that no majority has answered for two election timeouts is none any more (6.2).

They cost no entry where they are broken, but answers. Called by member.py with every message that arrives.
"""

from collections.abc import Callable
from typing import Final

from raftpay.raft.messages import AppendEntries, AppendReply, Message, PreVoteReply, SnapshotFetch
from raftpay.raft.node import RaftNode
from raftpay.raft.options import RaftOptions
from raftpay.sim.trace import Trace

# Timers fire every quarter of a heartbeat, and a turn may be long.
STEP_DOWN_SLACK_S: Final = 0.1


class Contacts:
    """clock: the node's own, read without being held up by it."""

    def __init__(self, options: RaftOptions, trace: Trace, clock: Callable[[], float]) -> None:
        self._options, self._trace, self._clock = options, trace, clock
        self._leader_s = float("-inf")
        # When each peer has last answered this leader, or has become a voter in its term.
        self._answered_s: dict[str, float] = {}
        self._term, self._members_index = 0, -1
        self._voters: frozenset[str] = frozenset()
        # Since when no majority has answered; None: not reckoned since the last answer.
        self._majority_s: float | None = None
        self._lonely_since_s: float | None = None

    def received(self, raft: RaftNode, message: Message) -> None:
        """A message, before the node acts on it."""
        if isinstance(message, AppendEntries) and message.term >= raft.term:
            self._leader_s = self._clock()

    def answered(self, raft: RaftNode, peer: str, message: AppendReply | SnapshotFetch) -> None:
        """An answer, behind what the node did with it: a process that is held up then takes it for a later one."""
        if message.term == raft.term:
            self._answered_s[peer] = self._clock()
            self._majority_s = None

    def hung_up(self, raft: RaftNode, peer: str) -> None:
        """A peer has closed its connection: if it led, it is gone."""
        if peer == raft.leader:
            self._leader_s = float("-inf")

    def sending(self, message: Message) -> None:
        """Rule 1."""
        if isinstance(message, PreVoteReply) and message.granted:
            heard_for_s = self._clock() - self._leader_s
            if heard_for_s < self._options.election_timeout_min_s:
                raise self._trace.violated(
                    "no vote against a leader that is heard",
                    f"{self._options.name} grants {message}, {heard_for_s:.3f} s after it has heard the leader",
                )

    def turned(self, raft: RaftNode, standing: tuple[int, int, int, int]) -> None:
        """Rule 2, after each turn of a leader. standing: as of the node, now."""
        now_s = self._clock()
        if standing[1] != self._term or standing[3] != self._members_index:
            self._begin(raft, now_s)
        latest_s = self._majority_s
        if latest_s is None:
            latest_s = self._majority_s = self._latest_majority_s()
        if now_s - latest_s <= 2 * self._options.election_timeout_max_s:
            self._lonely_since_s = None
        elif self._lonely_since_s is None:
            self._lonely_since_s = now_s
        elif now_s - self._lonely_since_s > STEP_DOWN_SLACK_S:
            raise self._trace.violated(
                "a leader without a majority steps down",
                f"{self._options.name} leads in term {raft.term}, {now_s - latest_s:.3f} s after a majority answered",
            )

    def _latest_majority_s(self) -> float:
        """When a majority, this node included, had last answered."""
        needed = (len(self._voters) + 1) // 2
        return sorted(self._answered_s[name] for name in self._voters)[-needed] if needed else float("inf")

    def _begin(self, raft: RaftNode, now_s: float) -> None:
        """A term in office, or other members: whoever is new has time to answer."""
        known = self._voters if raft.term == self._term else frozenset()
        others = frozenset(name for name, member in raft.members.items() if member.is_voter) - {self._options.name}
        self._answered_s |= dict.fromkeys(others - known, now_s)
        self._term, self._members_index, self._voters = raft.term, raft.members_index, others
        self._majority_s = None
        self._lonely_since_s = None
