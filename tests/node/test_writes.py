"""Writes through real sockets, the group commit and the log of three nodes."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from raftpay.ledger import (
    BATCH_EVENTS_MAX,
    Command,
    CreateAccountResult,
    CreateTransferResult,
    OperatorAction,
    OperatorResult,
    Transfer,
    TransferFlag,
)
from raftpay.node import Node
from tests.node.cluster import Cluster, run_scenario, until

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]

CREATED = CreateTransferResult.CREATED


def payment(id: str, amount: int = 1, **fields: object) -> Transfer:
    return Transfer(id, "alice", "bob", amount, **fields)  # type: ignore[arg-type]  # of the struct's own types


def commands_of(node: Node) -> list[Command]:
    """What the log of a node holds for the ledger, oldest first."""
    journal = node.journal
    entries = journal.entries(journal.first_index, journal.last_index, bytes_max=1 << 30)
    # The engine's type byte and our version byte come first; its own no-ops have no command.
    return [
        msgspec.msgpack.decode(entry.payload[2:], type=Command) for entry in entries if entry.payload[:2] == b"\x00\x01"
    ]


def test_a_transfer_that_was_answered_is_on_all_nodes(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")

            timestamp, results = await client.result(client.send_transfers(payment("t1", 100)))

            assert results == bytes([CREATED])
            for node in cluster.nodes.values():
                await until(lambda node=node: node.ledger.transfer_count == 1)
                (record,) = node.ledger.lookup_transfers(["t1"])
                assert record is not None
                assert (record.amount, record.timestamp) == (100, timestamp)
            assert len({node.ledger.state_digest() for node in cluster.nodes.values()}) == 1

    run_scenario(scenario)


def test_each_request_gets_its_own_results(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            clients = [await cluster.client(leader) for _ in range(3)]
            await clients[0].create_accounts("alice", "bob")

            # All in one turn of the loop, so that they share commands.
            sent = [
                (
                    clients[number % 3],
                    clients[number % 3].send_transfers(
                        *(payment(f"t{number}-{i}") for i in range(number % 4)),
                        Transfer(f"t{number}-last", "alice", f"nobody-{number}", 1),
                    ),
                    [CREATED] * (number % 4) + [CreateTransferResult.CREDIT_ACCOUNT_NOT_FOUND],
                )
                for number in range(60)
            ]
            answers = [(await client.result(number), expected) for client, number, expected in sent]

            assert [list(results) for (_, results), _ in answers] == [expected for _, expected in answers]
            times = [timestamp for (timestamp, _), _ in answers]
            assert len(set(times)) == 60
            for number, ((timestamp, _), _) in enumerate(answers):
                if number % 4:
                    (record,) = leader.ledger.lookup_transfers([f"t{number}-0"])
                    assert record is not None
                    assert record.timestamp == timestamp

    run_scenario(scenario)


def test_requests_that_arrive_together_become_one_command(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[commit]\ncommands_in_flight_max = 1\n") as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            before = len(commands_of(leader))

            # In one segment of TCP, so that they arrive together.
            with client.held_back():
                numbers = [client.send_transfers(payment(f"t{i}")) for i in range(100)]
            answers = [await client.result(number) for number in numbers]

            commands = commands_of(leader)[before:]
            assert len(commands) == 1
            ids = [event.id for command in commands for request in command.requests for event in request.events]
            assert ids == [f"t{i}" for i in range(100)]
            assert [timestamp for timestamp, _ in answers] == sorted(timestamp for timestamp, _ in answers)

    run_scenario(scenario)


def test_no_command_holds_more_events_than_configured_unless_one_request_does(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[commit]\ncommand_events_max = 10\n") as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            before = len(commands_of(leader))

            sizes = [4, 4, 4, 10, 1, 25, 3, 9, 1, 1]
            numbers = [
                client.send_transfers(*(payment(f"t{place}-{i}") for i in range(size)))
                for place, size in enumerate(sizes)
            ]
            answers = [await client.result(number) for number in numbers]

            assert [len(results) for _, results in answers] == sizes
            grouped = [
                [len(request.events) for request in command.requests] for command in commands_of(leader)[before:]
            ]
            assert [size for group in grouped for size in group] == sizes
            assert all(sum(group) <= 10 or len(group) == 1 for group in grouped)
            assert any(len(group) > 1 for group in grouped)

    run_scenario(scenario)


def test_times_of_commands_rise_even_when_the_clock_goes_back(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        hours = iter(range(1_000, 0, -1))
        async with run_cluster(start=False) as cluster:
            await cluster.start(clock_ns=lambda: next(hours) * 3_600_000_000_000)
            leader = await cluster.leader()
            client = await cluster.client(leader)

            await client.create_accounts("alice", "bob", "carol")
            answers = [await client.result(client.send_transfers(payment(f"t{i}"), payment(f"u{i}"))) for i in range(5)]

            (first,) = {command.time for command in commands_of(leader)[:1]}
            assert [timestamp for timestamp, _ in answers] == [first + 3 + 2 * i for i in range(5)]

    run_scenario(scenario)


def test_a_full_batch_is_accepted_and_one_event_more_is_not(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")
            batch = [payment(f"t{i}") for i in range(BATCH_EVENTS_MAX + 1)]

            _, results = await client.result(client.send_transfers(*batch[:-1]))
            refused = await client.refusal_of(client.send_transfers(*batch))

            assert results == bytes(BATCH_EVENTS_MAX)
            assert refused == ("too_large", "events: found 8191, expected at most 8190 in one request")

    run_scenario(scenario)


def test_events_may_come_as_a_plain_array_of_any_msgpack_client(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await cluster.client(await cluster.leader())

            _, accounts = await client.call("create_accounts", [["alice", "EUR"], ["bob", "EUR"]])
            _, transfers = await client.call("create_transfers", [["t1", "alice", "bob", 5]])

            assert accounts == bytes([CreateAccountResult.CREATED] * 2)
            assert transfers == bytes([CREATED])

    run_scenario(scenario)


def test_an_operators_act_is_logged_and_answered_with_one_number(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")

            timestamp, done = await client.call("operate", OperatorAction.FREEZE, "alice", 0)
            _, missing = await client.call("operate", OperatorAction.FREEZE, "carol")
            _, frozen = await client.result(client.send_transfers(payment("t1")))

            assert timestamp > 0
            assert (done, missing) == (OperatorResult.DONE, OperatorResult.ACCOUNT_NOT_FOUND)
            assert frozen == bytes([CreateTransferResult.DEBIT_ACCOUNT_FROZEN])

    run_scenario(scenario)


def test_a_malformed_write_is_refused_with_its_field_and_nothing_is_logged(run_cluster: RunCluster) -> None:
    cases = [
        (
            "create_transfers",
            ([["t", "a", "b", 1], ["t", "a", "b", 1.5]],),
            "events[1].amount: expected int or null, found float",
        ),
        ("create_transfers", ([],), "events: found none, expected at least one"),
        ("create_transfers", ("x",), "events: expected a msgpack array, found byte 0xa1"),
        ("create_transfers", (b"",), "events: expected a msgpack array, found nothing"),
        ("create_transfers", (), "params: expected an array of one, [events]"),
        ("create_transfers", ([], []), "params: expected an array of one, [events]"),
        ("create_accounts", ([["a"]],), "events[0]: expected array of at least length 2, found 1"),
        ("operate", (1,), "params: expected array of at least length 2, found 1"),
        ("operate", (1, 2), "account_id: expected str, found int"),
        ("operate", (1, "a", None), "overdraft_limit: expected int, found null"),
        ("operate", (7, "a"), "action: expected one of 1 (freeze), 2 (unfreeze), 3 (set_overdraft_limit), found 7"),
    ]

    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            before = leader.raft.last_index

            for method, params, expected in cases:
                assert await client.refusal(method, *params) == ("invalid", expected)

            assert leader.raft.last_index == before

    run_scenario(scenario)


def test_a_follower_sends_writers_to_the_leaders_client_address(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            follower = (await cluster.followers())[0]
            client = await cluster.client(follower)

            response = await client.response(client.send_transfers(payment("t1")))

            assert response.error is not None
            assert (response.error.code, response.error.leader) == ("not_leader", leader.node_config.client)
            assert response.error.message == f"{follower.name} does not lead, {leader.name} does"

    run_scenario(scenario)


def test_a_node_that_knows_no_leader_is_unavailable(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            code, message = await client.refusal_of(client.send_transfers(payment("t1")))

            assert code == "unavailable"
            assert message == "n1 knows no leader that is ready; an election may be under way, try again"

    run_scenario(scenario)


# Long enough that a leader without followers goes on believing in itself while a test looks at its queue.
SLOW = "[raft]\nelection_timeout_min_s = 1.0\nelection_timeout_max_s = 1.5\n"


async def cut_off_leader(cluster: Cluster) -> Node:
    """The leader, its followers gone: what it proposes stays in flight until it notices."""
    leader = await cluster.leader()
    client = await cluster.client(leader)
    await client.create_accounts("alice", "bob")
    for node in await cluster.followers():
        await cluster.close_node(node)
    return leader


def test_a_full_queue_refuses_more_as_overloaded(run_cluster: RunCluster) -> None:
    settings = SLOW + "[limits]\nqueue_requests_max = 3\n[commit]\ncommands_in_flight_max = 1\n"

    async def scenario() -> None:
        async with run_cluster(settings) as cluster:
            leader = await cut_off_leader(cluster)
            client = await cluster.client(leader)
            in_flight = client.send_transfers(payment("t0"))
            await until(lambda: leader.group_commit.in_flight_count == 1)

            queued = [client.send_transfers(payment(f"t{i}")) for i in range(1, 4)]
            code, message = await client.refusal_of(client.send_transfers(payment("t4")))

            assert code == "overloaded"
            assert message.startswith("3 requests of ")
            assert message.endswith("(limits queue_requests_max = 3, queue_bytes_max = 134217728); try again later")
            # Once the leader notices that it is alone, what was proposed is unknown, and the rest did not happen.
            assert (await client.refusal_of(in_flight))[0] == "unknown"
            assert {(await client.refusal_of(number))[0] for number in queued} == {"unavailable"}

    run_scenario(scenario)


def test_what_waits_too_long_is_unavailable_before_the_log_and_unknown_in_it(run_cluster: RunCluster) -> None:
    settings = SLOW + "[limits]\nrequest_timeout_s = 0.2\n[commit]\ncommands_in_flight_max = 1\n"

    async def scenario() -> None:
        async with run_cluster(settings) as cluster:
            leader = await cut_off_leader(cluster)
            client = await cluster.client(leader)
            in_flight = client.send_transfers(payment("t0"))
            await until(lambda: leader.group_commit.in_flight_count == 1)
            queued = client.send_transfers(payment("t1"))

            assert await client.refusal_of(in_flight) == (
                "unknown",
                "in the log, but not committed within 0.2 s (request_timeout_s): it may still be; "
                "send the same request again, under the same ids",
            )
            assert await client.refusal_of(queued) == (
                "unavailable",
                "waited 0.2 s (request_timeout_s) for its place in the log; nothing was written",
            )
            assert leader.raft.role == "leader"

    run_scenario(scenario)


def test_a_write_that_timed_out_may_still_take_effect_and_its_retry_tells(run_cluster: RunCluster) -> None:
    settings = SLOW + "[limits]\nrequest_timeout_s = 0.2\n"

    async def scenario() -> None:
        async with run_cluster(settings) as cluster:
            leader = await cut_off_leader(cluster)
            client = await cluster.client(leader)
            code, _ = await client.refusal_of(client.send_transfers(payment("t0")))
            await cluster.start(*(name for name in cluster.config.nodes if name != leader.name))

            again = await cluster.client(await cluster.leader())
            _, results = await again.result(again.send_transfers(payment("t0")))

            assert code == "unknown"
            assert results[0] in (CREATED, CreateTransferResult.EXISTS)
            assert sum(node.ledger.transfer_count for node in [await cluster.leader()]) == 1

    run_scenario(scenario)


def test_a_pending_transfer_expires_while_nobody_asks_for_anything(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            await client.result(client.send_transfers(payment("t1", timeout_s=1, flags=TransferFlag.PENDING)))

            for node in cluster.nodes.values():
                await until(lambda node=node: node.ledger.pending_count == 0)

            (record,) = leader.ledger.lookup_transfers(["t1"])
            assert record is not None
            assert record.pending_status == "expired"
            sweep = commands_of(leader)[-1]
            assert sweep.requests == []
            assert sweep.time >= record.timestamp + 1_000_000_000

    run_scenario(scenario)


def test_a_new_leader_sweeps_what_fell_due_under_the_old_one(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            await client.result(client.send_transfers(payment("t1", timeout_s=1, flags=TransferFlag.PENDING)))
            survivors = await cluster.followers()

            await cluster.close_node(leader)

            for node in survivors:
                await until(lambda node=node: node.ledger.transfer_count == 1 and node.ledger.pending_count == 0)

    run_scenario(scenario)
