"""History is sealed beside the loop and leaves the memory; no answer changes, over restarts and snapshots."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from msgspec import structs

from raftpay.archive.archive import Archive
from raftpay.archive.deep import check_archive
from raftpay.archive.files import read_whole
from raftpay.archive.history import SealedFiles
from raftpay.archive.plain_store import PlainStore
from raftpay.errors import CorruptionError, StorageError
from raftpay.ledger import (
    Account,
    Command,
    CreateAccounts,
    CreateTransferResult,
    CreateTransfers,
    Ledger,
    Transfer,
    TransferFlag,
)
from raftpay.ledger.window import WindowSizes
from raftpay.node import Node
from raftpay.node.sealing import Sealing
from raftpay.ops.deep_check import DeepCheck, SeenBooks, check_deeply
from raftpay.storage.sim_disk import SimDisk
from raftpay.storage.snapshots import Steps
from tests.node.cluster import DEADLINE_S, STEADY, Client, Cluster, run_scenario, until
from tests.raft.lab import run_at_once

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]
SIZES = WindowSizes(block_entries=20, segment_entries=100)
EXISTS = int(CreateTransferResult.EXISTS)
OTHER_AMOUNT = int(CreateTransferResult.EXISTS_WITH_DIFFERENT_AMOUNT)
FAILED = int(CreateTransferResult.ID_ALREADY_FAILED)


async def pay(client: Client, first: int, last: int, *, per_request: int = 25) -> None:
    """alice pays bob 1 so many times, under the ids t0, t1, ..."""
    for start in range(first, last, per_request):
        batch = [Transfer(f"t{i}", "alice", "bob", 1) for i in range(start, min(start + per_request, last))]
        _, results = await client.result(client.send_transfers(*batch))
        assert results == bytes(len(batch))


async def results_of(client: Client, *transfers: Transfer) -> list[int]:
    _, results = await client.result(client.send_transfers(*transfers))
    return list(results)


async def statement(client: Client) -> list[Any]:
    """bob's balance after each transfer, page by page."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await client.call("account_balances", {"account_id": "bob", "limit": 70, "cursor": cursor}, "local")
        found += page["items"]
        cursor = page["cursor"]
        if not cursor:
            return found


def sealed_transfers(node: Node) -> list[Transfer]:
    """As they were sent: the first, a middle and the last one of the first, the middle and the last sealed segment."""
    segments = node.archive.segments
    found = []
    for number in (0, segments // 2, segments - 1):
        lookup = node.archive.lookup(number)
        places = (0, len(lookup) // 2, len(lookup) - 1)
        texts = zip(lookup.ids(places), lookup.references(places), strict=True)
        found += [Transfer(id_, "alice", "bob", 1, reference=reference) for id_, reference in texts]
    return found


async def check_sealed_are_refused(client: Client, node: Node) -> None:
    """Sent once more as they were, and with another amount."""
    old = sealed_transfers(node)
    assert len({transfer.id for transfer in old}) == 9

    results = await results_of(client, *old, *(structs.replace(transfer, amount=2) for transfer in old))

    assert results == [EXISTS] * 9 + [OTHER_AMOUNT] * 9


def sealed(cluster: Cluster, count: int) -> Callable[[], bool]:
    return lambda: all(node.archive.segments >= count for node in cluster.nodes.values())


def test_sealed_ids_are_refused_and_sealed_transfers_are_found(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start(sizes=SIZES)
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")
            assert await results_of(client, Transfer("f", "nobody", "bob", 1)) != [0]
            await pay(client, 0, 1000)
            await until(sealed(cluster, 9))

            again = await results_of(
                client,
                Transfer("t0", "alice", "bob", 1),
                Transfer("t500", "alice", "bob", 2),
                Transfer("t999", "alice", "bob", 1),
                Transfer("f", "alice", "bob", 1),
                Transfer("r", "", "", None, flags=int(TransferFlag.REVERSAL), target_id="t3"),
            )
            (old,) = await client.call("lookup_transfers", ["t7"])
            lines = await statement(client)

            assert again == [EXISTS, OTHER_AMOUNT, EXISTS, FAILED, 0]
            assert (old["id"], old["amount"], old["debit_account"]) == ("t7", 1, "alice")
            assert [line["credits_posted"] for line in lines[:1000]] == list(range(1, 1001))
            digests = {node.archive.sealed.headers[8].cut.digest for node in cluster.nodes.values()}
            assert len(digests) == 1

    run_scenario(scenario)


def test_ids_of_all_the_past_are_refused_in_the_middle_of_a_load(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(STEADY, start=False) as cluster:
            await cluster.start(sizes=SIZES)
            leader = await cluster.leader()
            payer, other = await cluster.client(leader), await cluster.client(leader)
            await payer.create_accounts("alice", "bob")
            is_enough = False

            async def pay_on() -> int:
                paid = 0
                while not is_enough:
                    await pay(payer, paid, paid + 25)
                    paid += 25
                return paid

            load = asyncio.create_task(pay_on())
            for count in (3, 6, 9, 12):
                await until(sealed(cluster, count))
                await check_sealed_are_refused(other, leader)
                assert not load.done()
            is_enough = True
            paid = await load

            (bob,) = await other.call("lookup_accounts", ["bob"])
            assert bob["credits_posted"] == paid

    run_scenario(scenario)


def test_the_disks_of_running_nodes_give_the_books_that_they_have(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(STEADY, start=False) as cluster:
            await cluster.start(sizes=SIZES)
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            await pay(client, 0, 300)
            await until(sealed(cluster, 2))
            asked = await client.call("state_digest")
            running = SeenBooks(asked["index"], {leader.name: asked["digest"]})
            paths = {name: node.node_config.data for name, node in cluster.nodes.items()}

            def check() -> DeepCheck:
                return check_deeply(paths, told=lambda _: None, running=running, sizes=SIZES)

            paying = asyncio.create_task(pay(client, 300, 600))
            checked = await asyncio.to_thread(check)
            await paying

            assert (checked.differences, [archive.problems for archive in checked.archives]) == ([], [[], [], []])
            for archive in checked.archives:
                assert archive.replay is not None
                if archive.node == leader.name:
                    assert archive.replay.common is not None

    run_scenario(scenario)


def test_a_node_starts_again_with_what_is_sealed(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start(sizes=SIZES)
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")
            await pay(client, 0, 600)
            await until(sealed(cluster, 5))
            before = (await client.call("state_digest"))["digest"]
            for node in list(cluster.nodes.values()):
                await cluster.close_node(node)

            await cluster.start(sizes=SIZES)
            leader = await cluster.leader()
            client = await cluster.client(leader)

            assert (await client.call("state_digest"))["digest"] == before
            await check_sealed_are_refused(client, leader)
            # What was replayed leaves the memory with the commands that follow.
            await until(lambda: not leader.ledger.segments())
            await pay(client, 600, 1000)
            await until(sealed(cluster, 9))
            await check_sealed_are_refused(client, leader)
            for node in cluster.nodes.values():
                found = list(check_archive(node.archive.disk, cluster.config.cluster_id, node.archive.store))
                assert [finding.problems for finding in found] == [[]] * len(found)

    run_scenario(scenario)


COMPACTING = (
    "[journal]\nsegment_bytes = 1048576\nreserve_bytes = 0\n[snapshot]\nlog_bytes_max = 262144\ntail_bytes = 0\n"
)


def test_a_node_that_was_away_fetches_the_segments_that_it_lacks(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(COMPACTING, start=False) as cluster:
            sizes = WindowSizes(block_entries=200, segment_entries=2000)
            await cluster.start(sizes=sizes)
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")
            await pay(client, 0, 3000, per_request=500)
            await until(sealed(cluster, 1))
            away = (await cluster.followers())[0]
            had = {file.name for file in away.archive.files}
            await cluster.close_node(away)
            leader = await cluster.leader()
            for first in range(3000, 20_000, 500):
                batch = [Transfer(f"t{i}", "alice", "bob", 1, reference="x" * 140) for i in range(first, first + 500)]
                assert await results_of(client, *batch) == [0] * 500
            await until(lambda: leader.journal.first_index > 1 and sealed(cluster, 9)())

            await cluster.start(away.name, sizes=sizes)
            back = cluster.nodes[away.name]
            await until(lambda: back.raft.applied_index == leader.raft.applied_index)

            assert back.raft.snapshot_index > 1
            assert back.snapshots.newest is not None
            named = {file.name for file in back.snapshots.newest.header.files}
            assert had < named <= {file.name for file in back.archive.files}
            assert back.ledger.state_digest() == leader.ledger.state_digest()
            there = await cluster.client(back)
            assert len(await statement(there)) == 20_000
            found = await there.call("lookup_transfers", ["t1", "t2500", "t9000", "t19999"], "local")
            assert [item["id"] for item in found] == ["t1", "t2500", "t9000", "t19999"]

            # Without the third node there is nobody else to lead.
            third = next(node for node in cluster.nodes.values() if node not in (leader, back))
            await cluster.close_node(third)
            while (leads := await cluster.leader()) is not back:
                await leads.raft.transfer_leadership(DEADLINE_S)
            middle = back.archive.sealed.headers[back.archive.segments // 2]
            assert not had & {file.name for file in middle.files}, "it was fetched"
            await check_sealed_are_refused(there, back)

    run_scenario(scenario)


class Books:
    """A ledger of small segments over a simulated disk, and what seals it: at once, or when the test says so."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.archive = Archive.open(self.disk, "test", PlainStore())
        self.ledger = Ledger(SealedFiles(self.archive), sizes=WindowSizes(block_entries=5, segment_entries=20))
        self.now_s, self.time, self.paid = 0.0, 0, 0
        self.waiting: list[tuple[Steps, Callable[[StorageError | None], None]]] = []
        self.is_put_off = False
        self.sealing = Sealing(self.ledger, self.archive, self, lambda: self.now_s)
        self.apply(CreateAccounts([Account("alice", "EUR"), Account("bob", "EUR")]))

    def apply(self, request: CreateAccounts | CreateTransfers) -> None:
        self.ledger.apply(Command(self.time + 1, [request]))
        self.time += len(request.events)
        self.sealing.look()

    def pay(self, count: int) -> None:
        for _ in range(count):
            self.apply(CreateTransfers([Transfer(f"t{self.paid}", "alice", "bob", 1)]))
            self.paid += 1

    def run_steps(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        self.waiting.append((steps, done))
        if not self.is_put_off:
            self.go_on()

    def go_on(self) -> None:
        run_at_once(*self.waiting.pop(0))


def test_what_is_closed_is_sealed_and_leaves_the_memory() -> None:
    books = Books()

    books.pay(100)

    assert books.archive.segments == 5
    assert books.ledger.segments() == []


def test_a_full_disk_puts_sealing_off_and_it_goes_on_when_there_is_room() -> None:
    books = Books()
    books.disk.capacity_bytes = 100
    books.pay(50)
    operations = books.disk.operations

    books.pay(10)

    assert (books.archive.segments, len(books.ledger.segments())) == (0, 3)
    assert books.disk.operations == operations, "it is not tried again at once"
    books.disk.capacity_bytes = 1 << 40
    books.now_s += 10.0
    books.pay(1)
    assert (books.archive.segments, books.ledger.segments()) == (3, [])


def test_a_snapshot_that_takes_the_ledger_past_a_segment_while_it_is_sealed_does_no_harm() -> None:
    ahead, behind = Books(), Books()
    behind.is_put_off = True
    behind.pay(25)
    ahead.pay(70)
    for file in ahead.archive.files:
        behind.disk.create(file.name).pwrite(read_whole(ahead.disk, file.name), 0)

    for _ in behind.archive.take_in():
        continue
    behind.ledger.load(ahead.ledger.image().chunks())()
    behind.is_put_off = False
    behind.go_on()

    assert behind.archive.segments == 3
    assert behind.ledger.state_digest() == ahead.ledger.state_digest()
    behind.time, behind.paid = ahead.time, ahead.paid
    for books in (ahead, behind):
        books.pay(30)
    assert behind.ledger.state_digest() == ahead.ledger.state_digest()
    assert behind.archive.sealed.headers[-1].cut == ahead.archive.sealed.headers[-1].cut


def test_a_segment_that_differs_from_what_lies_sealed_stops_the_node() -> None:
    books, other = Books(), Books()
    other.pay(3)
    other.apply(CreateTransfers([Transfer("another", "alice", "bob", 5)]))
    other.pay(20)
    for folder in ("archive", "index"):
        for name in other.disk.list(folder):
            books.disk.create(f"{folder}/{name}").pwrite(read_whole(other.disk, f"{folder}/{name}"), 0)
    for _ in books.archive.take_in():
        continue

    with pytest.raises(CorruptionError, match="segment 0 on this disk is not what the log gives"):
        books.pay(25)
