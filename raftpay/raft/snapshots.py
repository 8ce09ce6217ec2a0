"""Snapshots of the log's prefix (Raft paper 7): when to make one, what a follower fetches of it, and how.

A leader whose journal no longer reaches back to what a follower needs offers its newest snapshot with each heartbeat;
the follower pulls it chunk by chunk and keeps what it has over reconnects and restarts. What is whole and verified goes
to the engine, which decides whether it is installed. Owned by the engine; nothing here changes the log but `compact`.

Stock's serializer hooks are not used: PySyncObj 0.3.17 writes its dumps without fsync (serializer.py), forks, installs
without comparing indexes (1022), acknowledges what it could not load (1023), and spins while there is none (S4-S22).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Protocol

from raftpay.errors import CorruptionError, DiskFullError, ProtocolError, StorageError
from raftpay.raft.determinism import now
from raftpay.raft.messages import Message, SnapshotChunk, SnapshotFetch, SnapshotOffer
from raftpay.storage.disk import DiskFile
from raftpay.storage.journal import Journal
from raftpay.storage.records import cluster_hash
from raftpay.storage.snapshots import (
    SnapshotHeader,
    SnapshotInfo,
    SnapshotStore,
    StateFile,
    Steps,
    Written,
    part_name,
)

logger = logging.getLogger("raftpay.raft")

# Its steps are run beside the loop; then it is told, on the loop, what stopped them, or None.
RunSteps = Callable[[Steps, Callable[[StorageError | None], None]], None]


# After a full disk.
RETRY_S: Final = 5.0

# To a connected peer.
Send = Callable[[str, Message], None]


class Image(Protocol):
    """A state as it was at one moment, frozen. files: immutable ones in the data directory that belong to it."""

    @property
    def files(self) -> Sequence[StateFile]: ...

    def chunks(self) -> Iterator[bytes]:
        """The rest of the state, encoded while the machine goes on. Called once, perhaps in another thread."""
        ...

    def release(self) -> None:
        """The image is done with: what it has copied into may serve the next one, which is then taken sooner."""
        ...


class Applying(Protocol):
    """What the log's entries are applied to, one after the other, the same on every node."""

    def apply(self, index: int, payload: bytes) -> object:
        """Apply one committed entry; what it returns goes to its proposer. Must not raise: it stops the node."""
        ...


class StateMachine(Applying, Protocol):
    """One whose state can be taken and replaced, so that the log need not be kept whole."""

    def image(self) -> Image:
        """The state as it is now. Takes milliseconds: the loop waits."""
        ...

    def take_in(self) -> Steps:
        """Make use of those files of a state that were fetched. Runs beside the loop, while the machine goes on."""
        ...

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]:
        """Make the state of an image; runs beside the loop, while the machine goes on. What it raises stops the node.

        What it returns is called on the loop: it puts that state in the place of the present one, which it returns,
        for to let go of it takes long as well.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """log_bytes_max: a snapshot is made when the journal has so much behind the last one, and half of its size: with
    many accounts it would else write more than all transfers.
    tail_bytes: what the journal keeps in any case, for followers that lag a little.
    chunk_bytes: of one message. rate_bytes_s: what a leader gives to all followers together.
    pin_log_bytes_max: a snapshot that a follower is fetching is kept, with the log behind it, up to so much log.
    """

    log_bytes_max: int = 16 << 20
    tail_bytes: int = 16 << 20
    chunk_bytes: int = 256 << 10
    rate_bytes_s: int = 32 << 20
    pin_log_bytes_max: int = 1 << 30
    # A chunk that has not come after so long is asked for again; a follower that is not heard for so long is gone.
    fetch_timeout_s: float = 1.0
    pin_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SnapshotParts:
    """What a node needs to make and take snapshots. machine: restored from the store's newest (catch_up.restore)."""

    store: SnapshotStore
    machine: StateMachine
    options: SnapshotOptions = field(default_factory=SnapshotOptions)


@dataclass(slots=True)
class Fetch:
    """What a follower is fetching. parts: the snapshot, then each file of the state that it lacks."""

    leader: str
    offer: SnapshotOffer
    parts: list[StateFile]
    file: DiskFile
    size: int
    asked_s: float = float("-inf")
    is_checking: bool = False


@dataclass(slots=True)
class _Loaded:
    """A state that was made of a snapshot. become: puts it in the place of the present one, which is then `was`."""

    become: Callable[[], object] | None = None
    was: object = None

    def take_over(self) -> None:
        assert self.become is not None
        self.was = self.become()

    def let_go(self) -> Steps:
        """Forget both, beside the loop: that takes as long as to make one."""
        self.become = self.was = None
        yield


@dataclass(slots=True)
class Pin:
    """A snapshot that followers are fetching: neither it nor the log behind it goes."""

    info: SnapshotInfo
    asked_s: float


@dataclass(slots=True)
class Snapshots:
    """Of one node.

    install: called on the loop with each snapshot that was fetched and verified, and with what puts its state in the
    place of the present one; returns whether the state is now at its index or past it. members: the configuration at
    an entry, None where it is not known. run: runs steps beside the loop, one series after the other.
    """

    store: SnapshotStore
    journal: Journal
    machine: StateMachine
    options: SnapshotOptions
    members: Callable[[int], bytes | None]
    run: RunSteps
    install: Callable[[SnapshotInfo, Callable[[], None]], bool]
    cluster_id: str
    is_writing: bool = False
    # After a full disk, wait until the log has grown by a tenth of the limit.
    retry_bytes: int = 0
    fetch: Fetch | None = None
    fetch_not_before_s: float = float("-inf")
    pin: Pin | None = None
    next_chunk_s: float = 0.0
    waiting: dict[str, SnapshotFetch] = field(default_factory=dict)
    # To whom which snapshot, or file that belongs to one, was given to its end: by its digest.
    served: set[tuple[str, bytes]] = field(default_factory=set)
    # A snapshot, or the log behind it, is damaged: the next one is made at once; after a full disk, a while later.
    is_wanted: bool = False
    not_before_s: float = float("-inf")
    # Entries up to here are damaged: no tail is kept for their sake.
    damaged_index: int = 0

    @property
    def index(self) -> int:
        """Of the newest snapshot; 0 for none."""
        return 0 if self.store.newest is None else self.store.newest.index

    @property
    def size_bytes(self) -> int:
        """Of the newest snapshot; 0 for none."""
        return 0 if self.store.newest is None else self.store.newest.size_bytes

    @property
    def log_bytes(self) -> int:
        """How much the next start would have to apply again."""
        return self.journal.bytes_after(self.index)

    @property
    def is_recent(self) -> bool:
        """Whether that is so little that it is applied again sooner than a snapshot is written."""
        return self.log_bytes <= self.options.log_bytes_max // 8

    # ---- making

    def tick(self, applied_index: int, now_s: float) -> None:
        """Make a snapshot if it is time, and drop the log behind the verified one."""
        if self.pin is not None and (
            now_s - self.pin.asked_s > self.options.pin_timeout_s
            or self.journal.bytes_after(self.pin.info.index) > self.options.pin_log_bytes_max
        ):
            self.pin = None
        if self.is_writing or applied_index <= max(1, self.index):
            return
        length = self.log_bytes
        longest = max(self.options.log_bytes_max, self.size_bytes // 2, self.retry_bytes)
        if length > longest or self.is_due(now_s):
            self._make(applied_index, length)

    def is_due(self, now_s: float) -> bool:
        """Whether one is to be made whatever the length of the log."""
        return self.is_wanted and now_s >= self.not_before_s

    def pass_over(self, index: int) -> None:
        """The log up to an applied entry is damaged, and cannot be mended: have a snapshot, and compact past it."""
        self.damaged_index = max(self.damaged_index, index)
        if self.index < index:
            self.is_wanted = True
        else:
            self.compact()

    def _make(self, index: int, length: int) -> None:
        members = self.members(index)
        if members is None:
            return  # A node that is joining, and has yet to reach the entry that says so.
        image = self.machine.image()
        term = self.journal.term_at(index)
        header = SnapshotHeader(cluster_hash(self.cluster_id), index, term, members, list(image.files))
        written = Written()
        self.is_writing = True

        def done(error: StorageError | None) -> None:
            self.is_writing = False
            image.release()
            if isinstance(error, DiskFullError):
                self.retry_bytes = length + self.options.log_bytes_max // 10
                self.not_before_s = now() + RETRY_S
                logger.warning("no room for a snapshot, tried again later error=%s", error)
                return
            if error is not None:
                raise error
            assert written.info is not None
            self.retry_bytes, self.is_wanted = 0, False
            self._adopt(written.info)

        self.run(self.store.write(header, image.chunks(), written), done)

    def _adopt(self, info: SnapshotInfo) -> None:
        pinned = self.pin.info.name if self.pin is not None else ""
        self.store.forget(name for name in self.store.adopt(info) if name != pinned)
        if self.fetch is None:
            # Of a fetch that was broken off, and that nobody has gone on with: the state is past it.
            self.store.forget(self.store.parts())
        logger.info("snapshot index=%d term=%d bytes=%d", info.index, info.term, info.size_bytes)
        self.compact()

    def compact(self) -> None:
        """Drop whole segments behind the verified snapshot, but for the tail."""
        limit = self.index if self.pin is None else min(self.index, self.pin.info.index)
        kept = max(self.damaged_index, self.journal.index_before(self.options.tail_bytes))
        self.journal.compact_to(min(limit, kept))

    # ---- a leader's side

    def offer_to(self, peer: str, term: int, send: Send) -> None:
        """Tell a follower that is too far behind what there is; nothing while there is no snapshot (S21)."""
        info = self.pin.info if self.pin is not None else self.store.newest
        if info is not None and info.index >= self.journal.first_index - 1:
            send(peer, SnapshotOffer(term, info.index, info.term, info.size_bytes, info.digest, info.header.files))

    def asked(self, peer: str, message: SnapshotFetch, now_s: float) -> None:
        """A follower asks for a chunk; it is given as the rate allows, by `serve`. Only one a follower waits."""
        info = self._offered(message.digest)
        if info is None:
            return  # The next offer names another one.
        self.pin = Pin(info, now_s)
        self.waiting[peer] = message
        if message.offset == 0 and (peer, message.part) in self.served:
            # A follower that had all of it begins anew, so it did not get what was announced.
            self.served = {known for known in self.served if known[1] != message.part}
            if message.part == info.digest:
                self._doubt(info)
            for file in info.header.files:
                if file.digest == message.part:
                    self._doubt_file(info, file)

    def _doubt(self, info: SnapshotInfo) -> None:
        """Look at a snapshot once more."""

        def done(error: StorageError | None) -> None:
            if error is None or info not in (self.store.newest, self.store.previous):
                return  # It is whole, or no longer wanted, and perhaps removed meanwhile.
            if not isinstance(error, CorruptionError):
                raise error
            self.lose(info, error)

        self.run(self.store.check(info), done)

    def _doubt_file(self, info: SnapshotInfo, file: StateFile) -> None:
        """Look at a file of sealed history once more. Where it is damaged this node stops, so that another one leads
        and gives its own: no state in memory could take its place.
        """

        def done(error: StorageError | None) -> None:
            newest = self.store.newest
            if error is None:
                return
            if isinstance(error, CorruptionError) and (
                self.is_wanted or newest is None or file not in newest.header.files
            ):
                # A peer's copy has replaced it, in other bytes, which the next snapshot names: that is offered then.
                self._unpin(info)
                return
            raise error

        self.run(self.store.check_file(file), done)

    def _unpin(self, info: SnapshotInfo) -> None:
        if self.pin is not None and self.pin.info == info:
            self.pin = None

    def lose(self, info: SnapshotInfo, reason: StorageError) -> None:
        """A snapshot is damaged on this disk. The state is whole in memory: another one takes its place at once."""
        logger.error("a snapshot is damaged, and made anew error=%s", reason)
        self.store.lose(info, str(reason))
        self.is_wanted = True
        self._unpin(info)

    def _offered(self, digest: bytes) -> SnapshotInfo | None:
        known = [self.store.newest] if self.pin is None else [self.pin.info, self.store.newest]
        return next((info for info in known if info is not None and info.digest == digest), None)

    def serve(self, term: int, now_s: float, send: Send) -> None:
        """Send the chunks that are asked for and that the rate allows now."""
        while self.waiting and now_s >= self.next_chunk_s:
            peer = next(iter(self.waiting))
            chunk = self._chunk(peer, self.waiting.pop(peer), term)
            if chunk is not None:
                self.next_chunk_s = max(self.next_chunk_s, now_s) + len(chunk.data) / self.options.rate_bytes_s
                send(peer, chunk)

    def _chunk(self, peer: str, message: SnapshotFetch, term: int) -> SnapshotChunk | None:
        info = self._offered(message.digest)
        if info is None:
            return None
        parts = (StateFile(info.name, info.size_bytes, info.digest), *info.header.files)
        part = next((part for part in parts if part.digest == message.part), None)
        if part is None:
            raise ProtocolError(f"a file {message.part.hex()} was asked for that is not part of snapshot {info.name}")
        file = self.store.disk.open(part.name)
        try:
            data = file.pread(min(self.options.chunk_bytes, message.size_bytes), message.offset)
        except CorruptionError as error:
            if part.digest != info.digest:
                raise  # No other node's copy can be put in its place here.
            self.lose(info, error)
            return None
        finally:
            file.close()
        if message.offset + len(data) >= part.size_bytes:
            self.served.add((peer, part.digest))
        return SnapshotChunk(term, message.digest, message.part, message.offset, data)

    # ---- a follower's side

    def told(
        self, leader: str, message: SnapshotOffer | SnapshotChunk, applied_index: int, now_s: float, send: Send
    ) -> None:
        """Take in what the leader sends, and ask for what comes next."""
        answer = None
        if isinstance(message, SnapshotChunk):
            answer = self.received(leader, message, now_s)
        elif message.index > applied_index:  # S4: what is behind the state is not even fetched.
            answer = self.offered(leader, message, now_s)
        if answer is not None:
            send(leader, answer)

    def offered(self, leader: str, offer: SnapshotOffer, now_s: float) -> SnapshotFetch | None:
        """A leader offers a snapshot that is ahead of what is applied here: go on fetching it, or begin to."""
        fetch = self.fetch
        if fetch is None and now_s < self.fetch_not_before_s:
            return None
        if fetch is None or (fetch.offer.digest != offer.digest and not fetch.is_checking):
            try:
                fetch = self._begin(leader, offer)
            except DiskFullError:
                return None  # The next offer tries again.
        if fetch.is_checking or (fetch.leader == leader and now_s - fetch.asked_s < self.options.fetch_timeout_s):
            return None
        # The same snapshot, perhaps of another leader, or of the same one in a later term: it is asked in its own.
        fetch.leader, fetch.offer = leader, offer
        return self._ask(fetch, now_s)

    def _begin(self, leader: str, offer: SnapshotOffer) -> Fetch:
        disk = self.store.disk
        self.abandon()
        lacking = [StateFile("", offer.size_bytes, offer.digest)]
        lacking += [file for file in offer.files if not disk.exists(file.name)]
        wanted = {part_name(part.digest) for part in lacking}
        self.store.forget(name for name in self.store.parts() if name not in wanted)
        self.fetch = fetch = Fetch(leader, offer, lacking, *self._open_part(lacking[0]))
        logger.info("fetching snapshot index=%d from=%s bytes=%d have=%d", offer.index, leader, offer.size_bytes,
                    fetch.size)  # fmt: skip
        return fetch

    def _open_part(self, part: StateFile) -> tuple[DiskFile, int]:
        """The part as far as it was fetched, perhaps in an earlier life."""
        disk, name = self.store.disk, part_name(part.digest)
        file = disk.open(name) if disk.exists(name) else disk.create(name)
        return file, min(file.size(), part.size_bytes)

    def _ask(self, fetch: Fetch, now_s: float) -> SnapshotFetch | None:
        part = fetch.parts[0]
        if fetch.size >= part.size_bytes:
            self._check(fetch)
            return None
        fetch.asked_s = now_s
        size = min(self.options.chunk_bytes, part.size_bytes - fetch.size)
        return SnapshotFetch(fetch.offer.term, fetch.offer.digest, part.digest, fetch.size, size)

    def received(self, leader: str, chunk: SnapshotChunk, now_s: float) -> SnapshotFetch | None:
        """The next chunk of what is fetched; any other is passed over. Returns what to ask for next."""
        fetch = self.fetch
        if fetch is None or fetch.is_checking or leader != fetch.leader:
            return None
        part = fetch.parts[0]
        if (chunk.digest, chunk.part, chunk.offset) != (fetch.offer.digest, part.digest, fetch.size):
            return None
        if not chunk.data or len(chunk.data) > part.size_bytes - fetch.size:
            raise ProtocolError(f"a chunk of {len(chunk.data)} bytes at {chunk.offset} of {part.size_bytes}")
        try:
            fetch.file.pwrite(chunk.data, fetch.size)
        except DiskFullError as error:
            logger.warning("no room for the snapshot of a peer, tried again later error=%s", error)
            fetch.asked_s = now_s
            return None
        fetch.size += len(chunk.data)
        return self._ask(fetch, now_s)

    def _check(self, fetch: Fetch) -> None:
        """A part is whole: verify it beside the loop. The snapshot comes last, when all of its files are there."""
        fetch.is_checking = True
        part, written, loaded = fetch.parts[0], Written(), _Loaded()
        if not part.name and len(fetch.parts) > 1:
            fetch.parts.append(fetch.parts.pop(0))
            fetch.file.close()
            fetch.file, fetch.size = self._open_part(fetch.parts[0])
            fetch.is_checking = False
            fetch.asked_s = float("-inf")
            return
        fetch.file.close()

        def done(error: StorageError | None) -> None:
            if isinstance(error, CorruptionError | DiskFullError):
                logger.warning("the snapshot fetched is not used error=%s", error)
                self.fetch = None
                return
            if error is not None:
                raise error
            self._checked(fetch, written, loaded)

        offer, name = fetch.offer, part_name(part.digest)
        if part.name:
            # Each file at once, so that the last one does not have to wait for the work on all others.
            steps = chain(self.store.receive_file(name, part), self.machine.take_in())
        else:
            received = self.store.receive(name, offer.index, offer.snapshot_term, written)
            steps = chain(received, self.machine.take_in(), self._load(written, loaded))
        self.run(steps, done)

    def _load(self, written: Written, loaded: _Loaded) -> Steps:
        """Make the state of what was received."""
        info = written.info
        assert info is not None
        try:
            loaded.become = self.machine.load(self.store.chunks(info))
        except Exception as error:
            # Fetched again it would be the same: it is what its maker wrote, and this node cannot take it.
            raise StorageError(f"the snapshot of entry {info.index} could not be restored: {error}") from error
        yield

    def _checked(self, fetch: Fetch, written: Written, loaded: _Loaded) -> None:
        del fetch.parts[0]
        if fetch.parts:
            fetch.file, fetch.size = self._open_part(fetch.parts[0])
            fetch.is_checking, fetch.asked_s = False, float("-inf")
            return
        assert written.info is not None
        self.fetch = None
        if self.install(written.info, loaded.take_over):
            self.store.forget(self.store.adopt(written.info))
        else:
            # Mostly for want of room: a whole snapshot is not fetched again with every heartbeat until there is some.
            self.fetch_not_before_s = now() + RETRY_S
        self.run(loaded.let_go(), lambda _: None)

    def abandon(self) -> None:
        """Fetch no more; what is there stays for the next offer."""
        if self.fetch is not None and not self.fetch.is_checking:
            self.fetch.file.close()
            self.fetch = None

    def stop_serving(self) -> None:
        """This node does not lead any more."""
        self.waiting.clear()
        self.served.clear()
        self.pin = None
