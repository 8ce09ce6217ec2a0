"""Copies of what is damaged here, asked of the peers: an entry of the log, or a file of sealed history.

Both are the same wherever they are: index and term decide an entry (Raft paper 5.3, log matching), and the name of a
file carries the digest of its history. So any member may be asked, whatever its role, and no vote, acknowledgement or
term takes part. A peer gives nothing that its own journal does not vouch for; bytes of a file are believed by whoever
asked for them, once their digest is right. One thing is fetched at a time, chunk by chunk, from one peer after the
other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from raftpay.errors import DiskFullError, ProtocolError, StorageError
from raftpay.raft.determinism import now
from raftpay.raft.messages import CopyChunk, CopyFetch, Message
from raftpay.storage.disk import Disk
from raftpay.storage.journal import Journal

CHUNK_BYTES: Final = 256 * 1024
# A chunk that has not come after so long is asked of the next peer.
TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of sealed history by its name, or an entry by index and term. size_max: what is longer is refused."""

    size_max: int
    name: str = ""
    index: int = 0
    term: int = 0


@dataclass(slots=True)
class _Question:
    """What is fetched, from whom, and how far it has come."""

    wanted: Wanted
    peers: list[str]
    take: Callable[[bytes, int], None]
    done: Callable[[str | None], None]
    size_bytes: int = 0
    asked_s: float = float("-inf")
    next_s: float = float("-inf")


@dataclass(slots=True)
class Copies:
    """Of one node. connected: the peers that can be asked now. rate_bytes_s: of what is fetched. chunk_bytes: of one
    answer.
    """

    journal: Journal
    disk: Disk | None
    send: Callable[[str, Message], None]
    connected: Callable[[], Sequence[str]]
    rate_bytes_s: float = float("inf")
    chunk_bytes: int = CHUNK_BYTES
    question: _Question | None = None

    def fetch(
        self,
        wanted: Wanted,
        take: Callable[[bytes, int], None],
        done: Callable[[str | None], None],
        *,
        but: Sequence[str] = (),
    ) -> None:
        """Fetch it. take: gets each chunk and its offset, from 0 again with another peer. done: told the peer that gave
        all of it, or None where nobody did. but: not asked.
        """
        assert self.question is None, "one thing is fetched at a time"
        self.question = _Question(wanted, [peer for peer in self.connected() if peer not in but], take, done)
        self._ask()

    def tick(self) -> None:
        """Ask the next peer where one is silent, and for the next chunk where the rate held it back."""
        question = self.question
        if question is None:
            return
        if question.asked_s == float("-inf"):
            self._ask()
        elif now() - question.asked_s > TIMEOUT_S:
            self._pass_on()

    def received(self, peer: str, message: CopyFetch | CopyChunk) -> None:
        """Answer a peer, or take in its answer."""
        if isinstance(message, CopyFetch):
            self.send(peer, self._answer(message))
        elif self.question is not None and self.question.peers and peer == self.question.peers[0]:
            self._take(self.question, message)

    # ---- who asks

    def _ask(self) -> None:
        question = self.question
        assert question is not None
        if not question.peers:
            self.question = None
            question.done(None)
            return
        if now() < question.next_s:
            question.asked_s = float("-inf")
            return
        wanted, question.asked_s = question.wanted, now()
        self.send(question.peers[0], CopyFetch(wanted.name, wanted.index, wanted.term, question.size_bytes))

    def _pass_on(self) -> None:
        """Begin anew with the next peer."""
        question = self.question
        assert question is not None
        del question.peers[0]
        question.size_bytes = 0
        self._ask()

    def _take(self, question: _Question, chunk: CopyChunk) -> None:
        wanted = question.wanted
        if (chunk.name, chunk.index, chunk.entry_term) != (wanted.name, wanted.index, wanted.term):
            return
        if chunk.offset != question.size_bytes:
            return
        end = chunk.offset + len(chunk.data)
        if end > chunk.total_bytes or (chunk.total_bytes and not chunk.data):
            raise ProtocolError(f"a chunk of {len(chunk.data)} bytes at {chunk.offset} of {chunk.total_bytes}")
        if not chunk.total_bytes or chunk.total_bytes > wanted.size_max:
            self._pass_on()
            return
        try:
            question.take(chunk.data, chunk.offset)
        except DiskFullError:
            question.peers.clear()
            self._ask()
            return
        question.size_bytes, question.next_s = end, now() + len(chunk.data) / self.rate_bytes_s
        if end == chunk.total_bytes:
            self.question = None
            question.done(question.peers[0])
        else:
            self._ask()

    # ---- who is asked

    def _answer(self, message: CopyFetch) -> CopyChunk:
        try:
            data, size = self._entry(message) if not message.name else self._file(message)
        except StorageError:
            # Damaged here as well, or removed: this node's own pass finds it.
            data, size = b"", 0
        return CopyChunk(message.name, message.index, message.entry_term, message.offset, size, data)

    def _entry(self, message: CopyFetch) -> tuple[bytes, int]:
        journal, index = self.journal, message.index
        if not journal.first_index <= index <= journal.last_index or journal.term_at(index) != message.entry_term:
            return b"", 0
        payload = journal.entry(index).payload
        return payload[message.offset : message.offset + self.chunk_bytes], len(payload)

    def _file(self, message: CopyFetch) -> tuple[bytes, int]:
        if self.disk is None or not self.disk.exists(message.name):
            return b"", 0
        file = self.disk.open(message.name)
        try:
            size = file.size()
            return file.pread(min(self.chunk_bytes, max(0, size - message.offset)), message.offset), size
        finally:
            file.close()
