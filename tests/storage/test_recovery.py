"""Opening a journal that is not as it was left: torn tails, corruption, files that are missing or strange."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from raftpay.errors import CorruptionError, DataDirectoryError, FormatVersionError, UnreadableError
from raftpay.storage.journal import Entry, Journal
from raftpay.storage.records import FORMAT_VERSION, SegmentHeader, cluster_hash, encode_record, find_headers
from raftpay.storage.sim_disk import SimDisk
from tests.storage.twin import TINY

RECORD = 40 + 104  # of a 100-byte payload
FIRST = 512  # byte of the first record


def journal_of(disk: SimDisk, count: int, *, synced: int) -> Journal:
    journal = Journal.open(disk, TINY)
    for index in range(1, count + 1):
        journal.append(index, 1, bytes([index]) * 100)
        if index == synced:
            journal.sync()
    return journal


def overwrite(disk: SimDisk, name: str, offset: int, data: bytes) -> None:
    file = disk.open(name)
    file.pwrite(data, offset)
    file.fdatasync()


def segments_of(disk: SimDisk) -> list[str]:
    return [f"journal/{name}" for name in disk.list("journal") if name.endswith(".seg")]


def test_a_torn_tail_is_cut_and_reported() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=5).close()
    overwrite(disk, "journal/00000001.seg", FIRST + 6 * RECORD, bytes(RECORD))

    journal = Journal.open(disk, TINY)

    assert (journal.last_index, journal.synced_index) == (6, 6)
    report = journal.recovery
    assert (report.torn_file, report.torn_index, report.torn_offset) == ("journal/00000001.seg", 7, FIRST + 6 * RECORD)
    assert "entry 7" in str(report)
    assert Journal.open(disk, TINY).recovery.torn_file == ""


def test_what_was_behind_a_torn_record_does_not_come_back() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=5).close()
    overwrite(disk, "journal/00000001.seg", FIRST + 6 * RECORD, bytes(RECORD))

    journal = Journal.open(disk, TINY)
    journal.append(7, 1, b"\xff" * 100)
    journal.sync()
    journal.close()

    again = Journal.open(disk, TINY)
    assert (again.last_index, again.entry(7)) == (7, Entry(7, 1, b"\xff" * 100))


@pytest.mark.parametrize("lost", range(1, 6))
def test_a_lost_record_that_was_known_to_be_synced_is_corruption(lost: int) -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=5).close()
    offset = FIRST + (lost - 1) * RECORD
    overwrite(disk, "journal/00000001.seg", offset, bytes(RECORD))
    before = disk.open("journal/00000001.seg").pread(1 << 20, 0)

    with pytest.raises(CorruptionError, match=rf"00000001\.seg: entry {lost} at byte {offset}: .*raftpay node rebuild"):
        Journal.open(disk, TINY)

    assert disk.open("journal/00000001.seg").pread(1 << 20, 0) == before


def test_a_record_behind_the_bad_one_tells_that_it_was_synced() -> None:
    disk = SimDisk()
    journal = journal_of(disk, 5, synced=5)
    marks = disk.open("journal/marks").pread(8192, 0)
    journal.append(6, 1, b"a witness: 5 is synced")
    journal.close()
    # The marks know nothing, as after a power loss before the kernel wrote them back.
    slots = [marks[:4096], marks[4096:]]
    overwrite(disk, "journal/marks", 0, min(slots, key=lambda slot: slot[12:20]) * 2)
    overwrite(disk, "journal/00000001.seg", FIRST + 2 * RECORD, bytes(RECORD))

    with pytest.raises(CorruptionError, match=r"entry 3 .* entries up to 5 were synced"):
        Journal.open(disk, TINY)


def test_a_record_in_a_later_segment_tells_that_the_end_of_an_earlier_one_was_synced() -> None:
    disk = SimDisk()
    journal = journal_of(disk, 10, synced=10)
    marks = disk.open("journal/marks").pread(8192, 0)
    journal.append(11, 1, b"in the next segment" * 9)
    journal.close()
    overwrite(disk, "journal/marks", 0, min(marks[:4096], marks[4096:], key=lambda slot: slot[12:20]) * 2)
    overwrite(disk, "journal/00000001.seg", FIRST + 9 * RECORD, bytes(RECORD))

    with pytest.raises(CorruptionError, match=r"00000001\.seg: entry 10 .* entries up to 10 were synced"):
        Journal.open(disk, TINY)


def test_a_flipped_bit_in_the_newest_record_is_no_torn_tail_even_if_nothing_proves_it_synced() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=5).close()
    disk.flip_bit("journal/00000001.seg", FIRST + 7 * RECORD + 60)

    with pytest.raises(
        CorruptionError, match=r"entry 8 .* the crc of the record is wrong; entries up to 5 were synced"
    ):
        Journal.open(disk, TINY)


def test_a_record_in_the_place_of_another_is_corruption() -> None:
    disk = SimDisk()
    journal = journal_of(disk, 4, synced=4)
    disk.misdirect(0, lambda name, offset: (name, offset - 2 * RECORD))
    journal.append(5, 1, bytes([5]) * 100)
    journal.close()

    with pytest.raises(CorruptionError, match=r"entry 3 .* entry 5 of term 1 .* lies in its place"):
        Journal.open(disk, TINY)


def test_a_record_is_checked_when_it_is_read_back() -> None:
    disk = SimDisk()
    journal = journal_of(disk, 30, synced=30)
    disk.flip_bit("journal/00000001.seg", FIRST + RECORD + 50)

    assert journal.entry(1).payload == b"\x01" * 100
    with pytest.raises(CorruptionError, match=rf"entry 2 at byte {FIRST + RECORD} .*raftpay node rebuild"):
        journal.entry(2)
    with pytest.raises(CorruptionError, match="entry 2"):
        journal.entries(1, 30, bytes_max=1 << 30)


@pytest.mark.parametrize("missing", [0, 1, 2, -1])
def test_a_missing_segment_is_corruption_wherever_it_was(missing: int) -> None:
    disk = SimDisk()
    journal_of(disk, 80, synced=80).close()
    disk.remove(segments_of(disk)[-1])  # the spare one
    name = segments_of(disk)[missing]
    disk.remove(name)

    with pytest.raises(CorruptionError, match=rf"{re.escape(name)}: entry \d+ .*(missing|ends before)"):
        Journal.open(disk, TINY)


def test_a_prepared_segment_that_was_not_used_is_removed_without_a_word() -> None:
    disk = SimDisk()
    journal_of(disk, 5, synced=5).close()
    disk.create("journal/00000002.seg").preallocate(4096)

    again = Journal.open(disk, TINY)

    assert (again.last_index, again.recovery.torn_file) == (5, "")
    assert again.recovery.removed_files == ["journal/00000002.seg"]


def test_a_journal_whose_marks_are_lost_is_corruption() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()
    disk.remove("journal/marks")

    with pytest.raises(CorruptionError, match="journal/marks is missing"):
        Journal.open(disk, TINY)


def test_one_damaged_slot_of_the_marks_is_survived_and_two_are_not() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()

    disk.flip_bit("journal/marks", 30)
    assert Journal.open(disk, TINY).last_index == 8

    disk.flip_bit("journal/marks", 31)
    disk.flip_bit("journal/marks", 4096 + 30)
    with pytest.raises(CorruptionError, match="journal/marks: both slots"):
        Journal.open(disk, TINY)


@pytest.mark.parametrize("slot", [0, 4096])
def test_a_cut_that_was_finished_is_not_done_again_when_a_slot_of_the_marks_is_damaged(slot: int) -> None:
    for seed in range(12):
        disk = SimDisk(seed)
        journal = journal_of(disk, 8, synced=8)
        journal.truncate_from(5)
        journal.append(5, 2, b"new")
        journal.sync()
        disk.crash()
        disk.flip_bit("journal/marks", slot + 30)

        again = Journal.open(disk, TINY)

        assert (again.last_index, again.entry(5).payload) == (5, b"new")


def test_the_journal_of_another_cluster_is_refused() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()

    with pytest.raises(DataDirectoryError, match="another cluster"):
        Journal.open(disk, replace(TINY, cluster_id="pay-2"))


def test_a_segment_of_another_cluster_is_refused() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()
    overwrite(disk, "journal/00000001.seg", 0, SegmentHeader(cluster_hash("pay-2"), 1, 1, 0).encode())

    with pytest.raises(DataDirectoryError, match=r"00000001\.seg: belongs to another cluster"):
        Journal.open(disk, TINY)


def test_a_segment_under_another_name_is_corruption() -> None:
    disk = SimDisk()
    journal_of(disk, 80, synced=80).close()
    first, second, third, *_ = segments_of(disk)
    disk.rename(second, "journal/x")
    disk.rename(third, second)
    disk.rename("journal/x", third)

    with pytest.raises(CorruptionError, match=r"00000002\.seg: .* segment 3 under another name"):
        Journal.open(disk, TINY)
    assert first == "journal/00000001.seg"


@pytest.mark.parametrize("name", ["journal/00000001.seg", "journal/marks"])
def test_a_format_that_is_not_known_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    with monkeypatch.context() as patch:
        patch.setattr("raftpay.storage.records.FORMAT_VERSION", FORMAT_VERSION + 1)
        journal_of(disk, 8, synced=8).close()
    if name != "journal/marks":
        other = SimDisk()
        Journal.open(other, TINY).close()
        overwrite(disk, "journal/marks", 0, other.open("journal/marks").pread(8192, 0))

    with pytest.raises(FormatVersionError, match=rf"{re.escape(name)}: format version 2 found, 1 expected"):
        Journal.open(disk, TINY)


def test_a_damaged_header_is_corruption_and_never_an_empty_segment() -> None:
    for offset in (0, 9, 13, 25, 33, 41, 45):
        disk = SimDisk()
        journal_of(disk, 8, synced=0).close()
        disk.flip_bit("journal/00000001.seg", offset)

        with pytest.raises(CorruptionError, match=r"00000001\.seg"):
            Journal.open(disk, TINY)


@pytest.mark.parametrize("offset", [0, FIRST + 3 * RECORD, 1000], ids=["the header", "a record", "behind the end"])
def test_a_sector_that_cannot_be_read_is_named_and_nothing_starts(offset: int) -> None:
    disk = SimDisk()
    journal_of(disk, 80, synced=80).close()
    disk.fail_sectors("journal/00000002.seg", offset, 1)

    place = offset // 512 * 512
    with pytest.raises(
        UnreadableError, match=rf"reading journal/00000002\.seg at byte {place}: Input/output .*rebuild"
    ):
        Journal.open(disk, TINY)


def test_marks_that_cannot_be_read_are_no_new_journal() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()
    disk.fail_sectors("journal/marks", 0, 1)

    with pytest.raises(UnreadableError, match="reading journal/marks at byte 0"):
        Journal.open(disk, TINY)


def test_a_sector_that_cannot_be_read_back_is_an_error_of_that_read_alone() -> None:
    disk = SimDisk()
    journal_of(disk, 8, synced=8).close()
    journal = Journal.open(disk, TINY)
    disk.fail_sectors("journal/00000001.seg", FIRST + 2 * RECORD, 1)

    with pytest.raises(UnreadableError, match=r"00000001\.seg"):
        journal.entries(1, 8, bytes_max=1 << 20)

    assert journal.entry(8).index == 8


def test_the_newest_record_gone_astray_is_no_torn_tail() -> None:
    """Nothing says that it was synced, and its place is empty, as after a power loss; but it lies elsewhere."""
    disk = SimDisk()
    journal = journal_of(disk, 4, synced=4)
    disk.misdirect(0, lambda name, offset: (name, offset + 512))
    journal.append(5, 1, b"lost")
    journal.close()

    with pytest.raises(CorruptionError, match=r"entry 5 .* entry 5 lies in journal/00000001\.seg at byte \d+, where"):
        Journal.open(disk, TINY)


@pytest.mark.parametrize(
    "change",
    [
        lambda disk: overwrite(disk, "journal/00000001.seg", 2048, b"more"),
        lambda disk: disk.open("journal/00000002.seg").truncate(600),
        lambda disk: disk.open("journal/00000002.seg").truncate(100),
        lambda disk: disk.open("journal/00000001.seg").truncate(0),
    ],
    ids=["longer", "cut", "cut into the header", "emptied"],
)
def test_a_file_of_another_length_is_corruption(change: Callable[[SimDisk], None]) -> None:
    disk = SimDisk()
    journal_of(disk, 80, synced=80).close()

    change(disk)

    with pytest.raises(CorruptionError, match=r"journal/0000000[12]\.seg"):
        Journal.open(disk, TINY)


def test_what_is_kept_beyond_the_known_is_written_again_before_it_is_believed() -> None:
    disk = SimDisk(seed=1)
    journal_of(disk, 8, synced=5).close()
    journal = Journal.open(disk, TINY)
    assert journal.synced_index == 8

    disk.crash()

    assert Journal.open(disk, TINY).last_index == 8


def test_a_payload_cannot_pass_for_a_record() -> None:
    """A client that knows the format but not the salt cannot make a torn tail look like corruption."""
    forged = encode_record(salt=0, index=99, term=1, durable_index=98, payload=b"")
    disk = SimDisk()
    journal = Journal.open(disk, TINY)
    journal.append(1, 1, b"")
    journal.append(2, 1, forged * 8)
    journal.close()
    overwrite(disk, "journal/00000001.seg", FIRST + 40, bytes(16))

    again = Journal.open(disk, TINY)

    assert [header.index for _, header in find_headers(forged, 0, 0)] == [99]
    assert (again.last_index, again.recovery.torn_index) == (1, 2)
