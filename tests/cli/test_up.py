"""`raftpay up`, `down`, `local …` and `node run` as a user meets them: processes, signals, messages, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from raftpay.ops.local import LocalCluster
from raftpay_cli.exits import ExitCode

END_S = 30.0
# When all stop at once nobody is left to hand leadership to; the leader need not look for long.
QUICK = "[raft]\ntransfer_timeout_s = 0.2\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the settings of a cluster that is about to be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFTPAY_CONFIG", raising=False)
    return tmp_path


def prepare(data: str = "raftpay-data") -> LocalCluster:
    """Write a cluster.toml as `up` would, with quick settings."""
    cluster = LocalCluster(data, settings=QUICK)
    cluster.open()
    cluster.stop()
    return cluster


def raftpay(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "raftpay_cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=END_S)


def is_alive(pid: int) -> bool:
    """Whether the process still does anything; a zombie that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Up:
    """A running `raftpay up --json`. ready: the document that it printed."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "raftpay_cli", "up", "--json", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = self.process.stdout, self.process.stderr
        self.ready: dict[str, Any] = {}

    def wait_said(self, text: str) -> str:
        """Read stderr up to a line with this text."""
        said = []
        for line in self.stderr:
            said.append(line)
            if text in line:
                return "".join(said)
        raise AssertionError(f"ended without saying {text!r}: {''.join(said)}")

    def wait_ready(self) -> None:
        text = ""
        for line in self.stdout:
            text += line
            if line == "}\n":
                self.ready = json.loads(text)
                return
        raise AssertionError(f"ended before it was ready: {self.stderr.read()}")

    def pids(self) -> dict[str, int]:
        return {node["name"]: node["pid"] for node in self.ready["nodes"]}

    def end(self, *signals: signal.Signals) -> tuple[int, str]:
        """Send signals, and return the exit code and what was said until the end."""
        for number in signals:
            self.process.send_signal(number)
        said = self.stderr.read()
        return self.process.wait(END_S), said


@contextmanager
def run_up(*words: str) -> Iterator[Up]:
    up = Up(*words)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        up.stdout.close()
        up.stderr.close()


def test_up_says_where_everything_is_and_ctrl_c_stops_it() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        advice = up.wait_said("Ctrl-C")
        status = raftpay("status", "--json")
        again = raftpay("up")
        code, said = up.end(signal.SIGINT)

    assert up.ready["leader"] in ("n1", "n2", "n3")
    assert [Path(node["log"]).name for node in up.ready["nodes"]] == ["n1.log", "n2.log", "n3.log"]
    assert "raftpay transfer bank alice 12.34" in advice
    assert status.returncode == ExitCode.OK
    assert json.loads(status.stdout)["leader"] == up.ready["leader"]
    assert again.returncode == ExitCode.NODE_FAILED
    assert "runs in raftpay-data already" in again.stderr
    assert code == ExitCode.OK
    assert "all nodes have stopped" in said
    assert not any(is_alive(pid) for pid in up.pids().values())
    assert not Path("raftpay-data/local.sock").exists()


def test_sigterm_stops_it_as_ctrl_c_does() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        code, said = up.end(signal.SIGTERM)

    assert code == ExitCode.OK
    assert "all nodes have stopped" in said


def test_ctrl_c_during_the_start_leaves_nothing_running() -> None:
    prepare()
    with run_up() as up:
        up.wait_said("starting n1, n2, n3")
        code, said = up.end(signal.SIGINT)

    assert code == ExitCode.INTERRUPTED
    assert "Traceback" not in said
    # Taken by nobody any more: no node is left.
    prepare()


def test_a_second_signal_kills_the_nodes() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        code, said = up.end(signal.SIGINT, signal.SIGTERM)

    assert code == ExitCode.INTERRUPTED
    assert ": killing the nodes" in said
    assert not any(is_alive(pid) for pid in up.pids().values())


def test_after_up_was_killed_nothing_runs_and_it_starts_again() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        up.end(signal.SIGKILL)

    lost = raftpay("local", "list")

    assert lost.returncode == ExitCode.NODE_FAILED
    assert "no local cluster runs in raftpay-data" in lost.stderr
    assert "raftpay up --data raftpay-data" in lost.stderr
    with run_up() as successor:
        successor.wait_ready()
        code, _ = successor.end(signal.SIGINT)
    assert code == ExitCode.OK
    assert not any(is_alive(pid) for pid in up.pids().values())


def test_nodes_are_killed_paused_and_started_through_the_supervisor() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        leader = up.ready["leader"]
        other = next(name for name in up.pids() if name != leader)

        killed = raftpay("local", "kill", "leader")
        listed = json.loads(raftpay("local", "list", "--json").stdout)
        killed_again = raftpay("local", "kill", leader)
        started = raftpay("local", "start", leader)
        paused = raftpay("local", "pause", other, "--json")
        resumed = raftpay("local", "resume", other)
        stopped = raftpay("local", "stop", other)
        unknown = raftpay("local", "kill", "n9")

    assert (
        killed.stdout
        == f"{leader}, the leader, was killed (SIGKILL); start it again with `raftpay local start {leader}`\n"
    )
    assert {node["name"]: node["state"] for node in listed}[leader] == "killed"
    assert (killed_again.returncode, f"{leader} does not run (killed)" in killed_again.stderr) == (3, True)
    assert started.returncode == ExitCode.OK
    assert f"{leader} runs (process " in started.stdout
    assert json.loads(paused.stdout)["node"] == other
    assert resumed.returncode == ExitCode.OK
    assert f"{other} has stopped" in stopped.stdout.replace(", the leader,", "")
    assert unknown.returncode == ExitCode.USAGE
    assert "there is no node 'n9'" in unknown.stderr


def test_a_node_that_dies_by_itself_is_reported_with_its_log_and_what_to_do() -> None:
    prepare()
    with run_up() as up:
        up.wait_ready()
        os.kill(up.pids()["n2"], signal.SIGABRT)
        said = up.wait_said("start it again with")
        started = raftpay("local", "start", "n2")

    assert "n2 died by itself (signal SIGABRT)" in said
    assert "node started" in said
    assert "raftpay local start n2" in said
    assert started.returncode == ExitCode.OK


def test_a_port_in_use_ends_up_with_the_nodes_own_words() -> None:
    address = prepare().address("n3")
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        refused = raftpay("up")

    assert refused.returncode == ExitCode.NODE_FAILED
    assert "n3 died by itself (exit code 2)" in refused.stderr
    assert address in refused.stderr
    assert "Traceback" not in refused.stderr
    prepare()


def test_a_directory_with_a_very_long_name_has_its_control_socket() -> None:
    long_name = "/".join(["a-name-of-some-length"] * 8)
    prepare(long_name)
    with run_up("--data", long_name) as up:
        up.wait_ready()

        listed = raftpay("local", "list", "--data", long_name)

    assert len(str(Path(long_name).absolute())) > 108
    assert listed.returncode == ExitCode.OK


def test_a_detached_cluster_is_stopped_by_down(monkeypatch: pytest.MonkeyPatch) -> None:
    config_path = prepare("somewhere").config_path
    started = raftpay("up", "--data", "somewhere", "--detach", "--json")
    monkeypatch.setenv("RAFTPAY_CONFIG", str(config_path))
    try:
        again = raftpay("up", "--detach")
        status = raftpay("status")
    finally:
        stopped = raftpay("down")

    pids = [node["pid"] for node in json.loads(started.stdout)["nodes"]]
    assert len(pids) == 3
    assert f"export RAFTPAY_CONFIG={config_path.absolute()}\n" in started.stderr
    assert again.returncode == ExitCode.NODE_FAILED
    assert "runs in" in again.stderr
    assert status.returncode == ExitCode.OK
    assert stopped.stdout == "all nodes have stopped\n"
    assert not any(is_alive(pid) for pid in pids)
    assert raftpay("down").returncode == ExitCode.NODE_FAILED


def test_a_detached_start_that_fails_says_why() -> None:
    address = prepare().address("n1")
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        refused = raftpay("up", "--detach")
        left_over = raftpay("down")

    assert refused.returncode == ExitCode.NODE_FAILED
    assert address in refused.stderr
    assert left_over.returncode == ExitCode.NODE_FAILED


def test_a_cluster_keeps_its_size() -> None:
    prepare()

    refused = raftpay("up", "--nodes", "5")

    assert refused.returncode == ExitCode.USAGE
    assert "has 3 nodes, not 5" in refused.stderr


def test_a_node_run_by_hand_ends_with_0_when_told_to_stop() -> None:
    config_path = prepare().config_path
    command = [sys.executable, "-m", "raftpay_cli", "node", "run", "--config", str(config_path), "--name", "n1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        next(line for line in node.stderr if "node started" in line)

        in_use = raftpay("node", "run", "--config", str(config_path), "--name", "n1")
        node.send_signal(signal.SIGTERM)
        code = node.wait(END_S)

    assert code == ExitCode.OK
    assert in_use.returncode in (ExitCode.USAGE, ExitCode.NODE_FAILED)
    assert "Traceback" not in in_use.stderr
