"""`python -m bench.history [--transfers 10000000]`: what a long history costs a durable three-node cluster.

Millions of transfers between 100,000 accounts; behind each million the rate, the memory of each node and the disk.
Then ids of the first, the middle and the last day sent again; a node stopped and started, killed and started; and one
that has lost its disk, fetching everything from its peers while another client goes on paying.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import Load, Transfers, open_accounts, run
from bench.measure import Measure
from raftpay.client import AsyncClient
from raftpay.client.answers import NodeStatus
from raftpay.ledger import CreateTransferResult
from raftpay.ledger.types import BATCH_EVENTS_MAX, Transfer
from raftpay.ops.check import check_books
from raftpay.ops.local import LocalCluster
from raftpay.ops.rebuild import put_aside

ACCOUNTS = 100_000
MILLION = 1_000_000
IN_FLIGHT = 2
RETURN_TIMEOUT_S = 600.0
# So many transfers are a little less log than makes a snapshot due.
BEHIND_SNAPSHOT = 250_000
QUIET_S = 10.0
REST_S = 4.0
# Single transfers of a few clients: what a shop sends while a node is rebuilt.
QUIET_TASKS = 8


def megabytes(size_bytes: int) -> int:
    return round(size_bytes / 1e6)


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take of the disk; one that goes meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def memory_mb(cluster: LocalCluster, field: str) -> list[int]:
    """Of each node, VmRSS (now) or VmHWM (the most there was), in MB."""
    found = []
    for name in cluster.names:
        lines = Path(f"/proc/{cluster.pid(name)}/status").read_text().splitlines()
        found.append(next(round(int(line.split()[1]) * 1024 / 1e6) for line in lines if line.startswith(field)))
    return found


def memory_at_rest_mb(cluster: LocalCluster) -> list[int]:
    """The same when nobody pays and all that is to be sealed has been."""
    time.sleep(REST_S)
    return memory_mb(cluster, "VmRSS")


def disk_mb(cluster: LocalCluster) -> dict[str, list[int]]:
    """Of each node, by what it is for."""
    parts = {"sealed": ("archive", "index"), "journal and snapshots": ("journal", "snapshots")}
    nodes = [cluster.config.node(name).data for name in cluster.names]
    return {
        part: [megabytes(sum(folder_bytes(data / folder) for folder in folders)) for data in nodes]
        for part, folders in parts.items()
    }


class Paid:
    """What was paid, and samples of it."""

    def __init__(self, total: int) -> None:
        self.transfers, self.total = Transfers(ACCOUNTS), total
        self.samples: dict[str, list[Transfer]] = {}
        self.count = 0

    def take(self) -> list[Transfer]:
        made = self.transfers.take(BATCH_EVENTS_MAX)
        self.count += len(made)
        for name, at in (("first", 0), ("middle", self.total // 2), ("last", self.total - len(made))):
            if name not in self.samples and self.count > at:
                self.samples[name] = made
        return made


async def pay_more(addresses: list[str], paid: Paid, count: int) -> float:
    """Pay so much more, and return the transfers per second."""
    began, started = paid.count, time.perf_counter()
    async with AsyncClient(addresses, deadline_s=60) as client:

        async def pay() -> None:
            while paid.count - began < count:
                outcomes = await client.create_transfers(paid.take())
                assert outcomes.are_ok, "a transfer was refused"

        await asyncio.gather(*(pay() for _ in range(IN_FLIGHT)))
    return (paid.count - began) / (time.perf_counter() - started)


async def send_again(addresses: list[str], paid: Paid) -> None:
    """Send ids of the first, middle and last batch again, as they were and with another amount."""
    async with AsyncClient(addresses, deadline_s=60) as client:
        for name, made in paid.samples.items():
            started = time.perf_counter()
            same = await client.create_transfers(made)
            took_ms = (time.perf_counter() - started) * 1000
            changed = [Transfer(t.id, t.debit_account, t.credit_account, (t.amount or 0) + 1) for t in made]
            other = await client.create_transfers(changed)
            assert set(same.numbers) == {CreateTransferResult.EXISTS}, name
            assert set(other.numbers) == {CreateTransferResult.EXISTS_WITH_DIFFERENT_AMOUNT}, name
            print(f"{len(made):,} ids of the {name} batch sent again: all refused, {took_ms:.0f} ms", flush=True)


def wait_back(cluster: LocalCluster, name: str, index: int) -> NodeStatus:
    """Wait until the node votes and has applied up to the index."""
    deadline = time.monotonic() + RETURN_TIMEOUT_S
    while time.monotonic() < deadline:
        status = cluster.probe(name)
        if status is not None and status.is_voter and status.leader and status.applied_index >= index:
            return status
        if name in cluster.died():
            raise RuntimeError(cluster.describe_death(name))
        time.sleep(0.02)
    raise RuntimeError(f"{name} was not back within {RETURN_TIMEOUT_S:.0f} s")


def follower_of(cluster: LocalCluster) -> str:
    leader = cluster.wait_ready()
    return next(name for name in cluster.names if name != leader)


@contextmanager
def timed(what: str, figures: dict[str, object]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    figures[what] = round(time.perf_counter() - started, 2)
    print(f"{what}: {figures[what]} s", flush=True)


def applied_index(cluster: LocalCluster) -> int:
    return cluster.wait_answer(cluster.wait_leader()).applied_index


def measure_restarts(cluster: LocalCluster, paid: Paid, figures: dict[str, object]) -> None:
    """The killed node has much to apply again: it is killed when nearly all is written that makes a snapshot due."""
    name = follower_of(cluster)
    cluster.stop_node(name)  # it takes a snapshot
    cluster.start_node(name)
    wait_back(cluster, name, applied_index(cluster))
    run(pay_more(cluster.addresses, paid, BEHIND_SNAPSHOT))
    index = applied_index(cluster)
    for how, end in (("SIGKILL", cluster.kill), ("a clean stop", cluster.stop_node)):
        wait_back(cluster, name, index)
        end(name)
        with timed(f"restart to voting after {how}", figures):
            cluster.start_node(name)
            wait_back(cluster, name, index)


async def pay_singly(addresses: list[str], until: asyncio.Event | None) -> Measure:
    """Single transfers of a few tasks, for some seconds or until the event."""
    transfers, load = Transfers(ACCOUNTS), Load(QUIET_S if until is None else RETURN_TIMEOUT_S)
    async with AsyncClient(addresses, deadline_s=60) as client:

        async def pay() -> None:
            while not load.is_over() and not (until and until.is_set()):
                made = transfers.take(1)
                started = time.perf_counter()
                await client.create_transfers(made)
                load.note(started, 1)

        await asyncio.gather(*(pay() for _ in range(QUIET_TASKS)))
    return load.result()


async def measure_rebuild(cluster: LocalCluster, figures: dict[str, object]) -> None:
    name, index = follower_of(cluster), applied_index(cluster)
    before = (await pay_singly(cluster.addresses, None)).summary()
    cluster.stop_node(name)
    put_aside(cluster.config, name, needs_leader=True)
    is_back = asyncio.Event()
    meanwhile = asyncio.create_task(pay_singly(cluster.addresses, is_back))
    with timed("a wiped node back", figures):
        cluster.start_node(name)
        await asyncio.to_thread(wait_back, cluster, name, index)
    is_back.set()
    during = (await meanwhile).summary()
    figures["latency_ms"] = {"before": before, "during": during}
    for when, found in (("before", before), ("meanwhile", during)):
        print(f"  one transfer {when}: p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms, worst {found['max_ms']} ms")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--transfers", type=int, default=10 * MILLION, help="how many (10,000,000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    figures: dict[str, object] = {}
    with (
        tempfile.TemporaryDirectory(prefix="raftpay-bench-", dir=Path.cwd()) as folder,
        LocalCluster(Path(folder) / "cluster") as cluster,
    ):
        cluster.wait_ready()
        run(open_accounts(cluster.addresses, ACCOUNTS))
        paid = Paid(arguments.transfers)
        rows: list[dict[str, object]] = []
        while paid.count < paid.total:
            rate = run(pay_more(cluster.addresses, paid, min(MILLION, paid.total - paid.count)))
            row: dict[str, object] = {
                "transfers": paid.count,
                "rate": round(rate),
                "memory_mb": memory_mb(cluster, "VmRSS"),
            }
            row["most_memory_mb"] = memory_mb(cluster, "VmHWM")
            if not rows or paid.count >= paid.total:
                row["memory_at_rest_mb"] = memory_at_rest_mb(cluster)
            rows.append(row | {"disk_mb": disk_mb(cluster)})
            print(rows[-1], flush=True)
        figures["millions"] = rows
        run(send_again(cluster.addresses, paid))
        measure_restarts(cluster, paid, figures)
        run(measure_rebuild(cluster, figures))
        check_books(dict(zip(cluster.names, cluster.addresses, strict=True)), deadline_s=120)
        print("books balanced, digests equal", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
