"""Real processes: a node that was away while the log was compacted past what it has comes back by a snapshot."""

import os
import signal
import time
from pathlib import Path

import pytest

from raftpay.client import Client
from raftpay.ledger.types import Account, Transfer
from raftpay.ops.check import check_books
from raftpay.ops.local import LocalCluster

DEADLINE_S = 60.0
BATCH = 2000
# A journal file of 1 MiB, a snapshot every 512 KiB, and nothing kept for those that lag a little. A slow fetch, so that
# the follower can be killed within it.
SMALL = """
[journal]
segment_bytes = 1048576

[snapshot]
log_bytes_max = 524288
tail_bytes = 0
fetch_rate_bytes_max = {}
"""


def write_until_compacted(client: Client, cluster: LocalCluster, past: int) -> int:
    """Write until the first file of the leader's journal begins after that entry. Returns how many were written."""
    written, end_s = 0, time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        batch = [Transfer(f"t{past}-{written + n}", "a", "b", 1) for n in range(BATCH)]
        client.create_transfers(batch)
        written += BATCH
        leader = cluster.wait_leader()
        files = cluster.config.nodes[leader].data / "journal"
        first = min(files.glob("*.seg")).read_bytes()[:512]
        status = cluster.probe(leader)
        if int.from_bytes(first[28:36], "little") > past + 1 and status is not None and status.snapshot_index > past:
            return written
    raise AssertionError("the log is not compacted")


def wait_level(cluster: LocalCluster, name: str) -> None:
    """Until the node has applied what the leader has committed."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        leader, node = cluster.probe(cluster.wait_leader()), cluster.probe(name)
        if leader is not None and node is not None and node.applied_index == leader.commit_index:
            return
    raise AssertionError(f"{name} does not catch up")


@pytest.mark.parametrize("is_wiped", [False, True], ids=["away", "wiped"])
def test_a_node_that_was_away_past_compaction_catches_up_by_snapshot(tmp_path: Path, *, is_wiped: bool) -> None:
    with (
        LocalCluster(tmp_path, settings=SMALL.format(32 << 20)) as cluster,
        Client(cluster.addresses, deadline_s=30) as client,
    ):
        client.create_accounts([Account("a", "EUR"), Account("b", "EUR")])
        leader = cluster.wait_leader()
        victim = next(name for name in cluster.names if name != leader)
        applied = cluster.wait_answer(victim).applied_index
        cluster.kill(victim)
        write_until_compacted(client, cluster, applied)
        data = cluster.config.nodes[victim].data
        if is_wiped:
            for file in sorted(data.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()

        cluster.start_node(victim)
        wait_level(cluster, victim)

        assert cluster.wait_answer(victim).snapshot_index > applied
        books = check_books(dict(zip(cluster.names, cluster.addresses, strict=True)), deadline_s=30)
        assert (books.unreachable, books.is_balanced, books.has_equal_digests) == ([], True, True)


def test_a_node_killed_within_a_fetch_goes_on_with_it_and_then_restarts_from_its_snapshot(tmp_path: Path) -> None:
    with (
        LocalCluster(tmp_path, settings=SMALL.format(300_000)) as cluster,
        Client(cluster.addresses, deadline_s=30) as client,
    ):
        client.create_accounts([Account("a", "EUR"), Account("b", "EUR")])
        leader = cluster.wait_leader()
        victim = next(name for name in cluster.names if name != leader)
        applied = cluster.wait_answer(victim).applied_index
        cluster.kill(victim)
        write_until_compacted(client, cluster, applied)
        folder = cluster.config.nodes[victim].data / "snapshots"
        cluster.start_node(victim)
        end_s = time.monotonic() + DEADLINE_S
        while not (parts := [part for part in folder.glob("*.part") if part.stat().st_size]):
            assert time.monotonic() < end_s, "nothing is fetched"

        os.kill(cluster.pid(victim) or 0, signal.SIGKILL)
        have = parts[0].stat().st_size
        cluster.kill(victim)
        cluster.start_node(victim)
        wait_level(cluster, victim)

        assert have > 0
        assert f"have={have}" in cluster.log_path(victim).read_text()
        cluster.kill(victim)
        cluster.start_node(victim)
        assert cluster.wait_answer(victim).applied_index > applied
        wait_level(cluster, victim)
        books = check_books(dict(zip(cluster.names, cluster.addresses, strict=True)), deadline_s=30)
        assert (books.unreachable, books.is_balanced, books.has_equal_digests) == ([], True, True)
