"""The blocking client: the same methods as AsyncClient, for programs without an event loop. Any thread may use it.

It runs an AsyncClient on a loop of its own, in one background thread that the first call starts. Calls of several
threads share requests, as those of several tasks do. Nothing is decided here.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from raftpay.client.answers import MemberList, NodeStatus, Outcome, Outcomes, Read, StateDigest, TrialBalance
from raftpay.client.async_client import DEADLINE_S, SILENCE_S_MAX, AsyncClient
from raftpay.errors import OutcomeUnknown, Rejected
from raftpay.ledger import (
    Account,
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    BalanceRecord,
    CreateAccountResult,
    CreateTransferResult,
    OperatorAction,
    OperatorResult,
    Page,
    Transfer,
    TransferQuery,
    TransferRecord,
)

try:
    import uvloop
except ImportError:
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    # Halves what the hand-over to the loop and back costs.
    new_loop = uvloop.new_event_loop

CLOSE_TIMEOUT_S: Final = 5.0

T = TypeVar("T")


class Client:
    """Talks to a raftpay cluster, blocking. Any number of threads may use it at once; a forked child makes its own.

    addresses, deadline_s, silence_s_max, and what each call raises: as of AsyncClient.
    """

    def __init__(
        self, addresses: Sequence[str], *, deadline_s: float = DEADLINE_S, silence_s_max: float = SILENCE_S_MAX
    ) -> None:
        self._client = AsyncClient(addresses, deadline_s=deadline_s, silence_s_max=silence_s_max)
        # Guards the three below: a call is handed over either before the loop begins to close or not at all.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._process: Final = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. Calls of other threads end with NotCommitted or OutcomeUnknown."""
        if os.getpid() != self._process:
            # A fork copies no threads: loop and connections are the parent's to close.
            return
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_wind_up(self._client), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def create_accounts(
        self, accounts: Sequence[Account], *, deadline_s: float | None = None
    ) -> Outcomes[CreateAccountResult]:
        """Open accounts. Returns one Outcome for each, in order; sending the same again gives `exists`."""
        return self._run(lambda client: client.create_accounts(accounts, deadline_s=deadline_s))

    def create_transfers(
        self, transfers: Sequence[Transfer], *, deadline_s: float | None = None
    ) -> Outcomes[CreateTransferResult]:
        """Move money. Returns one Outcome for each transfer, in order; sending the same again gives `exists`."""
        return self._run(lambda client: client.create_transfers(transfers, deadline_s=deadline_s))

    def create_account(self, account: Account, *, deadline_s: float | None = None) -> Outcome[CreateAccountResult]:
        """Open one account."""
        return self._run(lambda client: client.create_account(account, deadline_s=deadline_s))

    def create_transfer(self, transfer: Transfer, *, deadline_s: float | None = None) -> Outcome[CreateTransferResult]:
        """Make one transfer. From many tasks at once, they share requests."""
        return self._run(lambda client: client.create_transfer(transfer, deadline_s=deadline_s))

    def operate(
        self,
        action: OperatorAction,
        account_id: str,
        overdraft_limit: int = 0,
        *,
        deadline_s: float | None = None,
    ) -> Outcome[OperatorResult]:
        """Freeze or unfreeze an account, or change its overdraft limit (minor units)."""
        return self._run(lambda client: client.operate(action, account_id, overdraft_limit, deadline_s=deadline_s))

    def lookup_accounts(
        self,
        ids: Sequence[str],
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> list[AccountRecord | None]:
        """Return the account of each id, in order; None where there is none."""
        return self._run(lambda client: client.lookup_accounts(ids, read=read, address=address, deadline_s=deadline_s))

    def lookup_transfers(
        self,
        ids: Sequence[str],
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> list[TransferRecord | None]:
        """Return the transfer of each id, in order; None where there is none."""
        return self._run(lambda client: client.lookup_transfers(ids, read=read, address=address, deadline_s=deadline_s))

    def account_transfers(
        self,
        query: AccountQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[TransferRecord]:
        """Return a page of the transfers of one account. Go on with the query's cursor set to the page's."""
        return self._run(
            lambda client: client.account_transfers(query, read=read, address=address, deadline_s=deadline_s)
        )

    def account_balances(
        self,
        query: AccountQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[BalanceRecord]:
        """Return a page of the balances that one account had after each of its transfers."""
        return self._run(
            lambda client: client.account_balances(query, read=read, address=address, deadline_s=deadline_s)
        )

    def balance_at(
        self,
        account_id: str,
        time: int,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> BalanceRecord | None:
        """Return the balances of an account at a time (nanoseconds since the epoch), or None if it did not exist."""
        return self._run(
            lambda client: client.balance_at(account_id, time, read=read, address=address, deadline_s=deadline_s)
        )

    def query_transfers(
        self,
        query: TransferQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[TransferRecord]:
        """Return a page of the transfers that match all that the query names."""
        return self._run(
            lambda client: client.query_transfers(query, read=read, address=address, deadline_s=deadline_s)
        )

    def list_accounts(
        self,
        query: AccountsQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[AccountRecord]:
        """Return a page of the accounts, in the order of their creation."""
        return self._run(lambda client: client.list_accounts(query, read=read, address=address, deadline_s=deadline_s))

    def trial_balance(
        self,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> TrialBalance:
        """Return the sums over all accounts, a line for each currency. Debits and credits must be equal."""
        return self._run(lambda client: client.trial_balance(read=read, address=address, deadline_s=deadline_s))

    def state_digest(
        self, *, index: int | None = None, address: str | None = None, deadline_s: float | None = None
    ) -> StateDigest:
        """Return the digest of one node's whole state, for comparing nodes: equal indexes have equal digests."""
        return self._run(lambda client: client.state_digest(index=index, address=address, deadline_s=deadline_s))

    def status(self, *, address: str | None = None, deadline_s: float | None = None) -> NodeStatus:
        """Return how a node sees itself and the cluster: the node at address, or any that answers."""
        return self._run(lambda client: client.status(address=address, deadline_s=deadline_s))

    def members(self, *, address: str | None = None, deadline_s: float | None = None) -> MemberList:
        """Return who belongs to the cluster as a node sees it: the node at address, or any that answers."""
        return self._run(lambda client: client.members(address=address, deadline_s=deadline_s))

    def add_member(self, name: str, *, peer: str, client: str, deadline_s: float | None = None) -> int:
        """Add a node; as of AsyncClient."""
        return self._run(lambda inner: inner.add_member(name, peer=peer, client=client, deadline_s=deadline_s))

    def remove_member(self, name: str, *, deadline_s: float | None = None) -> int:
        """Remove a node; as of AsyncClient."""
        return self._run(lambda client: client.remove_member(name, deadline_s=deadline_s))

    def _run(self, call: Callable[[AsyncClient], Coroutine[object, object, T]]) -> T:
        """Run a call of the async client on its loop, and wait for it."""
        errand = _Errand(call, self._client)
        with self._lock:
            loop = self._open_loop()
            loop.call_soon_threadsafe(errand.start)
        try:
            return errand.wait()
        except KeyboardInterrupt:
            # Nobody is left to read the answer.
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile, and every call with it
                loop.call_soon_threadsafe(errand.cancel)
            raise

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._process:
            raise Rejected(
                f"this client was made in process {self._process} and is used in {os.getpid()}, a fork of it: "
                "make a client after the fork"
            )
        if self._is_closed:
            raise Rejected("this client is closed: make a new one")
        if self._loop is None:
            self._loop = new_loop()
            self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="raftpay-client", daemon=True)
            self._thread.start()
        return self._loop


class _Errand(Generic[T]):
    """A call on its way from a thread to the loop and back. Costs half of asyncio.run_coroutine_threadsafe."""

    __slots__ = ("_call", "_client", "_ended", "_task")

    def __init__(self, call: Callable[[AsyncClient], Coroutine[object, object, T]], client: AsyncClient) -> None:
        self._call = call
        self._client = client
        # Set by start, on the loop. It is over when the lock is free.
        self._task: asyncio.Task[T] | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._call(self._client))
        self._task.add_done_callback(lambda _: self._ended.release())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def wait(self) -> T:
        """Block the calling thread until the call has ended, and return or raise what it did."""
        self._ended.acquire()
        assert self._task is not None, "only its end frees the lock"
        if self._task.cancelled():
            raise OutcomeUnknown("the client was closed before the call ended. It may have happened: send it again")
        return self._task.result()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The life of the background thread."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        # What ended in the last turn still has to be told to the threads that wait for it.
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


async def _wind_up(client: AsyncClient) -> None:
    """Close the client and see every call end, so that no thread waits for ever."""
    await client.close()
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    if calls:
        _, late = await asyncio.wait(calls, timeout=CLOSE_TIMEOUT_S)
        for call in late:
            call.cancel()
        await asyncio.gather(*late, return_exceptions=True)
