"""Term and vote are never forgotten: not by a power loss, not by a full disk, and a damaged file is an error."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftpay.errors import (
    CorruptionError,
    DataDirectoryError,
    DiskFullError,
    FormatVersionError,
    StorageError,
    UnreadableError,
)
from raftpay.storage.disk import RealDisk
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Journal
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from tests.storage.twin import TINY


def opened(disk: SimDisk | RealDisk) -> HardStateFile:
    return HardStateFile.open(disk, cluster_id="pay-1")


def test_a_fresh_directory_has_term_0_and_no_vote(tmp_path: Path) -> None:
    state = opened(RealDisk(tmp_path))

    assert (state.term, state.voted_for) == (0, None)
    assert (tmp_path / "hard_state").exists()


def test_term_and_vote_come_back(tmp_path: Path) -> None:
    state = opened(RealDisk(tmp_path))

    state.save(7, None)
    state.save(7, "n2")

    again = opened(RealDisk(tmp_path))
    assert (again.term, again.voted_for) == (7, "n2")
    assert [path.name for path in tmp_path.iterdir()] == ["hard_state"]


def test_a_vote_is_not_changed_and_a_term_does_not_go_back() -> None:
    state = opened(SimDisk())
    state.save(7, "n2")

    with pytest.raises(AssertionError):
        state.save(7, "n3")
    with pytest.raises(AssertionError):
        state.save(6, None)
    state.save(8, "n3")

    assert (state.term, state.voted_for) == (8, "n3")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32), saves=st.integers(0, 6), moment=st.integers(0, 60))
def test_after_any_power_loss_it_is_the_last_saved_or_the_one_being_saved(seed: int, saves: int, moment: int) -> None:
    disk = SimDisk(seed)
    disk.interrupt(moment, PowerLossError())
    saved, saving = [(0, None)], (0, None)
    try:
        state = opened(disk)
        for term in range(1, saves + 1):
            saving = (term, f"n{term}" * (term * 100))
            state.save(*saving)
            saved.append(saving)
    except PowerLossError:
        pass

    disk.crash()

    again = opened(disk)
    assert (again.term, again.voted_for) in (saved[-1], saving)


def test_every_flipped_bit_is_noticed() -> None:
    disk = SimDisk()
    opened(disk).save(7, "n2")
    size = disk.open("hard_state").size()

    for bit in range(8 * size):
        disk.flip_bit("hard_state", bit // 8, bit % 8)
        with pytest.raises(CorruptionError, match=r"hard_state: .*vote twice.*raftpay node rebuild"):
            opened(disk)
        disk.flip_bit("hard_state", bit // 8, bit % 8)

    assert opened(disk).voted_for == "n2"


def test_one_that_cannot_be_read_is_never_taken_for_no_vote() -> None:
    disk = SimDisk()
    opened(disk).save(3, "n2")
    disk.fail_sectors("hard_state", 0, 1)

    with pytest.raises(UnreadableError, match="reading hard_state at byte 0"):
        opened(disk)


@pytest.mark.parametrize("size", [0, 5, 19, 25])
def test_a_short_file_is_never_taken_for_no_vote(tmp_path: Path, size: int) -> None:
    opened(RealDisk(tmp_path)).save(7, "n2")
    path = tmp_path / "hard_state"
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(CorruptionError, match="hard_state"):
        opened(RealDisk(tmp_path))


def test_a_missing_file_beside_a_journal_with_entries_is_corruption() -> None:
    disk = SimDisk()
    opened(disk).save(1, "n1")
    journal = Journal.open(disk, TINY)
    disk.remove("hard_state")
    assert opened(disk).term == 0

    journal.append(1, 1, b"")
    disk.remove("hard_state")

    with pytest.raises(CorruptionError, match="hard_state is missing"):
        opened(disk)


def test_another_clusters_file_is_refused() -> None:
    disk = SimDisk()
    opened(disk)

    with pytest.raises(DataDirectoryError, match="cluster 'pay-1', 'pay-2' expected"):
        HardStateFile.open(disk, cluster_id="pay-2")


def test_an_unknown_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    with monkeypatch.context() as patch:
        patch.setattr("raftpay.storage.hard_state.FORMAT_VERSION", 3)
        opened(disk)

    with pytest.raises(FormatVersionError, match="hard_state: format version 3 found, 2 expected"):
        opened(disk)


def test_on_a_full_disk_the_reserve_is_given_up_for_it() -> None:
    disk = SimDisk()
    state = opened(disk)
    journal = Journal.open(disk, TINY)
    disk.capacity_bytes -= disk.free_bytes()

    state.save(3, "n1")

    assert opened(disk).voted_for == "n1"
    assert not disk.exists("reserve")
    disk.capacity_bytes = 1 << 30
    for index in range(1, 60):
        journal.append(index, 3, bytes(100))
    assert disk.exists("reserve")


def test_without_room_nothing_changes_and_it_may_be_tried_again() -> None:
    disk = SimDisk()
    state = opened(disk)
    state.save(3, "n1")
    disk.capacity_bytes = 0

    with pytest.raises(DiskFullError):
        state.save(4, "n2")

    assert (state.term, state.voted_for) == (3, "n1")
    assert (opened(disk).term, disk.list()) == (3, ["hard_state"])
    disk.capacity_bytes = 1 << 30
    state.save(4, "n2")
    assert opened(disk).voted_for == "n2"


def test_after_a_failed_fsync_it_refuses_for_good() -> None:
    disk = SimDisk()
    state = opened(disk)
    disk.interrupt(2, StorageError("syncing: Input/output error"))

    with pytest.raises(StorageError, match="Input/output"):
        state.save(3, "n1")
    with pytest.raises(StorageError, match="not saved after an error"):
        state.save(3, "n1")

    assert (state.term, state.voted_for) == (0, None)
