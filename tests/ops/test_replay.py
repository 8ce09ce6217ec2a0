"""`check --deep`: books that are made again from snapshot and journal, beside what is sealed."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from raftpay.archive.archive import Archive
from raftpay.archive.history import SealedFiles
from raftpay.ledger import Account, Ledger, Transfer
from raftpay.ledger.image_format import AccountsPart, OpeningPart, Part, packed_message, read_image
from raftpay.ledger.window import WindowSizes
from raftpay.machine import CheckedRequest, Machine, build_command, check_create_accounts, check_create_transfers
from raftpay.ops.deep_check import DeepCheck, SeenBooks, check_deeply
from raftpay.raft.stock_engine import NO_OP, REGULAR
from raftpay.storage.directory import DataDirectory
from raftpay.storage.journal import Journal, JournalOptions
from raftpay.storage.records import cluster_hash
from raftpay.storage.snapshots import SnapshotHeader, SnapshotStore, Written
from raftpay_cli.root import root
from tests.archive.histories import STORE, run

CLUSTER = "pay-1"
SIZES = WindowSizes(block_entries=20, segment_entries=100)
OPTIONS = JournalOptions(segment_bytes=1 << 20, reserve_bytes=0, cluster_id=CLUSTER)
SNAPSHOT_AT = 28
# Of ten transfers each, behind the entry that opens the accounts: five segments end within them, the last but some.
PAYMENTS = 52
LAST = 2 + PAYMENTS
Change = Callable[[DataDirectory], None]


def commands() -> Iterator[bytes]:
    accounts = [Account(id, "EUR") for id in ("alice", "bob", "carol")]
    yield command(1_000, check_create_accounts(msgspec.msgpack.encode(accounts)))
    for n in range(PAYMENTS):
        batch = [Transfer(f"t{n}-{i}", "alice", "bob" if i % 2 else "carol", 7) for i in range(10)]
        yield command(10_000 * (n + 1), check_create_transfers(msgspec.msgpack.encode(batch)))


def command(time: int, request: CheckedRequest) -> bytes:
    return REGULAR + build_command(time, [request])


def node(path: Path, *, sizes: WindowSizes = SIZES, change: Change | None = None) -> Path:
    """The data directory of a node that has applied, sealed and compacted nothing away, and was stopped."""
    directory = DataDirectory.open(path, cluster_id=CLUSTER, node_name=path.name)
    journal = Journal.open(directory.disk, OPTIONS)
    archive = Archive.open(directory.disk, CLUSTER, STORE)
    snapshots = SnapshotStore.open(directory.disk, CLUSTER)
    ledger = Ledger(SealedFiles(archive), sizes=sizes)
    machine = Machine(ledger, archive)
    journal.append(1, 1, NO_OP)
    for index, payload in enumerate(commands(), 2):
        journal.append(index, 1, payload)
        machine.apply(index, payload[1:])
        for segment in ledger.segments():
            run(archive.seal(segment.rows()))
            ledger.drop_before(segment.number + 1)
        if index == SNAPSHOT_AT:
            image = machine.image()
            write_snapshot(snapshots, index, image.files, image.chunks())
            image.release()
    journal.sync()
    archive.close()
    journal.close()
    if change is not None:
        change(directory)
    directory.close()
    return path


def write_snapshot(snapshots: SnapshotStore, index: int, files: Iterable[Any], chunks: Iterable[bytes]) -> None:
    header = SnapshotHeader(cluster_hash(CLUSTER), index, 1, b"", list(files))
    run(snapshots.write(header, chunks, Written()))


def check(*paths: Path, sizes: WindowSizes = SIZES) -> DeepCheck:
    return check_deeply({path.name: path for path in paths}, told=lambda _: None, sizes=sizes)


def content(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_whole_node_is_replayed_and_left_as_it_is(tmp_path: Path) -> None:
    path = node(tmp_path / "n1")
    before = content(path)

    checked = check(path)

    (archive,) = checked.archives
    assert (archive.problems, checked.differences, len(archive.findings)) == ([], [], 5)
    assert archive.replay is not None
    # The snapshot has the cut behind segment 1, where its rows begin; the journal makes those of the others.
    assert (archive.replay.snapshot_index, archive.replay.last_index, archive.replay.compared) == (28, LAST, 4)
    assert SNAPSHOT_AT < archive.replay.committed_index < LAST
    assert content(path) == before


def mended(*kinds: type[Part]) -> Change:
    """A cent more on the debit side of alice, in these parts of the snapshot, whose crcs are right."""

    def changed(part: Part) -> Part:
        if isinstance(part, AccountsPart | OpeningPart) and isinstance(part, kinds):
            posted = bytearray(part.balances[1])
            posted[0] += 1
            return msgspec.structs.replace(part, balances=[part.balances[0], bytes(posted), *part.balances[2:]])
        return part

    def change(directory: DataDirectory) -> None:
        snapshots = SnapshotStore.open(directory.disk, CLUSTER)
        assert snapshots.newest is not None
        head, parts = read_image(list(snapshots.chunks(snapshots.newest)))
        chunks = [packed_message(head), *(packed_message(changed(part)) for part in parts)]
        write_snapshot(snapshots, SNAPSHOT_AT, snapshots.newest.header.files, chunks)

    return change


def rewritten(index: int) -> Change:
    """One amount in an entry of the journal is another one, and the crc is right."""

    def change(directory: DataDirectory) -> None:
        journal = Journal.open(directory.disk, OPTIONS)
        payload = journal.entry(index).payload
        assert payload.count(b"\x07") >= 10
        journal.rewrite(index, [payload.replace(b"\x07", b"\x08", 1)])
        journal.sync()
        journal.close()

    return change


def without_segment(number: int) -> Change:
    def change(directory: DataDirectory) -> None:
        for file in (directory.path / "archive").glob(f"{number:08d}-*"):
            file.unlink()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(mended(AccountsPart), "do not follow from the transfers", id="balance"),
        pytest.param(
            mended(AccountsPart, OpeningPart),
            "segment 1: the debits posted of 1 accounts at its end are not those that its rows come to, "
            f"the first of them 'alice': 1401 by the snapshot of entry {SNAPSHOT_AT}, 1400 by the rows",
            id="balance and opening",
        ),
        pytest.param(
            rewritten(SNAPSHOT_AT + 2), "its rows are not those that the journal up to entry 32 give", id="amount"
        ),
        pytest.param(without_segment(1), "which is not sealed here", id="segment"),
        pytest.param(without_segment(1), "-transfers.parquet is not there, and snapshots/", id="too few"),
    ],
)
def test_what_was_changed_is_said_though_the_crcs_are_right(tmp_path: Path, change: Change, said: str) -> None:
    checked = check(node(tmp_path / "n1", change=change))

    assert not checked.is_good
    assert any(said in problem for problem in checked.archives[0].problems), checked.archives[0].problems


def test_a_segment_that_was_not_sealed_yet_is_no_problem(tmp_path: Path) -> None:
    assert check(node(tmp_path / "n1", change=without_segment(4))).is_good


def test_an_entry_behind_all_that_is_sealed_must_be_the_same_on_all_nodes(tmp_path: Path) -> None:
    paths = [node(tmp_path / "n1"), node(tmp_path / "n2"), node(tmp_path / "n3", change=rewritten(LAST))]

    alone, together = check(paths[2]), check(*paths)

    assert alone.is_good
    assert together.differences == [
        f"1 entries of one index and term are not the same on n1 and n3, the first of them entry {LAST} of term 1",
        f"1 entries of one index and term are not the same on n2 and n3, the first of them entry {LAST} of term 1",
        f"the books behind entry {LAST} of term 1 are not the same on n1, n2 and n3",
    ]


def test_entries_of_two_terms_that_nobody_has_to_agree_on_are_no_difference(tmp_path: Path) -> None:
    def of_another_term(directory: DataDirectory) -> None:
        journal = Journal.open(directory.disk, OPTIONS)
        payload = journal.entry(LAST).payload
        journal.truncate_from(LAST)
        journal.append(LAST, 2, payload.replace(b"\x07", b"\x09"))
        journal.sync()
        journal.close()

    assert check(node(tmp_path / "n1"), node(tmp_path / "n2", change=of_another_term)).is_good


def test_what_a_running_node_has_in_memory_must_be_what_its_disk_gives(tmp_path: Path) -> None:
    path = node(tmp_path / "n1")
    directory = DataDirectory.open(path, cluster_id=CLUSTER, node_name="n1")

    try:
        (archive,) = check(path).archives
        assert archive.replay is not None
        assert archive.replay.common is not None
        _, digest = archive.replay.common
        same, other = (
            check_deeply({"n1": path}, told=lambda _: None, running=SeenBooks(LAST, {"n1": one}), sizes=SIZES)
            for one in (digest, "f" * len(digest))
        )
    finally:
        directory.close()

    assert (archive.problems, same.differences) == ([], [])
    assert other.differences == [
        f"n1: the books that it has in memory behind entry {LAST} are not those that its snapshot and its journal give"
    ]


def test_the_command_says_what_it_replayed_and_ends_with_1_on_a_changed_snapshot(tmp_path: Path) -> None:
    good = node(tmp_path / "good", sizes=WindowSizes())
    bad = node(tmp_path / "bad", sizes=WindowSizes(), change=mended(AccountsPart))

    whole = CliRunner().invoke(root, ["check", "--deep", "--data", str(good)])
    changed = CliRunner().invoke(root, ["check", "--deep", "--data", str(bad)])
    told = CliRunner().invoke(root, ["check", "--deep", "--data", str(good), "--json"])

    assert (whole.exit_code, changed.exit_code) == (0, 1)
    assert "Books made again from snapshot and journal" in whole.stdout
    assert "do not follow from the transfers" in " ".join(changed.stdout.split())
    (replayed,) = msgspec.json.decode(told.stdout)["history"]["nodes"]
    assert replayed["replay"] == {
        "snapshot_index": SNAPSHOT_AT,
        "last_index": LAST,
        "committed_index": SNAPSHOT_AT,
        "segments_compared": 0,
        "has_common_entry": True,
    }
