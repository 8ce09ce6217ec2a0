"""What `raftpay up` runs: it holds a LocalCluster in the foreground, obeys signals and the control socket, and reports.

One asyncio loop; whatever waits for a process runs in a thread beside it. A node that dies by itself is reported and
stays down until someone starts it: a supervisor that restarts silently hides what a person should see.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from enum import Enum
from typing import Final

from raftpay.errors import ConfigError, LocalClusterError, RaftpayError
from raftpay.ops.control import LINE_BYTES_MAX, SOCKET_NAME, Answer, NodeLine, Order, decode_order, encode, listen
from raftpay.ops.local import LocalCluster

_LOOK_S: Final = 0.2
# How long `local start` watches the new process for its first answer.
_START_WATCH_S: Final = 10.0
# For those who wait for the end, to hear of it.
_LAST_ANSWERS_S: Final = 2.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending(Enum):
    """How a supervised cluster ended."""

    STOPPED = "stopped"
    """Every node ended by itself, as asked."""
    EARLY = "early"
    """Asked to stop before the cluster was ready; all nodes are gone."""
    KILLED = "killed"
    """At least one node did not stop, and was killed."""


class Supervisor:
    """Runs a local cluster until a signal or an order ends it.

    say: takes a line of progress for people. on_ready: called once, with the leader's name.
    """

    def __init__(self, cluster: LocalCluster, *, say: Callable[[str], None], on_ready: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say
        self._on_ready = on_ready
        self._stop_asked = asyncio.Event()
        self._ready = asyncio.Event()
        # A second signal has come: no more good order.
        self._is_killed = False
        # Orders are done one after another.
        self._order_lock = asyncio.Lock()
        # Nodes whose death has been told.
        self._reported: set[str] = set()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answering: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def run(self) -> Ending:
        """Start the nodes, wait until they serve, watch them until asked to stop. Leaves nothing running.

        Raises LocalClusterError when the directory is taken, or when a node dies before the cluster is ready.
        """
        cluster = self._cluster
        loop = asyncio.get_running_loop()
        cluster.open()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, signal.Signals(number))
        try:
            listener = listen(cluster.directory)
            self._server = await asyncio.start_unix_server(self._on_connection, sock=listener, limit=LINE_BYTES_MAX)
            await asyncio.to_thread(cluster.start)
            await self._wait_ready()
            await self._watch()
            return await self._stop()
        finally:
            await self._leave()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    # --- the life of the cluster

    async def _wait_ready(self) -> None:
        names = ", ".join(self._cluster.names)
        self._say(f"starting {names} in {self._cluster.directory}")
        ready = asyncio.create_task(asyncio.to_thread(self._cluster.wait_ready))
        asked = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait((ready, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not ready.done():
            # The thread notices when the cluster is closed; what it then raises is no news.
            ready.add_done_callback(lambda task: task.cancelled() or task.exception())
            return
        self._on_ready(ready.result())
        self._ready.set()

    async def _watch(self) -> None:
        while not self._stop_asked.is_set():
            for name in await asyncio.to_thread(self._cluster.died):
                if name not in self._reported:
                    self._reported.add(name)
                    self._say(f"{self._cluster.describe_death(name)}\nstart it again with: raftpay local start {name}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), _LOOK_S)

    async def _stop(self) -> Ending:
        if not self._is_killed:
            self._say("stopping the nodes (Ctrl-C again kills them)")
        self._shut_door()
        async with self._order_lock:
            killed = await asyncio.to_thread(self._cluster.stop)
        message = "all nodes have stopped"
        if killed or self._is_killed:
            message = f"{', '.join(killed) or 'the nodes'} had to be killed"
        self._say(message)
        self._ended.set_result(message)
        if killed or self._is_killed:
            return Ending.KILLED
        return Ending.STOPPED if self._ready.is_set() else Ending.EARLY

    async def _leave(self) -> None:
        """Whatever happened: nothing is left running, and nobody waits for an answer."""
        self._stop_asked.set()
        self._shut_door()
        async with self._order_lock:
            await asyncio.to_thread(self._cluster.kill_all)
        if not self._ended.done():
            self._ended.set_result("the nodes were killed")
        if self._answering:
            await asyncio.wait(self._answering, timeout=_LAST_ANSWERS_S)

    def _shut_door(self) -> None:
        """Take no more orders. While the directory is still ours: later the socket would be our successor's."""
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._cluster.directory / SOCKET_NAME).unlink(missing_ok=True)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop_asked.is_set():
            self._say(f"{number.name}: killing the nodes")
            self._is_killed = True
            asyncio.get_running_loop().run_in_executor(None, self._cluster.kill_all)
        self._stop_asked.set()

    # --- orders

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            line = await reader.readline()
            try:
                answer = await self._obey(decode_order(line))
            except RaftpayError as error:
                answer = Answer(error=str(error), is_misuse=isinstance(error, ConfigError))
            writer.write(encode(answer))
            await writer.drain()
        except (OSError, ValueError):
            # The other end went away, or sent a line without end: nobody waits for an answer.
            return
        finally:
            self._answering.discard(task)
            writer.close()

    async def _obey(self, order: Order) -> Answer:
        if order.action == "list":
            return self._answer()
        if order.action == "ready":
            return await self._answer_when_ready()
        if order.action == "down":
            self._say("asked to stop by `raftpay down`")
            self._stop_asked.set()
            return self._answer(message=await asyncio.shield(self._ended))
        async with self._order_lock:
            if self._stop_asked.is_set():
                raise LocalClusterError("the local cluster is stopping")
            answer = await asyncio.to_thread(self._do, order)
        self._say(answer.message)
        return answer

    async def _answer_when_ready(self) -> Answer:
        waits = [asyncio.create_task(event.wait()) for event in (self._ready, self._stop_asked)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._stop_asked.is_set():
            raise LocalClusterError("the local cluster is stopping")
        return self._answer(leader=await asyncio.to_thread(self._cluster.leader))

    def _do(self, order: Order) -> Answer:
        """One order about one node; runs in a thread."""
        cluster = self._cluster
        leader = cluster.leader()
        if order.node == "leader" and leader is None:
            raise LocalClusterError("no node leads at the moment: name the node, or try again")
        name = leader if order.node == "leader" and leader is not None else order.node
        was = ", the leader," if name == leader else ""
        match order.action:
            case "kill":
                cluster.kill(name)
                message = f"{name}{was} was killed (SIGKILL); start it again with `raftpay local start {name}`"
            case "stop":
                clean = cluster.stop_node(name)
                how = "has stopped" if clean else "did not stop in time and was killed"
                message = f"{name}{was} {how}; start it again with `raftpay local start {name}`"
            case "pause":
                cluster.pause(name)
                message = f"{name}{was} is paused (SIGSTOP); go on with `raftpay local resume {name}`"
            case "resume":
                cluster.resume(name)
                message = f"{name} goes on (SIGCONT)"
            case _:
                message = self._start(name)
        return self._answer(node=name, message=message)

    def _start(self, name: str) -> str:
        self._reported.discard(name)
        self._cluster.start_node(name)
        try:
            answer = self._cluster.wait_answer(name, timeout_s=_START_WATCH_S)
        except LocalClusterError:
            # Whoever asked is told; it need not be said twice.
            self._reported.add(name)
            raise
        return f"{name} runs (process {self._cluster.pid(name)}), {answer.role} in term {answer.term}"

    def _answer(self, *, node: str = "", message: str = "", leader: str | None = None) -> Answer:
        cluster = self._cluster
        lines = [
            NodeLine(
                name, str(cluster.state(name)), cluster.pid(name), cluster.address(name), str(cluster.log_path(name))
            )
            for name in cluster.names
        ]
        return Answer(node=node, message=message, leader=leader, nodes=lines)
