"""Parts of a node that tell what they begin: moments which a fault may wait for. Made by member.py."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from raftpay.archive.archive import Archive
from raftpay.ledger.sealed import SegmentRows
from raftpay.raft.node import RaftNode
from raftpay.sim.counts import Counts
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.snapshots import SnapshotHeader, SnapshotStore, StateFile, Steps, Written

# Told the name of what a node begins.
Begins = Callable[[str], None]

# What takes several changes of the disk and is rare, and about how many: opening what is there, cutting the log,
# beginning it anew behind a snapshot, compacting it, writing a snapshot, installing a fetched part of one, sealing, and
# saving term and vote.
ACTS: Final = {
    "start": 12,
    "cut": 12,
    "reset": 12,
    "compact": 12,
    "snapshot": 12,
    "install": 24,
    "seal": 36,
    "save": 5,
}
# Other moments that a fault may wait for: a command is proposed, a follower asks for the first piece of a snapshot, or
# has all of it and begins to check it.
PROPOSE, FETCH, FETCHED = "propose", "fetch", "fetched"


class WatchedStore(SnapshotStore):
    """Counts what it has written and verified, and tells what begins."""

    counts: Counts
    on_act: Begins

    def write(self, header: SnapshotHeader, chunks: Iterable[bytes], written: Written) -> Steps:
        self.on_act("snapshot")
        yield from super().write(header, chunks, written)
        self.counts.snapshots_made += 1

    def receive(self, part: str, index: int, term: int, written: Written) -> Steps:
        self.on_act("install")
        self.on_act(FETCHED)
        yield from super().receive(part, index, term, written)

    def receive_file(self, part: str, wanted: StateFile) -> Steps:
        self.on_act("install")
        yield from super().receive_file(part, wanted)


class WatchedArchive(Archive):
    """Tells what begins."""

    on_act: Begins

    def seal(self, rows: SegmentRows) -> Steps:
        self.on_act("seal")
        yield from super().seal(rows)


class WatchedHardState(HardStateFile):
    """Tells what begins."""

    on_act: Begins

    def save(self, term: int, voted_for: str | None) -> None:
        self.on_act("save")
        super().save(term, voted_for)


class WatchedRaft(RaftNode):
    """Tells what begins. heir: whom it hands over to, whether or not that one has everything; "" for its own choice."""

    on_act: Begins
    heir: Callable[[], str]

    def _successors(self) -> list[str]:
        return [self.heir()] if self.heir() else super()._successors()

    def propose(self, payload: bytes) -> "asyncio.Future[object]":
        self.on_act(PROPOSE)
        return super().propose(payload)
