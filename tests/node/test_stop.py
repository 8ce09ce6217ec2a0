"""How nodes stop: in good order, over a failure, and by signals as processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from raftpay.config import ClusterConfig, load
from raftpay.errors import ConfigError, FormatVersionError, RaftError, StorageError
from raftpay.ledger import CreateTransferResult, Transfer
from raftpay.ops.ports import free_ports
from raftpay.ops.probe import probe
from tests.node.cluster import Cluster, cluster_text, run_scenario, until

RunCluster = Callable[..., AbstractAsyncContextManager[Cluster]]
MakeConfig = Callable[..., ClusterConfig]
# A slow machine loses no leader, and a handover takes as long as it takes.
UNHURRIED = "[raft]\nelection_timeout_min_s = 2.0\nelection_timeout_max_s = 3.0\ntransfer_timeout_s = 60\n"


def test_a_stopping_leader_finishes_what_it_accepted_and_hands_over(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster(UNHURRIED) as cluster:
            leader = await cluster.leader()
            followers = await cluster.followers()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            numbers = [client.send_transfers(Transfer(f"t{i}", "alice", "bob", 1)) for i in range(200)]
            await until(lambda: leader.group_commit.in_flight_count > 0)

            stopping = asyncio.create_task(leader.stop())
            answers = [await client.response(number) for number in numbers]
            await stopping
            del cluster.nodes[leader.name]

            # Every one has an answer: done, or certainly not done.
            done = [answer for answer in answers if answer.error is None]
            refused = {answer.error.code for answer in answers if answer.error is not None}
            assert done
            assert refused <= {"unavailable"}
            # Handed over: the others need no election time-out to agree on one of them.
            assert {node.raft.leader for node in followers} & {node.name for node in followers}
            successor = await cluster.leader()
            assert successor.ledger.transfer_count == len(done)

    run_scenario(scenario)


@pytest.mark.parametrize(("payments", "is_taken"), [(400, True), (3, False)], ids=["much", "little"])
def test_a_node_stopped_behind_much_log_takes_a_snapshot(
    run_cluster: RunCluster, *, payments: int, is_taken: bool
) -> None:
    async def scenario() -> None:
        async with run_cluster("[snapshot]\nlog_bytes_max = 262144\n") as cluster:
            client = await cluster.client(await cluster.leader())
            await client.create_accounts("alice", "bob")
            transfers = [Transfer(f"t{i}", "alice", "bob", 1, reference="x" * 128) for i in range(payments)]
            await client.result(client.send_transfers(*transfers))
            node = (await cluster.followers())[0]
            await until(lambda: node.ledger.transfer_count == payments)
            index = node.raft.applied_index
            assert node.raft.snapshot_index == 0

            await node.stop()
            del cluster.nodes[node.name]

            assert (node.raft.snapshot_index >= index) == is_taken
            await cluster.start(node.name)
            await until(lambda: cluster.nodes[node.name].ledger.transfer_count == payments)

    run_scenario(scenario)


def test_a_stopped_node_comes_back_with_everything(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            await client.result(client.send_transfers(Transfer("t1", "alice", "bob", 7)))
            digest = leader.ledger.state_digest()

            for node in list(cluster.nodes.values()):
                await node.stop()
                del cluster.nodes[node.name]
            await cluster.start()
            again = await cluster.leader()
            client = await cluster.client(again)
            _, results = await client.result(client.send_transfers(Transfer("t1", "alice", "bob", 7)))

            assert results == bytes([CreateTransferResult.EXISTS])
            assert again.ledger.transfer_count == 1
            assert again.ledger.state_digest() == digest

    run_scenario(scenario)


def test_a_write_to_a_stopping_node_did_not_happen(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            before = leader.raft.last_index

            leader.group_commit.close()
            refused = await client.refusal_of(client.send_transfers(Transfer("t1", "alice", "bob", 1)))

            assert refused == ("unavailable", "this node is stopping; nothing was written, ask another one")
            assert leader.raft.last_index == before

    run_scenario(scenario)


def test_an_entry_that_cannot_be_applied_stops_the_engine_and_says_which(run_cluster: RunCluster) -> None:
    async def scenario() -> None:
        async with run_cluster() as cluster:
            leader = await cluster.leader()
            client = await cluster.client(leader)
            await client.create_accounts("alice", "bob")
            poison = leader.raft.propose(b"\x63rest")
            pending = client.send_transfers(Transfer("t1", "alice", "bob", 1))
            index = leader.raft.last_index

            async with asyncio.timeout(20):
                failure = await leader.wait_failed()
            refused = await client.refusal_of(pending)

            assert isinstance(failure, RaftError | FormatVersionError)
            causes = f"{failure!r} {failure.__cause__!r}"
            assert f"log entry {index}: the command has version 99, this release knows version 1" in causes
            assert refused[0] in ("unknown", "unavailable")
            assert isinstance(poison.exception(), RaftError)

    run_scenario(scenario)


def test_a_node_of_another_cluster_does_not_open_the_data_directory(make_config: MakeConfig, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20):
            cluster = Cluster(make_config())
            await cluster.start("n1")
            await cluster.close()
            text = cluster_text(free_ports(6)).replace('id = "test"', 'id = "other"')
            (tmp_path / "other.toml").write_text(text)

            with pytest.raises(StorageError, match=r"other.*test|test.*other"):
                await Cluster(load(tmp_path / "other.toml")).start("n1")

    run_scenario(scenario)


def test_two_nodes_cannot_share_a_data_directory(make_config: MakeConfig, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20):
            first = Cluster(make_config())
            await first.start("n1")
            try:
                with pytest.raises(StorageError, match="n1"):
                    await Cluster(make_config()).start("n1")
            finally:
                await first.close()

    run_scenario(scenario)


def test_a_taken_peer_port_is_a_configuration_error(make_config: MakeConfig) -> None:
    config = make_config()
    host, _, port = config.nodes["n1"].peer.rpartition(":")

    async def scenario() -> None:
        with socket.create_server((host, int(port))), pytest.raises(ConfigError, match="cannot listen for its peers"):
            await Cluster(config).start("n1")

    run_scenario(scenario)


# ---- as processes ----------------------------------------------------------------------------------------------------

PROGRAM = "import sys; from raftpay.config import load; from raftpay.node import run_node_process; "
RUN = PROGRAM + "run_node_process(load(sys.argv[1]), sys.argv[2])"
RUN_OR_SAY = (
    "from raftpay.errors import RaftpayError\n"
    + PROGRAM
    + "\ntry:\n    run_node_process(load(sys.argv[1]), sys.argv[2])\n"
    "except RaftpayError as error:\n    sys.exit(f'{type(error).__name__}: {error}')"
)


@contextmanager
def node_process(path: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """A node as a process, listening. It is killed at the end if it still lives."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(path), name], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            while " INFO node started " not in line:
                assert line, "the node ended before it listened"
                line = process.stderr.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(cluster_text(free_ports(6)))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_in_good_order(cluster_file: Path, number: signal.Signals) -> None:
    with node_process(cluster_file, "n1") as process:
        process.send_signal(number)
        _, log = process.communicate(timeout=20)

    assert process.returncode == 0
    lines = log.splitlines()
    assert f" INFO node stopping signal={number.name}" in lines[0]
    assert lines[-1].endswith(" INFO node stopped node=n1")


def leader_of(config: ClusterConfig) -> str:
    """The node that serves, once there is one."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        for node in config.nodes.values():
            status = probe(node.client)
            if status is not None and status.role == "leader":
                return node.name
    raise AssertionError("no leader within 20 s")


def test_a_leader_stopped_by_a_signal_hands_over(cluster_file: Path) -> None:
    cluster_file.write_text(cluster_file.read_text() + UNHURRIED)
    config = load(cluster_file)
    with ExitStack() as stack:
        processes = {name: stack.enter_context(node_process(cluster_file, name)) for name in config.nodes}
        leader = processes[leader_of(config)]

        leader.send_signal(signal.SIGTERM)
        _, log = leader.communicate(timeout=30)

    assert leader.returncode == 0
    assert "leadership handed over" in log


def test_a_second_signal_ends_a_node_at_once(cluster_file: Path) -> None:
    # A leader whose followers stand still waits for one of them to take over; were they gone, it would not.
    cluster_file.write_text(cluster_file.read_text() + UNHURRIED)
    config = load(cluster_file)
    with ExitStack() as stack:
        processes = {name: stack.enter_context(node_process(cluster_file, name)) for name in config.nodes}
        leader = processes.pop(leader_of(config))
        for follower in processes.values():
            follower.send_signal(signal.SIGSTOP)
        leader.send_signal(signal.SIGTERM)
        assert leader.stderr is not None
        while "stopping signal=SIGTERM" not in (line := leader.stderr.readline()):
            assert line, "the node ended before it stopped"

        leader.send_signal(signal.SIGTERM)
        leader.communicate(timeout=20)

    assert leader.returncode == 128 + signal.SIGTERM


def test_a_node_refuses_to_run_without_asserts(cluster_file: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-O", "-c", RUN_OR_SAY, str(cluster_file), "n1"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONOPTIMIZE": ""},
    )

    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        "ConfigError: this Python runs without asserts (-O or PYTHONOPTIMIZE): "
        "a ledger does not run without its checks. "
        "Start it without the option"
    )


def test_a_port_in_use_ends_a_node_with_one_message(cluster_file: Path) -> None:
    host, _, port = load(cluster_file).nodes["n1"].client.rpartition(":")
    with socket.create_server((host, int(port))):
        ended = subprocess.run(
            [sys.executable, "-c", RUN_OR_SAY, str(cluster_file), "n1"], capture_output=True, text=True, timeout=30
        )

    assert ended.returncode == 1
    assert (
        ended.stderr.strip().splitlines()[-1].startswith(f"ConfigError: cannot listen for clients on {host}:{port}: ")
    )
