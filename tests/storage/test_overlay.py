"""A disk that is only read: what is written to it is seen there and nowhere else."""

from pathlib import Path

import pytest

from raftpay.errors import StorageError
from raftpay.storage.journal import Journal, JournalOptions
from raftpay.storage.overlay import OverlayDisk


def test_what_is_written_is_read_back_and_does_not_reach_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    disk = OverlayDisk(tmp_path)
    file, same = disk.open("a"), disk.open("a")

    file.pwrite(b"xy", 2)
    file.preallocate(12)

    assert same.pread(20, 0) == file.pread(20, 0) == b"01xy456789\0\0"
    file.truncate(3)
    assert same.size() == 3
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    file.close()
    same.close()


def test_names_come_and_go_in_memory_only(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("kept", "old", "gone"):
        (tmp_path / "folder" / name).write_bytes(name.encode())
    disk = OverlayDisk(tmp_path)

    disk.remove("folder/gone")
    disk.rename("folder/old", "folder/new")
    disk.create("folder/made").pwrite(b"!", 0)

    assert disk.list("folder") == ["kept", "made", "new"]
    assert [disk.exists(f"folder/{name}") for name in ("kept", "old", "gone", "new")] == [True, False, False, True]
    assert disk.open("folder/new").pread(9, 0) == b"old"
    with pytest.raises(StorageError, match="it was removed"):
        disk.open("folder/gone")
    with pytest.raises(StorageError, match="it is there"):
        disk.create("folder/new")
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == ["gone", "kept", "old"]


def test_a_journal_is_opened_cut_and_written_to_without_a_change_on_the_disk(tmp_path: Path) -> None:
    options = JournalOptions(segment_bytes=1 << 16, first_segment_bytes=1 << 16, reserve_bytes=0)
    journal = Journal.open(OverlayDisk(tmp_path), options)
    for index in range(1, 3000):
        journal.append(index, 1, b"%d" % index * 20)
    journal.sync()

    journal.truncate_from(2000)
    journal.compact_to(1000)
    journal.reset(5000, 2)

    assert (journal.first_index, journal.last_index) == (5001, 5000)
    journal.close()
    assert list(tmp_path.iterdir()) == []
