"""The two answers to the disk's seam: both do the same where nothing fails, and the simulated one fails as promised."""

import errno
import os
from pathlib import Path

import pytest

from raftpay.errors import DiskFullError, StorageError, UnreadableError
from raftpay.storage.disk import Disk, RealDisk, storage_error
from raftpay.storage.sim_disk import SimDelays, SimDisk, SimFile


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path) if request.param == "real" else SimDisk()


def test_what_is_written_is_read_and_the_rest_is_zeros(disk: Disk) -> None:
    file = disk.create("a")
    file.preallocate(2000)

    file.pwrite(b"hello", 1000)
    file.fdatasync()

    assert file.size() == 2000
    assert file.pread(9, 998) == b"\0\0hello\0\0"
    assert file.pread(100, 1990) == bytes(10)
    assert file.pread(100, 3000) == b""
    file.pwrite(b"beyond", 2500)
    assert (file.size(), file.pread(1000, 1999)) == (2506, bytes(501) + b"beyond")
    file.close()


def test_a_file_that_is_cut_and_grows_again_has_zeros_there(disk: Disk) -> None:
    file = disk.create("a")
    file.pwrite(b"x" * 100, 0)

    file.truncate(40)
    file.preallocate(100)

    assert file.pread(100, 0) == b"x" * 40 + bytes(60)
    file.close()


def test_names_are_made_renamed_removed_and_listed(disk: Disk) -> None:
    disk.make_folder("journal")
    disk.make_folder("journal")
    for name in ("b", "journal/2", "journal/1"):
        disk.create(name).close()

    disk.rename("b", "a")
    disk.remove("journal/2")
    disk.create("journal/3").close()
    disk.fsync_folder("journal")
    disk.fsync_folder()

    assert disk.list() == ["a", "journal"]
    assert disk.list("journal") == ["1", "3"]
    assert disk.list("nothing") == []
    assert disk.exists("journal/1")
    assert not disk.exists("b")


def test_what_is_not_there_and_what_is_there_already_are_errors(disk: Disk) -> None:
    disk.create("a").close()

    with pytest.raises(StorageError, match=r"creating a.*exists"):
        disk.create("a")
    with pytest.raises(StorageError, match=r"opening b.*No such file"):
        disk.open("b")
    with pytest.raises(StorageError, match=r"removing b.*No such file"):
        disk.remove("b")


def test_a_prepared_file_is_of_its_size_and_all_zeros(disk: Disk) -> None:
    preparation = disk.prepare("spare", 3 << 20)
    file = preparation.take()

    assert file.size() == 3 << 20
    assert file.pread(3 << 20, 0) == bytes(3 << 20)
    preparation.cancel()
    assert disk.list() == []


def test_a_preparation_that_fails_tells_it_to_who_takes_it(disk: Disk) -> None:
    disk.create("spare").close()

    preparation = disk.prepare("spare", 4096)

    with pytest.raises(StorageError, match="creating spare"):
        preparation.take()
    assert disk.list() == ["spare"]


def test_errors_of_the_system_become_ours() -> None:
    full = storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "writing x")
    broken = storage_error(OSError(errno.EIO, os.strerror(errno.EIO)), "writing x")

    assert isinstance(full, DiskFullError)
    assert type(broken) is StorageError
    assert str(broken) == "writing x: Input/output error"


def test_a_real_disk_that_cannot_say_whether_a_file_is_there_says_so_in_our_words(tmp_path: Path) -> None:
    """The reserve is looked for in the middle of an append: an error that nobody expects there would be lost."""
    disk = RealDisk(tmp_path)
    file = disk.create("a")
    file.close()

    with pytest.raises(StorageError, match="looking for xxx"):
        disk.exists("x" * 300)
    with pytest.raises(StorageError, match="asking for the size of a"):
        file.size()
    assert (disk.exists("a"), disk.exists("b"), disk.exists("a/b")) == (True, False, False)


def test_a_real_disk_has_free_room_and_random_numbers(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)

    assert disk.free_bytes() > 0
    assert len({disk.random_u32() for _ in range(8)}) > 1


def test_each_unsynced_sector_survives_or_not_by_itself() -> None:
    outcomes = set()
    for seed in range(1000):
        disk = SimDisk(seed)
        file = disk.create("a")
        file.preallocate(2048)
        file.pwrite(b"0" * 2048, 0)
        file.fdatasync()
        disk.fsync_folder()
        file.pwrite(b"1" * 1024, 256)
        file.pwrite(b"2" * 512, 512)

        disk.crash()

        data = disk.open("a").pread(2048, 0)
        sectors = [data[start : start + 512] for start in range(0, 2048, 512)]
        assert sectors[0] in (b"0" * 512, b"0" * 256 + b"1" * 256)
        assert sectors[1] in (b"0" * 512, b"1" * 512, b"2" * 512)
        assert sectors[2] in (b"0" * 512, b"1" * 256 + b"0" * 256)
        assert sectors[3] == b"0" * 512
        outcomes.add(data)
    assert len(outcomes) == 12


def test_a_simulated_disk_says_what_no_power_loss_can_take() -> None:
    disk = SimDisk()
    file = disk.create("a")
    file.pwrite(b"1" * 1024, 0)
    file.fdatasync()

    assert not disk.is_synced("a")
    disk.fsync_folder()
    assert disk.is_synced("a")
    file.pwrite(b"2", 600)
    assert disk.is_synced("a", 600)
    assert not disk.is_synced("a", 601)
    file.fdatasync()
    disk.rename("a", "b")
    assert not disk.is_synced("b")
    assert not disk.is_synced("a")


def test_names_that_were_not_fsynced_survive_or_not_but_a_rename_is_one() -> None:
    outcomes = set()
    for seed in range(200):
        disk = SimDisk(seed)
        disk.create("old").pwrite(b"1", 0)
        disk.fsync_folder()
        disk.create("new")
        disk.rename("new", "old")
        disk.create("other")

        disk.crash()

        outcomes.add(tuple(disk.list()))
    assert outcomes == {("old",), ("new", "old"), ("old", "other"), ("new", "old", "other")}


def test_a_rename_to_another_folder_lasts_once_that_folder_is_fsynced() -> None:
    was_at_both = False
    for seed in range(60):
        disk = SimDisk(seed=seed)
        file = disk.create("a/old")
        file.pwrite(b"content", 0)
        file.fdatasync()
        disk.fsync_folder("a")
        disk.rename("a/old", "b/new")
        disk.fsync_folder("b")

        disk.crash()

        assert disk.open("b/new").pread(7, 0) == b"content"
        was_at_both |= disk.exists("a/old")
    assert was_at_both


def test_the_same_seed_loses_the_same() -> None:
    def survivors(seed: int) -> tuple[list[str], bytes]:
        disk = SimDisk(seed)
        file = disk.create("a")
        file.preallocate(25_600)
        file.fdatasync()
        disk.fsync_folder()
        file.pwrite(bytes(range(256)) * 100, 0)
        for name in "bcdef":
            disk.create(name)
        disk.crash()
        return disk.list(), disk.open("a").pread(1 << 20, 0)

    assert survivors(5) == survivors(5)
    assert len({survivors(seed)[1] for seed in range(20)}) > 5


def test_a_file_from_before_the_power_loss_is_dead() -> None:
    disk = SimDisk()
    file = disk.create("a")
    disk.fsync_folder()

    disk.crash()

    with pytest.raises(StorageError, match="before the power loss"):
        file.pwrite(b"x", 0)


def test_a_full_simulated_disk_says_so_and_has_room_again_after_a_removal() -> None:
    disk = SimDisk(capacity_bytes=1000)
    file = disk.create("a")
    file.pwrite(bytes(900), 0)

    with pytest.raises(DiskFullError):
        disk.create("b").preallocate(200)
    assert (disk.free_bytes(), file.size()) == (100, 900)

    disk.remove("a")
    disk.open("b").preallocate(200)


def test_a_slow_disk_tells_how_long_it_took() -> None:
    told: list[float] = []
    disk = SimDisk(delays=SimDelays(sync_s=0.5, byte_s=0.25), on_delay=told.append)
    file = disk.create("a")

    file.pwrite(b"1234", 0)
    file.fdatasync()
    file.pread(2, 0)
    disk.fsync_folder()

    assert told == [1.0, 0.5, 0.5, 0.5]
    assert disk.elapsed_s == 2.5


def test_flipped_bits_and_writes_gone_astray_are_there_on_demand() -> None:
    disk = SimDisk()
    file = disk.create("a")
    file.preallocate(100)
    disk.flip_bit("a", 50, 3)
    disk.misdirect(0, lambda name, offset: (name, offset + 10))

    file.pwrite(b"xy", 60)
    file.pwrite(b"z", 60)

    assert file.pread(100, 0).rstrip(b"\0") == bytes(50) + b"\x08" + bytes(9) + b"z" + bytes(9) + b"xy"


def test_the_write_that_goes_astray_may_be_chosen() -> None:
    disk = SimDisk()
    file = disk.create("a")
    file.preallocate(100)
    disk.misdirect(1, lambda name, offset: (name, offset + 10), lambda name, offset: offset == 60)

    for offset in (60, 40, 60, 60):
        file.pwrite(b"%d" % offset, offset)

    assert file.pread(100, 0).rstrip(b"\0") == bytes(40) + b"40" + bytes(18) + b"60" + bytes(8) + b"60"


def test_what_the_real_disk_cannot_read_is_named_as_such() -> None:
    """Linux gives EIO for memory of a process that is not mapped, as for a bad sector."""
    memory = RealDisk(Path("/proc/self")).open("mem")
    try:
        with pytest.raises(UnreadableError, match=r"reading mem at byte 0: Input/output error: .* rebuild this node"):
            memory.pread(8, 0)
    finally:
        memory.close()


def test_sectors_that_cannot_be_read_are_readable_once_they_are_written_again() -> None:
    disk = SimDisk()
    file = disk.create("a")
    file.pwrite(bytes(2048), 0)
    disk.fail_sectors("a", 600, 1)

    with pytest.raises(UnreadableError, match="reading a at byte 512"):
        file.pread(2048, 0)
    assert file.pread(512, 0) == bytes(512)

    file.pwrite(b"again", 600)
    assert file.pread(2048, 0)[600:605] == b"again"


def synced_file(disk: SimDisk, name: str, data: bytes) -> SimFile:
    """A file that no power loss takes anything of."""
    file = disk.create(name)
    file.pwrite(data, 0)
    file.fdatasync()
    disk.fsync_folder()
    return file


def test_a_disk_knows_what_it_has_damaged_until_that_is_written_again_and_synced() -> None:
    disk = SimDisk()
    file = synced_file(disk, "a", b"whole" * 200)

    disk.flip_bit("a", 3)
    disk.fail_sectors("a", 600, 1)
    found = [disk.is_damaged_within("a", start, stop) for start, stop in ((0, 3), (3, 4), (4, 512), (512, 513))]

    assert (disk.damaged(), disk.strikes, found) == ({"a"}, 2, [False, True, False, True])
    assert disk.right_bytes("a") == b"whole" * 200

    file.pwrite(b"whole" * 200, 0)

    assert (disk.damaged(), disk.is_damaged_within("a", 0, 1000)) == ({"a"}, False)

    file.fdatasync()

    assert disk.damaged() == set()


def test_a_write_gone_astray_damages_where_it_was_to_go_and_where_it_went() -> None:
    disk = SimDisk()
    for name in ("a", "b"):
        synced_file(disk, name, name.encode() * 100)

    disk.misdirect(0, lambda _name, _offset: ("b", 10))
    disk.open("a").pwrite(b"new", 50)

    assert disk.damaged() == {"a", "b"}
    assert disk.right_bytes("a") == b"a" * 50 + b"new" + b"a" * 47
    assert disk.right_bytes("b") == b"b" * 100

    disk.remove("b")

    assert disk.damaged() == {"a", "b"}, "a power loss may bring it back"
    disk.fsync_folder()
    assert disk.damaged() == {"a"}


def test_a_power_loss_takes_back_that_a_sector_was_written_again() -> None:
    outcomes = set()
    for seed in range(20):
        disk = SimDisk(seed)
        file = synced_file(disk, "a", b"a" * 512)
        disk.fail_sectors("a", 0, 1)
        file.pwrite(b"b" * 512, 0)

        disk.crash()

        try:
            outcomes.add(disk.open("a").pread(1, 0))
            assert disk.damaged() == set()
        except UnreadableError:
            outcomes.add(b"unreadable")
            assert disk.damaged() == {"a"}

    assert outcomes == {b"b", b"unreadable"}


def test_what_power_was_lost_with_is_never_taken_for_whole() -> None:
    for seed in range(10):
        disk = SimDisk(seed)
        file = synced_file(disk, "a", b"a" * 100)
        disk.flip_bit("a", 5)
        file.pwrite(b"b" * 100, 0)

        disk.crash()

        assert (disk.damaged(), disk.right_bytes("a")) == ({"a"}, None)
