"""Segments on the disk: whole or absent whenever power fails, equal on all nodes, not believed when a bit is wrong."""

from array import array
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from raftpay.archive import chain
from raftpay.archive.archive import Archive
from raftpay.archive.columns import TABLES, genesis, segment_of
from raftpay.archive.files import read_whole
from raftpay.archive.history import SealedFiles
from raftpay.archive.parquet import Rows, Store
from raftpay.errors import CorruptionError, DiskFullError, StorageError
from raftpay.ledger.sealed import SegmentRows
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from tests.archive.histories import PLAIN, STORE, HistoryMaker, run

CLUSTER = "pay-1"
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def segments(seed: int, *sizes: int) -> list[SegmentRows]:
    maker = HistoryMaker(Random(seed))
    return [maker.segment(size, failed=2, accounts=number % 2) for number, size in enumerate(sizes)]


def opened(disk: SimDisk, store: Store = PLAIN) -> Archive:
    return Archive.open(disk, CLUSTER, store)


def sealed(disk: SimDisk, rows: list[SegmentRows]) -> Archive:
    archive = opened(disk)
    for segment in rows:
        run(archive.seal(segment))
    return archive


def names(disk: SimDisk) -> list[str]:
    return disk.list("archive")


@settings(STEADY, max_examples=25)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(0, 300), failed=st.integers(0, 3), largest=st.sampled_from((1, 2**40))
)
def test_what_is_sealed_reads_back_equal(seed: int, rows: int, failed: int, largest: int) -> None:
    maker = HistoryMaker(Random(seed), amount_max=largest)
    segment = segment_of(maker.segment(rows, failed=failed))

    for table in TABLES:
        columns = segment.tables[table.name]
        data, checksum = STORE.encode(columns, {"said": "it's so"})
        again = STORE.decode("a file", data, Rows(table, columns.first, len(columns)))

        assert STORE.about("a file", data)["said"] == "it's so"
        assert not len(columns) or STORE.checksum("a file", data, table) == checksum

        assert again.texts == columns.texts
        assert {name: column.tolist() for name, column in again.numbers.items()} == {
            name: column.tolist() for name, column in columns.numbers.items()
        }


def test_nodes_agree_on_the_digest_whatever_their_files_are() -> None:
    rows = segments(1, 50, 0, 70)
    one, other = SimDisk(1), SimDisk(2)
    sealed(one, rows)
    sealed(other, rows)

    assert names(one) == names(other)
    assert [name.split("-")[0] for name in names(one)] == ["00000000"] * 3 + ["00000001"] * 2 + ["00000002"] * 2
    # The key of the id index is the node's own.
    runs = [name for name in one.list("index") if name.endswith(".run")]
    assert all(read_whole(one, f"index/{name}") != read_whole(other, f"index/{name}") for name in runs)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: {"time": rows.time + 1},
        lambda rows: {"ids": [*rows.ids[:-1], rows.ids[-1] + "x"]},
        lambda rows: {"references": [*rows.references[:-1], rows.references[-1] + "x"]},
        lambda rows: {"codes": array("H", [*rows.codes[:-1], rows.codes[-1] ^ 1])},
        lambda rows: {"timestamps": array("q", [*rows.timestamps[:-1], rows.timestamps[-1] + 1])},
        lambda rows: {"failed": [*rows.failed, "more"]},
        lambda rows: {"accounts": structs.replace(rows.accounts, ids=[*rows.accounts.ids[:-1], "other"])},
    ],
)
def test_another_value_anywhere_is_another_digest(change: object) -> None:
    rows = segments(2, 20)[0]
    assert callable(change)

    changed = structs.replace(rows, **change(rows))

    start = genesis(CLUSTER)
    assert segment_of(rows).digest(start) == segment_of(rows).digest(start)
    assert segment_of(changed).digest(start) != segment_of(rows).digest(start)


def test_texts_cut_in_another_place_are_another_digest() -> None:
    rows = segments(2, 20)[0]
    shifted = structs.replace(rows, failed=["ab", "c"])

    assert segment_of(structs.replace(rows, failed=["a", "bc"])).digest(b"") != segment_of(shifted).digest(b"")


def test_each_segment_carries_the_digest_of_the_one_before() -> None:
    disk = SimDisk()
    archive = sealed(disk, segments(3, 10, 10, 10))

    cuts = [header.cut for header in archive.sealed.headers]

    assert [cut.previous for cut in cuts] == [genesis(CLUSTER), cuts[0].digest, cuts[1].digest]
    assert all(
        cut.digest[:16].hex() in file.name
        for cut in cuts
        for file in archive.files
        if f"-{cut.number:08d}" in file.name
    )


def test_a_segment_of_another_history_is_not_counted() -> None:
    disk, other = SimDisk(), SimDisk()
    sealed(disk, segments(3, 10, 10))
    sealed(other, segments(4, 10, 10))
    for name in names(disk):
        if name.startswith("00000001"):
            disk.remove(f"archive/{name}")
    for name in names(other):
        if name.startswith("00000001"):
            disk.create(f"archive/{name}").pwrite(read_whole(other, f"archive/{name}"), 0)

    assert opened(disk).segments == 1


def test_a_segment_that_lacks_a_file_is_not_counted_and_can_be_sealed_again() -> None:
    disk, rows = SimDisk(), segments(3, 10, 10, 10)
    sealed(disk, rows)
    disk.remove(f"archive/{next(name for name in names(disk) if name.startswith('00000001') and 'failed' in name)}")

    archive = opened(disk)

    assert archive.segments == 1
    run(archive.seal(rows[1]))
    run(archive.seal(rows[2]))
    assert opened(disk).segments == 3


def test_what_is_sealed_already_is_only_compared() -> None:
    disk, rows = SimDisk(), segments(5, 10, 10)
    archive = sealed(disk, rows)
    before = disk.operations

    run(archive.seal(rows[0]))

    assert disk.operations == before
    other = structs.replace(rows[0], time=rows[0].time + 1)
    with pytest.raises(CorruptionError, match="segment 0 on this disk is not what the log gives"):
        run(archive.seal(other))


def operations(rows: list[SegmentRows]) -> int:
    disk = SimDisk()
    archive = sealed(disk, rows[:-1])
    before = disk.operations
    run(archive.seal(rows[-1]))
    return disk.operations - before


@pytest.mark.parametrize("seed", range(3))
def test_power_may_fail_at_every_operation_of_sealing(seed: int) -> None:
    rows = segments(seed, 30, 30)
    for moment in range(operations(rows)):
        disk = SimDisk(seed * 1000 + moment)
        archive = sealed(disk, rows[:1])
        disk.interrupt(moment, PowerLossError())
        with pytest.raises(PowerLossError):
            run(archive.seal(rows[1]))
        disk.crash()

        again = opened(disk)

        assert again.segments in (1, 2)
        run(again.seal(rows[1]))
        assert again.segments == 2
        files = SealedFiles(again)
        wanted = [id_ for segment in rows for id_ in segment.ids + segment.failed if id_]
        assert files.find(wanted).keys() == set(wanted)
        assert not [name for folder in ("archive", "index") for name in disk.list(folder) if name.endswith(".tmp")]


def test_a_full_disk_changes_nothing_and_sealing_can_be_tried_again() -> None:
    rows = segments(6, 200, 200)
    disk = SimDisk()
    archive = sealed(disk, rows[:1])
    used, listed = (1 << 50) - disk.free_bytes(), names(disk)

    for room in (0, 1, 3000, 20_000, 40_000):
        disk.capacity_bytes = used + room
        with pytest.raises(DiskFullError):
            run(archive.seal(rows[1]))
        assert archive.segments == 1
    disk.capacity_bytes = 1 << 50
    run(archive.seal(rows[1]))

    assert archive.segments == 2
    assert set(listed) <= set(names(disk))


def test_derived_files_that_are_lost_are_made_again() -> None:
    disk, rows = SimDisk(), segments(7, 40, 0, 40)
    sealed(disk, rows)
    for name in disk.list("index"):
        disk.remove(f"index/{name}")

    archive = opened(disk)

    assert archive.segments == 3
    wanted = [id_ for segment in rows for id_ in segment.ids + segment.failed if id_]
    assert SealedFiles(archive).find(wanted).keys() == set(wanted)
    assert [name for name in disk.list("index") if name.endswith(".lookup")]


def test_fetched_segments_count_once_they_are_taken_in() -> None:
    leader, follower, rows = SimDisk(1), SimDisk(2), segments(8, 30, 40, 50)
    whole = sealed(leader, rows)
    archive = sealed(follower, rows[:1])
    for file in whole.files:
        if not follower.exists(file.name):
            follower.create(file.name).pwrite(read_whole(leader, file.name), 0)

    run(archive.take_in())

    assert archive.segments == 3
    assert [file.name for file in archive.files] == [file.name for file in whole.files]
    assert SealedFiles(archive).find(rows[2].ids).keys() == {id_ for id_ in rows[2].ids if id_}


def test_a_changed_segment_is_said_when_its_derived_files_are_made() -> None:
    disk, rows = SimDisk(), segments(9, 60)
    archive = sealed(disk, rows)
    forged = segment_of(rows[0])
    forged.transfers.numbers["amount"][3] += 1
    header = archive.sealed.headers[0]
    name = chain.file_name(header.cut, "transfers")
    data, _ = archive.store.encode(forged.transfers, chain.about(header.cut))
    for lost in (name, chain.lookup_name(header.cut)):
        disk.remove(lost)
    disk.create(name).pwrite(data, 0)

    with pytest.raises(CorruptionError, match="the rows are not those that were sealed"):
        opened(disk)


@settings(STEADY, max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_derived_file_costs_time_and_no_answer(place: float, bit: int) -> None:
    disk, rows = FLIPPED
    name = f"index/{next(name for name in disk.list('index') if name.endswith('.lookup'))}"
    file = disk.open(name)
    disk.flip_bit(name, int(place * file.size()), bit)

    archive = opened(disk)

    wanted = [id_ for id_ in rows[0].ids + rows[0].failed if id_]
    assert SealedFiles(archive).find(wanted).keys() == set(wanted)


FLIPPED = SimDisk(), segments(10, 50)
sealed(*FLIPPED)


def test_a_file_of_a_newer_release_is_named_as_such() -> None:
    disk = SimDisk()
    archive = sealed(disk, segments(11, 10))
    header = archive.sealed.headers[0]
    name = chain.file_name(header.cut, "accounts")
    data, _ = archive.store.encode(
        segment_of(segments(11, 10)[0]).tables["accounts"], chain.about(header.cut) | {"raftpay_format": "9"}
    )
    for lost in (name, chain.lookup_name(header.cut)):
        disk.remove(lost)
    disk.create(name).pwrite(data, 0)

    with pytest.raises(StorageError, match=r"format version 9 found, 1 expected\. Run the release that wrote it"):
        opened(disk)
