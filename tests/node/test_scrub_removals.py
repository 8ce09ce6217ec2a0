"""What its owner removes, cuts or replaces while a scrub reads it is no damage, whatever the moment."""

import asyncio
from collections.abc import Callable

import pytest

from raftpay.archive.archive import Archive
from raftpay.archive.plain_store import PlainStore
from raftpay.config import ScrubConfig
from raftpay.errors import StorageError
from raftpay.node.scrub_items import JournalItem, Parts
from raftpay.node.scrubbing import Scrubbing
from raftpay.raft.copies import Copies
from raftpay.raft.snapshots import Snapshots
from raftpay.storage.journal import Journal, JournalOptions
from raftpay.storage.sim_disk import SimDisk
from raftpay.storage.snapshots import SnapshotStore, Steps

CLUSTER = "test"


class Desk:
    """A journal of small segments, and a scrub whose readings wait for `meanwhile` at their step number `at`."""

    def __init__(self, at: int, meanwhile: Callable[["Desk"], None]) -> None:
        self.disk = SimDisk()
        options = JournalOptions(segment_bytes=4096, first_segment_bytes=4096, reserve_bytes=0, cluster_id=CLUSTER)
        self.journal = Journal.open(self.disk, options)
        for index in range(1, 31):
            self.journal.append(index, 1, bytes(700))
        self.journal.sync()
        self.at, self.meanwhile = at, meanwhile
        self.copies = Copies(self.journal, self.disk, lambda _peer, _message: None, list)
        self.commit_index = 30
        self.failures: list[Exception] = []
        self.snapshots = Snapshots(
            SnapshotStore.open(self.disk, CLUSTER),
            self.journal,
            None,  # type: ignore[arg-type]  # no image is made
            None,  # type: ignore[arg-type]  # as above
            members=lambda _index: None,
            run=self.run_steps,
            install=lambda _info: False,
            cluster_id=CLUSTER,
        )
        archive = Archive.open(self.disk, CLUSTER, PlainStore())
        self.scrubbing = Scrubbing(
            ScrubConfig(rate_bytes_max=1 << 30), self, journal=self.journal, archive=archive, clock_ns=lambda: 1
        )

    def run_steps(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        error = None
        try:
            while True:
                if self.at == 0:
                    self.meanwhile(self)
                self.at -= 1
                next(steps)
        except StopIteration:
            pass
        except StorageError as found:
            error = found
        done(error)

    def fail(self, error: Exception) -> None:
        self.failures.append(error)


def compact(desk: Desk) -> None:
    desk.journal.compact_to(20)


def cut(desk: Desk) -> None:
    """The second segment is written to again, with other entries."""
    desk.journal.truncate_from(8)
    for index in range(8, 20):
        desk.journal.append(index, 2, bytes(600))
    desk.journal.sync()


@pytest.mark.parametrize("meanwhile", [compact, cut])
@pytest.mark.parametrize("at", range(6))
def test_a_segment_that_changes_under_the_scrub_is_not_called_damaged(
    meanwhile: Callable[[Desk], None], at: int
) -> None:
    async def scenario() -> None:
        desk = Desk(at, meanwhile)

        await desk.scrubbing._pass()

        assert desk.at < 0, "it happened within the pass"
        assert (desk.scrubbing.report.found, desk.scrubbing.damaged, desk.failures) == (0, [], [])

    asyncio.run(scenario())


def test_what_was_cut_while_it_was_mended_is_left_alone() -> None:
    async def scenario() -> None:
        desk = Desk(-1, compact)
        number = desk.journal.segment_numbers[2]
        item = JournalItem(Parts(desk.journal, desk, desk.snapshots, None, None), number)  # type: ignore[arg-type]  # not asked
        first = desk.journal._segments[2].first_index
        desk.disk.flip_bit(item.name, desk.journal._segments[2].offset_of(first) + 100)
        with pytest.raises(StorageError) as found:
            list(item.read(desk.disk.open))
        cut(desk)

        assert await item.mend(found.value) is None

        assert desk.journal.entry(9).term == 2

    asyncio.run(scenario())
