"""What the client does when nodes redirect, refuse, hang up, fall silent or talk rubbish, and what it says then."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from raftpay import (
    AsyncClient,
    CreateTransferResult,
    NotCommitted,
    OperatorAction,
    OutcomeUnknown,
    Rejected,
    Transfer,
)
from tests.client.peer import (
    Action,
    Arrival,
    answer,
    answer_with,
    carry_out_in_silence,
    free_address,
    hang_up_after,
    hang_up_before,
    peers,
    refuse,
    send_garbage,
    stay_silent,
    unknown_after,
)

CREATED, EXISTS = CreateTransferResult.CREATED, CreateTransferResult.EXISTS


def transfer(id_: str = "t1") -> Transfer:
    return Transfer(id_, "a", "b", 100)


def run(test: Callable[[], Coroutine[object, object, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def test_a_redirect_is_followed_and_remembered() -> None:
    async def test() -> None:
        async with peers(2) as (follower, leader), AsyncClient([follower.address]) as client:
            follower.usual = refuse("not_leader", leader=leader.address)

            first = await client.create_transfers([transfer("t1")])
            second = await client.create_transfers([transfer("t2")])

            assert [first[0].result, second[0].result] == [CREATED, CREATED]
            assert len(follower.arrivals) == 1
            assert leader.created == ["t1", "t2"]

    run(test)


def test_without_a_known_leader_every_node_is_asked_in_turn() -> None:
    async def test() -> None:
        async with peers(3) as nodes, AsyncClient([node.address for node in nodes]) as client:
            for node in nodes[:2]:
                node.usual = refuse("not_leader")

            await client.create_transfers([transfer()])

            assert nodes[2].created == ["t1"]
            assert all(len(node.arrivals) <= 1 for node in nodes)

    run(test)


def test_a_redirect_to_a_dead_node_is_survived() -> None:
    async def test() -> None:
        gone = await free_address()
        async with peers(2) as (follower, other), AsyncClient([follower.address, other.address]) as client:
            follower.script.extend([refuse("not_leader", leader=gone)] * 3)
            other.script.extend([refuse("not_leader", leader=gone)] * 3)

            outcomes = await client.create_transfers([transfer()])

            assert outcomes.are_ok
            assert follower.created + other.created == ["t1"]

    run(test)


@pytest.mark.parametrize("leader", ["nonsense", "host:99999", "127.0.0.1:0"])
def test_a_redirect_to_no_address_is_ignored(leader: str) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.script.append(refuse("not_leader", leader=leader))

            outcomes = await client.create_transfers([transfer()])

            assert outcomes.are_ok

    run(test)


@pytest.mark.parametrize("code", ["unavailable", "overloaded", "disk_full", "not_leader"])
def test_what_did_not_happen_is_sent_again(code: str) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.script.extend([refuse(code), refuse(code)])

            outcomes = await client.create_transfers([transfer()])

            assert outcomes[0].result == CREATED
            assert node.batches() == [["t1"]] * 3

    run(test)


@pytest.mark.parametrize(
    ("trouble", "result"),
    [
        pytest.param(hang_up_before, CREATED, id="lost on the way in"),
        pytest.param(hang_up_after, EXISTS, id="lost on the way out"),
        pytest.param(unknown_after, EXISTS, id="leadership lost"),
        pytest.param(refuse("unknown"), CREATED, id="leadership lost before it was in the log"),
        pytest.param(refuse("a_code_of_a_later_release"), CREATED, id="an unknown code"),
        pytest.param(send_garbage(b"HTTP/1.1 400 Bad Request\r\n"), CREATED, id="another protocol"),
        pytest.param(send_garbage(b"\x94\x01\x07"), CREATED, id="half an answer, then silence"),
        pytest.param(send_garbage(b"\x94\x01\xcd\x03\xe8\xc0\xc0"), CREATED, id="an answer to nothing"),
        pytest.param(send_garbage(b"\x94\x00\x01\xa1m\x90"), CREATED, id="a request"),
        pytest.param(stay_silent, CREATED, id="silence"),
        pytest.param(carry_out_in_silence, EXISTS, id="done in silence"),
    ],
)
def test_what_may_have_happened_is_sent_again_under_the_same_id(trouble: Action, result: CreateTransferResult) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address], silence_s_max=0.5) as client:
            node.script.append(trouble)

            outcomes = await client.create_transfers([transfer()])

            assert outcomes[0].result == result
            assert node.created == ["t1"]
            assert node.batches() == [["t1"], ["t1"]]

    run(test)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        pytest.param(refuse("unavailable"), NotCommitted, id="no leader"),
        pytest.param(refuse("not_leader"), NotCommitted, id="never the leader"),
        pytest.param(refuse("overloaded"), NotCommitted, id="overloaded"),
        pytest.param(refuse("disk_full"), NotCommitted, id="disk full"),
        pytest.param(refuse("unknown"), OutcomeUnknown, id="unknown"),
        pytest.param(hang_up_before, OutcomeUnknown, id="hung up"),
        pytest.param(stay_silent, OutcomeUnknown, id="silent"),
        pytest.param(send_garbage(b"\xc1"), OutcomeUnknown, id="garbage"),
    ],
)
def test_at_the_deadline_the_error_says_whether_it_may_have_happened(trouble: Action, error: type[Exception]) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.usual = trouble

            with pytest.raises(error, match=r"create_transfers: no answer within 0\.3 s"):
                await client.create_transfers([transfer()], deadline_s=0.3)

            assert node.created == []

    run(test)


def test_one_attempt_that_may_have_happened_makes_the_outcome_unknown() -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.script.append(hang_up_after)
            node.usual = refuse("unavailable")

            with pytest.raises(OutcomeUnknown, match="under the same ids"):
                await client.create_transfers([transfer()], deadline_s=0.3)

            assert node.created == ["t1"]

    run(test)


def test_a_node_that_cannot_be_reached_means_that_it_did_not_happen() -> None:
    async def test() -> None:
        gone = await free_address()
        async with AsyncClient([gone]) as client:
            with pytest.raises(NotCommitted, match=f"last from {gone}: .*never sent.*did not happen"):
                await client.create_transfers([transfer()], deadline_s=0.1)

    run(test)


def test_a_node_that_comes_back_is_found_again() -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            await client.create_transfers([transfer("t1")])
            port = int(node.address.rpartition(":")[2])
            await node.stop()

            waiting = asyncio.create_task(client.create_transfers([transfer("t2")]))
            await node.start(port)

            assert (await waiting).are_ok
            assert node.created == ["t1", "t2"]

    run(test)


def test_when_the_leader_dies_the_next_one_is_found() -> None:
    async def test() -> None:
        async with peers(3) as nodes, AsyncClient([node.address for node in nodes]) as client:
            leader, second, third = nodes
            second.usual = third.usual = refuse("not_leader", leader=leader.address)
            await client.create_transfers([transfer("t1")])
            leader.usual = stay_silent
            waiting = asyncio.create_task(client.create_transfers([transfer("t2")]))
            await leader.wait_for_requests(len(leader.arrivals) + 1)

            await leader.stop()
            third.script.append(refuse("unavailable"))
            second.usual = refuse("not_leader", leader=third.address)
            third.usual = answer

            assert (await waiting)[0].result == CREATED
            assert third.created == ["t2"]

    run(test)


@pytest.mark.parametrize("code", ["invalid", "too_large", "method_not_found"])
def test_what_a_node_rejects_is_not_sent_again(code: str) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.usual = refuse(code, message="events[0].amount: found -1")

            with pytest.raises(Rejected, match=rf"{code}: events\[0\]\.amount: found -1"):
                await client.create_transfers([transfer()])

            assert len(node.arrivals) == 1

    run(test)


def test_a_rejection_after_an_attempt_that_may_have_happened_is_no_rejection() -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.script.extend([hang_up_after, refuse("invalid")])

            with pytest.raises(OutcomeUnknown, match="invalid"):
                await client.create_transfers([transfer()])

            assert node.created == ["t1"]

    run(test)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        pytest.param([1, b""], "0 results came for 1 events", id="too few results"),
        pytest.param([1, b"\x00\x00"], "2 results came for 1 events", id="too many results"),
        pytest.param("fine", "cannot be read: Expected `array`", id="another form"),
        pytest.param([1, b"\xff"], "result 255, which this release", id="a result of a later release"),
    ],
)
def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown(result: object, words: str) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.usual = answer_with(result)

            with pytest.raises(OutcomeUnknown, match=words):
                await client.create_transfers([transfer()])

    run(test)


@pytest.mark.parametrize("trouble", [hang_up_before, refuse("unknown"), stay_silent])
def test_an_act_that_may_have_happened_is_not_repeated(trouble: Action) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address], silence_s_max=0.5) as client:
            node.usual = trouble

            with pytest.raises(OutcomeUnknown, match="look at the account"):
                await client.operate(OperatorAction.FREEZE, "a")

            assert len(node.arrivals) == 1

    run(test)


def test_an_act_that_did_not_happen_is_repeated() -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            node.script.extend([refuse("unavailable"), answer_with([5, 0])])

            outcome = await client.operate(OperatorAction.FREEZE, "a")

            assert outcome.is_ok
            assert [arrival.params for arrival in node.arrivals] == [[1, "a", 0]] * 2

    run(test)


@pytest.mark.parametrize("trouble", [hang_up_before, refuse("unknown"), refuse("unavailable"), stay_silent])
def test_a_question_is_asked_again_and_never_happens(trouble: Action) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address], silence_s_max=0.5) as client:
            node.script.extend([trouble, answer_with([None])])

            assert await client.lookup_accounts(["a"]) == [None]
            node.usual = trouble
            with pytest.raises(NotCommitted):
                await client.lookup_accounts(["a"], deadline_s=0.25)

    run(test)


@pytest.mark.parametrize("trouble", [hang_up_before, refuse("unavailable"), refuse("not_leader", leader="127.0.0.1:9")])
def test_a_question_to_one_node_is_asked_once(trouble: Action) -> None:
    async def test() -> None:
        async with peers(2) as (node, other), AsyncClient([other.address]) as client:
            node.usual = trouble

            with pytest.raises(NotCommitted, match=node.address):
                await client.lookup_accounts(["a"], address=node.address)

            assert (len(node.arrivals), len(other.arrivals)) == (1, 0)

    run(test)


def test_a_question_to_a_dead_node_fails_at_once() -> None:
    async def test() -> None:
        gone = await free_address()
        async with AsyncClient([gone]) as client:
            started = asyncio.get_running_loop().time()

            with pytest.raises(NotCommitted, match=gone):
                await client.status(address=gone, deadline_s=20)

            assert asyncio.get_running_loop().time() - started < 5

    run(test)


def test_local_questions_are_spread_over_the_nodes() -> None:
    async def test() -> None:
        async with peers(3) as nodes, AsyncClient([node.address for node in nodes]) as client:
            for node in nodes:
                node.usual = answer_with([None])

            for _ in range(9):
                await client.lookup_accounts(["a"], read="local")

            assert [len(node.arrivals) for node in nodes] == [3, 3, 3]
            assert all(arrival.params == [["a"], "local"] for node in nodes for arrival in node.arrivals)

    run(test)


def test_a_node_that_refuses_the_connection_says_why() -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:

            def hang_up(arrival: Arrival) -> None:
                arrival.message_id = 0
                arrival.refuse("overloaded", "1000 clients are connected already")
                arrival.transport.close()

            node.usual = hang_up

            with pytest.raises(OutcomeUnknown, match="1000 clients are connected already"):
                await client.create_transfers([transfer()], deadline_s=0.2)

    run(test)
