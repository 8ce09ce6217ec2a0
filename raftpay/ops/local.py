"""A cluster of node processes on this machine: started, stopped, killed, paused, and never left behind.

`LocalCluster` is the library under `raftpay up`, the demo, the benches and the chaos tests. Every process is held by
the handle that started it, never by a number in a file or by a name; a node dies with the process that holds its
cluster, even when that one is killed. What a node prints is appended to DIR/<name>.log. No transfer is sent here: that
is the client's.
"""

import contextlib
import datetime
import fcntl
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from raftpay.client import NodeStatus
from raftpay.config import ClusterConfig, load, render_local
from raftpay.errors import ConfigError, LocalClusterError
from raftpay.ops.ports import LOOPBACK, fixed_ports, free_pairs
from raftpay.ops.probe import is_serving, probe

CONFIG_NAME: Final = "cluster.toml"
LOCK_NAME: Final = "local.lock"
STOP_TIMEOUT_S: Final = 15.0
READY_TIMEOUT_S: Final = 30.0
# After a supervisor was killed, its nodes need a moment to be gone.
LOCK_TIMEOUT_S: Final = 1.5
_POLL_S: Final = 0.02
_GUARD_TIMEOUT_S: Final = 10.0
_LOG_TAIL_BYTES: Final = 16 * 1024

# Linux signals the death of a parent when the *thread* that started the child ends. So all children are started from
# one thread, which lives as long as this process, whichever thread asks for them.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="raftpay-starter")


class NodeState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    # Ended because we asked for it …
    STOPPED = "stopped"
    KILLED = "killed"
    # … or by itself.
    DIED = "died"


@dataclass(slots=True)
class _Node:
    """One node's process.

    process: the handle, or None before the first start. state: what we did to it, or saw of it, last.
    log_start: where in the log file the present process began.
    guard: the end of a pipe that reads as closed once the process has arranged to die with us; None when seen.
    """

    name: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    state: NodeState = NodeState.STOPPED
    log_start: int = 0
    guard: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class LocalCluster:
    """A cluster in a directory: DIR/cluster.toml, and beside it each node's data and log.

    The file is written on first use (free ports, a new cluster id) and kept. Methods may be called from any thread.

        with LocalCluster(tmp_path) as cluster:
            cluster.wait_ready()
            cluster.kill(cluster.wait_leader())

    directory: made if it does not exist.
    nodes: 3 or 5 for a new cluster; None takes what is there, or 3.
    base_port: peers listen on base_port + 1 …, clients are served on base_port + 101 …; None: any free ports.
    settings: TOML sections appended to a new cluster.toml, such as "[raft]\\nheartbeat_s = 0.1".
    """

    def __init__(
        self, directory: Path | str, *, nodes: int | None = None, base_port: int | None = None, settings: str = ""
    ) -> None:
        self.directory = Path(directory).absolute()
        self._wanted_nodes = nodes
        self._wanted_base_port = base_port
        self._settings = settings
        # Held while the directory is ours; None before `open` and after the end.
        self._lock_file: int | None = None
        self._close_lock = threading.Lock()
        self._config: ClusterConfig | None = None
        self._nodes: dict[str, _Node] = {}

    # --- what there is

    @property
    def config(self) -> ClusterConfig:
        """The configuration in use. Raises LocalClusterError before `open` or `start`."""
        if self._config is None:
            raise LocalClusterError(f"the local cluster in {self.directory} has not been opened")
        return self._config

    @property
    def config_path(self) -> Path:
        return self.directory / CONFIG_NAME

    @property
    def names(self) -> list[str]:
        return list(self.config.nodes)

    @property
    def addresses(self) -> list[str]:
        """The client addresses of all nodes, running or not."""
        return [node.client for node in self.config.nodes.values()]

    def address(self, name: str) -> str:
        """The client address of one node."""
        return self.config.node(name).client

    def state(self, name: str) -> NodeState:
        """What the node's process is doing."""
        node = self._node(name)
        self._look_at(node)
        return node.state

    def pid(self, name: str) -> int | None:
        """The process id of a node that runs, or None."""
        node = self._node(name)
        is_alive = self.state(name) in (NodeState.RUNNING, NodeState.PAUSED)
        return node.process.pid if node.process is not None and is_alive else None

    def log_path(self, name: str) -> Path:
        return self._node(name).log

    def log_tail(self, name: str, lines: int = 10) -> list[str]:
        """The last lines that the node printed since its last start."""
        node = self._node(name)
        with contextlib.suppress(FileNotFoundError), node.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(node.log_start, size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-lines:]
        return []

    def ended(self, name: str) -> str:
        """How the node's last process ended, in words: "exit code 3", "signal SIGSEGV"."""
        process = self._node(name).process
        if process is None or process.returncode is None:
            return "has not ended"
        if process.returncode < 0:
            return f"signal {signal.Signals(-process.returncode).name}"
        return f"exit code {process.returncode}"

    # --- start and stop, as a whole

    def open(self) -> None:
        """Take the directory for this process, and write its cluster.toml if there is none.

        Raises LocalClusterError if another supervisor has it, ConfigError if what is there is not what was asked for.
        """
        if self._lock_file is not None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock_file = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self.directory}: cannot be used as the cluster's directory ({error.strerror})"
            ) from error
        try:
            self._take(lock_file)
            self._config = self._load_or_make()
        except BaseException:
            os.close(lock_file)
            raise
        self._lock_file = lock_file
        self._nodes = {name: _Node(name, self.directory / f"{name}.log") for name in self._config.nodes}

    def start(self) -> None:
        """Start every node that does not run. Does not wait until they serve: that is `wait_ready`."""
        self.open()
        for name in self.names:
            if self.state(name) not in (NodeState.RUNNING, NodeState.PAUSED):
                self.start_node(name)

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> list[str]:
        """Ask every node to stop, wait, kill those that did not within the time, and give the directory back.

        Returns the names of those that had to be killed.
        """
        asked = [node for node in self._nodes.values() if self._ask_to_stop(node)]
        deadline = time.monotonic() + timeout_s
        killed = [node.name for node in asked if not self._wait_stopped(node, deadline)]
        self._close()
        return killed

    def kill_all(self) -> None:
        """SIGKILL to every node at once, and give the directory back. Wakes a `stop` that waits in another thread."""
        for node in self._nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.state = NodeState.KILLED
                node.process.kill()
        for node in self._nodes.values():
            if node.process is not None:
                node.process.wait()
        self._close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a failure nothing is gained by a graceful stop, and a test's deadline may be near.
        if kind is None:
            self.stop()
        else:
            self.kill_all()

    # --- one node

    def start_node(self, name: str) -> None:
        """Start a node that does not run. Raises LocalClusterError if it does."""
        self.open()
        node = self._node(name)
        with node.lock:
            if self.state(name) in (NodeState.RUNNING, NodeState.PAUSED):
                raise LocalClusterError(f"{name} runs already ({node.state})")
            _close_guard(node)
            node.guard, guarded = os.pipe()
            try:
                self._spawn(node, guarded)
            finally:
                os.close(guarded)
            node.state = NodeState.RUNNING

    def stop_node(self, name: str, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """SIGTERM, and wait: the node hands over leadership and closes its files. False if it had to be killed."""
        node = self._running(name)
        self._ask_to_stop(node)
        return self._wait_stopped(node, time.monotonic() + timeout_s)

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        node = self._running(name)
        with node.lock:
            assert node.process is not None
            node.state = NodeState.KILLED
            node.process.kill()
            node.process.wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: the process keeps its memory and sockets but does nothing, as on a machine that hangs."""
        node = self._running(name)
        with node.lock:
            # Stopped before it has asked to die with us, it would survive us, and never wake.
            if node.guard is not None:
                select.select([node.guard], [], [], _GUARD_TIMEOUT_S)
                _close_guard(node)
        self._signal(name, signal.SIGSTOP, NodeState.PAUSED)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT, NodeState.RUNNING)

    # --- what they say

    def probe(self, name: str, *, timeout_s: float = 1.0) -> NodeStatus | None:
        """What the node says of itself, or None when it does not answer."""
        if self.state(name) is not NodeState.RUNNING:
            return None
        return probe(self.address(name), timeout_s=timeout_s)

    def leader(self) -> str | None:
        """The node that leads in the highest term known, or None."""
        found = [answer for name in self.names if (answer := self.probe(name)) is not None and answer.role == "leader"]
        return max(found, key=lambda answer: answer.term).name if found else None

    def died(self) -> list[str]:
        """The nodes that ended by themselves and have not been started since."""
        return [name for name in self.names if self.state(name) is NodeState.DIED]

    def wait_leader(self, *, timeout_s: float = READY_TIMEOUT_S) -> str:
        """Wait until a node leads and answers linearizable reads; returns its name."""
        for _ in self._until(timeout_s, "no node leads"):
            leader = self._serving_leader()
            if leader is not None:
                return leader
        raise AssertionError("the wait ends by returning or raising")

    def wait_ready(self, *, timeout_s: float = READY_TIMEOUT_S) -> str:
        """Wait until a node leads and serves, and every node that was started knows it; returns the leader's name.

        Raises LocalClusterError with the last lines of its log if a node dies meanwhile, or when the time is over.
        """
        for _ in self._until(timeout_s, "the nodes do not agree on a leader"):
            leader = self._serving_leader()
            # One that died is not left out: the next round raises for it.
            wanted = [name for name in self.names if self.state(name) in (NodeState.RUNNING, NodeState.DIED)]
            if leader is not None and all(
                (answer := self.probe(name)) is not None and answer.leader == leader for name in wanted
            ):
                return leader
        raise AssertionError("the wait ends by returning or raising")

    def wait_answer(self, name: str, *, timeout_s: float = READY_TIMEOUT_S) -> NodeStatus:
        """Wait until a node answers at all. Raises LocalClusterError if it dies meanwhile, or when the time is over."""
        for _ in self._until(timeout_s, f"{name} does not answer", watched=[name]):
            answer = self.probe(name)
            if answer is not None:
                return answer
        raise AssertionError("the wait ends by returning or raising")

    def describe_death(self, name: str, *, lines: int = 10) -> str:
        """A message about a node that died by itself: how, and the last lines of its log."""
        said = "\n".join(f"  | {line}" for line in self.log_tail(name, lines)) or "  | (nothing)"
        return f"{name} died by itself ({self.ended(name)}). The end of {self.log_path(name)}:\n{said}"

    # --- inside

    def _take(self, lock_file: int) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise LocalClusterError(f"a local cluster runs in {self.directory} already") from error
            time.sleep(_POLL_S)

    def _load_or_make(self) -> ClusterConfig:
        if not self.config_path.exists():
            nodes = self._wanted_nodes or 3
            ports = free_pairs(nodes) if self._wanted_base_port is None else fixed_ports(self._wanted_base_port, nodes)
            text = render_local(cluster_id=f"local-{secrets.token_hex(4)}", ports=ports)
            text += f"\n{self._settings}\n" if self._settings else ""
            draft = self.config_path.with_suffix(".new")
            draft.write_text(text)
            load(draft)
            draft.replace(self.config_path)
        config = load(self.config_path)
        if self._wanted_nodes not in (None, len(config.nodes)):
            raise ConfigError(
                f"{self.config_path} has {len(config.nodes)} nodes, not {self._wanted_nodes}: "
                "a cluster keeps its size; choose another directory for a new one"
            )
        if self._wanted_base_port is not None:
            self._check_base_port(config, self._wanted_base_port)
        return config

    def _check_base_port(self, config: ClusterConfig, base_port: int) -> None:
        expected = [f"{LOOPBACK}:{base_port + 101 + number}" for number in range(len(config.nodes))]
        found = [node.client for node in config.nodes.values()]
        if found != expected:
            raise ConfigError(
                f"{self.config_path} has the client addresses {', '.join(found)}, not those of base port {base_port}: "
                "leave the base port out, edit the file while the cluster is down, or choose another directory"
            )

    def _spawn(self, node: _Node, guarded: int) -> None:
        assert self._lock_file is not None
        now = datetime.datetime.now(tz=datetime.UTC)
        with node.log.open("ab") as log:
            log.write(f"--- {now:%Y-%m-%d %H:%M:%S}Z {node.name} is started\n".encode())
            log.flush()
            node.log_start = log.tell()
            node.process = _starter.submit(
                subprocess.Popen,
                [*self._command(node.name), "--die-with-parent", str(os.getpid()), str(guarded)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The directory stays taken until the last node is gone, even if we are killed first.
                pass_fds=(self._lock_file, guarded),
                # Ctrl-C at the terminal is for the supervisor, which stops the nodes in its own way.
                start_new_session=True,
            ).result()

    def _command(self, name: str) -> list[str]:
        run = [sys.executable, "-m", "raftpay_cli", "node", "run"]
        return [*run, "--config", str(self.config_path), "--name", name]

    def _node(self, name: str) -> _Node:
        self.config.node(name)
        return self._nodes[name]

    def _running(self, name: str) -> _Node:
        node = self._node(name)
        if self.state(name) not in (NodeState.RUNNING, NodeState.PAUSED):
            raise LocalClusterError(f"{name} does not run ({node.state})")
        return node

    def _look_at(self, node: _Node) -> None:
        """Notice that a process has ended."""
        with node.lock:
            has_ended = node.process is not None and node.process.poll() is not None
            if has_ended and node.state in (NodeState.RUNNING, NodeState.PAUSED):
                node.state = NodeState.DIED

    def _signal(self, name: str, number: signal.Signals, state: NodeState) -> None:
        node = self._running(name)
        with node.lock:
            assert node.process is not None
            node.process.send_signal(number)
            node.state = state

    def _ask_to_stop(self, node: _Node) -> bool:
        """SIGTERM; False if there is no process to ask."""
        with node.lock:
            self._look_at(node)
            if node.process is None or node.state not in (NodeState.RUNNING, NodeState.PAUSED):
                return False
            node.process.terminate()
            # A paused process would never read the signal.
            node.process.send_signal(signal.SIGCONT)
            node.state = NodeState.STOPPED
            return True

    def _wait_stopped(self, node: _Node, deadline: float) -> bool:
        """Wait for a process that was asked to stop; kill it at the deadline. False if it had to be killed."""
        assert node.process is not None
        try:
            node.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            node.state = NodeState.KILLED
            node.process.kill()
            node.process.wait()
        return node.state is not NodeState.KILLED

    def _serving_leader(self) -> str | None:
        """The node that leads, and has a majority that agrees: one that was paused may still believe it leads."""
        leader = self.leader()
        if leader is None or not is_serving(self.address(leader)):
            return None
        answer = self.probe(leader)
        return leader if answer is not None and answer.is_ready else None

    def _until(self, timeout_s: float, complaint: str, *, watched: Sequence[str] | None = None) -> Iterator[None]:
        """Go round until the caller leaves; raise when a watched node (or any) has died, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._lock_file is None:
                raise LocalClusterError("the local cluster was stopped meanwhile")
            yield
            if died := [name for name in self.died() if watched is None or name in watched]:
                raise LocalClusterError("\n".join(self.describe_death(name) for name in died))
            time.sleep(_POLL_S)
        states = ", ".join(f"{name} {self.state(name)}" for name in self.names)
        raise LocalClusterError(f"{complaint} after {timeout_s:g} s ({states}); see the logs in {self.directory}")

    def _close(self) -> None:
        for node in self._nodes.values():
            _close_guard(node)
        with self._close_lock:
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None


def _close_guard(node: _Node) -> None:
    if node.guard is not None:
        os.close(node.guard)
        node.guard = None
