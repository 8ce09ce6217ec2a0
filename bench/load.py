"""The loads: each drives the cluster for some seconds and counts what was acknowledged as created."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from bench.measure import Measure
from raftpay.client import AsyncClient, Client
from raftpay.client.sync_client import new_loop
from raftpay.ledger import CreateTransferResult
from raftpay.ledger.types import BATCH_EVENTS_MAX, Account, Transfer

ACCOUNTS = 10_000
CONCURRENCY = 64
WARM_UP_S = 0.5

T = TypeVar("T")


def run(load: Coroutine[None, None, T]) -> T:
    """Run a load on the event loop that the nodes and the blocking client use: uvloop where it is installed."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(load)


def account_id(number: int) -> str:
    return f"bench:{number:05d}"


async def open_accounts(addresses: list[str], count: int = ACCOUNTS) -> None:
    accounts = [Account(account_id(number), "EUR") for number in range(count)]
    async with AsyncClient(addresses, deadline_s=30) as client:
        for first in range(0, count, BATCH_EVENTS_MAX):
            await client.create_accounts(accounts[first : first + BATCH_EVENTS_MAX])


class Transfers:
    """Makes transfers between random ones of so many accounts, with ids of its own."""

    def __init__(self, accounts: int = ACCOUNTS) -> None:
        self._accounts, self._prefix, self._number = accounts, f"{time.time_ns():x}", 0
        self._random = random.Random(1)

    def take(self, count: int) -> list[Transfer]:
        made = []
        for _ in range(count):
            self._number += 1
            debit = self._random.randrange(self._accounts)
            credit = (debit + self._random.randrange(1, self._accounts)) % self._accounts
            made.append(Transfer(f"{self._prefix}-{self._number}", account_id(debit), account_id(credit), 100))
        return made


class Load:
    """Repeats a call until the time is over; counts only what begins after the warm-up."""

    def __init__(self, seconds: float) -> None:
        self._begin = time.perf_counter() + WARM_UP_S
        self._end = self._begin + seconds
        self._transfers = 0
        self._latencies_ms: list[float] = []
        self._last = self._begin

    async def repeat(
        self, call: Callable[[list[Transfer]], Awaitable[int]], prepare: Callable[[], list[Transfer]]
    ) -> None:
        batch = prepare()
        while (started := time.perf_counter()) < self._end:
            created = await call(batch)
            self.note(started, created)
            batch = prepare()

    def note(self, started: float, created: int) -> None:
        ended = time.perf_counter()
        if started >= self._begin:
            self._transfers += created
            self._latencies_ms.append((ended - started) * 1000)
            self._last = ended

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end

    def result(self) -> Measure:
        return Measure(self._transfers, self._last - self._begin, self._latencies_ms)


async def _create(client: AsyncClient, transfers: list[Transfer]) -> int:
    outcomes = await client.create_transfers(transfers)
    return outcomes.numbers.count(CreateTransferResult.CREATED)


async def bulk(addresses: list[str], seconds: float, *, batch: int) -> Measure:
    """One client, batches one after the other. Made beforehand: the bench measures the ledger, not itself."""
    transfers, load = Transfers(), Load(seconds)
    ready = [transfers.take(batch) for _ in range(max(4, 200_000 // batch))]
    async with AsyncClient(addresses, deadline_s=30) as client:
        await load.repeat(lambda made: _create(client, made), lambda: ready.pop() if ready else transfers.take(batch))
    return load.result()


async def shared_client(addresses: list[str], seconds: float) -> Measure:
    """Tasks that share one client, each one transfer at a time: the client groups them."""
    transfers, load = Transfers(), Load(seconds)
    async with AsyncClient(addresses, deadline_s=30) as client:
        tasks = [load.repeat(lambda made: _create(client, made), lambda: transfers.take(1)) for _ in range(CONCURRENCY)]
        await asyncio.gather(*tasks)
    return load.result()


async def many_connections(addresses: list[str], seconds: float) -> Measure:
    """A client, hence a connection, for each task: nothing is grouped before the node."""
    transfers, load = Transfers(), Load(seconds)
    clients = [AsyncClient(addresses, deadline_s=30) for _ in range(CONCURRENCY)]
    try:
        tasks = [
            load.repeat(lambda made, client=client: _create(client, made), lambda: transfers.take(1))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            for client in clients
        ]
        await asyncio.gather(*tasks)
    finally:
        for client in clients:
            await client.close()
    return load.result()


async def one_at_a_time(addresses: list[str], seconds: float) -> Measure:
    transfers, load = Transfers(), Load(seconds)
    async with AsyncClient(addresses, deadline_s=30) as client:
        await load.repeat(lambda made: _create(client, made), lambda: transfers.take(1))
    return load.result()


async def one_at_a_time_sync(addresses: list[str], seconds: float) -> Measure:
    """As most programs will use it: the blocking client."""
    return await asyncio.to_thread(_one_at_a_time_sync, addresses, seconds)


def _one_at_a_time_sync(addresses: list[str], seconds: float) -> Measure:
    transfers, load = Transfers(), Load(seconds)
    with Client(addresses, deadline_s=30) as client:
        while not load.is_over():
            made = transfers.take(1)
            started = time.perf_counter()
            outcomes = client.create_transfers(made)
            load.note(started, outcomes.numbers.count(CreateTransferResult.CREATED))
    return load.result()
