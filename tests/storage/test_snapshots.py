"""Snapshots on the disk: whole or absent whenever power fails, never believed when a bit is wrong, two of them kept."""

import hashlib
from collections.abc import Iterator

import pytest

from raftpay.errors import CorruptionError, DataDirectoryError, DiskFullError, FormatVersionError, UnreadableError
from raftpay.storage.records import cluster_hash
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from raftpay.storage.snapshots import (
    FOLDER,
    SnapshotHeader,
    SnapshotInfo,
    SnapshotStore,
    StateFile,
    Written,
    part_name,
    snapshot_name,
)

CLUSTER = "pay-1"
MEMBERS = b"whoever they are"


def content(index: int) -> list[bytes]:
    return [b"entry %d" % index, bytes(3000), b"x" * (1 << 20), b"end"]


def make(store: SnapshotStore, index: int) -> SnapshotInfo:
    header = SnapshotHeader(store.cluster, index, 2, MEMBERS, [StateFile("archive/1.parquet", 10, b"d" * 32)])
    written = Written()
    for _ in store.write(header, iter(content(index)), written):
        continue
    assert written.info is not None
    store.forget(store.adopt(written.info))
    return written.info


def reopened(disk: SimDisk) -> SnapshotStore:
    return SnapshotStore.open(disk, CLUSTER)


def test_what_is_written_is_found_again_with_its_header() -> None:
    disk = SimDisk()
    info = make(reopened(disk), 7)

    found = reopened(disk)

    assert found.newest == info
    assert (info.index, info.term, info.header.members) == (7, 2, MEMBERS)
    assert info.header.files == [StateFile("archive/1.parquet", 10, b"d" * 32)]
    assert b"".join(found.chunks(info)) == b"".join(content(7))


def test_the_newest_and_the_one_before_are_kept() -> None:
    disk = SimDisk()
    store = reopened(disk)
    for index in (5, 6, 7, 8):
        make(store, index)

    assert disk.list(FOLDER) == [snapshot_name(7, 2).split("/")[1], snapshot_name(8, 2).split("/")[1]]
    again = reopened(disk)
    assert again.newest is not None
    assert again.previous is not None
    assert (again.newest.index, again.previous.index) == (8, 7)


def operations() -> int:
    disk = SimDisk()
    store = reopened(disk)
    make(store, 5)
    before = disk.operations
    make(store, 9)
    return disk.operations - before


@pytest.mark.parametrize("seed", range(6))
def test_power_may_fail_at_every_operation_of_a_snapshot(seed: int) -> None:
    for moment in range(operations()):
        disk = SimDisk(seed * 100 + moment)
        store = reopened(disk)
        make(store, 5)
        disk.interrupt(moment, PowerLossError())
        with pytest.raises(PowerLossError):
            make(store, 9)
        disk.crash()

        again = reopened(disk)

        assert again.newest is not None
        assert again.newest.index in (5, 9)
        assert again.damaged == []
        assert b"".join(again.chunks(again.newest)) == b"".join(content(again.newest.index))
        make(again, 10)


@pytest.mark.parametrize("place", [0, 9, 13, 17, 30, 90, 5000, 900_000, -1, -9])
def test_a_flipped_bit_makes_the_one_before_the_newest(place: int) -> None:
    disk = SimDisk()
    store = reopened(disk)
    make(store, 5)
    newest = make(store, 9)
    disk.flip_bit(newest.name, place % newest.size_bytes, 3)

    again = reopened(disk)

    assert again.newest is not None
    assert again.newest.index == 5
    assert [name for name, _ in again.damaged] == [newest.name]
    assert newest.name in again.damaged[0][1]


def test_a_newest_one_that_cannot_be_read_makes_the_one_before_the_newest() -> None:
    disk = SimDisk()
    store = reopened(disk)
    make(store, 5)
    newest = make(store, 9)
    disk.fail_sectors(newest.name, newest.size_bytes - 1, 1)

    again = reopened(disk)

    assert again.newest is not None
    assert again.newest.index == 5
    assert "Input/output error" in again.damaged[0][1]


def test_one_that_is_looked_at_again_is_whole_or_is_given_up() -> None:
    disk = SimDisk()
    store = reopened(disk)
    make(store, 5)
    newest = make(store, 9)
    finish(store.check(newest))
    disk.flip_bit(newest.name, 2000)

    with pytest.raises(CorruptionError, match=newest.name):
        finish(store.check(newest))
    store.lose(newest, "a bit flipped")

    assert store.newest is not None
    assert (store.newest.index, store.previous) == (5, None)


def test_a_bit_that_flips_after_the_opening_is_found_when_it_is_read() -> None:
    disk = SimDisk()
    store = reopened(disk)
    info = make(store, 9)
    disk.flip_bit(info.name, 5000)

    with pytest.raises(CorruptionError, match="byte"):
        list(store.chunks(info))


def test_another_clusters_snapshot_is_refused() -> None:
    disk = SimDisk()
    make(reopened(disk), 9)

    with pytest.raises(DataDirectoryError, match="another cluster"):
        SnapshotStore.open(disk, "pay-2")


def test_a_format_of_another_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    with monkeypatch.context() as patch:
        patch.setattr("raftpay.storage.snapshots.FORMAT_VERSION", 3)
        make(reopened(disk), 9)

    with pytest.raises(FormatVersionError, match="format version 3 found, 2 expected"):
        reopened(disk)


def test_a_full_disk_leaves_the_old_one_and_no_rest() -> None:
    disk = SimDisk()
    store = reopened(disk)
    make(store, 5)
    disk.capacity_bytes = 1_500_000

    with pytest.raises(DiskFullError):
        make(store, 9)

    assert disk.list(FOLDER) == [snapshot_name(5, 2).split("/")[1]]
    disk.capacity_bytes = 1 << 40
    make(store, 9)


def fetched(store: SnapshotStore, source: SnapshotStore, info: SnapshotInfo) -> str:
    """The bytes of a snapshot of another node, as a follower has fetched them."""
    name = part_name(info.digest)
    file = store.disk.create(name)
    file.pwrite(source.disk.open(info.name).pread(info.size_bytes, 0), 0)
    return name


def finish(steps: Iterator[None]) -> None:
    for _ in steps:
        continue


def test_what_was_fetched_counts_once_it_is_verified() -> None:
    source, store = reopened(SimDisk(1)), reopened(SimDisk(2))
    info, written = make(source, 9), Written()

    finish(store.receive(fetched(store, source, info), 9, 2, written))

    assert written.info == info
    assert store.parts() == []


@pytest.mark.parametrize("index", [8, 9])
def test_what_was_fetched_wrong_is_removed(index: int) -> None:
    source, store = reopened(SimDisk(1)), reopened(SimDisk(2))
    info = make(source, 9)
    name = fetched(store, source, info)
    assert isinstance(store.disk, SimDisk)
    if index == 9:
        store.disk.flip_bit(name, 5000)

    with pytest.raises(CorruptionError):
        finish(store.receive(name, index, 2, Written()))

    assert store.disk.list(FOLDER) == []


def test_a_file_of_the_state_is_put_in_its_place_only_if_it_is_what_was_announced() -> None:
    store = reopened(SimDisk(1))
    wanted = StateFile("archive/1.parquet", 4, b"d" * 32)
    file = store.disk.create(part_name(wanted.digest))
    file.pwrite(b"rows", 0)

    with pytest.raises(CorruptionError, match="differs"):
        finish(store.receive_file(part_name(wanted.digest), wanted))

    assert not store.disk.exists(wanted.name)
    assert cluster_hash(CLUSTER) == store.cluster


def test_a_fetched_file_that_cannot_be_read_back_is_removed_and_so_fetched_anew() -> None:
    disk = SimDisk(1)
    store = reopened(disk)
    wanted = StateFile("archive/1.parquet", 4, hashlib.sha256(b"rows").digest())
    part = part_name(wanted.digest)
    disk.create(part).pwrite(b"rows", 0)
    disk.fail_sectors(part, 0, 4)

    with pytest.raises(UnreadableError):
        finish(store.receive_file(part, wanted))

    assert not disk.exists(part)
