"""The client for asyncio. It checks arguments, hands requests to lanes and attempts, and reads the answers.

Whether a request is repeated and where it goes is decided in routing.py, how events share requests in lanes.py.
The blocking twin in sync_client.py runs this one on a loop of its own.
"""

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import msgspec
from msgspec import Struct

from raftpay.client.answers import (
    ACCOUNT_PAGE,
    ACCOUNT_RESULTS,
    ACCOUNTS,
    BALANCE,
    BALANCE_PAGE,
    MEMBERS,
    MEMBERS_CHANGED,
    OPERATE_ANSWER,
    OPERATOR_RESULTS,
    STATE_DIGEST,
    STATUS,
    TRANSFER_PAGE,
    TRANSFER_RESULTS,
    TRANSFERS,
    TRIAL_BALANCE,
    MemberList,
    NodeStatus,
    Outcome,
    Outcomes,
    Read,
    ResultKind,
    ResultTable,
    StateDigest,
    TrialBalance,
)
from raftpay.client.arguments import (
    ACCOUNT_EVENTS,
    TRANSFER_EVENTS,
    EventBatch,
    check_address,
    check_addresses,
    check_deadline,
    check_read,
    encode_events,
    encode_ids,
    encode_query,
    encode_value,
)
from raftpay.client.attempts import carry
from raftpay.client.connection import Connections, Patience
from raftpay.client.inquiry import Inquiry
from raftpay.client.lanes import Lane
from raftpay.client.routing import Effort, Kind, Router
from raftpay.errors import NotCommitted, OutcomeUnknown, ProtocolError, Rejected
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
from raftpay.ledger.types import Unsigned
from raftpay.wire.rpc import decode_value

DEADLINE_S: Final = 10.0
SILENCE_S_MAX: Final = 3.0
# A follower takes about as long to notice that its leader is gone.
SUSPICION_S: Final = 0.4
# Two: while the cluster works on one request the next is on its way; more would only make each of them smaller.
REQUESTS_IN_FLIGHT_MAX: Final = 2
# What is left of a deadline that comes between two parts of a long list.
MOMENT_S: Final = 0.001
WAITING_EVENTS_MAX: Final = 1_000_000
QUESTIONS_IN_FLIGHT_MAX: Final = 64

T = TypeVar("T")


class _Ask(Struct, Generic[T], frozen=True):
    """A question or an act on its way to the wire. decoder: reads what a success answers."""

    method: str
    kind: Kind
    params: Sequence[object]
    decoder: msgspec.msgpack.Decoder[T]


class _Session:
    """What a client has on its event loop: connections, lanes, and what it knows of the cluster."""

    def __init__(self, router: Router, silence_s_max: float) -> None:
        self.loop: Final = asyncio.get_running_loop()
        patience = Patience(silence_s_max, SUSPICION_S, on_silence=lambda silent: self.inquiry.begin(silent))
        self.connections: Final = Connections(patience)
        self.inquiry: Final = Inquiry(self.connections, router)
        self.accounts: Final = self._lane("create_accounts", router)
        self.transfers: Final = self._lane("create_transfers", router)
        self.questions: Final = asyncio.Semaphore(QUESTIONS_IN_FLIGHT_MAX)

    def _lane(self, method: str, router: Router) -> Lane:
        return Lane(
            method,
            self.connections,
            router,
            in_flight_max=REQUESTS_IN_FLIGHT_MAX,
            waiting_events_max=WAITING_EVENTS_MAX,
        )

    async def close(self) -> None:
        await self.accounts.close()
        await self.transfers.close()
        await self.inquiry.close()
        await self.connections.close()


class AsyncClient:
    """Talks to a raftpay cluster from one event loop. Any number of its tasks may use it at once.

    Concurrent calls of create_transfers (and of create_accounts) share requests, so many tasks with one transfer each
    are nearly as cheap as one task with many.

    addresses: "host:port" of the nodes' client ports; one is enough to find the others' leader, all are safer.
    deadline_s: how long a call may take, retries included, unless the call says otherwise.
    silence_s_max: a node from which nothing comes for so long, while an answer is due, is given up for another.

    Every call raises NotCommitted (it did not happen: send it again), OutcomeUnknown (it may have happened: send the
    same again, under the same ids) or Rejected (it is wrong as sent; the message names the field), and nothing else.
    A refused event is no exception: see its Outcome.
    """

    def __init__(
        self, addresses: Sequence[str], *, deadline_s: float = DEADLINE_S, silence_s_max: float = SILENCE_S_MAX
    ) -> None:
        self._router = Router(check_addresses(addresses), random.Random())
        self._deadline_s = check_deadline(deadline_s)
        self._silence_s_max = check_deadline(silence_s_max)
        # Made by the first call, which also ties the client to its event loop.
        self._session: _Session | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._open_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls under way end with NotCommitted or OutcomeUnknown, as the case is."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def create_accounts(
        self, accounts: Sequence[Account], *, deadline_s: float | None = None
    ) -> Outcomes[CreateAccountResult]:
        """Open accounts. Returns one Outcome for each, in order; sending the same again gives `exists`.

        More than BATCH_EVENTS_MAX are sent in several requests, one after the other.
        """
        session = self._open_session()
        batches = encode_events(ACCOUNT_EVENTS, accounts)
        return await self._create(session.accounts, batches, ACCOUNT_RESULTS, deadline_s)

    async def create_transfers(
        self, transfers: Sequence[Transfer], *, deadline_s: float | None = None
    ) -> Outcomes[CreateTransferResult]:
        """Move money. Returns one Outcome for each transfer, in order; sending the same again gives `exists`.

        More than BATCH_EVENTS_MAX are sent in several requests, one after the other, so that a transfer finds those
        before it done; with LINKED or IMPORTED among them they are Rejected, because those bind a request together.
        """
        session = self._open_session()
        batches = encode_events(TRANSFER_EVENTS, transfers)
        return await self._create(session.transfers, batches, TRANSFER_RESULTS, deadline_s)

    async def create_account(
        self, account: Account, *, deadline_s: float | None = None
    ) -> Outcome[CreateAccountResult]:
        """Open one account."""
        return (await self.create_accounts([account], deadline_s=deadline_s))[0]

    async def create_transfer(
        self, transfer: Transfer, *, deadline_s: float | None = None
    ) -> Outcome[CreateTransferResult]:
        """Make one transfer. From many tasks at once, they share requests."""
        return (await self.create_transfers([transfer], deadline_s=deadline_s))[0]

    async def operate(
        self,
        action: OperatorAction,
        account_id: str,
        overdraft_limit: int = 0,
        *,
        deadline_s: float | None = None,
    ) -> Outcome[OperatorResult]:
        """Freeze or unfreeze an account, or change its overdraft limit (minor units).

        An act carries no id. Where it may have happened it is not repeated but ends with OutcomeUnknown at once:
        a repetition could overtake a later act. Look at the account, then send it again.
        """
        params = [
            encode_value(action, OperatorAction, "action"),
            encode_value(account_id, str, "account_id"),
            encode_value(overdraft_limit, int, "overdraft_limit"),
        ]
        timestamp, number = await self._ask(_Ask("operate", Kind.ACT, params, OPERATE_ANSWER), deadline_s)
        _check_known(OPERATOR_RESULTS, bytes([number]))
        return Outcome(OPERATOR_RESULTS.members[number], timestamp)

    async def lookup_accounts(
        self,
        ids: Sequence[str],
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> list[AccountRecord | None]:
        """Return the account of each id, in order; None where there is none.

        Of every question: read="linearizable" sees all that was answered before it was asked; read="local" is what one
        node knows, perhaps less, without asking others. address: the one node that is to answer; it is asked once.
        """
        ask = _Ask("lookup_accounts", Kind.QUESTION, [encode_ids(ids), check_read(read)], ACCOUNTS)
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def lookup_transfers(
        self,
        ids: Sequence[str],
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> list[TransferRecord | None]:
        """Return the transfer of each id, in order; None where there is none."""
        ask = _Ask("lookup_transfers", Kind.QUESTION, [encode_ids(ids), check_read(read)], TRANSFERS)
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def account_transfers(
        self,
        query: AccountQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[TransferRecord]:
        """Return a page of the transfers of one account. Go on with the query's cursor set to the page's."""
        ask = _Ask(
            "account_transfers", Kind.QUESTION, [encode_query(query, AccountQuery), check_read(read)], TRANSFER_PAGE
        )
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def account_balances(
        self,
        query: AccountQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[BalanceRecord]:
        """Return a page of the balances that one account had after each of its transfers."""
        ask = _Ask(
            "account_balances", Kind.QUESTION, [encode_query(query, AccountQuery), check_read(read)], BALANCE_PAGE
        )
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def balance_at(
        self,
        account_id: str,
        time: int,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> BalanceRecord | None:
        """Return the balances of an account at a time (nanoseconds since the epoch), or None if it did not exist."""
        ask = _Ask(
            "balance_at",
            Kind.QUESTION,
            [encode_value(account_id, str, "account_id"), encode_value(time, Unsigned, "time"), check_read(read)],
            BALANCE,
        )
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def query_transfers(
        self,
        query: TransferQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[TransferRecord]:
        """Return a page of the transfers that match all that the query names."""
        ask = _Ask(
            "query_transfers", Kind.QUESTION, [encode_query(query, TransferQuery), check_read(read)], TRANSFER_PAGE
        )
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def list_accounts(
        self,
        query: AccountsQuery,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> Page[AccountRecord]:
        """Return a page of the accounts, in the order of their creation."""
        ask = _Ask("list_accounts", Kind.QUESTION, [encode_query(query, AccountsQuery), check_read(read)], ACCOUNT_PAGE)
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def trial_balance(
        self,
        *,
        read: Read = "linearizable",
        address: str | None = None,
        deadline_s: float | None = None,
    ) -> TrialBalance:
        """Return the sums over all accounts, a line for each currency. Debits and credits must be equal."""
        ask = _Ask("trial_balance", Kind.QUESTION, [check_read(read)], TRIAL_BALANCE)
        return await self._ask(ask, deadline_s, read=read, address=address)

    async def state_digest(
        self, *, index: int | None = None, address: str | None = None, deadline_s: float | None = None
    ) -> StateDigest:
        """Return the digest of one node's whole state, for comparing nodes: equal indexes have equal digests.

        index: the least log index that it must have applied.
        """
        ask = _Ask("state_digest", Kind.QUESTION, [encode_value(index, Unsigned | None, "index")], STATE_DIGEST)
        return await self._ask(ask, deadline_s, read="local", address=address)

    async def status(self, *, address: str | None = None, deadline_s: float | None = None) -> NodeStatus:
        """Return how a node sees itself and the cluster: the node at address, or any that answers."""
        ask = _Ask("status", Kind.QUESTION, [], STATUS)
        return await self._ask(ask, deadline_s, read="local", address=address)

    async def members(self, *, address: str | None = None, deadline_s: float | None = None) -> MemberList:
        """Return who belongs to the cluster as a node sees it: the node at address, or any that answers."""
        ask = _Ask("members", Kind.QUESTION, [], MEMBERS)
        return await self._ask(ask, deadline_s, read="local", address=address)

    async def add_member(self, name: str, *, peer: str, client: str, deadline_s: float | None = None) -> int:
        """Add a node, with its two addresses. It learns the log, and votes once it has caught up.

        Returns the index of the log entry.

        Where it may have happened it is not repeated but ends with OutcomeUnknown: look at the members.
        """
        params = [encode_value(name, str, "name"), encode_value(peer, str, "peer"), encode_value(client, str, "client")]
        return (await self._ask(_Ask("add_member", Kind.ACT, params, MEMBERS_CHANGED), deadline_s)).index

    async def remove_member(self, name: str, *, deadline_s: float | None = None) -> int:
        """Remove a node, alive or dead; one that leads hands over first. Answers: as of add_member."""
        ask = _Ask("remove_member", Kind.ACT, [encode_value(name, str, "name")], MEMBERS_CHANGED)
        return (await self._ask(ask, deadline_s)).index

    def _open_session(self) -> _Session:
        session = self._session
        if self._is_closed:
            raise Rejected("this client is closed: make a new one")
        if session is None:
            session = self._session = _Session(self._router, self._silence_s_max)
        elif session.loop is not asyncio.get_running_loop():
            raise Rejected("this client belongs to another event loop: make one for each loop, or use raftpay.Client")
        return session

    async def _create(
        self, lane: Lane, batches: list[EventBatch], table: ResultTable[ResultKind], deadline_s: float | None
    ) -> Outcomes[ResultKind]:
        deadline_s = self._deadline_s if deadline_s is None else check_deadline(deadline_s)
        if len(batches) == 1:
            answers = [await lane.send(batches[0], deadline_s)]
        else:
            answers = await self._create_in_parts(lane, batches, deadline_s)
        for _, numbers in answers:
            _check_known(table, numbers)
        return Outcomes(table, answers)

    async def _create_in_parts(
        self, lane: Lane, batches: list[EventBatch], deadline_s: float
    ) -> list[tuple[int, bytes]]:
        """One request after the other, for events may build on those before them."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_s
        answers: list[tuple[int, bytes]] = []
        for batch in batches:
            try:
                answers.append(await lane.send(batch, max(ends_at - loop.time(), MOMENT_S)))
            except (NotCommitted, Rejected) as error:
                if not answers:
                    raise
                done = sum(len(numbers) for _, numbers in answers)
                raise OutcomeUnknown(
                    f"the first {done} events have their results, the {batch.count} after them do not: {error}. "
                    "Send the same list again, under the same ids: what took effect gives `exists`"
                ) from error
        return answers

    async def _ask(
        self, ask: _Ask[T], deadline_s: float | None, *, read: Read = "linearizable", address: str | None = None
    ) -> T:
        session = self._open_session()
        deadline_s = self._deadline_s if deadline_s is None else check_deadline(deadline_s)
        effort = Effort(
            ask.method, ask.kind, self._router, wants_leader=read == "linearizable", aimed=check_address(address)
        )
        try:
            async with asyncio.timeout(deadline_s), session.questions:
                response = await carry(session.connections, effort, lambda: ask.params)
        except TimeoutError:
            raise effort.out_of_time(deadline_s) from None
        try:
            return decode_value(ask.decoder, response.result)
        except ProtocolError as error:
            raise effort.not_understood(f"the answer cannot be read: {error}") from error


def _check_known(table: ResultTable[ResultKind], numbers: bytes) -> None:
    unknown = table.unknown_in(numbers)
    if unknown:
        raise OutcomeUnknown(
            f"the node answered with result {unknown[0]}, which this release of the client does not know: "
            "upgrade the client, then send the same again, under the same ids"
        )
