"""Scrubbing in the simulator: how it is configured in a run, and what must hold whatever it finds.

1. What is called damaged is: no false alarm, whatever is compacted, cut or replaced meanwhile.
2. An entry that is written again is, byte for byte, the one of that index and term, and does not count as synced
   before it is (WatchedJournal asks the disk at each such write).
3. What is called put right is right: entries and header of a segment of the journal as they were appended, a file of
   history and what is derived of it as it was before the fault.
4. Once the faults are over, what a running node reads again is put right in time, but for what has to wait for the
   next snapshot.
5. Nothing but damage stops a node (member.py): once its disk is whole again, not even that.

A disk on which nothing is damaged any more counts as one that never was: what its node claims is checked in full again,
and another one may be damaged. Made by member.py, which says whose disk it is; knows no fault.
"""

import random
from collections.abc import Callable
from typing import Final

from raftpay.archive.archive import Archive
from raftpay.config import ScrubConfig
from raftpay.errors import StorageError
from raftpay.node.scrub_items import Item, Member
from raftpay.node.scrubbing import Scrubbing
from raftpay.sim.invariants import Invariants, WatchedJournal
from raftpay.sim.trace import ViolationError
from raftpay.storage.records import RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, decode_segment_header
from raftpay.storage.scrub import SegmentReading
from raftpay.storage.segment import segment_number
from raftpay.storage.sim_disk import SimDisk
from raftpay.storage.snapshots import FOLDER

# In so many runs the disks are scrubbed; in the others damage is met where a node reads, or when it starts.
SCRUBBED: Final = 0.5
NEVER: Final = ScrubConfig(rate_bytes_max=0)
# Of what is fetched from a peer, so that most takes several answers.
COPY_CHUNK_BYTES: Final = 1500
COPY_RATE_BYTES_S: Final = 1 << 20
# Of the header of a segment of the journal, as far as it says anything.
HEADER_BYTES: Final = 48


def draw(seed: int) -> ScrubConfig:
    """Of the run of that seed. From random numbers of its own: all others are as if there was no scrubbing."""
    rng = random.Random(f"scrub {seed}")
    if rng.random() >= SCRUBBED:
        return NEVER
    return ScrubConfig(
        interval_s=rng.choice([0.5, 1.0, 2.5]), rate_bytes_max=rng.choice([128 << 10, 512 << 10, 4 << 20])
    )


class WatchedScrubbing(Scrubbing):
    """Of one life of a node. on_whole: called when nothing is damaged on the disk."""

    def __init__(
        self,
        config: ScrubConfig,
        raft: Member,
        *,
        name: str,
        journal: WatchedJournal,
        archive: Archive,
        clock_ns: Callable[[], int],
        invariants: Invariants,
        on_whole: Callable[[], None],
    ) -> None:
        super().__init__(config, raft, journal=journal, archive=archive, clock_ns=clock_ns)
        raft.copies.chunk_bytes, raft.copies.rate_bytes_s = COPY_CHUNK_BYTES, COPY_RATE_BYTES_S
        self._name, self._journal, self._invariants, self._on_whole = name, journal, invariants, on_whole
        # What was found damaged: how often the disk had done wrong by then, and what the file was before.
        self._found: dict[str, tuple[int, bytes | None]] = {}
        # How often it had when the present look began, and whether what is looked at was damaged.
        self._looked = (0, False)

    @property
    def _sim_disk(self) -> SimDisk:
        assert isinstance(self._disk, SimDisk)
        return self._disk

    async def _pass(self) -> None:
        await super()._pass()
        self._invariants.counts.scrubs += 1
        if not self._sim_disk.damaged():
            self._on_whole()

    async def _look_at(self, item: Item) -> None:
        self._looked = self._sim_disk.strikes, self._sim_disk.is_damaged(item.name)
        await super()._look_at(item)

    def _note_found(self, name: str) -> None:
        super()._note_found(name)
        self._invariants.counts.scrub_found += 1
        self._invariants.trace.note("scrub found", self._name, name)
        disk = self._sim_disk
        if self._looked == (disk.strikes, False):
            raise self._violated("scrubbing finds damage only", f"calls {name} damaged, and it is not")
        self._found[name] = disk.strikes, disk.right_bytes(name)

    def _note_repaired(self, name: str) -> None:
        super()._note_repaired(name)
        self._invariants.counts.scrub_repaired += 1
        self._invariants.trace.note("scrub repaired", self._name, name)
        strikes, right = self._found.pop(name)
        disk = self._sim_disk
        # It may have gone with what it belonged to, or be damaged once more, behind the one who looked.
        if not disk.exists(name) or disk.strikes > strikes:
            return
        number = segment_number(name.rpartition("/")[2])
        if number is not None:
            self._check_segment(name, number)
        elif not name.startswith(FOLDER) and right is not None and disk.right_bytes(name) is not None:
            self._check_same(name, right)

    def unmended(self) -> list[str]:
        """What is damaged on the disk, though a pass would find it and could have it put right.

        Not the snapshots: where nothing has been applied since the newest one, another cannot be made. Nor segments of
        the journal that wait for a snapshot to be compacted away.
        """
        archive, damaged = self._parts.archive, self._sim_disk.damaged()
        names = {*(file.name for file in archive.files), *archive.derived}
        segments = [reading for number in self._journal.segment_numbers if (reading := self._journal.reading(number))]
        return sorted(damaged & names) + [
            reading.name
            for reading in segments
            if reading.name in damaged - self._left.keys() and self._is_damaged(reading)
        ]

    def _is_damaged(self, reading: SegmentReading) -> bool:
        """Whether header or entries are not what was written; what lies between them says nothing."""
        disk, entries, first = self._sim_disk, self._invariants.entries, reading.header.first_index
        places = [(0, HEADER_BYTES)]
        for index, (offset, term) in enumerate(zip(reading.offsets, reading.terms, strict=True), first):
            places.append((offset, offset + RECORD_HEADER_BYTES + len(entries[index, term][0])))
        return any(disk.is_damaged_within(reading.name, *place) for place in places)

    def _check_segment(self, name: str, number: int) -> None:
        """What of it counts as synced is what was appended."""
        reading = self._journal.reading(number)
        if reading is None:
            return
        if self._is_damaged(reading):
            raise self._violated("what is put right is right", f"calls {name} put right: not all of it is")
        file = self._sim_disk.open(name)
        try:
            header = decode_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0), name, reading.header.cluster)
        except StorageError as error:
            raise self._violated("what is put right is right", f"calls {name} put right: {error}") from error
        if header != reading.header:
            raise self._violated("what is put right is right", f"gives {name} the header {header}")
        for index in range(reading.header.first_index, reading.header.first_index + len(reading.terms)):
            payload = self._invariants.entries[index, self._journal.term_at(index)][0]
            if self._journal.found(index, len(payload)) != payload:
                raise self._violated("what is put right is right", f"calls entry {index} put right, and it is another")

    def _check_same(self, name: str, right: bytes) -> None:
        file = self._sim_disk.open(name)
        if file.pread(file.size(), 0) != right:
            raise self._violated("what is put right is right", f"calls {name} put right, and it is not what it was")

    def _violated(self, promise: str, what: str) -> ViolationError:
        return self._invariants.trace.violated(promise, f"{self._name} {what}")
