"""Linearizable reads by read index (Raft thesis 6.4): which of them may be answered, and when. No clock takes part.

A leader notes its commit index and asks a majority, in a round begun after the read arrived, whether it still leads. A
follower asks the leader for that index. Either answers once it has applied so far. Owned by the engine; no messages are
sent from here.
"""

from collections.abc import Callable

from raftpay.errors import NotLeaderError

# Called once: with None when the state here is new enough, or with the reason why that cannot be said here.
ReadDone = Callable[[NotLeaderError | None], None]
# Called once with the read index, or with 0 when this node could not confirm that it leads.
Confirmed = Callable[[int], None]


class Reads:
    """The reads that wait, at any of their three stages.

    first_number: of the first question to a leader, random: the answer to one of this node's life before a restart
    must not pass for an answer to a new one (the same as S13).
    """

    def __init__(self, *, first_number: int) -> None:
        # Of a leader: (round to be confirmed, commit index when the read arrived, whom to tell), rounds ascending.
        self._unconfirmed: list[tuple[int, int, Confirmed]] = []
        # Of a follower: what its leader was asked, by the number of the question.
        self._asked: dict[int, ReadDone] = {}
        self._number = first_number
        # Confirmed, and not yet applied here.
        self._unapplied: list[tuple[int, ReadDone]] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a read waits for something that a tick may find come true."""
        return bool(self._unconfirmed or self._unapplied)

    def ask(self, done: ReadDone) -> int:
        """Note a question to the leader; return its number."""
        self._number += 1
        self._asked[self._number] = done
        return self._number

    def answered(self, number: int, read_index: int, applied_index: int) -> None:
        """Take in the leader's answer to one of our questions."""
        done = self._asked.pop(number, None)
        if done is None:
            return
        if read_index == 0:
            done(NotLeaderError(None))
        elif applied_index >= read_index:
            done(None)
        else:
            self._unapplied.append((read_index, done))

    def confirm(self, round_: int, read_index: int, confirmed: Confirmed) -> None:
        """Wait for a round of our own leadership."""
        self._unconfirmed.append((round_, read_index, confirmed))

    def wait_applied(self, read_index: int, done: ReadDone) -> None:
        self._unapplied.append((read_index, done))

    def advance(self, confirmed_round: int, applied_index: int) -> None:
        """Tell everyone whose round is confirmed, then everyone whose index is applied."""
        count = 0
        while count < len(self._unconfirmed) and self._unconfirmed[count][0] <= confirmed_round:
            count += 1
        ready, self._unconfirmed = self._unconfirmed[:count], self._unconfirmed[count:]
        for _, read_index, confirmed in ready:
            confirmed(read_index)
        if self._unapplied:
            due = [done for read_index, done in self._unapplied if read_index <= applied_index]
            self._unapplied = [read for read in self._unapplied if read[0] > applied_index]
            for done in due:
                done(None)

    def abandon(self, leader: str | None) -> None:
        """The leader is another one, or gone: nothing that waits for a confirmation will get it.

        What is confirmed stays so, whoever leads now, and is answered when it is applied.
        """
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        asked, self._asked = self._asked, {}
        for _, _, confirmed in unconfirmed:
            confirmed(0)
        for done in asked.values():
            done(NotLeaderError(leader))
