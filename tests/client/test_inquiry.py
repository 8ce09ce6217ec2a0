"""A leader that falls silent is given up as soon as another says that it leads, and not before."""

import asyncio
from collections.abc import Callable, Coroutine

import msgspec
import pytest

from raftpay import AsyncClient, CreateTransferResult, NodeStatus, Transfer
from tests.client.peer import Action, Arrival, Peer, answer, hang_up_before, peers, refuse, send_garbage, stay_silent
from tests.client.test_questions import STATUS

CREATED = CreateTransferResult.CREATED


def run(test: Callable[[Peer, Peer, AsyncClient], Coroutine[object, object, None]]) -> None:
    """The client's first node leads, and knows that; the silence that counts as a loss is longer than the test."""

    async def limited() -> None:
        async with (
            asyncio.timeout(30),
            peers(2) as (leader, other),
            AsyncClient([leader.address, other.address], silence_s_max=60, deadline_s=60) as client,
        ):
            other.usual = refuse("not_leader", leader=leader.address)
            await client.create_transfers([Transfer("t0", "a", "b", 1)])
            await test(leader, other, client)

    asyncio.run(limited())


def tell(status: NodeStatus) -> Action:
    """Answer the question for the status; carry out everything else."""

    def act(arrival: Arrival) -> None:
        if arrival.method == "status":
            arrival.answer_with(status)
        else:
            arrival.answer()

    return act


def status_of(node: Peer, **fields: object) -> NodeStatus:
    return msgspec.structs.replace(STATUS, leader_address=node.address, **fields)


def asked(node: Peer) -> int:
    return sum(arrival.method == "status" for arrival in node.arrivals)


def test_a_silent_leader_is_left_for_the_one_that_leads_now() -> None:
    async def test(leader: Peer, other: Peer, client: AsyncClient) -> None:
        leader.usual = stay_silent
        other.usual = tell(status_of(other))

        outcomes = await client.create_transfers([Transfer("t1", "a", "b", 1)])

        assert outcomes[0].result == CREATED
        assert other.created == ["t1"]

    run(test)


def test_a_new_leader_that_a_third_node_names_is_asked_itself() -> None:
    async def test(leader: Peer, other: Peer, client: AsyncClient) -> None:
        async with peers() as (third,):
            leader.usual = stay_silent
            other.usual = tell(status_of(third, role="follower", is_ready=False))
            third.usual = tell(status_of(third))

            await client.create_transfers([Transfer("t1", "a", "b", 1)])

            assert third.created == ["t1"]
            assert asked(third) == 1

    run(test)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(lambda leader, other: tell(status_of(leader)), id="it still leads"),
        pytest.param(lambda leader, other: tell(status_of(other, is_ready=False)), id="the other is not ready yet"),
        pytest.param(
            lambda leader, other: tell(msgspec.structs.replace(STATUS, leader_address=None)), id="nobody leads"
        ),
        pytest.param(
            lambda leader, other: tell(
                msgspec.structs.replace(STATUS, leader_address=leader.address.replace("127.0.0.1", "localhost"))
            ),
            id="it leads under another name",
        ),
        pytest.param(
            lambda leader, other: tell(msgspec.structs.replace(STATUS, leader_address="127.0.0.1:1")),
            id="the one that is named is dead",
        ),
        pytest.param(lambda leader, other: hang_up_before, id="the other hangs up"),
        pytest.param(lambda leader, other: refuse("overloaded"), id="the other is overloaded"),
        pytest.param(lambda leader, other: send_garbage(b"\xc1"), id="the other talks rubbish"),
    ],
)
def test_a_leader_that_is_merely_slow_keeps_its_clients(reply: Callable[[Peer, Peer], Action]) -> None:
    async def test(leader: Peer, other: Peer, client: AsyncClient) -> None:
        leader.usual = lambda arrival: arrival.method == "status" and arrival.answer_with(status_of(leader))
        other.usual = reply(leader, other)
        waiting = asyncio.create_task(client.create_transfers([Transfer("t1", "a", "b", 1)]))

        await other.wait_until(lambda: asked(other) >= 2)
        leader.usual = answer
        next(
            one for one in leader.arrivals if one.method == "create_transfers" and one.params[0][0].id == "t1"
        ).answer()

        assert (await waiting)[0].result == CREATED
        assert [ids for ids in leader.batches() if ids == ["t1"]] == [["t1"]]
        assert leader.created == ["t0", "t1"]

    run(test)


def test_closing_ends_an_inquiry() -> None:
    async def test(leader: Peer, other: Peer, client: AsyncClient) -> None:
        before = asyncio.all_tasks()
        leader.usual = other.usual = stay_silent
        waiting = asyncio.create_task(client.create_transfers([Transfer("t1", "a", "b", 1)]))
        await other.wait_until(lambda: asked(other) >= 1)

        await client.close()
        await asyncio.wait([waiting])

        assert waiting.exception() is not None
        assert asyncio.all_tasks() - before == set()

    run(test)
