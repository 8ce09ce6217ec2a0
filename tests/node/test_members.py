"""Members that come and go under a real client, over real sockets and disks."""

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from raftpay.client import AsyncClient, Rejected
from raftpay.config import ClusterConfig, NodeConfig
from raftpay.ledger import Account, Transfer
from raftpay.node import Node
from raftpay.ops.ports import free_ports
from tests.node.cluster import Cluster, run_scenario, until

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]


def with_n4(config: ClusterConfig) -> ClusterConfig:
    """The same cluster file with a section for a node that joins."""
    peer, client = (f"127.0.0.1:{port}" for port in free_ports(2))
    n4 = NodeConfig("n4", peer, client, config.node("n1").data.with_name("n4"), joins=True)
    return replace(config, nodes={**config.nodes, "n4": n4})


async def client_of(cluster: Cluster) -> AsyncClient:
    client = AsyncClient([node.client for node in cluster.config.nodes.values()], deadline_s=20)
    await client.create_accounts([Account("alice", "EUR"), Account("bob", "EUR")])
    return client


def test_a_node_is_added_and_the_leader_removed_while_money_moves(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await client_of(cluster)
            await client.create_transfers([Transfer("t1", "alice", "bob", 1)])
            config = with_n4(cluster.config)
            n4 = cluster.nodes["n4"] = await Node.start(config, "n4")

            await client.add_member("n4", peer=config.node("n4").peer, client=config.node("n4").client)
            await until(lambda: n4.raft.is_voter)
            leader = await cluster.leader()
            await client.remove_member(leader.name)
            await client.create_transfers([Transfer("t2", "alice", "bob", 2)])

            members = await client.members(address=config.node("n4").client)
            assert sorted(member.name for member in members.members) == sorted({"n1", "n2", "n3", "n4"} - {leader.name})
            await until(lambda: n4.ledger.transfer_count == 2)
            await leader.stop()
            del cluster.nodes[leader.name]
            assert (await client.create_transfers([Transfer("t3", "alice", "bob", 3)]))[0].is_ok
            await client.close()

    run_scenario(scenario)


def test_a_node_whose_directory_was_lost_comes_back_with_everything(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await client_of(cluster)
            await client.create_transfers([Transfer(f"t{number}", "alice", "bob", 1) for number in range(50)])
            lost = (await cluster.followers())[0]
            await lost.stop()
            shutil.rmtree(lost.node_config.data)

            again = cluster.nodes[lost.name] = await Node.start(cluster.config, lost.name)
            await until(lambda: again.raft.is_voter and again.ledger.transfer_count == 50)

            assert again.ledger.state_digest() == (await cluster.leader()).ledger.state_digest()
            await client.close()

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("name", "peer", "reason"),
    [
        ("n 4", "127.0.0.1:1", 'name: found "n 4"'),
        ("n4", "10.0.0.1:1", "peer: .*loopback"),
        ("n4", "nowhere", "peer: .*host:port"),
        ("n2", "127.0.0.1:1", "n2 is a member already"),
    ],
)
def test_a_member_that_cannot_be_is_refused_with_the_reason(
    run_cluster: RunCluster, name: str, peer: str, reason: str
) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await client_of(cluster)

            with pytest.raises(Rejected, match=reason):
                await client.add_member(name, peer=peer, client="127.0.0.1:2")
            await client.close()

    run_scenario(scenario)
