"""Real processes, really killed: random nodes of a loaded cluster die by SIGKILL, and nothing is lost."""

import asyncio
import random
from pathlib import Path

import pytest

from raftpay.client import AsyncClient
from raftpay.ops.local import LocalCluster
from tests.payers import Payers, check_every_node, open_accounts

KILLS = 20
# The load between two kills, in acknowledgements rather than in time, so that every kill meets a loaded cluster.
ACKNOWLEDGED_BETWEEN_KILLS = 300
DEADLINE_S = 240


async def kill_at_random(cluster: LocalCluster, payers: Payers, seed: int) -> None:
    """Kill nodes one after the other, at times a minority at once; each comes back before a majority is gone."""
    dice, down = random.Random(seed), []
    spare = len(cluster.names) // 2
    for _ in range(KILLS):
        await payers.wait_for_more(ACKNOWLEDGED_BETWEEN_KILLS)
        while len(down) >= spare or (down and dice.random() < 0.5):
            await asyncio.to_thread(cluster.start_node, down.pop(dice.randrange(len(down))))
        # Half of the kills are of the leader: random nodes alone would seldom interrupt anything.
        leader = await asyncio.to_thread(cluster.leader)
        up = [name for name in cluster.names if name not in down]
        victim = leader if leader in up and dice.random() < 0.5 else dice.choice(up)
        await asyncio.to_thread(cluster.kill, victim)
        down.append(victim)
    await payers.wait_for_more(ACKNOWLEDGED_BETWEEN_KILLS)
    for name in down:
        await asyncio.to_thread(cluster.start_node, name)
    for name in cluster.names:
        await asyncio.to_thread(cluster.wait_answer, name)


@pytest.mark.parametrize("nodes", [3, 5])
def test_nothing_acknowledged_is_lost_or_doubled_by_twenty_kills(nodes: int, tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    async def run(cluster: LocalCluster) -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncClient(cluster.addresses, deadline_s=30) as client:
            await open_accounts(client)
            payers = Payers(client, seed)
            load = asyncio.create_task(payers.run())
            await kill_at_random(cluster, payers, seed)
            payers.is_over.set()
            await load
            await check_every_node(cluster, payers)

    with LocalCluster(tmp_path / f"seed-{seed}", nodes=nodes) as cluster:
        cluster.wait_ready()
        asyncio.run(run(cluster))
