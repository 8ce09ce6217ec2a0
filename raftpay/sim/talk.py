"""What nodes say to each other through the whole run: rules that no log shows when they are broken.

1. A question to the leader has a number that no other question of the node had, in any of its lives: the answer to one
   of them must not pass for the answer to another (S13).
2. A snapshot is asked for in the term in which its node is: in another it is not heard.
3. A leader does not give a follower the whole of one snapshot, or of a file that belongs to it, again and again:
   what is damaged is made anew, or another one leads.

Called by member.py with those messages that concern them.
"""

from collections import Counter
from typing import Final

from raftpay.raft.messages import Message, ReadIndex, SnapshotChunk, SnapshotFetch
from raftpay.sim.invariants import Watched
from raftpay.sim.trace import Trace

TALKED_ABOUT: Final = (ReadIndex, SnapshotFetch, SnapshotChunk)
# A follower that lost what it had got fetches it again; so does one that has it from a leader whose disk damaged it,
# until that one has looked at it.
GIVEN_MAX: Final = 8


class Talk:
    """Of one run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._asked: set[tuple[str, int]] = set()
        # How often a life of a leader has given a follower the last piece of a file.
        self._given: Counter[tuple[str, int, str, bytes]] = Counter()

    def sending(self, life: Watched, receiver: str, message: Message) -> None:
        """A message is about to leave a node."""
        match message:
            case ReadIndex():
                self._check_question(life.name, message.number)
            case SnapshotFetch() if message.term != life.raft.term:
                raise self._trace.violated(
                    "a snapshot is asked for in the present term",
                    f"{life.name} is in term {life.raft.term}, and asks {receiver} in term {message.term}",
                )
            case SnapshotChunk():
                self._check_given(life, receiver, message)
            case _:
                return

    def _check_question(self, name: str, number: int) -> None:
        if (name, number) in self._asked:
            raise self._trace.violated("a question has a number of its own", f"{name} asks question {number} again")
        self._asked.add((name, number))

    def _check_given(self, life: Watched, receiver: str, chunk: SnapshotChunk) -> None:
        newest = life.snapshots.newest
        if newest is None or chunk.digest != newest.digest:
            return
        sizes = {newest.digest: newest.size_bytes, **{file.digest: file.size_bytes for file in newest.header.files}}
        if chunk.offset + len(chunk.data) < sizes[chunk.part]:
            return
        key = (life.name, life.hard_state.incarnation, receiver, chunk.part)
        self._given[key] += 1
        if self._given[key] > GIVEN_MAX:
            raise self._trace.violated(
                "a damaged snapshot is made anew",
                f"{life.name} gives {receiver} file {chunk.part.hex()} of a snapshot for the {self._given[key]}th time",
            )
