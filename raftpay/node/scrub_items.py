"""What a scrub reads, one item after the other, and what is done about each where it is damaged.

| item | put right by |
| --- | --- |
| a segment of the journal | the entries are written once more in their places: from memory, else as a peer has them |
| a snapshot | another one, of the state in memory |
| a file of a segment of history | a peer's, once its digest is right |
| what is derived of segments | making it again |

An entry is decided by its index and term, so a peer's is the same; until it has been synced it does not count as
durable. Where no peer has it any more, a snapshot is made and the log compacted past it. What was never committed and
is not in memory cannot be had from anyone for sure: the node stops. Used by scrubbing.py, on the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftpay.archive.archive import Archive
from raftpay.archive.chain import SegmentFile, lookup_of
from raftpay.archive.scrub import check_derived, check_file
from raftpay.errors import CorruptionError, DiskFullError, StorageError
from raftpay.raft.copies import Copies, Wanted
from raftpay.raft.snapshots import RunSteps, Snapshots
from raftpay.storage.disk import Disk
from raftpay.storage.journal import Journal
from raftpay.storage.records import REBUILD_ADVICE, RECORD_HEADER_BYTES
from raftpay.storage.reserve import temporary_name
from raftpay.storage.scrub import SegmentDamage, SegmentReading, check_segment
from raftpay.storage.segment import segment_name
from raftpay.storage.snapshots import OpenFile, SnapshotInfo, Steps

_SYNC_POLL_S: Final = 0.01


class Member(Protocol):
    """RaftNode, as far as it is needed here."""

    copies: Copies
    snapshots: Snapshots | None

    @property
    def commit_index(self) -> int: ...

    @property
    def run_steps(self) -> RunSteps: ...

    def fail(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a node. pause: lets so many seconds pass."""

    journal: Journal
    raft: Member
    snapshots: Snapshots
    archive: Archive
    pause: Callable[[float], Awaitable[None]]

    @property
    def disk(self) -> Disk:
        return self.archive.disk

    async def run(self, steps: Steps) -> StorageError | None:
        """Run them beside the loop; what stopped them."""
        future: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
        self.raft.run_steps(steps, lambda error: None if future.done() else future.set_result(error))
        return await future

    async def fetch(self, wanted: Wanted, take: Callable[[bytes, int], None], *, but: Sequence[str]) -> str | None:
        """Fetch it from a peer; which one it was, None where nobody has it."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.raft.copies.fetch(wanted, take, lambda peer: None if future.done() else future.set_result(peer), but=but)
        return await future


@dataclass(frozen=True, slots=True)
class Later:
    """It is not mended yet. why: and what to wait for. is_over: whether it has been, meanwhile."""

    why: str
    is_over: Callable[[], bool] = lambda: False


class Item(Protocol):
    """A file, or what is known of one. is_current: False once its owner has removed or replaced it."""

    @property
    def name(self) -> str: ...

    def read(self, open_file: OpenFile) -> Steps:
        """Begin to read it. The steps raise CorruptionError where it is damaged, StorageError where it is missing."""

    def is_current(self) -> bool: ...

    async def mend(self, error: StorageError) -> Later | None:
        """Put it right; None: it was, as far as is known before it has been read again."""


def items_of(parts: Parts) -> list[Item]:
    """All that there is at the moment: what is derived comes after what it is made of."""
    snapshots = [info for info in (parts.snapshots.store.newest, parts.snapshots.store.previous) if info is not None]
    return [
        *(JournalItem(parts, number) for number in parts.journal.segment_numbers),
        *(SnapshotItem(parts, info) for info in snapshots),
        *(SealedItem(parts, file) for file in parts.archive.files),
        *(DerivedItem(parts, name) for name in parts.archive.derived),
    ]


@dataclass(slots=True)
class JournalItem:
    """A segment of the journal, up to what is synced. reading, damage: of the last time that it was read."""

    parts: Parts
    number: int
    reading: SegmentReading | None = None
    damage: SegmentDamage = field(default_factory=SegmentDamage)

    @property
    def name(self) -> str:
        return segment_name(self.number)

    def is_current(self) -> bool:
        return self.number in self.parts.journal.segment_numbers

    def read(self, open_file: OpenFile) -> Steps:
        self.damage = SegmentDamage()
        self.reading = self.parts.journal.reading(self.number)
        return iter(()) if self.reading is None else self._read(self.reading, open_file)

    def _read(self, reading: SegmentReading, open_file: OpenFile) -> Steps:
        yield from check_segment(reading, open_file, self.damage)
        if self.damage:
            raise CorruptionError(f"{self.name}: {self.damage}: not what was written")

    async def mend(self, error: StorageError) -> Later | None:
        journal, damage, reading = self.parts.journal, self.damage, self.reading
        assert reading is not None
        if not damage:
            return self._give_up(reading, str(error))  # The file is gone.
        if damage.has_bad_header and damage.entries[:1] != [reading.header.first_index]:
            journal.rewrite_header(self.number)
        for run in _runs(damage.entries):
            payloads = [payload for index in run if (payload := await self._payload(index, reading)) is not None]
            if not self._is_as_read(run, reading):
                return None  # Cut or compacted meanwhile: what is left is read again.
            if len(payloads) < len(run):
                return self._give_up(reading, "no peer has given what is damaged")
            journal.rewrite(run[0], payloads)
        if reading.has_end and self.number in journal.segment_numbers[:-1]:
            for start, stop in damage.dirty:
                journal.erase_behind(self.number, start, stop)
        last = reading.header.first_index + len(reading.terms) - 1
        while journal.synced_index < min(last, journal.last_index) and self.is_current():
            await self.parts.pause(_SYNC_POLL_S)
        return None

    async def _payload(self, index: int, reading: SegmentReading) -> bytes | None:
        """Of an entry, from memory or from a peer; None where nobody has it."""
        journal, term = self.parts.journal, reading.terms[index - reading.header.first_index]
        if not self._is_as_read([index], reading):
            return None
        if (known := journal.payload_in_memory(index)) is not None:
            return known
        if index > self.parts.raft.commit_index:
            raise CorruptionError(
                f"{self.name}: entry {index} is damaged, is not known to be committed, and is in memory no more: this "
                f"node must not vouch for it any longer. {REBUILD_ADVICE}"
            )
        size, but = journal.length_of(index), list[str]()
        while True:
            data = bytearray()

            def take(chunk: bytes, offset: int, data: bytearray = data) -> None:
                data[offset:] = chunk

            peer = await self.parts.fetch(Wanted(size, index=index, term=term), take, but=but)
            if peer is None or RECORD_HEADER_BYTES + len(data) + -len(data) % 8 == size:
                return None if peer is None else bytes(data)
            but.append(peer)

    def _is_as_read(self, run: Sequence[int], reading: SegmentReading) -> bool:
        """Whether these entries are still in this segment, and those that were read."""
        journal, first = self.parts.journal, reading.header.first_index
        return (
            self.is_current()
            and run[-1] <= journal.last_index
            and all(journal.term_at(index) == reading.terms[index - first] for index in run)
        )

    def _give_up(self, reading: SegmentReading, why: str) -> Later | None:
        """Have a snapshot, and the log behind it compacted. What this node still writes to cannot be done without."""
        journal = self.parts.journal
        if not self.is_current():
            return None
        if self.number == journal.segment_numbers[-1] and not self.damage:
            raise CorruptionError(f"{self.name}: {why}, while this node writes to it. {REBUILD_ADVICE}")
        self.parts.snapshots.pass_over(reading.header.first_index + len(reading.terms) - 1)
        return Later(f"{why}; the log is compacted past it as soon as it can be", lambda: not self.is_current())


def _runs(indexes: Sequence[int]) -> Iterator[list[int]]:
    """The indexes in runs of consecutive ones."""
    run: list[int] = []
    for index in indexes:
        if run and index != run[-1] + 1:
            yield run
            run = []
        run.append(index)
    if run:
        yield run


@dataclass(frozen=True, slots=True)
class SnapshotItem:
    """A snapshot that is kept."""

    parts: Parts
    info: SnapshotInfo

    @property
    def name(self) -> str:
        return self.info.name

    def is_current(self) -> bool:
        return self.info in (self.parts.snapshots.store.newest, self.parts.snapshots.store.previous)

    def read(self, open_file: OpenFile) -> Steps:
        return self.parts.snapshots.store.check(self.info, open_file)

    async def mend(self, error: StorageError) -> Later | None:
        snapshots = self.parts.snapshots
        snapshots.lose(self.info, error)
        return Later("another one is made of the state in memory", lambda: not snapshots.is_wanted)


@dataclass(frozen=True, slots=True)
class SealedItem:
    """A file of a segment of history."""

    parts: Parts
    file: SegmentFile

    @property
    def name(self) -> str:
        return self.file.name

    def is_current(self) -> bool:
        return self.file in self.parts.archive.files

    def read(self, open_file: OpenFile) -> Steps:
        return check_file(self.file, open_file)

    async def mend(self, error: StorageError) -> Later | None:
        archive, disk, copy, but = self.parts.archive, self.parts.disk, temporary_name(self.name), list[str]()
        while True:
            try:
                if disk.exists(copy):
                    disk.remove(copy)
                file = disk.create(copy)
            except DiskFullError as full:
                return Later(str(full))
            try:
                # Another release may pack the same rows otherwise, but not into many times the bytes.
                wanted = Wanted(4 * self.file.size_bytes + (1 << 20), self.name)
                peer = await self.parts.fetch(wanted, file.pwrite, but=but)
            finally:
                file.close()
            if peer is None:
                disk.remove(copy)
                return Later("no peer has given a whole copy")
            problem = await self.parts.run(archive.replace(self.name, copy))
            if problem is None:
                break
            if not isinstance(problem, CorruptionError | DiskFullError):
                raise problem
            but.append(peer)
        if not self.is_current():
            # The bytes are others: what is offered to followers must name these.
            archive.reopen(lookup_of(self.name))
            self.parts.snapshots.is_wanted = True
        return None


@dataclass(frozen=True, slots=True)
class DerivedItem:
    """A lookup file, or a run of the id index."""

    parts: Parts
    name: str

    def is_current(self) -> bool:
        return self.name in self.parts.archive.derived

    def read(self, open_file: OpenFile) -> Steps:
        return check_derived(self.name, open_file)

    async def mend(self, error: StorageError) -> Later | None:
        problem = await self.parts.run(self.parts.archive.make_again(self.name))
        self.parts.archive.reopen(self.name)
        return None if problem is None else Later(f"it could not be made again: {problem}")
