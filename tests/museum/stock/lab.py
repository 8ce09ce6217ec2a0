"""Stock PySyncObj 0.3.17 driven by hand: nodes of one process on a simulated clock, messages delivered one by one.

Nothing happens unless an exhibit says so: no node stands for election by itself, a message waits in its link until it
is delivered, links are in order and lose what is on its way when they are cut. Never imports raftpay, which replaces
names inside PySyncObj. A node with a journal keeps it in the current folder.
"""

import logging
import pickle
import random
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import pysyncobj.syncobj as syncobj
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

logging.disable(logging.CRITICAL)

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
REASONS = {value: name for name, value in vars(FAIL_REASON).items() if isinstance(value, int)}
# Each reading of the clock costs this much, so that PySyncObj's own loops "until a period is over" end.
READING_S = 50e-6
# Longer than the heartbeat period of 0.1 s.
HEARTBEAT_S = 0.12


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += READING_S
        return self.now_s


class HandTransport(Transport):
    """Puts messages into the lab's links, pickled as on the wire."""

    def __init__(self, lab: "Lab", name: str, owner: SyncObj) -> None:
        super().__init__(owner, Node(name), [])
        self.lab, self.name = lab, name

    def send(self, node: Node, message: object) -> bool:
        link = self.lab.links.get((self.name, node.id))
        if link is None:
            return False
        link.append(pickle.dumps(message))
        return True


class Books(SyncObj):
    """The smallest ledger: the payments in the order in which they were applied here."""

    def __init__(self, lab: "Lab", name: str, conf: SyncObjConf) -> None:
        others = [Node(other) for other in lab.names if other != name]
        super().__init__(
            Node(name), others, conf, nodeClass=Node, transportClass=lambda owner, *_: HandTransport(lab, name, owner)
        )
        self.payments: list[str] = []

    @replicated
    def pay(self, payment: str) -> int:
        self.payments.append(payment)
        return len(self.payments)


def hidden(node: SyncObj, name: str) -> Any:
    """A private attribute of PySyncObj."""
    return getattr(node, f"_SyncObj__{name}")


def log(node: SyncObj) -> list[tuple[int, int]]:
    """(index, term) of each entry."""
    return [(index, term) for _, index, term in hidden(node, "raftLog")[:]]


def last_index(node: SyncObj) -> int:
    return int(hidden(node, "raftLog")[-1][1])


def error_of(act: Callable[[], object]) -> type[Exception] | None:
    """The kind of exception that an act raises."""
    try:
        act()
    except Exception as error:  # noqa: BLE001  which one is the question
        return type(error)
    return None


class Lab:
    """names: one letter a node. kind: the class of the nodes. on_disk: with journal and dump. conf: of PySyncObj."""

    def __init__(self, names: str = "ABC", *, kind: type[Books] = Books, on_disk: bool = False, **conf: object) -> None:
        random.seed(1)
        self.clock = syncobj.monotonicTime = Clock()
        self.names, self.kind, self.on_disk = names, kind, on_disk
        never_s = 1e9
        self.conf = {
            "autoTick": False,
            "useFork": False,
            "raftMinTimeout": never_s,
            "raftMaxTimeout": 2 * never_s,
            "connectionTimeout": 2 * never_s,
            "logCompactionMinEntries": 10**9,
            "logCompactionMinTime": 10**9,
            **conf,
        }
        self.nodes: dict[str, Any] = {}
        self.links: dict[tuple[str, str], deque[bytes]] = {}
        # What the callers were told about each payment, e.g. SUCCESS.
        self.answers: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self.start(name)
        self.connect_all()

    def __getitem__(self, name: str) -> Any:
        return self.nodes[name]

    # ---- nodes and links

    def start(self, name: str) -> Any:
        files = {"journalFile": f"{name}.journal", "fullDumpFile": f"{name}.dump"} if self.on_disk else {}
        self.nodes[name] = self.kind(self, name, SyncObjConf(**{**files, **self.conf}))
        return self.nodes[name]

    def kill(self, *names: str) -> None:
        """End processes as SIGKILL does: what was written stays, nothing is done at the end."""
        for name in names:
            self.isolate(name)
            file = getattr(hidden(self.nodes.pop(name), "raftLog"), "_FileJournal__journalFile", None)
            if file is not None:
                file._ResizableFile__mm.close()
                file._ResizableFile__f.close()

    def connect(self, one: str, other: str) -> None:
        for sender, receiver in ((one, other), (other, one)):
            if (sender, receiver) not in self.links and {sender, receiver} <= self.nodes.keys():
                self.links[sender, receiver] = deque()
                hidden(self[sender], "transport")._onNodeConnected(Node(receiver))

    def connect_all(self) -> None:
        for one in self.names:
            for other in self.names:
                if one < other:
                    self.connect(one, other)

    def cut(self, one: str, other: str) -> None:
        for sender, receiver in ((one, other), (other, one)):
            if self.links.pop((sender, receiver), None) is not None:
                hidden(self[sender], "transport")._onNodeDisconnected(Node(receiver))

    def isolate(self, name: str) -> None:
        for other in self.names:
            self.cut(name, other)

    # ---- messages and time

    def on_the_way(self, sender: str, receiver: str) -> list[dict[str, Any]]:
        return [pickle.loads(message) for message in self.links.get((sender, receiver), ())]

    def receive(self, sender: str, receiver: str, message: object) -> None:
        hidden(self[receiver], "transport")._onMessageReceived(Node(sender), message)

    def deliver(self, sender: str, receiver: str, count: int | None = None) -> None:
        """Deliver the oldest messages of a link: so many, or all that are there now."""
        link = self.links.get((sender, receiver), deque())
        for _ in range(len(link) if count is None else count):
            self.receive(sender, receiver, pickle.loads(link.popleft()))

    def tick(self, *names: str) -> None:
        for name in names:
            self[name].doTick(0.0)

    def heartbeat(self, name: str) -> None:
        """A leader's tick at which it sends what it has."""
        self.clock.now_s += HEARTBEAT_S
        self.tick(name)

    def settle(self, names: str = "", *, rounds: int = 6) -> None:
        """Let heartbeats pass among these nodes (or all that live), everything between them delivered."""
        names = names or "".join(name for name in self.names if name in self.nodes)
        for _ in range(rounds):
            self.clock.now_s += HEARTBEAT_S
            self.tick(*names)
            for sender in names:
                for receiver in names:
                    self.deliver(sender, receiver)
            self.tick(*names)

    # ---- what exhibits do

    def elect(self, name: str, voters: str) -> None:
        """Let a node stand for election, and these vote."""
        node = self[name]
        node._SyncObj__raftElectionDeadline = 0
        self.tick(name)
        for voter in voters:
            while hidden(node, "raftState") == CANDIDATE and self.links[name, voter]:
                self.deliver(name, voter, 1)
                self.deliver(voter, name)
        assert node._isLeader(), f"{name} was not elected"

    def pay(self, at: str, *payments: str) -> None:
        """Hand payments to a node: a leader has them in its log afterwards, a follower has forwarded them."""
        for payment in payments:
            self[at].pay(payment, callback=lambda _, reason, payment=payment: self._answered(payment, reason))
        self.tick(at)

    def _answered(self, payment: str, reason: int) -> None:
        self.answers[payment].append(REASONS[reason])

    def acknowledged(self) -> list[str]:
        return [payment for payment, answers in self.answers.items() if answers == ["SUCCESS"]]

    def lost(self, at: str) -> list[str]:
        """Acknowledged payments that this node's books do not have."""
        return [payment for payment in self.acknowledged() if payment not in self[at].payments]
