"""The longest silence that a client hears when the leader is killed under load."""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass

from bench.load import Transfers
from raftpay.client import AsyncClient
from raftpay.ops.check import check_books
from raftpay.ops.local import LocalCluster

TASKS = 8
LOAD_BEFORE_S = 1.0
LOAD_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Gap:
    """killed: the leader that was killed. gap_ms: the longest time between two acknowledgements around the kill."""

    killed: str
    gap_ms: float


def measure_gaps(cluster: LocalCluster, *, kills: int) -> list[Gap]:
    """Kill the leader so many times under load, starting it again after each, and return the gaps."""
    return [asyncio.run(_measure_one(cluster)) for _ in range(kills)]


async def _measure_one(cluster: LocalCluster) -> Gap:
    # The books are equal: the node that was killed last has caught up, and any may take over.
    await asyncio.to_thread(cluster.wait_ready)
    for name in cluster.names:
        await asyncio.to_thread(cluster.wait_answer, name)
    names = dict(zip(cluster.names, cluster.addresses, strict=True))
    await asyncio.to_thread(check_books, names, deadline_s=60)
    leader = await asyncio.to_thread(cluster.wait_leader)
    acknowledged: list[float] = []
    async with AsyncClient(cluster.addresses, deadline_s=30) as client:
        transfers, is_over = Transfers(), asyncio.Event()

        async def pay() -> None:
            while not is_over.is_set():
                await client.create_transfers(transfers.take(1))
                acknowledged.append(time.perf_counter())

        tasks = [asyncio.create_task(pay()) for _ in range(TASKS)]
        # The kill must not fall into step with heartbeats.
        await asyncio.sleep(LOAD_BEFORE_S + random.random() * 0.1)
        killed_at = time.perf_counter()
        await asyncio.to_thread(cluster.kill, leader)
        await asyncio.sleep(LOAD_AFTER_S)
        is_over.set()
        await asyncio.gather(*tasks)
    await asyncio.to_thread(cluster.start_node, leader)
    around = sorted(moment for moment in acknowledged if moment > killed_at - LOAD_BEFORE_S / 2)
    gap = max(later - earlier for earlier, later in itertools.pairwise(around))
    return Gap(leader, round(gap * 1000, 1))
