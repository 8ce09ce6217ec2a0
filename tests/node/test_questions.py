"""Questions: what they see, how they are refused, and that readers share one round."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from raftpay.ledger import Transfer
from tests.node.cluster import Client, Cluster, run_scenario, until

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]


async def with_three_payments(client: Client) -> list[int]:
    """alice pays bob 1, 2 and 3; returns the times."""
    await client.create_accounts("alice", "bob")
    first, results = await client.result(
        client.send_transfers(*(Transfer(f"t{i}", "alice", "bob", i, code=i) for i in (1, 2, 3)))
    )
    assert results == bytes(3)
    return [first, first + 1, first + 2]


def test_every_question_is_answered_from_the_books(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            times = await with_three_payments(client)

            alice, nobody = await client.call("lookup_accounts", ["alice", "nobody"])
            (second,) = await client.call("lookup_transfers", ["t2"], "linearizable")
            transfers = await client.call(
                "account_transfers", {"account_id": "alice", "limit": 2, "newest_first": True}
            )
            balances = await client.call("account_balances", {"account_id": "bob"}, "local")
            before = await client.call("balance_at", "bob", times[1])
            found = await client.call("query_transfers", {"code": 3})
            accounts = await client.call("list_accounts", {"prefix": "b"})
            trial = await client.call("trial_balance")
            digest = await client.call("state_digest")

            assert (alice["id"], alice["debits_posted"], nobody) == ("alice", 6, None)
            assert (second["amount"], second["timestamp"]) == (2, times[1])
            assert [item["id"] for item in transfers["items"]] == ["t3", "t2"]
            assert transfers["cursor"] != ""
            assert [item["credits_posted"] for item in balances["items"]] == [1, 3, 6]
            assert (before["credits_posted"], before["transfer_id"]) == (3, "t2")
            assert [item["id"] for item in found["items"]] == ["t3"]
            assert [item["id"] for item in accounts["items"]] == ["bob"]
            assert [(line["debits_posted"], line["credits_posted"]) for line in trial["totals"]] == [(6, 6)]
            assert digest == {"index": trial["index"], "digest": leader.ledger.state_digest()}

    run_scenario(scenario)


BAD_QUESTIONS = [
    ("lookup_accounts", (), "params: expected array of at least length 1, found 0"),
    ("lookup_accounts", (["a", 7],), "ids[1]: expected str, found int"),
    ("lookup_accounts", (["a"] * 8191,), "ids: expected array of length <= 8190"),
    ("lookup_accounts", (["a"], "stale"), "read: invalid enum value 'stale'"),
    ("lookup_accounts", (["a"], "local", 1), "params: expected array of at most length 2, found 3"),
    ("account_transfers", ({},), "query: object missing required field account_id"),
    (
        "account_transfers",
        ({"account_id": "a", "limit": 0},),
        "query.limit: found 0, expected 1 to 8190; go on with the page's cursor",
    ),
    ("account_transfers", ({"account_id": "a", "limit": "1"},), "query.limit: expected int, found str"),
    ("query_transfers", ({"limits": 1},), "query: object contains unknown field limits"),
    ("balance_at", ("a", -1), "time: expected int >= 0"),
    ("status", (1,), "params: expected array of at most length 0, found 1"),
]


@pytest.mark.parametrize(("method", "params", "expected"), BAD_QUESTIONS)
def test_a_malformed_question_is_refused_with_its_field(
    run_cluster: RunCluster, method: str, params: tuple[object, ...], expected: str
) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await cluster.client(await cluster.leader())

            assert await client.refusal(method, *params) == ("invalid", expected)

    run_scenario(scenario)


def test_a_bad_cursor_is_invalid(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            client = await cluster.client(await cluster.leader())

            code, message = await client.refusal("list_accounts", {"cursor": "x"})

            assert code == "invalid"
            assert message.startswith("query.cursor")

    run_scenario(scenario)


def test_an_answer_over_the_limit_is_refused_with_what_to_do(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster("[limits]\nmessage_bytes_max = 4096\n") as cluster:
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice")

            code, message = await client.refusal("lookup_accounts", ["alice"] * 100)

            assert code == "too_large"
            assert message.endswith("bytes, at most 4096 are sent (message_bytes_max): ask for fewer at once")

    run_scenario(scenario)


def test_a_follower_answers_local_questions_from_what_it_has(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            await with_three_payments(await cluster.client(leader))
            follower = (await cluster.followers())[0]
            await until(lambda: follower.ledger.transfer_count == 3)
            await cluster.close_node(leader)
            client = await cluster.client(follower)

            (alice,) = await client.call("lookup_accounts", ["alice"], "local")

            assert alice["debits_posted"] == 6

    run_scenario(scenario)


def test_a_follower_answers_no_linearizable_question_without_a_leader(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(start=False) as cluster:
            await cluster.start("n1")
            client = await cluster.client(cluster.nodes["n1"])

            refused = await client.refusal("lookup_accounts", ["alice"])

            assert refused == (
                "unavailable",
                "n1 knows no leader that is ready; an election may be under way, try again",
            )

    run_scenario(scenario)


@pytest.mark.parametrize("asked", ["leader", "follower"])
def test_a_question_sees_every_write_that_was_answered_before(run_cluster: RunCluster, asked: str) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            writer = await cluster.client(leader)
            reader = writer if asked == "leader" else await cluster.client((await cluster.followers())[0])
            await writer.create_accounts("alice", "bob")

            for number in range(1, 50):
                await writer.result(writer.send_transfers(Transfer(f"t{number}", "alice", "bob", 1)))
                (alice,) = await reader.call("lookup_accounts", ["alice"])
                assert alice["debits_posted"] == number

    run_scenario(scenario)


def test_many_readers_share_few_rounds(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            clients = [await cluster.client(leader) for _ in range(5)]
            await clients[0].create_accounts("alice")
            before = leader.reads.round_count

            asked = [(client, client.send("lookup_accounts", ["alice"])) for client in clients for _ in range(40)]
            answers = [await client.result(number) for client, number in asked]

            assert {answer[0]["id"] for answer in answers} == {"alice"}
            assert leader.reads.round_count - before <= 10

    run_scenario(scenario)


def test_a_leader_without_a_majority_answers_no_linearizable_question(run_cluster: RunCluster) -> None:
    settings = "[raft]\nelection_timeout_min_s = 1.0\nelection_timeout_max_s = 1.5\n[limits]\nrequest_timeout_s = 0.2\n"

    async def scenario() -> None:
        async with run_cluster(settings) as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice")
            for node in await cluster.followers():
                await cluster.close_node(node)

            refused = await client.refusal("lookup_accounts", ["alice"])
            (alice,) = await client.call("lookup_accounts", ["alice"], "local")

            assert refused == ("unavailable", "no majority confirmed within 0.2 s who leads; try again")
            assert alice["id"] == "alice"

    run_scenario(scenario)


def test_a_digest_of_an_index_not_reached_yet_is_unavailable(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            applied = leader.raft.applied_index

            refused = await client.refusal("state_digest", applied + 1)
            reached = await client.call("state_digest", applied)

            assert refused == ("unavailable", f"this node has applied {applied}, not yet {applied + 1}; ask again")
            assert reached["index"] == applied

    run_scenario(scenario)


def test_status_tells_who_leads_and_how_far_everyone_is(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            follower = (await cluster.followers())[0]

            of_leader = await client.call("status")
            of_follower = await (await cluster.client(follower)).call("status")

            assert (of_leader["role"], of_leader["leader"]) == ("leader", leader.name)
            assert (of_follower["role"], of_follower["leader"]) == ("follower", leader.name)
            assert of_follower["leader_address"] == leader.node_config.client
            assert of_leader["cluster_id"] == "test"
            assert (of_leader["accounts"], of_leader["transfers"], of_leader["pendings"]) == (2, 0, 0)
            assert of_leader["commit_index"] == of_leader["applied_index"] == leader.raft.applied_index
            assert of_leader["has_quorum"] is True
            assert {peer["name"] for peer in of_leader["peers"]} == set(cluster.nodes) - {leader.name}
            assert of_leader["data_directory"] == str(leader.node_config.data)
            assert of_leader["term"] == of_follower["term"]

    run_scenario(scenario)
