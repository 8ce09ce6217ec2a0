"""What rots on the disk of a running node is found by its own passes, and put right: from memory, or from a peer."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from raftpay.archive.chain import lookup_name
from raftpay.archive.deep import check_archive
from raftpay.ledger import Transfer
from raftpay.ledger.window import WindowSizes
from raftpay.node import Node
from tests.node.cluster import STEADY, Client, Cluster, run_scenario, until
from tests.node.test_sealing import SIZES, pay, results_of, sealed, statement

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]
BUSY = "[scrub]\ninterval_s = 0.05\nrate_bytes_max = 1073741824\n"
# Passes only where a test says so: a node is damaged before it begins to look.
IDLE = "[scrub]\nrate_bytes_max = 0\n"


def flip(node: Node, name: str, offset: int) -> None:
    """Change a byte of a file behind the node's back."""
    with (node.node_config.data / name).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 0x10,)))


def bytes_of(node: Node, name: str) -> bytes:
    return (node.node_config.data / name).read_bytes()


async def passes(node: Node, count: int = 2) -> None:
    """Wait until the node has looked at all of its disk again, from beginning to end."""
    wanted = node.scrubbing.report.passes + count
    await until(lambda: node.scrubbing.report.passes >= wanted)


async def mended(node: Node, count: int = 1) -> None:
    """At least so many files, each as often as it was found."""
    await until(lambda: node.scrubbing.report.repaired >= count and not node.scrubbing.damaged)
    assert node.scrubbing.report.found == node.scrubbing.report.repaired


async def begin(cluster: Cluster, payments: int = 400, sizes: WindowSizes = SIZES) -> Client:
    await cluster.start(sizes=sizes)
    client = await cluster.client(await cluster.leader())
    await client.create_accounts("alice", "bob")
    await pay(client, 0, payments)
    return client


async def pay_much(client: Client, first: int) -> None:
    """Some two megabytes of payments."""
    for start in range(first, first + 10_000, 500):
        batch = [Transfer(f"t{i}", "alice", "bob", 1, reference="x" * 140) for i in range(start, start + 500)]
        assert not any(await results_of(client, *batch))


def place_of(node: Node, index: int) -> tuple[str, int]:
    """A byte in the payload of an entry."""
    segment = node.journal._segment_of(index)
    return segment.file.name, segment.offset_of(index) + 60


def test_an_entry_that_rots_is_written_again_from_memory(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            await begin(cluster)
            for node in cluster.nodes.values():
                before = node.journal.entry(5)
                name, offset = place_of(node, 5)

                flip(node, name, offset)
                flip(node, name, place_of(node, 6)[1])
                await mended(node)

                assert [node.journal.is_whole(index) for index in (5, 6)] == [True, True]
                assert node.journal.entry(5) == before
                assert node.journal.synced_index == node.journal.last_index

    run_scenario(scenario)


def test_an_entry_that_is_in_memory_no_more_is_fetched_from_a_peer(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(STEADY + BUSY, start=False) as cluster:
            await begin(cluster)
            away = (await cluster.followers())[0]
            await cluster.close_node(away)
            await cluster.start(away.name, sizes=SIZES)
            back = cluster.nodes[away.name]
            await until(lambda: back.raft.commit_index > 8)
            assert back.journal.payload_in_memory(6) is None
            name, offset = place_of(back, 6)
            before = bytes_of(back, name)

            flip(back, name, offset)
            flip(back, name, 30)  # The header of the segment.
            await mended(back)
            await cluster.close_node(back)

            assert len(bytes_of(back, name)) == len(before)
            await cluster.start(back.name, sizes=SIZES)
            again = cluster.nodes[back.name]
            await until(lambda: again.raft.applied_index >= 10)
            assert "cut a torn tail" not in str(again.journal.recovery)
            assert again.journal.last_index >= back.journal.last_index
            leader = await cluster.leader()
            await until(lambda: again.ledger.state_digest() == leader.ledger.state_digest())

    run_scenario(scenario)


def test_a_peer_with_the_same_damage_gives_nothing_and_the_next_one_is_asked(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(STEADY + BUSY, start=False) as cluster:
            client = await begin(cluster, 100)
            followers = await cluster.followers()
            for node in followers:
                await cluster.close_node(node)
                await cluster.start(node.name, sizes=SIZES)
            await client.call("trial_balance")
            backs = [cluster.nodes[node.name] for node in followers]
            await until(lambda: all(node.raft.commit_index > 6 for node in backs))

            for node in backs:
                flip(node, *place_of(node, 4))
            for node in backs:
                await mended(node)

            leader = await cluster.leader()
            assert [node.journal.entry(4) for node in backs] == [leader.journal.entry(4)] * 2

    run_scenario(scenario)


def test_an_entry_that_nobody_has_any_more_is_compacted_away(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        settings = STEADY + "[journal]\nsegment_bytes = 1048576\nreserve_bytes = 0\n"
        async with run_cluster(settings + BUSY, start=False) as cluster:
            client = await begin(cluster)
            followers = await cluster.followers()
            # All in memory is gone but the leader's; and the leader's is too, by the next line.
            for node in [*followers, await cluster.leader()]:
                await cluster.close_node(node)
            await cluster.start(sizes=SIZES)
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await until(lambda: all(node.raft.commit_index > 8 for node in cluster.nodes.values()))

            for node in cluster.nodes.values():
                flip(node, *place_of(node, 4))
            await until(lambda: all(node.scrubbing.damaged for node in cluster.nodes.values()))
            assert "no peer has given" in leader.scrubbing.damaged[0]
            # The file is full after some more, and goes.
            await pay_much(client, 400)
            await until(lambda: not any(node.scrubbing.damaged for node in cluster.nodes.values()))

            assert all(node.journal.first_index > 4 for node in cluster.nodes.values())
            assert all(not node.raft.failure.done() for node in cluster.nodes.values())

    run_scenario(scenario)


def test_a_damaged_snapshot_is_made_anew(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        settings = "[snapshot]\nlog_bytes_max = 65536\ntail_bytes = 0\n" + BUSY
        async with run_cluster(settings, start=False) as cluster:
            await begin(cluster, 3000)
            nodes = list(cluster.nodes.values())
            await until(lambda: all(node.raft.snapshot_index > 1 for node in nodes))
            for node in nodes:
                await until(lambda node=node: not node.raft.snapshots.is_writing)
                newest = node.snapshots.newest
                assert newest is not None

                flip(node, newest.name, newest.size_bytes // 2)
                await mended(node)

                made = node.snapshots.newest
                assert made is not None
                assert made.index >= newest.index
                for _ in node.snapshots.check(made):
                    continue

    run_scenario(scenario)


@pytest.mark.parametrize("place", [0, 1000])
def test_a_damaged_segment_of_history_is_fetched_from_a_peer(run_cluster: RunCluster, place: int) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            client = await begin(cluster)
            await until(sealed(cluster, 3))
            lines = await statement(client)
            for node in cluster.nodes.values():
                file = next(file for file in node.archive.files if file.name.endswith("-transfers.parquet"))
                before = bytes_of(node, file.name)

                flip(node, file.name, place)
                await mended(node)

                assert bytes_of(node, file.name) == before
                found = check_archive(node.archive.disk, cluster.config.cluster_id, node.archive.store)
                assert [finding.problems for finding in found] == [[]] * node.archive.segments
                assert not list((node.node_config.data / "archive").glob("*.tmp"))
            assert await statement(client) == lines

    run_scenario(scenario)


def test_a_peer_whose_copy_is_damaged_too_is_passed_over(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(IDLE, start=False) as cluster:
            await begin(cluster)
            await until(sealed(cluster, 3))
            nodes = list(cluster.nodes.values())
            file = nodes[0].archive.files[0]
            before = bytes_of(nodes[0], file.name)
            # The one that is asked last has the only whole copy.
            asked = [peer.name for peer in nodes[0].raft.peers()]
            flip(nodes[0], file.name, 100)
            flip(cluster.nodes[asked[0]], file.name, 200)

            scrubbing = nodes[0].scrubbing
            scrubbing._config = type(scrubbing._config)(interval_s=0.05, rate_bytes_max=1 << 30)
            scrubbing.start()
            await mended(nodes[0])

            assert bytes_of(nodes[0], file.name) == before

    run_scenario(scenario)


def test_a_file_of_history_that_is_gone_comes_back(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            await begin(cluster)
            await until(sealed(cluster, 3))
            node = await cluster.leader()
            file = node.archive.files[0]
            before = bytes_of(node, file.name)

            node.archive.disk.remove(file.name)
            await mended(node)

            assert bytes_of(node, file.name) == before

    run_scenario(scenario)


def test_rows_that_another_release_has_packed_otherwise_are_taken(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            client = await begin(cluster)
            await until(sealed(cluster, 3))
            node = await cluster.leader()
            header = node.archive.sealed.headers[0]
            name = next(file.name for file in header.files if file.name.endswith("-transfers.parquet"))
            # The same rows, behind a row group of another size, are other bytes: both peers have these.
            from raftpay.archive import chain, parquet  # noqa: PLC0415  only here

            columns = node.archive._shelf.segment(header.cut).transfers
            patched = parquet._FORMAT.replace("zstd", "snappy")
            format_, parquet._FORMAT = parquet._FORMAT, patched  # type: ignore[misc]  # put back below
            try:
                data, _ = node.archive.store.encode(columns, chain.about(header.cut))
            finally:
                parquet._FORMAT = format_  # type: ignore[misc]  # as above
            for other in cluster.nodes.values():
                if other is not node:
                    other.scrubbing.stop()
                    (other.node_config.data / name).write_bytes(data)

            flip(node, name, 50)
            await mended(node)

            assert bytes_of(node, name) == data
            assert next(file for file in node.archive.files if file.name == name).size_bytes == len(data)
            assert len(await statement(client)) == 400
            found = node.scrubbing.report.found
            await passes(node)
            assert node.scrubbing.report.found == found

    run_scenario(scenario)


def test_what_is_derived_is_made_again(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            client = await begin(cluster)
            await until(sealed(cluster, 4))
            node = await cluster.leader()
            await passes(node)
            names = [lookup_name(node.archive.sealed.headers[0].cut), node.archive.derived[-1]]
            assert names[1].endswith(".run")
            before = [bytes_of(node, name) for name in names]

            for count, name in enumerate(names, start=1):
                flip(node, name, 5000 % len(before[count - 1]))
                await mended(node, count)

            assert [bytes_of(node, name) for name in names] == before
            assert len(await statement(client)) == 400

    run_scenario(scenario)


def test_what_compaction_removes_is_no_damage(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        settings = "[journal]\nsegment_bytes = 1048576\nreserve_bytes = 0\n"
        settings += "[snapshot]\nlog_bytes_max = 65536\ntail_bytes = 0\n"
        async with run_cluster(settings + BUSY, start=False) as cluster:
            client = await begin(cluster, 100)
            await pay_much(client, 100)
            await until(lambda: all(node.journal.first_index > 1 for node in cluster.nodes.values()))

            for node in cluster.nodes.values():
                await passes(node)
                assert node.scrubbing.report.found == 0
                assert not node.raft.failure.done()

    run_scenario(scenario)


def test_the_status_says_what_was_found(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(BUSY, start=False) as cluster:
            client = await begin(cluster)
            node = await cluster.leader()
            await until(sealed(cluster, 4))
            await passes(node)
            for other in cluster.nodes.values():
                if other is not node:
                    other.scrubbing.stop()
                    other.archive.disk.remove(node.archive.files[0].name)
            flip(node, node.archive.files[0].name, 20)
            await until(lambda: node.scrubbing.damaged)
            await passes(node)

            scrub = (await client.call("status"))["scrub"]

            assert (scrub["found"], scrub["repaired"]) == (1, 0)
            assert scrub["passes"] > 0
            assert scrub["last_pass_bytes"] > 1000
            assert scrub["last_pass_ended"] > 10**18
            assert scrub["damaged"] == [f"{node.archive.files[0].name}: no peer has given a whole copy"]

    run_scenario(scenario)
