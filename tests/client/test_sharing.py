"""Concurrent calls share requests, long lists are split, and nobody gets another's results, deadline or refusal."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine

import pytest

from raftpay import (
    Account,
    AsyncClient,
    CreateTransferResult,
    NotCommitted,
    OutcomeUnknown,
    Rejected,
    Transfer,
    TransferFlag,
)
from raftpay.client import async_client
from raftpay.client.arguments import EVENTS_BYTES_MAX, EventBatch
from raftpay.client.lanes import Call, take_together
from raftpay.ledger import BATCH_EVENTS_MAX
from tests.client.peer import Arrival, Peer, hang_up_after, peers, refuse, stay_silent

CREATED, EXISTS = CreateTransferResult.CREATED, CreateTransferResult.EXISTS


def transfer(number: int, flags: int = 0) -> Transfer:
    return Transfer(f"t{number}", "a", "b", 100, flags=flags)


def run(test: Callable[[Peer, AsyncClient], Coroutine[object, object, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30), peers() as (node,), AsyncClient([node.address]) as client:
            await test(node, client)

    asyncio.run(limited())


async def held(node: Peer, client: AsyncClient, count: int = 2) -> list[asyncio.Task]:
    """Fill the requests in flight with calls that the node keeps unanswered; their ids are h0, h1 …"""
    node.script.extend([stay_silent] * count)
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(client.create_transfers([Transfer(f"h{number}", "a", "b", 1)])))
        await node.wait_for_requests(len(node.arrivals) + 1)
    return tasks


def release(node: Peer) -> None:
    for arrival in [one for one in node.arrivals if one.params[0][0].id.startswith("h")]:
        arrival.answer()


def test_what_waits_while_requests_are_in_flight_travels_in_the_next_one() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        waiting = [asyncio.create_task(client.create_transfers([transfer(number)])) for number in range(64)]
        await asyncio.wait(waiting, timeout=0)

        release(node)
        outcomes = await asyncio.gather(*holding, *waiting)

        assert node.batches() == [["h0"], ["h1"], [f"t{number}" for number in range(64)]]
        assert all(one.are_ok and len(one) == 1 for one in outcomes)

    run(test)


def test_tasks_that_wake_together_share_a_request() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        await client.create_transfers([transfer(0), transfer(1)])

        async def pay(task: int) -> None:
            for turn in range(10):
                outcome = await client.create_transfer(Transfer(f"{task}-{turn}", "a", "b", 1))
                assert outcome.result == CREATED

        await asyncio.gather(*(pay(task) for task in range(64)))

        assert len(node.created) == 642
        assert len(node.arrivals) <= 21

    run(test)


def test_each_call_gets_its_own_results_and_times() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        first = asyncio.create_task(client.create_transfers([transfer(1), transfer(2)]))
        second = asyncio.create_task(client.create_transfers([transfer(2), transfer(3), transfer(1)]))
        await asyncio.wait([first, second], timeout=0)

        release(node)
        await asyncio.gather(*holding)

        assert [outcome.result for outcome in await first] == [CREATED, CREATED]
        assert [outcome.result for outcome in await second] == [EXISTS, CREATED, EXISTS]
        times = [outcome.timestamp for outcome in [*await first, *await second]]
        assert times == list(range(times[0], times[0] + 5))

    run(test)


@pytest.mark.parametrize("flag", [TransferFlag.LINKED, TransferFlag.IMPORTED, TransferFlag.LINKED | 2])
def test_a_call_whose_events_share_their_fate_travels_alone(flag: int) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        calls = [[transfer(1)], [transfer(2)], [transfer(3, flag), transfer(4)], [transfer(5)], [transfer(6)]]
        waiting = [asyncio.create_task(client.create_transfers(call)) for call in calls]
        await asyncio.wait(waiting, timeout=0)

        release(node)
        await asyncio.gather(*holding, *waiting)

        assert node.batches()[2:] == [["t1", "t2"], ["t3", "t4"], ["t5", "t6"]]

    run(test)


def test_no_more_than_two_requests_are_in_flight() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        waiting = [
            asyncio.create_task(client.create_transfers([transfer(number, TransferFlag.LINKED), transfer(99)]))
            for number in range(5)
        ]
        most = 0
        open_ones: list[Arrival] = []

        def hold_two(arrival: Arrival) -> None:
            nonlocal most
            open_ones.append(arrival)
            most = max(most, len(open_ones))
            if len(open_ones) == 2 or len(node.arrivals) == 7:
                while open_ones:
                    open_ones.pop(0).answer()

        node.usual = hold_two
        release(node)
        await asyncio.gather(*holding, *waiting)

        assert most == 2

    run(test)


def test_a_call_that_a_node_rejects_takes_no_other_with_it() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        def reject_t2(arrival: Arrival) -> None:
            if any(event.id == "t2" for event in arrival.params[0]):
                arrival.refuse("invalid", "t2 is not to its liking")
            else:
                arrival.answer()

        node.usual = reject_t2
        holding = await held(node, client)
        waiting = [asyncio.create_task(client.create_transfers([transfer(number)])) for number in range(4)]
        await asyncio.wait(waiting, timeout=0)

        release(node)
        results = await asyncio.gather(*holding, *waiting, return_exceptions=True)

        assert isinstance(results[4], Rejected)
        assert [bool(one.are_ok) for one in results if not isinstance(one, Rejected)] == [True] * 5
        assert node.created == ["h0", "h1", "t0", "t1", "t3"]

    run(test)


def test_callers_of_one_request_each_get_an_error_of_their_own() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        waiting = [asyncio.create_task(client.create_transfers([transfer(number)])) for number in range(3)]
        await asyncio.wait(waiting, timeout=0)
        node.usual = lambda arrival: arrival.answer_with("rubbish")

        release(node)
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.gather(*holding)

        assert [type(error) for error in errors] == [OutcomeUnknown] * 3
        assert len({id(error) for error in errors}) == 3

    run(test)


def test_each_call_keeps_its_own_deadline() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        node.script.append(stay_silent)
        hasty = asyncio.create_task(client.create_transfers([transfer(1)], deadline_s=0.4))
        patient = asyncio.create_task(client.create_transfers([transfer(2)]))
        await asyncio.wait([hasty, patient], timeout=0)
        release(node)
        await asyncio.gather(*holding)

        with pytest.raises(OutcomeUnknown, match=r"within 0\.4 s"):
            await hasty
        node.arrivals[-1].answer()

        assert node.batches()[-1] == ["t1", "t2"]
        assert [outcome.result for outcome in await patient] == [CREATED]

    run(test)


def test_a_call_that_was_never_sent_did_not_happen() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)

        with pytest.raises(NotCommitted, match="not sent within"):
            await client.create_transfers([transfer(1)], deadline_s=0.05)
        release(node)
        await asyncio.gather(*holding)
        await client.create_transfers([transfer(2)])

        assert node.created == ["h0", "h1", "t2"]

    run(test)


def test_what_a_caller_gave_up_is_not_sent_again() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        node.script.append(stay_silent)
        left = asyncio.create_task(client.create_transfers([transfer(1)]))
        stays = asyncio.create_task(client.create_transfers([transfer(2)]))
        await asyncio.wait([left, stays], timeout=0)
        release(node)
        await asyncio.gather(*holding)
        await node.wait_for_requests(3)

        left.cancel()
        await asyncio.wait([left])
        node.arrivals[-1].hang_up()

        assert (await stays).are_ok
        assert left.cancelled()
        assert node.batches()[2:] == [["t1", "t2"], ["t2"]]

    run(test)


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_cancelled_call_leaves_nothing_behind(is_sent: bool) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        node.script.append(stay_silent)
        before = asyncio.all_tasks()
        call = asyncio.create_task(client.create_transfers([transfer(1)]))
        if is_sent:
            await node.wait_for_requests(1)
        else:
            await asyncio.wait([call], timeout=0)

        call.cancel()
        await asyncio.wait([call])
        # Both places in flight are free again: two silent requests and one more would not fit otherwise.
        node.script.clear()
        outcomes = await asyncio.gather(*(client.create_transfers([transfer(2 + n, 1)]) for n in range(4)))

        assert all(one.are_ok for one in outcomes)
        assert asyncio.all_tasks() - before == set()

    run(test)


def test_a_list_over_the_limit_is_sent_in_parts_one_after_the_other() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        transfers = [transfer(number) for number in range(2 * BATCH_EVENTS_MAX + 5)]

        outcomes = await client.create_transfers(transfers)

        assert [len(ids) for ids in node.batches()] == [BATCH_EVENTS_MAX, BATCH_EVENTS_MAX, 5]
        assert node.created == [one.id for one in transfers]
        assert len(outcomes) == len(transfers)
        assert outcomes.are_ok
        assert outcomes[BATCH_EVENTS_MAX].timestamp > outcomes[BATCH_EVENTS_MAX - 1].timestamp
        assert [outcome.timestamp for outcome in outcomes] == [outcomes[i].timestamp for i in range(len(outcomes))]

    run(test)


def test_a_list_of_exactly_the_limit_is_one_request_even_if_linked() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        transfers = [transfer(number, TransferFlag.LINKED) for number in range(BATCH_EVENTS_MAX)]

        await client.create_transfers(transfers)

        assert len(node.arrivals) == 1

    run(test)


@pytest.mark.parametrize("flag", [TransferFlag.LINKED, TransferFlag.IMPORTED])
def test_events_that_share_their_fate_are_never_split(flag: TransferFlag) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        transfers = [transfer(number) for number in range(BATCH_EVENTS_MAX)] + [transfer(-1, flag)]

        with pytest.raises(Rejected, match=f"transfers: more than {BATCH_EVENTS_MAX}"):
            await client.create_transfers(transfers)

        assert node.arrivals == []

    run(test)


def test_events_too_long_for_one_request_are_sent_in_parts() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        transfers = [Transfer(f"t{n}", "a", "b", 1, reference="x" * (EVENTS_BYTES_MAX // 3)) for n in range(5)]

        outcomes = await client.create_transfers(transfers)

        assert outcomes.are_ok
        assert node.created == [f"t{n}" for n in range(5)]
        assert len(node.arrivals) == 3

    run(test)


def test_calls_too_long_together_travel_apart() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        calls = [[Transfer(f"t{n}", "a", "b", 1, reference="x" * (EVENTS_BYTES_MAX // 3))] for n in range(5)]
        waiting = [asyncio.create_task(client.create_transfers(call)) for call in calls]
        await asyncio.wait(waiting, timeout=0)

        release(node)
        await asyncio.gather(*holding, *waiting)

        assert [len(ids) for ids in node.batches()[2:]] == [2, 2, 1]

    run(test)


@pytest.mark.parametrize("trouble", [refuse("unavailable"), refuse("invalid"), hang_up_after])
def test_when_a_part_fails_after_others_took_effect_the_outcome_is_unknown(trouble: Callable[[Arrival], None]) -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        transfers = [transfer(number) for number in range(BATCH_EVENTS_MAX + 5)]
        node.script.append(lambda arrival: arrival.answer())
        node.usual = trouble

        with pytest.raises(OutcomeUnknown, match="same"):
            await client.create_transfers(transfers, deadline_s=2)
        node.usual = lambda arrival: arrival.answer()
        again = await client.create_transfers(transfers)

        assert again.are_ok
        assert node.created == [one.id for one in transfers]

    run(test)


def test_nothing_is_sent_for_an_empty_list() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        outcomes = await client.create_transfers([])

        assert (list(outcomes), node.arrivals) == ([], [])
        assert outcomes.are_ok

    run(test)


def test_accounts_and_transfers_do_not_wait_for_each_other() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)

        outcomes = await client.create_accounts([Account("a", "EUR"), Account("b", "EUR")])
        release(node)
        await asyncio.gather(*holding)

        assert outcomes.are_ok
        assert node.batches("create_accounts") == [["a", "b"]]

    run(test)


def test_a_client_with_too_much_waiting_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_client, "WAITING_EVENTS_MAX", 10)

    async def test(node: Peer, client: AsyncClient) -> None:
        holding = await held(node, client)
        waiting = asyncio.create_task(client.create_transfers([transfer(number) for number in range(8)]))
        await asyncio.wait([waiting], timeout=0)

        with pytest.raises(NotCommitted, match="8 events wait in this client already, at most 10 may"):
            await client.create_transfers([transfer(number) for number in range(20, 23)])
        release(node)
        await asyncio.gather(*holding, waiting)
        await client.create_transfers([transfer(number) for number in range(20, 30)])

        assert len(node.created) == 20

    run(test)


def test_closing_ends_every_call_with_the_truth() -> None:
    async def test(node: Peer, client: AsyncClient) -> None:
        sent = await held(node, client)
        waiting = asyncio.create_task(client.create_transfers([transfer(1)]))
        question = asyncio.create_task(client.lookup_accounts(["a"]))
        node.usual = stay_silent
        await node.wait_for_requests(3)

        await client.close()
        errors = await asyncio.gather(*sent, waiting, question, return_exceptions=True)

        assert [type(error) for error in errors] == [OutcomeUnknown, OutcomeUnknown, NotCommitted, NotCommitted]
        assert all("closed" in str(error) for error in errors)
        await node.wait_until(lambda: not node.connections)
        with pytest.raises(Rejected, match="closed"):
            await client.create_transfers([transfer(2)])

    run(test)


def test_calls_are_taken_in_order_and_within_the_limits() -> None:
    dice = random.Random(7)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(300):
            calls = [
                Call(EventBatch(b"", dice.choice([1, 5, 4000, 8190]), dice.random() < 0.2), 1.0, loop)
                for _ in range(dice.randrange(12))
            ]
            for call in calls:
                if dice.random() < 0.1:
                    call.done.cancel()
            queue, groups = deque(calls), []
            while group := take_together(queue):
                groups.append(group)

            assert [call for group in groups for call in group] == [c for c in calls if not c.done.done()]
            assert all(sum(call.batch.count for call in group) <= BATCH_EVENTS_MAX for group in groups)
            assert all(len(group) == 1 for group in groups if any(call.is_alone for call in group))

    asyncio.run(test())
