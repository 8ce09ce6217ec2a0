"""Whether journal and snapshots of a data directory fit together, and what to make of them when a crash came between.

Called once, when a node opens what is on its disk. The crash-safe order of an install is: the snapshot is durable, then
the journal begins anew behind it. So a journal that lacks the newest snapshot's entry, or has another in its place, is
one whose reset has not happened yet.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from raftpay.errors import CorruptionError
from raftpay.storage.journal import Journal
from raftpay.storage.records import REBUILD_ADVICE
from raftpay.storage.snapshots import SnapshotInfo, SnapshotStore


class Restorable(Protocol):
    """The part of a state machine that takes a snapshot in."""

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]: ...


def holds_entry(journal: Journal, index: int, term: int) -> bool:
    """Whether the entry, or the one that the journal begins after, is that of this term."""
    return journal.first_index - 1 <= index <= journal.last_index and journal.term_at(index) == term


def reconcile(journal: Journal, snapshots: SnapshotStore) -> SnapshotInfo | None:
    """The snapshot to start from, None for the log's beginning; the journal goes on behind it.

    Raises CorruptionError where neither gives the whole state (D8): an empty state would be taken for the truth.
    """
    newest = snapshots.newest
    reached = 0 if newest is None else newest.index
    if journal.first_index - 1 > reached:
        found = (
            "there is no whole snapshot"
            if newest is None
            else f"the newest whole snapshot {newest.name} reaches only to {reached}"
        )
        damaged = "".join(f"; {reason.removesuffix(f'. {REBUILD_ADVICE}')}" for _, reason in snapshots.damaged)
        raise CorruptionError(
            f"the journal begins with entry {journal.first_index}, and {found}{damaged}. {REBUILD_ADVICE}"
        )
    if newest is not None and not holds_entry(journal, newest.index, newest.term):
        journal.reset(newest.index, newest.term)
    return newest


def restore(journal: Journal, snapshots: SnapshotStore, machine: Restorable) -> None:
    """Bring the machine to where the log goes on. Raises as `reconcile`, and what the machine does of its bytes."""
    info = reconcile(journal, snapshots)
    if info is None:
        return
    try:
        become = machine.load(snapshots.chunks(info))
    except CorruptionError as error:
        # Looked for only now: a file that is lacking does no harm where the state has all that was in it.
        lacking = [file.name for file in info.header.files if not snapshots.disk.exists(file.name)]
        if not lacking:
            raise
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise CorruptionError(
            f"{lacking[0]}{more} is not there, and {info.name} gives no state without it. {REBUILD_ADVICE}"
        ) from error
    become()
