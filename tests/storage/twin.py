"""The naive twin of the journal, and a bench that drives both with the same calls and compares them after each.

The twin is a dict of entries and three numbers. After a power loss it does not say what must be there but what may be:
all that was synced, then any prefix of what was written since; an interrupted cut or compaction happened wholly or not
at all.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, field

from raftpay.storage.disk import Disk
from raftpay.storage.journal import Entry, Journal, JournalOptions, SyncJob
from raftpay.storage.sim_disk import PowerLossError, SimDisk

TINY = JournalOptions(
    segment_bytes=4096, first_segment_bytes=2048, cache_bytes=900, reserve_bytes=1000, cluster_id="pay-1"
)


def payload_of(index: int, size: int, kind: int) -> bytes:
    """Payloads that are awkward: random, zeros (like a lost sector), or full of what begins a record."""
    if kind % 3 == 0:
        return random.Random(index * 7 + size).randbytes(size)
    if kind % 3 == 1:
        return bytes(size)
    return (b"\x4f\x1a\xe5\xa7" * (size // 4 + 1))[:size]


@dataclass
class Twin:
    entries: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    first: int = 1
    last: int = 0
    synced: int = 0
    before_first_term: int = 0

    def term_at(self, index: int) -> int:
        return self.entries[index][0] if index in self.entries else self.before_first_term

    def cut(self, index: int) -> None:
        for gone in range(index, self.last + 1):
            del self.entries[gone]
        self.last = index - 1
        self.synced = min(self.synced, self.last)

    def drop_before(self, first: int) -> None:
        if first > self.first:
            self.before_first_term = self.entries[first - 1][0]
        for gone in range(self.first, first):
            del self.entries[gone]
        self.first = first

    def begin_after(self, index: int, term: int) -> None:
        self.entries, self.before_first_term = {}, term
        self.first, self.last, self.synced = index + 1, index, index


class Bench:
    """disk, journal, twin; `job` with the index that its completion must give."""

    def __init__(self, disk: Disk, options: JournalOptions = TINY) -> None:
        self.disk = disk
        self.options = options
        self.twin = Twin()
        self.job: SyncJob | None = None
        self.job_index = 0
        self.pending: tuple[str, int] = ("", 0)  # the call that may be interrupted
        self.pending_entry: tuple[int, bytes] = (0, b"")
        self.journal = Journal.open(disk, options)

    def append(self, size: int, kind: int = 0, *, term_step: int = 0) -> None:
        twin = self.twin
        index, term = twin.last + 1, twin.term_at(twin.last) + term_step
        payload = payload_of(index, size, kind)
        self.pending, self.pending_entry = ("append", index), (term, payload)
        self.journal.append(index, term, payload)
        twin.entries[index] = (term, payload)
        twin.last = index
        self.done()

    def sync(self) -> None:
        self.pending = ("sync", 0)
        assert self.journal.sync() == self.twin.last
        self.twin.synced = self.twin.last
        self.done()

    def begin_sync(self) -> None:
        if self.job is None:
            self.job = self.journal.begin_sync()
            assert (self.job is None) == (self.twin.synced == self.twin.last)
            self.job_index = self.twin.last

    def run_sync(self) -> None:
        if self.job is not None and not self.job.is_done:
            self.job.run()

    def complete_sync(self) -> None:
        if self.job is not None and self.job.is_done:
            self.pending = ("sync", 0)
            synced = self.journal.complete_sync(self.job)
            self.job = None
            self.twin.synced = max(self.twin.synced, self.job_index)
            assert synced == self.twin.synced
            self.done()

    def truncate(self, index: int) -> None:
        self.pending = ("truncate", index)
        self.journal.truncate_from(index)
        self.twin.cut(index)
        self.job_index = min(self.job_index, self.twin.last)
        self.done()

    def compact(self, index: int) -> None:
        self.pending = ("compact", index)
        self.journal.compact_to(index)
        first = self.journal.first_index
        assert self.twin.first <= first <= max(self.twin.first, index + 1)
        self.twin.drop_before(first)
        self.done()

    def reset(self, index: int, term: int) -> None:
        self.pending, self.pending_entry = ("reset", index), (term, b"")
        self.journal.reset(index, term)
        self.twin.begin_after(index, term)
        self.job_index = min(self.job_index, index)
        self.done()

    def done(self) -> None:
        self.pending = ("", 0)
        self.check_equal()

    def check_equal(self) -> None:
        journal, twin = self.journal, self.twin
        found = (journal.first_index, journal.last_index, journal.synced_index, journal.last_term)
        assert found == (twin.first, twin.last, twin.synced, twin.term_at(twin.last))

    def check_content(self) -> None:
        """Every entry, one by one and all together."""
        journal, twin = self.journal, self.twin
        expected = [Entry(index, *twin.entries[index]) for index in range(twin.first, twin.last + 1)]
        assert [journal.entry(index) for index in range(twin.first, twin.last + 1)] == expected
        assert journal.term_at(twin.first - 1) == twin.before_first_term
        if expected:
            assert journal.entries(twin.first, twin.last, bytes_max=1 << 40) == expected

    def reopen(self) -> None:
        """Close in good order: what is written is there afterwards, and synced."""
        self.journal.close()
        self.job = None
        self.journal = Journal.open(self.disk, self.options)
        self.twin.synced = self.twin.last
        assert self.journal.recovery.torn_file == ""
        self.check_equal()
        self.check_content()

    def recover(self, interruptions: list[int]) -> None:
        """Open after a power loss, losing power again during it at each of the given operations."""
        assert isinstance(self.disk, SimDisk)
        self.job = None
        self.disk.crash()
        for after in interruptions:
            self.disk.interrupt(after, PowerLossError())
            with suppress(PowerLossError):
                Journal.open(self.disk, self.options)
            self.disk.crash()
        self.journal = Journal.open(self.disk, self.options)
        self._accept()
        self.check_equal()
        self.check_content()

    def _accept(self) -> None:
        """Check what may have survived, and take it over into the twin."""
        call, index = self.pending
        twin, journal = self.twin, self.journal
        if call == "append":
            twin.entries[index] = self.pending_entry
            twin.last = index
        survived = journal.last_index
        begun = (journal.first_index, survived, journal.last_term)
        # The term tells it from an earlier reset to the same index.
        if call == "reset" and begun == (index + 1, index, self.pending_entry[0]):
            twin.begin_after(index, self.pending_entry[0])
        if call == "truncate" and survived < index:
            assert min(twin.synced, index - 1) <= survived
        else:
            assert twin.synced <= survived <= twin.last
        twin.cut(survived + 1)
        twin.synced = survived
        if call == "compact":
            assert twin.first <= journal.first_index <= max(twin.first, index + 1)
            twin.drop_before(journal.first_index)
        self.pending = ("", 0)
