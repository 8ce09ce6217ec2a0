"""What the journal does when nothing is wrong with the disk, and how it behaves when the disk is full or fails."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from raftpay.errors import DiskFullError, StorageError
from raftpay.storage.disk import Disk, RealDisk
from raftpay.storage.journal import Entry, Journal, JournalOptions
from raftpay.storage.sim_disk import SimDisk
from tests.storage.twin import TINY

MIB = 1 << 20


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path) if request.param == "real" else SimDisk()


def filled(disk: Disk, count: int, options: JournalOptions = TINY, *, size: int = 100) -> Journal:
    journal = Journal.open(disk, options)
    for index in range(1, count + 1):
        journal.append(index, 1 + index // 10, bytes([index % 256]) * size)
    return journal


def append_until_refused(journal: Journal, payload: bytes) -> None:
    for _ in range(1000):
        journal.append(journal.last_index + 1, max(1, journal.last_term), payload)


def test_a_new_journal_is_empty_and_begins_at_entry_1(disk: Disk) -> None:
    journal = Journal.open(disk, TINY)

    assert (journal.first_index, journal.last_index, journal.last_term) == (1, 0, 0)
    assert (journal.synced_index, journal.written_index, journal.term_at(0)) == (0, 0, 0)
    assert journal.begin_sync() is None
    journal.close()


def test_entries_come_back_after_reopening(disk: Disk) -> None:
    journal = filled(disk, 100)
    journal.sync()
    journal.close()

    again = Journal.open(disk, TINY)

    assert [again.entry(index).payload for index in range(1, 101)] == [bytes([i]) * 100 for i in range(1, 101)]
    assert (again.term_at(9), again.term_at(10), again.last_term, again.synced_index) == (1, 2, 11, 100)
    assert again.recovery.entries == 100
    assert str(again.recovery).startswith("100 entries in ")
    again.close()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 5000, 3 * MIB])
def test_a_payload_of_any_size_fits_also_one_larger_than_a_segment(disk: Disk, size: int) -> None:
    journal = filled(disk, 3)
    payload = b"x" * size

    journal.append(4, 9, payload)
    journal.append(5, 9, b"next")
    journal.sync()
    journal.close()

    again = Journal.open(disk, TINY)
    assert [entry.payload for entry in again.entries(4, 5, bytes_max=1 << 40)] == [payload, b"next"]
    again.close()


def test_the_largest_payload_fits_with_default_options(tmp_path: Path) -> None:
    journal = Journal.open(RealDisk(tmp_path))
    payload = b"\xa5" * (16 * MIB)

    journal.append(1, 1, payload)
    journal.sync()
    journal.close()

    again = Journal.open(RealDisk(tmp_path))
    assert again.entry(1).payload == payload
    again.close()


@pytest.mark.parametrize("cache_bytes", [0, 450, 1 << 20])
def test_entries_gives_as_many_as_fit_and_at_least_one(disk: Disk, cache_bytes: int) -> None:
    journal = filled(disk, 60, replace(TINY, cache_bytes=cache_bytes))
    record = 40 + 104

    assert [e.index for e in journal.entries(3, 60, bytes_max=0)] == [3]
    assert [e.index for e in journal.entries(3, 60, bytes_max=record)] == [3]
    assert [e.index for e in journal.entries(3, 60, bytes_max=2 * record - 1)] == [3]
    assert [e.index for e in journal.entries(3, 60, bytes_max=2 * record)] == [3, 4]
    assert [e.index for e in journal.entries(3, 4, bytes_max=1 << 30)] == [3, 4]
    assert [e.index for e in journal.entries(1, 60, bytes_max=40 * record)] == list(range(1, 41))
    assert journal.entries(60, 60, bytes_max=1) == [Entry(60, 7, b"\x3c" * 100)]
    journal.close()


def test_an_append_is_not_synced_until_its_job_is_completed(disk: Disk) -> None:
    journal = filled(disk, 5)
    job = journal.begin_sync()
    assert job is not None
    journal.append(6, 1, b"later")

    thread = threading.Thread(target=job.run)
    thread.start()
    thread.join(10)
    before = journal.synced_index
    after = journal.complete_sync(job)

    assert (before, after, journal.synced_index, journal.last_index) == (0, 5, 5, 6)
    assert journal.sync() == 6
    assert journal.begin_sync() is None
    journal.close()


def test_a_sync_that_was_overtaken_by_a_cut_counts_up_to_the_cut(disk: Disk) -> None:
    journal = filled(disk, 80)
    job = journal.begin_sync()
    assert job is not None

    journal.truncate_from(31)
    journal.append(31, 9, b"new")
    job.run()

    assert journal.complete_sync(job) == 30
    assert journal.sync() == 31
    journal.close()


def test_a_cut_takes_the_suffix_and_its_segments(disk: Disk) -> None:
    journal = filled(disk, 80)
    journal.sync()

    journal.truncate_from(12)
    journal.append(12, 9, b"new")

    assert (journal.last_index, journal.last_term, journal.synced_index) == (12, 9, 11)
    assert journal.entries(11, 12, bytes_max=1000) == [Entry(11, 2, b"\x0b" * 100), Entry(12, 9, b"new")]
    journal.close()
    again = Journal.open(disk, TINY)
    assert (again.last_index, again.entry(12).payload) == (12, b"new")
    again.close()


def test_a_cut_of_everything_leaves_an_empty_journal(disk: Disk) -> None:
    journal = filled(disk, 30)

    journal.truncate_from(1)

    assert (journal.first_index, journal.last_index, journal.last_term) == (1, 0, 0)
    journal.append(1, 5, b"again")
    journal.close()
    again = Journal.open(disk, TINY)
    assert again.entry(1) == Entry(1, 5, b"again")
    again.close()


def test_compaction_drops_whole_segments_and_remembers_the_term_before_the_first_entry(disk: Disk) -> None:
    journal = filled(disk, 100)
    journal.sync()
    before = len(disk.list("journal"))

    journal.compact_to(70)

    assert 1 < journal.first_index <= 71
    assert journal.term_at(journal.first_index - 1) == 1 + (journal.first_index - 1) // 10
    first = journal.first_index
    journal.close()
    assert len(disk.list("journal")) < before
    again = Journal.open(disk, TINY)
    assert (again.first_index, again.last_index) == (first, 100)
    assert again.term_at(first - 1) == 1 + (first - 1) // 10
    assert [e.index for e in again.entries(first, 100, bytes_max=1 << 30)] == list(range(first, 101))
    again.close()


def test_compaction_never_takes_what_is_not_synced(disk: Disk) -> None:
    journal = filled(disk, 100)

    journal.compact_to(100)

    assert journal.first_index == 1
    journal.close()


def test_the_next_segment_is_made_before_it_is_needed(disk: Disk) -> None:
    journal = Journal.open(disk, TINY)
    journal.append(1, 1, bytes(1100))
    journal.close()

    journal = Journal.open(disk, TINY)
    journal.append(2, 1, b"past the half")
    journal.append(3, 1, bytes(900))

    assert "00000002.seg" in disk.list("journal")
    assert journal.last_index == 3
    journal.close()


def test_segments_double_up_to_their_full_size(tmp_path: Path) -> None:
    journal = filled(RealDisk(tmp_path), 400)
    journal.sync()

    sizes = [path.stat().st_size for path in sorted((tmp_path / "journal").glob("*.seg"))]

    assert sizes[:3] == [2048, 4096, 4096]
    journal.close()


def test_indexes_and_terms_have_64_bits(disk: Disk) -> None:
    journal = Journal.open(disk, TINY)

    journal.append(1, 2**63 - 1, b"a")
    journal.sync()
    journal.close()

    again = Journal.open(disk, TINY)
    assert again.last_term == 2**63 - 1
    again.close()


def test_a_gap_or_a_falling_term_is_our_own_mistake() -> None:
    journal = filled(SimDisk(), 20)

    with pytest.raises(AssertionError):
        journal.append(22, 3, b"")
    with pytest.raises(AssertionError):
        journal.append(21, 2, b"")

    assert journal.last_index == 20


def test_a_full_disk_refuses_the_append_and_recovers_when_room_returns() -> None:
    disk = SimDisk(capacity_bytes=20_000)
    journal = Journal.open(disk, TINY)

    with pytest.raises(DiskFullError, match=r"journal/\d+\.seg"):
        append_until_refused(journal, bytes(200))

    last = journal.last_index
    assert last > 30
    assert (journal.last_index, journal.entry(last).payload) == (last, bytes(200))
    assert journal.sync() == last
    with pytest.raises(DiskFullError):
        journal.append(last + 1, 1, bytes(200))

    disk.capacity_bytes += 10_000
    journal.append(last + 1, 1, b"goes on")
    assert journal.sync() == last + 1


def test_no_new_segment_is_taken_while_the_reserve_is_not_whole() -> None:
    disk = SimDisk(capacity_bytes=30_000)
    options = replace(TINY, reserve_bytes=8000)
    journal = Journal.open(disk, options)
    disk.remove("reserve")
    disk.capacity_bytes -= disk.free_bytes() - 6000

    with pytest.raises(DiskFullError):
        append_until_refused(journal, bytes(200))

    assert "reserve" not in disk.list()
    assert 4096 < disk.free_bytes() < 8000


@pytest.mark.parametrize("seed", range(8))
def test_a_write_that_finds_no_room_half_way_leaves_the_journal_as_before(seed: int) -> None:
    disk = SimDisk(seed)
    journal = filled(disk, 3)
    disk.interrupt(0, DiskFullError("no room"))

    with pytest.raises(DiskFullError):
        journal.append(4, 1, b"\xff" * 1000)

    assert (journal.last_index, journal.last_term) == (3, 1)
    journal.append(4, 2, b"short")
    assert journal.sync() == 4
    journal.close()
    again = Journal.open(disk, TINY)
    assert (again.last_index, again.entry(4).payload, again.recovery.torn_file) == (4, b"short", "")


def test_a_failed_fsync_is_final_but_reads_go_on() -> None:
    disk = SimDisk()
    journal = filled(disk, 5)
    job = journal.begin_sync()
    assert job is not None
    disk.interrupt(0, StorageError("syncing: Input/output error"))

    with pytest.raises(StorageError, match="Input/output"):
        job.run()
    with pytest.raises(StorageError, match="Input/output"):
        journal.complete_sync(job)

    assert journal.synced_index == 0
    for refused in (
        journal.sync,
        journal.begin_sync,
        lambda: journal.append(6, 1, b""),
        lambda: journal.truncate_from(5),
        lambda: journal.compact_to(1),
    ):
        with pytest.raises(StorageError, match="accepts nothing more"):
            refused()
    assert journal.entry(5).payload == b"\x05" * 100


def test_of_two_jobs_the_second_does_not_succeed_after_the_first_has_failed() -> None:
    disk = SimDisk()
    journal = filled(disk, 5)
    first = journal.begin_sync()
    journal.append(6, 1, b"")
    second = journal.begin_sync()
    assert first is not None
    assert second is not None
    disk.interrupt(0, StorageError("Input/output error"))

    with pytest.raises(StorageError):
        first.run()
    with pytest.raises(StorageError, match="no fsync after a failed one"):
        second.run()
    with pytest.raises(StorageError):
        journal.complete_sync(second)

    assert journal.synced_index == 0


def test_a_failed_write_is_final() -> None:
    disk = SimDisk()
    journal = filled(disk, 5)
    disk.interrupt(0, StorageError("Input/output error"))

    with pytest.raises(StorageError, match="Input/output"):
        journal.append(6, 1, b"")

    with pytest.raises(StorageError, match="accepts nothing more"):
        journal.append(6, 1, b"")
    assert journal.last_index == 5


def test_a_closed_journal_refuses() -> None:
    journal = filled(SimDisk(), 5)

    journal.close()

    with pytest.raises(StorageError, match="closed"):
        journal.append(6, 1, b"")


def test_a_header_that_is_written_again_does_not_count_as_synced_nor_does_what_it_leads_to() -> None:
    disk = SimDisk()
    journal = filled(disk, 60)
    journal.sync()
    number = journal.segment_numbers[1]
    reading = journal.reading(number)
    assert reading is not None

    journal.rewrite_header(number)

    assert journal.synced_index == reading.header.first_index - 1
    assert not disk.is_synced(reading.name)
    assert journal.sync() == 60
    assert disk.is_synced(reading.name)


def test_a_header_of_a_segment_without_entries_is_synced_when_it_is_written_again() -> None:
    disk = SimDisk()
    journal = filled(disk, 60)
    journal.sync()
    number = journal.segment_numbers[-1]
    reading = journal.reading(number)
    assert reading is not None
    journal.truncate_from(reading.header.first_index)

    journal.rewrite_header(number)

    assert journal.sync() == reading.header.first_index - 1
    assert disk.is_synced(reading.name)


def test_the_end_of_a_segment_is_read_again_only_once_all_of_it_is_synced() -> None:
    disk = SimDisk()
    journal = filled(disk, 1)
    journal.sync()
    while len(journal.segment_numbers) == 1:
        journal.append(journal.last_index + 1, journal.last_term, bytes(100))
    number = journal.segment_numbers[0]

    before = journal.reading(number)
    journal.sync()
    after = journal.reading(number)

    assert before is not None
    assert (len(before.terms), before.has_end) == (1, False)
    assert after is not None
    assert (len(after.terms), after.has_end) == (journal.reading(number + 1).header.first_index - 1, True)  # type: ignore[union-attr]  # it is there
