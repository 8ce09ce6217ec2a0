"""What a leader knows of each follower's log, and what it may send next. Numbers only: no sockets, clock or PySyncObj.

Stock PySyncObj moves nextIndex back whenever any reply says so and sends whole backlogs without end. Here a follower is
either probed (one message at a time, until its log is known to match) or replicated to (a bounded window on its way).
"""

from collections import deque
from dataclasses import dataclass, field

from raftpay.raft.messages import AppendReply


@dataclass(slots=True)
class Progress:
    """One follower, as its leader sees it in the present term."""

    # First entry not sent yet. Always above match_index.
    next_index: int
    # The follower's journal is fsynced and equal to ours up to here. Goes back only when the follower says that it
    # has less. Every log begins with the same entry 1, so that there is always a previous entry to compare.
    match_index: int = 1
    # True until a reply has shown where the logs agree.
    is_probing: bool = True
    # A probe is on its way: no other is sent until it is answered or the connection is lost.
    is_probe_sent: bool = False
    # (last index, size in bytes) of the messages sent and not yet covered by match_index, oldest first.
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    # Highest round that the follower has answered in this term (Raft thesis 6.4: proof of leadership for reads).
    confirmed_round: int = 0

    def reset_connection(self) -> None:
        """What was on its way may be lost: ask anew where the logs agree."""
        if not self.is_probing:
            self.next_index = self.match_index + 1
        self.is_probing, self.is_probe_sent = True, False
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def has_room(self, window_bytes: int) -> bool:
        """Whether another message with entries may be sent now."""
        return not self.is_probe_sent if self.is_probing else self.in_flight_bytes < window_bytes

    def sent(self, last_index: int, size_bytes: int) -> None:
        """Note a message with entries up to last_index."""
        if self.is_probing:
            self.is_probe_sent = True
            return
        self.next_index = last_index + 1
        self.in_flight.append((last_index, size_bytes))
        self.in_flight_bytes += size_bytes

    def answered(self, reply: AppendReply, last_index: int) -> None:
        """Take in a reply of the present term. last_index: where our own log ends."""
        self.confirmed_round = max(self.confirmed_round, reply.round)
        if reply.matched:
            self._matched(reply.match_index)
        elif not self.is_probe_sent or reply.prev_index == self.next_index - 1:
            # Refusals of what was sent before the probe say nothing new; a probe for each would be a flood.
            # The logs differ at prev_index, so ask again from where the follower says. Where it had acknowledged that
            # entry before, this answer is older than that, or the follower's disk was replaced: counting it for less
            # than it may have is safe either way, and the next answer mends it.
            self.match_index = max(1, min(self.match_index, reply.match_index, reply.prev_index - 1))
            self.is_probing, self.is_probe_sent = True, False
            self.in_flight.clear()
            self.in_flight_bytes = 0
            self.next_index = max(self.match_index + 1, min(reply.match_index + 1, reply.prev_index, last_index + 1))

    def _matched(self, match_index: int) -> None:
        self.match_index = max(self.match_index, match_index)
        self.is_probing, self.is_probe_sent = False, False
        self.next_index = max(self.next_index, self.match_index + 1)
        while self.in_flight and self.in_flight[0][0] <= self.match_index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
