"""The local cluster as a library: real node processes, started, killed, paused, and never left behind."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raftpay.errors import ConfigError, LocalClusterError
from raftpay.ops.local import LocalCluster, NodeState

READY_S = 30.0
END_S = 10.0
# When all stop at once nobody is left to hand leadership to; the leader need not look for long.
QUICK = "[raft]\ntransfer_timeout_s = 0.2\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    running = LocalCluster(tmp_path / "data", settings=QUICK)
    try:
        running.start()
        running.wait_ready(timeout_s=READY_S)
        yield running
    finally:
        # How they stop is a test of its own.
        running.kill_all()


def is_alive(pid: int) -> bool:
    """Whether the process still does anything; a zombie that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(cluster: LocalCluster) -> list[int]:
    return [pid for name in cluster.names if (pid := cluster.pid(name)) is not None]


def test_a_cluster_starts_serves_stops_and_starts_again_as_the_same(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, settings=QUICK) as cluster:
        leader = cluster.wait_ready(timeout_s=READY_S)
        first_id = cluster.config.cluster_id
        first_pids = pids(cluster)

        assert leader in cluster.names
        assert cluster.names == ["n1", "n2", "n3"]
        assert len(set(cluster.addresses)) == 3
        assert len(first_pids) == 3

    assert [cluster.state(name) for name in cluster.names] == [NodeState.STOPPED] * 3
    assert not any(is_alive(pid) for pid in first_pids)

    with LocalCluster(tmp_path) as again:
        again.wait_ready(timeout_s=READY_S)

        assert again.config.cluster_id == first_id
        assert again.addresses == cluster.addresses

    log = again.log_path("n1").read_text()
    assert log.count("n1 is started") == 2


def test_five_nodes_start_and_agree_on_a_leader(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, nodes=5, settings=QUICK) as cluster:
        leader = cluster.wait_ready(timeout_s=READY_S)

        assert {cluster.probe(name).leader for name in cluster.names} == {leader}


def test_a_killed_leader_is_replaced_and_comes_back(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()

    cluster.kill(leader)
    successor = cluster.wait_leader()

    assert cluster.state(leader) is NodeState.KILLED
    assert cluster.pid(leader) is None
    assert cluster.ended(leader) == "signal SIGKILL"
    assert cluster.died() == []
    assert successor != leader

    cluster.start_node(leader)
    cluster.wait_ready(timeout_s=READY_S)

    assert cluster.state(leader) is NodeState.RUNNING


def test_a_paused_leader_is_replaced_and_goes_on_as_a_follower(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()

    cluster.pause(leader)
    successor = cluster.wait_leader()

    assert cluster.state(leader) is NodeState.PAUSED
    assert successor != leader

    cluster.resume(leader)

    assert cluster.wait_ready(timeout_s=READY_S) != leader


def test_a_paused_node_stops_in_good_order_with_the_others(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, settings=QUICK)
    with cluster:
        cluster.wait_ready(timeout_s=READY_S)
        cluster.pause("n2")

    assert cluster.state("n2") is NodeState.STOPPED
    assert cluster.ended("n2") == "exit code 0"


def test_a_node_that_does_not_stop_in_time_is_killed_and_named(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, settings=QUICK)
    cluster.start()
    cluster.wait_ready(timeout_s=READY_S)
    running = pids(cluster)

    killed = cluster.stop(timeout_s=0.0)

    assert killed
    assert not any(is_alive(pid) for pid in running)


def test_one_node_stops_in_good_order_and_the_others_go_on(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()

    assert cluster.stop_node(leader)

    assert cluster.ended(leader) == "exit code 0"
    assert cluster.wait_leader() != leader


def test_a_node_outlives_the_thread_that_asked_for_it(cluster: LocalCluster) -> None:
    def restart() -> None:
        cluster.kill("n1")
        cluster.start_node("n1")

    thread = threading.Thread(target=restart)
    thread.start()
    thread.join()

    cluster.wait_ready(timeout_s=READY_S)
    assert cluster.state("n1") is NodeState.RUNNING


def test_a_node_that_dies_by_itself_is_noticed_with_the_end_of_its_log(cluster: LocalCluster) -> None:
    pid = cluster.pid("n2")
    assert pid is not None

    os.kill(pid, signal.SIGABRT)
    with pytest.raises(LocalClusterError) as noticed:
        cluster.wait_answer("n2")

    assert "n2 died by itself (signal SIGABRT)" in str(noticed.value)
    assert "node started" in str(noticed.value)
    assert cluster.died() == ["n2"]

    cluster.start_node("n2")

    assert cluster.died() == []


def test_orders_that_make_no_sense_are_refused(cluster: LocalCluster) -> None:
    cluster.kill("n3")

    with pytest.raises(ConfigError, match="there is no node 'n9'"):
        cluster.kill("n9")
    with pytest.raises(LocalClusterError, match=r"n3 does not run \(killed\)"):
        cluster.pause("n3")
    with pytest.raises(LocalClusterError, match=r"n1 runs already \(running\)"):
        cluster.start_node("n1")


def test_a_directory_has_one_owner_at_a_time(cluster: LocalCluster) -> None:
    with pytest.raises(LocalClusterError, match=r"runs in .* already"):
        LocalCluster(cluster.directory).open()


def test_the_nodes_die_with_an_owner_that_is_killed_even_when_paused(tmp_path: Path) -> None:
    # n1 is paused as soon as it exists, long before its interpreter is up; n2 while it serves.
    program = f"""
import sys
from raftpay.ops.local import LocalCluster
cluster = LocalCluster({str(tmp_path)!r})
cluster.start()
cluster.wait_ready()
cluster.kill("n1")
cluster.start_node("n1")
cluster.pause("n1")
cluster.wait_leader()
cluster.pause("n2")
print(*(cluster.pid(name) for name in cluster.names), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        nodes = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(nodes) == 3
        handles = [os.pidfd_open(pid) for pid in nodes]

        owner.kill()

    try:
        # A handle is readable once its process has ended.
        assert all(select.select([handle], [], [], END_S)[0] for handle in handles)
    finally:
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
    # The directory is free again.
    successor = LocalCluster(tmp_path)
    successor.open()
    successor.stop()


def test_a_port_in_use_is_said_by_the_node_that_wanted_it(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, settings=QUICK)
    cluster.open()
    address = cluster.address("n2")
    other = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
    with other, cluster, pytest.raises(LocalClusterError) as refused:
        cluster.wait_ready(timeout_s=READY_S)

    assert "n2 died by itself (exit code 2)" in str(refused.value)
    assert address in str(refused.value)


def test_the_data_of_another_cluster_is_refused(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, settings=QUICK) as cluster:
        cluster.wait_ready(timeout_s=READY_S)
        old_id = cluster.config.cluster_id
    cluster.config_path.write_text(cluster.config_path.read_text().replace(old_id, "another"))

    with LocalCluster(tmp_path) as changed, pytest.raises(LocalClusterError) as refused:
        changed.wait_ready(timeout_s=READY_S)

    assert old_id in str(refused.value)
    assert "another" in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"nodes": 5}, "has 3 nodes, not 5"), ({"base_port": 7100}, "not those of base port 7100")],
    ids=["nodes", "base_port"],
)
def test_a_cluster_that_exists_keeps_its_shape(tmp_path: Path, arguments: dict[str, int], said: str) -> None:
    first = LocalCluster(tmp_path)
    first.open()
    first.stop()

    with pytest.raises(ConfigError, match=said):
        LocalCluster(tmp_path, **arguments).open()

    # What was refused holds nothing.
    first.open()
    first.stop()


def test_a_new_cluster_takes_settings_and_a_wrong_one_leaves_no_file(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "good", settings="[raft]\nheartbeat_s = 0.04\n")
    cluster.open()
    cluster.stop()

    assert cluster.config.raft.heartbeat_s == 0.04

    wrong = LocalCluster(tmp_path / "wrong", settings="[raft]\nheartbeet_s = 0.04\n")
    with pytest.raises(ConfigError, match="heartbeet_s"):
        wrong.open()

    assert not wrong.config_path.exists()


@pytest.mark.parametrize("nodes", [1, 2, 4, 7])
def test_only_three_or_five_nodes_make_a_cluster(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(ConfigError, match="expected 3 or 5"):
        LocalCluster(tmp_path, nodes=nodes).open()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be used as the cluster's directory"):
        LocalCluster(tmp_path / "file" / "data").open()
