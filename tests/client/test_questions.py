"""Questions: what goes over the wire, and what comes back as typed records."""

import asyncio
from collections.abc import Callable, Coroutine

import msgspec
import pytest

from raftpay import (
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    AsyncClient,
    BalanceRecord,
    CurrencyTotals,
    NodeStatus,
    NotCommitted,
    OperatorAction,
    OperatorResult,
    Page,
    Rejected,
    StateDigest,
    TransferQuery,
    TransferRecord,
    TrialBalance,
)
from raftpay.client import PeerInfo, async_client
from tests.client.peer import Peer, answer_with, peers, stay_silent

ACCOUNT = AccountRecord("a", "EUR", 1, "r", 2, 0, "open", 5, 0, 10, 0, 20)
TRANSFER = TransferRecord("t", "a", "b", 7, "EUR", 1, "r", 0, "", 0, 9, "")
BALANCE = BalanceRecord(9, 0, 10, 0, 20, "t")
TOTALS = CurrencyTotals("EUR", 2, 0, 30, 0, 30)
STATUS = NodeStatus(
    name="n1",
    cluster_id="pay",
    version="0.1.0",
    role="leader",
    is_ready=True,
    leader="n1",
    leader_address="127.0.0.1:7201",
    term=3,
    commit_index=8,
    applied_index=8,
    last_index=9,
    synced_index=9,
    ledger_time=77,
    accounts=2,
    transfers=1,
    pendings=0,
    uptime_s=1.5,
    has_quorum=True,
    peers=[PeerInfo("n2", True, 8), PeerInfo("n3", False, None)],
    data_directory="/data/n1",
    pid=42,
)
FULL_QUERY = {
    "account_id": "a",
    "time_from": 0,
    "time_to": 2**63 - 1,
    "code": None,
    "direction": "debit",
    "limit": 100,
    "newest_first": False,
    "cursor": "",
}


def run(test: Callable[[Peer, AsyncClient], Coroutine[object, object, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30), peers() as (node,), AsyncClient([node.address]) as client:
            await test(node, client)

    asyncio.run(limited())


@pytest.mark.parametrize(
    ("call", "method", "params", "answer"),
    [
        (lambda c: c.lookup_accounts(["a", "b"]), "lookup_accounts", [["a", "b"], "linearizable"], [ACCOUNT, None]),
        (lambda c: c.lookup_transfers(["t"], read="local"), "lookup_transfers", [["t"], "local"], [TRANSFER]),
        (
            lambda c: c.account_transfers(AccountQuery("a", direction="debit")),
            "account_transfers",
            [FULL_QUERY, "linearizable"],
            Page([TRANSFER], "more"),
        ),
        (
            lambda c: c.account_balances(AccountQuery("a", direction="debit")),
            "account_balances",
            [FULL_QUERY, "linearizable"],
            Page([BALANCE]),
        ),
        (lambda c: c.balance_at("a", 9), "balance_at", ["a", 9, "linearizable"], BALANCE),
        (lambda c: c.balance_at("a", 9, read="local"), "balance_at", ["a", 9, "local"], None),
        (
            lambda c: c.query_transfers(TransferQuery(reference="r")),
            "query_transfers",
            [msgspec.structs.asdict(TransferQuery(reference="r")), "linearizable"],
            Page([TRANSFER]),
        ),
        (
            lambda c: c.list_accounts(AccountsQuery("users:")),
            "list_accounts",
            [msgspec.structs.asdict(AccountsQuery("users:")), "linearizable"],
            Page([ACCOUNT]),
        ),
        (lambda c: c.trial_balance(), "trial_balance", ["linearizable"], TrialBalance(8, [TOTALS])),
        (lambda c: c.state_digest(), "state_digest", [None], StateDigest(8, "ab" * 32)),
        (lambda c: c.state_digest(index=8), "state_digest", [8], StateDigest(8, "ab" * 32)),
        (lambda c: c.status(), "status", [], STATUS),
    ],
)
def test_a_question_and_its_answer(
    call: Callable[[AsyncClient], Coroutine[object, object, object]], method: str, params: list, answer: object
) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = answer_with(answer)

        got = await call(client)

        assert got == answer
        assert type(got) is type(answer)
        assert (node.arrivals[0].method, node.arrivals[0].params) == (method, params)

    run(test)


@pytest.mark.parametrize(
    ("call", "params"),
    [
        (lambda c: c.operate(OperatorAction.FREEZE, "a"), [1, "a", 0]),
        (lambda c: c.operate(OperatorAction.SET_OVERDRAFT_LIMIT, "a", overdraft_limit=500), [3, "a", 500]),
    ],
)
def test_an_act_and_its_outcome(call: Callable[[AsyncClient], Coroutine[object, object, object]], params: list) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = answer_with([77, 3])

        outcome = await call(client)

        assert (outcome.result, outcome.timestamp) == (OperatorResult.OVERDRAFT_LIMIT_BELOW_USE, 77)
        assert not outcome.is_ok
        assert node.arrivals[0].params == params

    run(test)


@pytest.mark.parametrize("answer", ["rubbish", [{"id": 1}], [7], msgspec.msgpack.Ext(5, b"x"), None])
def test_an_answer_of_another_form_is_no_answer(answer: object) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = answer_with(answer)

        with pytest.raises(NotCommitted, match=r"lookup_accounts: .*cannot be read"):
            await client.lookup_accounts(["a"])

    run(test)


def test_a_field_of_a_later_release_is_no_hindrance() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = answer_with([{**msgspec.structs.asdict(ACCOUNT), "colour": "blue"}])

        assert await client.lookup_accounts(["a"]) == [ACCOUNT]

    run(test)


def test_questions_beyond_the_limit_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_client, "QUESTIONS_IN_FLIGHT_MAX", 3)

    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = stay_silent
        asked = [asyncio.create_task(client.lookup_accounts([str(n)])) for n in range(7)]
        for count in range(1, 8):
            await node.wait_for_requests(min(count + 2, 7))
            assert len(node.arrivals) <= count + 2
            node.arrivals[count - 1].answer_with([None])

        assert await asyncio.gather(*asked) == [[None]] * 7

    run(test)


def test_answers_may_come_in_any_order() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.usual = stay_silent
        first = asyncio.create_task(client.lookup_accounts(["first"]))
        await node.wait_for_requests(1)
        second = asyncio.create_task(client.lookup_accounts(["a"]))
        await node.wait_for_requests(2)

        node.arrivals[1].answer_with([ACCOUNT])
        node.arrivals[0].answer_with([None])

        assert (await first, await second) == ([None], [ACCOUNT])

    run(test)


def test_a_client_belongs_to_one_event_loop() -> None:
    client = AsyncClient(["127.0.0.1:7201"])

    async def use() -> None:
        async with client:
            pass

    async def misuse() -> None:
        client._is_closed = False
        await client.status()

    asyncio.run(use())
    with pytest.raises(Rejected, match="another event loop"):
        asyncio.run(misuse())
