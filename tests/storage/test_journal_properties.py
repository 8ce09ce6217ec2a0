"""For any calls and power losses: what was synced is there, the rest is a clean prefix of what was written."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftpay.errors import DiskFullError, StorageError
from raftpay.storage.disk import RealDisk
from raftpay.storage.journal import Journal
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from tests.storage.twin import Bench

SIZES = st.one_of(st.integers(0, 200), st.integers(300, 2500), st.sampled_from([4096, 5000, 9000]))
APPEND = st.tuples(st.just("append"), SIZES, st.integers(0, 5))
OTHERS = st.tuples(
    st.sampled_from(["sync", "sync", "begin", "run", "complete", "truncate", "compact", "reset", "reopen"]),
    st.integers(0, 100),
    st.just(0),
)
STEPS = st.lists(st.one_of(APPEND, APPEND, APPEND, OTHERS), max_size=25)
LOSSES = st.lists(
    st.tuples(STEPS, st.integers(0, 30), st.lists(st.integers(0, 12), max_size=2)), min_size=1, max_size=3
)
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def do(bench: Bench, step: tuple[str, int, int]) -> None:
    """One call; numbers are folded into what is allowed."""
    name, number, kind = step
    twin = bench.twin
    if name == "append":
        bench.append(number, kind, term_step=kind % 2)
    elif name == "truncate":
        # Few from the end more often than many.
        bench.truncate(max(twin.first, twin.last + 1 - number % 12))
    elif name == "compact":
        bench.compact(twin.first - 1 + number % (twin.last - twin.first + 2))
    elif name == "reset":
        bench.reset(max(1, twin.last - 3 + number % 9), twin.term_at(twin.last) + number % 2)
    else:
        calls: dict[str, Callable[[], None]] = {
            "sync": bench.sync,
            "begin": bench.begin_sync,
            "run": bench.run_sync,
            "complete": bench.complete_sync,
            "reopen": bench.reopen,
        }
        calls[name]()


@settings(STEADY, max_examples=1500)
@given(losses=LOSSES, seed=st.integers(0, 2**32))
def test_what_was_synced_survives_any_power_loss_and_the_rest_is_a_clean_prefix(
    losses: list[tuple[list[tuple[str, int, int]], int, list[int]]], seed: int
) -> None:
    disk = SimDisk(seed)
    bench = Bench(disk)

    for steps, moment, again in losses:
        if moment:
            disk.interrupt(moment * len(steps) // 8, PowerLossError())
        with suppress(PowerLossError):
            for step in steps:
                do(bench, step)

        bench.recover(again)


@settings(STEADY, max_examples=40)
@given(steps=STEPS)
def test_on_a_real_disk_the_journal_equals_its_twin(steps: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as folder:
        bench = Bench(RealDisk(Path(folder)))

        for step in steps:
            do(bench, step)
        bench.check_content()
        bench.reopen()

        bench.journal.close()


def long_story(bench: Bench) -> None:
    """Every kind of change at least once: roll-over, a large entry, cuts within and over segments, compaction."""
    for size in (100, 700, 0, 900):
        bench.append(size)
    bench.sync()
    for size in (1500, 40, 9000, 300):
        bench.append(size, 2, term_step=1)
    bench.begin_sync()
    bench.append(2000, 1)
    bench.run_sync()
    bench.truncate(8)
    bench.complete_sync()
    bench.append(600, term_step=1)
    bench.truncate(3)
    for size in (200, 1200, 3000, 3000, 500):
        bench.append(size, term_step=1)
    bench.sync()
    bench.compact(6)
    bench.append(77)
    bench.truncate(7)
    bench.append(3900)
    bench.sync()
    bench.append(10)
    bench.begin_sync()
    bench.reset(40, 9)
    bench.run_sync()
    bench.complete_sync()
    for size in (100, 3000, 900):
        bench.append(size)
    bench.sync()
    bench.reset(41, 9)
    bench.append(20)
    bench.sync()


def operations_of_the_story() -> int:
    disk = SimDisk()
    bench = Bench(disk)
    before = disk.operations
    long_story(bench)
    return disk.operations - before


@pytest.mark.parametrize("seed", range(12))
def test_power_may_fail_at_every_single_operation(seed: int) -> None:
    for moment in range(operations_of_the_story()):
        disk = SimDisk(seed * 1000 + moment)
        bench = Bench(disk)
        disk.interrupt(moment, PowerLossError())

        with pytest.raises(PowerLossError):
            long_story(bench)

        bench.recover([moment % 7])
        bench.append(50, term_step=1)
        bench.sync()
        bench.reopen()


@pytest.mark.parametrize("error", [StorageError("Input/output error"), DiskFullError("no room")], ids=["eio", "full"])
def test_after_an_error_at_any_operation_nothing_more_is_acknowledged_or_all_goes_on(error: StorageError) -> None:
    for moment in range(operations_of_the_story()):
        disk = SimDisk(moment)
        bench = Bench(disk)
        disk.interrupt(moment, error)

        # A failed preparation is not told: the append that needs the segment makes it itself.
        with suppress(StorageError):
            long_story(bench)

        if bench.pending[0] == "append":
            bench.check_equal()
            bench.check_content()
            assert is_usable(bench.journal) == isinstance(error, DiskFullError)
        bench.journal.close()
        bench.recover([])


def is_usable(journal: Journal) -> bool:
    try:
        journal.begin_sync()
    except StorageError:
        return False
    return True


@settings(STEADY, max_examples=150)
@given(steps=STEPS, spare=st.integers(0, 12_000), seed=st.integers(0, 2**32))
def test_a_full_disk_refuses_appends_and_changes_nothing_else(
    steps: list[tuple[str, int, int]], spare: int, seed: int
) -> None:
    disk = SimDisk(seed, capacity_bytes=12_000 + spare)
    bench = Bench(disk)

    for step in steps:
        if step[0] == "reopen":
            continue
        try:
            do(bench, step)
        except DiskFullError:
            assert step[0] in ("append", "reset")
            bench.done()
            bench.check_content()
    disk.capacity_bytes = 1 << 40
    bench.append(9000)
    bench.sync()

    bench.reopen()


@settings(STEADY, max_examples=400)
@given(steps=STEPS, place=st.integers(0, 2**32), bit=st.integers(0, 7), is_lossy=st.booleans())
def test_a_flipped_bit_is_reported_or_harmless_and_never_returned(
    steps: list[tuple[str, int, int]], place: int, bit: int, is_lossy: bool
) -> None:
    disk = SimDisk(place)
    bench = Bench(disk)
    for step in steps:
        do(bench, step)
    if is_lossy:
        bench.recover([])
    bench.sync()
    bench.journal.close()
    names = [f"journal/{name}" for name in disk.list("journal")]
    name = names[place % len(names)]

    disk.flip_bit(name, place // 7 % disk.open(name).size(), bit)

    try:
        bench.journal = Journal.open(disk, bench.options)
    except StorageError:
        return
    bench.check_equal()
    bench.check_content()
