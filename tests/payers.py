"""A load whose outcome is known: payers that never give up, and the proof that all they were told is true on each node.

For tests of real processes under faults.
"""

import asyncio
import itertools
import random

from raftpay.client import AsyncClient, NotCommitted, OutcomeUnknown
from raftpay.ledger import CreateTransferResult, TransferRecord
from raftpay.ledger.types import Account, Transfer
from raftpay.ops.check import check_books
from raftpay.ops.local import LocalCluster

ACCOUNTS = 50
TASKS = 8
BATCH = 5
# As long as allowed, so that journals grow.
REFERENCE = "r" * 140


async def open_accounts(client: AsyncClient) -> None:
    await client.create_accounts([Account(f"a{number}", "EUR") for number in range(ACCOUNTS)])


class Payers:
    """Tasks that pay until told to stop, and remember what was acknowledged as created."""

    def __init__(self, client: AsyncClient, seed: int) -> None:
        self._client, self._random = client, random.Random(seed)
        self._numbers = itertools.count()
        self.acknowledged: dict[str, Transfer] = {}
        self.is_over = asyncio.Event()
        self._progress = asyncio.Condition()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(self._pay())

    async def wait_for_more(self, count: int) -> None:
        target = len(self.acknowledged) + count
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= target)

    async def _pay(self) -> None:
        while not self.is_over.is_set():
            batch = [self._transfer() for _ in range(BATCH)]
            outcomes = None
            while outcomes is None:
                try:
                    outcomes = await self._client.create_transfers(batch)
                except (NotCommitted, OutcomeUnknown):
                    # The same batch under the same ids, for as long as it takes: that is what the errors promise.
                    continue
            for transfer, outcome in zip(batch, outcomes, strict=True):
                assert outcome.result in (CreateTransferResult.CREATED, CreateTransferResult.EXISTS), outcome
                self.acknowledged[transfer.id] = transfer
            async with self._progress:
                self._progress.notify_all()

    def _transfer(self) -> Transfer:
        debit, credit = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randrange(1, 1000)
        return Transfer(f"t{next(self._numbers)}", f"a{debit}", f"a{credit}", amount, reference=REFERENCE)


async def check_every_node(cluster: LocalCluster, payers: Payers) -> None:
    """Each node, asked for its own state, has every acknowledged transfer once and the sums that follow from them."""
    names = dict(zip(cluster.names, cluster.addresses, strict=True))
    books = await asyncio.to_thread(check_books, names, deadline_s=60)
    assert (books.unreachable, books.is_balanced, books.has_equal_digests) == ([], True, True)
    ids = list(payers.acknowledged)
    async with AsyncClient(cluster.addresses, deadline_s=60) as client:
        for address in cluster.addresses:
            found: list[TransferRecord | None] = []
            for first in range(0, len(ids), 1000):
                found += await client.lookup_transfers(ids[first : first + 1000], address=address, read="local")
            for id_, record in zip(ids, found, strict=True):
                sent = payers.acknowledged[id_]
                assert record is not None, f"{address} lacks the acknowledged transfer {id_}"
                assert (record.debit_account, record.credit_account, record.amount) == (
                    sent.debit_account,
                    sent.credit_account,
                    sent.amount,
                )
            await check_sums(client, address, payers)


async def check_sums(client: AsyncClient, address: str, payers: Payers) -> None:
    debits, credits = dict.fromkeys(range(ACCOUNTS), 0), dict.fromkeys(range(ACCOUNTS), 0)
    for transfer in payers.acknowledged.values():
        debits[int(transfer.debit_account[1:])] += transfer.amount or 0
        credits[int(transfer.credit_account[1:])] += transfer.amount or 0
    accounts = await client.lookup_accounts([f"a{n}" for n in range(ACCOUNTS)], address=address, read="local")

    for number, account in enumerate(accounts):
        assert account is not None
        assert (account.debits_posted, account.credits_posted) == (debits[number], credits[number]), account.id
    status = await client.status(address=address)
    assert status.transfers == len(payers.acknowledged), "a transfer was applied that nobody sent, or twice"
