"""The client front: whatever bytes arrive, and however slowly they are taken, the node lives and answers the others."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgpack  # type: ignore[import-untyped]  # ships no types
import pytest

from raftpay.errors import ConfigError
from raftpay.ledger import Transfer
from raftpay.node import Node
from raftpay.wire.rpc import encode_request, encode_response
from tests.node.cluster import STEADY, Client, Cluster, run_scenario, until

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]


async def hung_up_with(client: Client, sent: bytes) -> list[object]:
    """What the node says to these bytes before it hangs up."""
    client.writer.write(sent)
    unpacker = msgpack.Unpacker()
    unpacker.feed(await client.rest())
    (response,) = list(unpacker)
    assert isinstance(response, list)
    return response


async def works(cluster: Cluster, node: Node) -> bool:
    client = await cluster.client(node)
    status = await client.call("status")
    return bool(status["name"] == node.name)


GARBAGE = {
    "http": (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a message begins with byte 0x47, expected 0x94, a msgpack array of four: "
        "the other side does not speak MessagePack-RPC",
    ),
    "tls_hello": (
        b"\x16\x03\x01\x02\x00\x01\x00",
        "a message begins with byte 0x16, expected 0x94, a msgpack array of four: "
        "the other side does not speak MessagePack-RPC",
    ),
    "notification": (
        b"\x93\x02\xa6status\x90",
        "notifications are not accepted: send a request, [0, id, method, params]",
    ),
    "response": (
        encode_response(1, None),
        "a response to nothing: clients send requests, [0, id, method, params]",
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_gets_one_error_and_is_hung_up_on(
    run_cluster: RunCluster, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, expected = GARBAGE[name]

    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            response = await hung_up_with(client, sent)

            assert response == [1, 0, {"code": "protocol", "message": expected, "leader": None}, None]
            assert await works(cluster, cluster.nodes["n1"])

    run_scenario(scenario)

    assert "client broke the protocol" in caplog.text


def test_a_request_before_the_garbage_is_answered_first(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])
            client.writer.write(encode_request(7, "status", ()))
            await client.writer.drain()
            answered = await client.reader.readexactly(1)

            client.writer.write(b"\xc1")
            rest = await client.rest()

            unpacker = msgpack.Unpacker()
            unpacker.feed(answered + rest)
            first, second = list(unpacker)
            assert first[:3] == [1, 7, None]
            assert second[2]["code"] == "protocol"

    run_scenario(scenario)


def test_no_random_bytes_bring_a_node_down(run_cluster: RunCluster) -> None:
    dice = random.Random(7)
    request = encode_request(1, "create_transfers", ([Transfer("t", "a", "b", 1)],))
    methods = ("create_accounts", "operate", "lookup_accounts", "account_transfers", "query_transfers", "balance_at")

    def mutated() -> bytes:
        data = bytearray(request * dice.randrange(1, 4))
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(data)

    def any_params() -> bytes:
        values = (None, True, -1, 2**64 - 1, 1.5, "x", b"\x91", [], [[]], {}, {"limit": 0}, {"account_id": 1}, ["a"])
        params = [dice.choice(values) for _ in range(dice.randrange(4))]
        return encode_request(dice.randrange(2**32), dice.choice(methods), params)

    async def scenario() -> None:
        async with run_cluster(STEADY) as cluster:
            leader = await cluster.leader()
            bugs: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
            for round_ in range(300):
                client = await cluster.client(leader)
                make = (mutated, any_params, lambda: dice.randbytes(dice.randrange(1, 60)))[round_ % 3]
                client.writer.write(make())
                client.writer.write_eof()
                await client.rest()

            assert bugs == []
            assert await works(cluster, leader)
            assert leader.raft.is_ready

    run_scenario(scenario)


def test_an_unknown_method_is_named_with_those_there_are(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            code, message = await client.refusal("pay", 1)

            assert code == "method_not_found"
            assert message.startswith(
                "there is no method 'pay'; there are create_accounts, create_transfers, operate, "
            )

    run_scenario(scenario)


def test_a_message_over_the_limit_is_hung_up_on(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nmessage_bytes_max = 4096\n", start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            response = await hung_up_with(client, encode_request(1, "create_transfers", (bytes(5000),)))

            assert response[2] == {
                "code": "protocol",
                "message": "a message is longer than 4096 bytes: send fewer events or ids in one request",
                "leader": None,
            }

    run_scenario(scenario)


def test_a_client_too_many_is_told_so_and_takes_no_place(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nconnections_max = 2\n", start=False) as cluster:
            await cluster.start("n1")
            node = cluster.nodes["n1"]
            first, second = [await cluster.client(node) for _ in range(2)]
            await first.call("status")
            await second.call("status")

            response = await hung_up_with(await cluster.client(node), b"")
            second.writer.close()
            await until(lambda: node.front.status.connections == 1)

            assert response[2] == {
                "code": "overloaded",
                "message": "2 clients are connected already (connections_max); try another node",
                "leader": None,
            }
            assert node.front.status.refused_count == 1
            assert await works(cluster, node)

    run_scenario(scenario)


def test_requests_over_the_limit_in_flight_wait_and_all_are_answered(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nrequests_in_flight_max = 3\n") as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            before = leader.raft.last_index

            numbers = [client.send_transfers(Transfer(f"t{i}", "alice", "bob", 1)) for i in range(20)]
            answers = [await client.result(number) for number in numbers]

            assert [results for _, results in answers] == [b"\0"] * 20
            # No command could hold more than three of them.
            assert leader.raft.last_index - before >= 7

    run_scenario(scenario)


IDS = [f"account-{i}" for i in range(1000)]
# Answers of 200 kB each: to a question of 13 kB, and to one of 60 bytes, of which one read brings thousands.
LARGE_ANSWERS = {
    "long_questions": encode_request(1, "lookup_accounts", (IDS, "local")),
    "short_questions": encode_request(1, "list_accounts", ({"limit": 1000}, "local")),
}


@pytest.mark.parametrize("name", LARGE_ANSWERS)
def test_a_client_that_does_not_read_is_not_read_from_and_others_are_served(run_cluster: RunCluster, name: str) -> None:
    async def scenario() -> None:
        async with run_cluster(STEADY) as cluster:
            leader = await cluster.leader()
            good, bad = [await cluster.client(leader) for _ in range(2)]
            await good.create_accounts(*IDS)

            # Were they all answered at once, they would take 400 MB.
            bad.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a transport that reads
            bad.writer.write(LARGE_ANSWERS[name] * 2000)
            # It is held back again and again, until the buffers of the system are full as well.
            connections = {id(connection): connection for connection in leader.front.connections}
            held_back: dict[int, None] = {}
            await until(
                lambda: held_back.update({key: None for key, c in connections.items() if c.is_held_back}) or held_back
            )
            status = await good.call("status")

            assert status["name"] == leader.name
            assert [connections[key].unsent_bytes < 8 * 1024 * 1024 for key in held_back] == [True]

    run_scenario(scenario)


def test_questions_in_flight_are_refused_once_too_many_answers_wait(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nmessage_bytes_max = 1048576\n") as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts(*IDS)

            # All in flight before the first is answered: their answers together have 50 MB, the limit is 8.
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a transport that reads
            with client.held_back():
                numbers = [client.send("list_accounts", {"limit": 1000}) for _ in range(250)]
            await until(lambda: any(connection.is_held_back for connection in leader.front.connections))
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
            responses = [await client.response(number) for number in numbers]

            refused = [response.error for response in responses if response.error is not None]
            assert 20 < len(refused) < 230
            assert {(error.code, error.message) for error in refused} == {
                ("overloaded", "this connection has taken too few of its answers; read them, then ask again")
            }
            assert (await client.call("status"))["role"] == "leader"

    run_scenario(scenario)


def test_quick_questions_of_one_client_are_answered_in_turns(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nrequests_in_flight_max = 4\n", start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            with client.held_back():
                numbers = [client.send("lookup_accounts", [], "local") for _ in range(50)]
            answers = [await client.result(number) for number in numbers]

            assert answers == [[]] * 50

    run_scenario(scenario)


def test_a_client_that_goes_leaves_nothing_behind(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            client.send_transfers(Transfer("t1", "alice", "bob", 1))
            await client.writer.drain()

            client.writer.transport.abort()
            await until(lambda: leader.front.status.connections == 0)

            # What had arrived was a request like any other; whether it had is for the retry to say.
            again = await cluster.client(leader)
            _, results = await again.result(again.send_transfers(Transfer("t1", "alice", "bob", 1)))
            assert leader.ledger.transfer_count == 1
            assert len(results) == 1

    run_scenario(scenario)


def test_a_taken_client_port_is_a_configuration_error(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            address = cluster.config.nodes["n1"].client
            host, _, port = address.rpartition(":")
            other = await asyncio.start_server(lambda reader, writer: None, host, int(port))
            async with other:
                with pytest.raises(ConfigError) as caught:
                    await cluster.start("n1")

            assert str(caught.value).startswith(f"cannot listen for clients on {address}: ")
            assert str(caught.value).endswith(
                "Stop what uses the port, or change `client` of this node in every node's cluster file"
            )
            # All that had been opened is closed again.
            await cluster.start("n1")

    run_scenario(scenario)
