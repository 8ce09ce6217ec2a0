"""The deep check: a whole archive passes, and whatever is changed in it is said."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftpay.archive import chain
from raftpay.archive.archive import Archive
from raftpay.archive.columns import BALANCES, Segment, segment_of
from raftpay.archive.deep import check_archive
from raftpay.archive.files import read_whole
from raftpay.ledger.sealed import SegmentRows
from raftpay.storage.directory import DataDirectory
from raftpay.storage.sim_disk import SimDisk
from raftpay_cli.root import root
from tests.archive.histories import STORE, HistoryMaker, run

CLUSTER = "pay-1"
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def history(seed: int) -> list[SegmentRows]:
    maker = HistoryMaker(Random(seed))
    return [maker.segment(rows, failed=2, accounts=1) for rows in (60, 0, 80)]


def sealed(disk: SimDisk, rows: list[SegmentRows]) -> Archive:
    archive = Archive.open(disk, CLUSTER, STORE)
    for segment in rows:
        run(archive.seal(segment))
    return archive


def problems(disk: SimDisk) -> list[str]:
    return [problem for finding in check_archive(disk, CLUSTER, STORE) for problem in finding.problems]


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_archive_passes(seed: int) -> None:
    disk = SimDisk()
    sealed(disk, history(seed))

    findings = list(check_archive(disk, CLUSTER, STORE))

    assert [finding.cut.rows.last for finding in findings] == [60, 60, 140]
    assert problems(disk) == []


WHOLE = SimDisk()
sealed(WHOLE, history(1))


@settings(STEADY, max_examples=25)
@given(which=st.integers(0, 5), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_segment_is_said(which: int, place: float, bit: int) -> None:
    names = WHOLE.list("archive")
    name = f"archive/{names[which % len(names)]}"
    offset = int(place * WHOLE.open(name).size())

    WHOLE.flip_bit(name, offset, bit)

    try:
        assert any(name in problem for problem in problems(WHOLE))
    finally:
        WHOLE.flip_bit(name, offset, bit)
    assert problems(WHOLE) == []


def forged(change: Callable[[Segment], None], number: int = 2) -> SimDisk:
    """An archive in which a segment was changed by somebody who can compute digests, and sealed as the last one."""
    disk, rows = SimDisk(), history(1)
    archive = sealed(disk, rows[:number])
    segment = segment_of(rows[number])
    change(segment)
    previous = archive.sealed.headers[-1].cut.digest
    cut = chain.cut_of(segment, previous)
    for table in cut.tables:
        data, _ = STORE.encode(segment.tables[table], chain.about(cut))
        disk.create(chain.file_name(cut, table)).pwrite(data, 0)
    return disk


def set_number(column: str, row: int, value: int) -> Callable[[Segment], None]:
    def change(segment: Segment) -> None:
        numbers = segment.transfers.numbers
        numbers[column] = np.array(numbers[column])
        numbers[column][row] = value

    return change


def repeat_an_id(segment: Segment) -> None:
    segment.failed.texts["id"][0] = history(1)[0].ids[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_number("amount", 7, 5), "the balances after"),
        (
            set_number(BALANCES[1], 7, 5),
            "the balances after 1 rows do not follow from the rows, the first of them row 67",
        ),
        (set_number("debit", 7, 99), "a row names an account that was not opened"),
        (repeat_an_id, "1 ids were there before"),
    ],
)
def test_what_does_not_follow_is_said_even_where_the_digests_are_right(
    change: Callable[[Segment], None], said: str
) -> None:
    disk = forged(change)

    assert any(said in problem for problem in problems(disk)), problems(disk)


def test_a_target_of_another_amount_is_said() -> None:
    def change(segment: Segment) -> None:
        targeted = int(np.flatnonzero(segment.transfers.numbers["target_amount"])[0])
        set_number("target_amount", targeted, 10**7)(segment)

    assert any("do not fit the transfer that they settle or reverse" in problem for problem in problems(forged(change)))


def node(path: Path, name: str, seed: int) -> None:
    directory = DataDirectory.open(path / name, cluster_id=CLUSTER, node_name=name)
    archive = Archive.open(directory.disk, CLUSTER, STORE)
    for segment in history(seed):
        run(archive.seal(segment))
    archive.close()
    directory.close()


def raftpay(*words: str) -> Any:
    return CliRunner().invoke(root, words)


def test_the_command_compares_the_archives_of_several_nodes(tmp_path: Path) -> None:
    for name, seed in (("n1", 1), ("n2", 1), ("n3", 2)):
        node(tmp_path, name, seed)
    same = ["--data", str(tmp_path / "n1"), "--data", str(tmp_path / "n2")]

    good = raftpay("check", "--deep", *same)
    bad = raftpay("check", "--deep", *same, "--data", str(tmp_path / "n3"))

    assert good.exit_code == 0
    assert "its balances follow from its rows" in good.stdout
    assert bad.exit_code == 1
    assert "segment 0 is not the same on" in bad.stdout


def test_the_command_names_the_file_that_was_changed(tmp_path: Path) -> None:
    node(tmp_path, "n1", 1)
    victim = sorted((tmp_path / "n1" / "archive").iterdir())[-1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)

    result = raftpay("check", "--deep", "--data", str(tmp_path / "n1"), "--json")

    assert result.exit_code == 1
    assert victim.name in result.stdout
    assert '"is_good": false' in result.stdout


def test_data_without_deep_is_wrong_usage(tmp_path: Path) -> None:
    assert raftpay("check", "--data", str(tmp_path)).exit_code == 2
    nobodys = raftpay("check", "--deep", "--data", str(tmp_path))
    assert (nobodys.exit_code, nobodys.stdout) == (3, "")
    assert "it is no data directory of a node" in nobodys.stderr


def test_the_files_that_pass_are_left_as_they_are() -> None:
    before = {name: read_whole(WHOLE, f"archive/{name}") for name in WHOLE.list("archive")}

    problems(WHOLE)

    assert {name: read_whole(WHOLE, f"archive/{name}") for name in WHOLE.list("archive")} == before
