"""A group of real engines in one thread: simulated clock and disks, messages delivered by hand or by a seed.

Links are one-way and in order, as the transport's connections are. Nothing happens unless a test says so.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import msgspec
import pysyncobj.syncobj as stock

from raftpay.errors import StorageError
from raftpay.raft.catch_up import restore
from raftpay.raft.engine import LEADER, Engine
from raftpay.raft.log import RaftLog
from raftpay.raft.members import Member as RaftMember
from raftpay.raft.members import encode_members
from raftpay.raft.messages import Message
from raftpay.raft.options import RaftOptions
from raftpay.raft.snapshots import SnapshotOptions, Snapshots
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Journal, JournalOptions
from raftpay.storage.sim_disk import SimDisk
from raftpay.storage.snapshots import SnapshotStore, StateFile, Steps

CLUSTER = "lab"


class Clock:
    """Simulated seconds; both the engine and PySyncObj read it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def simulated_clock() -> Iterator[Clock]:
    clock, real = Clock(), stock.monotonicTime
    stock.monotonicTime = clock
    try:
        yield clock
    finally:
        stock.monotonicTime = real


@dataclass
class Member:
    name: str
    disk: SimDisk
    journal: Journal
    engine: Engine
    # (index, payload) in the order of apply, in this life of the process.
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    snapshots: Snapshots | None = None


class ListImage:
    """What was applied, as it was at one moment."""

    files: tuple[StateFile, ...] = ()

    def __init__(self, applied: list[tuple[int, bytes]]) -> None:
        self._applied = list(applied)

    def chunks(self) -> Iterator[bytes]:
        for entry in self._applied:
            yield msgspec.msgpack.encode(entry)

    def release(self) -> None:
        self._applied = []


class ListMachine:
    """The smallest state machine: the list of all that was applied."""

    def __init__(self, applied: list[tuple[int, bytes]], apply: Callable[[int, bytes], bytes]) -> None:
        self._applied, self.apply = applied, apply

    def image(self) -> ListImage:
        return ListImage(self._applied)

    def take_in(self) -> Steps:
        return iter(())

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]:
        loaded = [msgspec.msgpack.decode(chunk, type=tuple[int, bytes]) for chunk in chunks]

        def become() -> object:
            self._applied[:] = loaded
            return None

        return become


def run_at_once(steps: Steps, done: Callable[[StorageError | None], None]) -> None:
    try:
        for _ in steps:
            continue
    except StorageError as error:
        done(error)
    else:
        done(None)


# Every few entries.
FREQUENT = SnapshotOptions(log_bytes_max=2000, tail_bytes=500, chunk_bytes=300, rate_bytes_s=1 << 30)


class Lab:
    def __init__(
        self,
        clock: Clock,
        *,
        size: int = 3,
        seed: int = 0,
        snapshots: SnapshotOptions | None = None,
        is_founded: bool = True,
    ) -> None:
        self.snapshot_options = snapshots
        # Beside the loop; a test may put another in its place, which does it later.
        self.run_steps = run_at_once
        random.seed(seed)
        self.clock, self.random = clock, random.Random(seed)
        self.names = [f"n{number}" for number in range(1, size + 1)]
        self.disks = {name: SimDisk(seed=seed * 100 + number) for number, name in enumerate(self.names)}
        # As if the cluster had been founded before: these are the incarnations of the first disks.
        self.founding = {
            name: RaftMember("127.0.0.1:1", "", is_voter=True, incarnation=number, command_version=1)
            for number, name in enumerate(self.names, 1)
        }
        self.unfounded = list(self.names) if is_founded else []
        self._founders = tuple(self.names)
        # Of nodes that are to start with another release than the first.
        self.command_versions: dict[str, int] = {}
        self._incarnations = count(1)
        # Whom each node was told to dial, each time.
        self.changed: dict[str, list[list[str]]] = {}
        self.members: dict[str, Member] = {}
        self.links: dict[tuple[str, str], deque[Message]] = {}
        # term -> who led in it (election safety, Raft paper 5.2).
        self.leaders: dict[int, str] = {}
        # payloads whose proposer was told that they are applied.
        self.acknowledged: list[bytes] = []
        # index -> payload, as first applied anywhere (state machine safety, Raft paper 5.4.3).
        self.history: dict[int, bytes] = {}
        for name in self.names:
            self.start(name)
        self.connect_all()

    # ---- nodes

    def start(self, name: str) -> Member:
        disk = self.disks[name]
        sizes = {"segment_bytes": 64 * 1024} if self.snapshot_options is None else {"segment_bytes": 2048}
        journal = Journal.open(
            disk, JournalOptions(**sizes, first_segment_bytes=sizes["segment_bytes"], cluster_id=CLUSTER)
        )
        hard_state = HardStateFile.open(disk, cluster_id=CLUSTER, draw=lambda: next(self._incarnations))
        if name in self.unfounded:
            self.unfounded.remove(name)
            hard_state.found(encode_members(self.founding))
        known = dict.fromkeys(self.names, "127.0.0.1:1")
        options = RaftOptions(name, CLUSTER, known, append_bytes_max=200, founders=self._founders,
                              command_version=self.command_versions.get(name, 1))  # fmt: skip
        applied: list[tuple[int, bytes]] = []

        def apply(index: int, payload: bytes) -> bytes:
            applied.append((index, payload))
            assert self.history.setdefault(index, payload) == payload, f"{name} applies another entry {index}"
            return payload

        def on_role(role: int) -> None:
            if role == LEADER:
                term = self.members[name].engine.term
                assert self.leaders.setdefault(term, name) == name, f"two leaders in term {term}"

        snapshots = self._snapshots(name, disk, journal, ListMachine(applied, apply))
        engine = Engine(
            options,
            RaftLog(journal, hard_state, None if snapshots is None else snapshots.store.newest),
            apply=apply,
            send=lambda peer, message: self._send(name, peer, message),
            on_role=on_role,
            on_members=lambda: self._members_changed(name),
            snapshots=snapshots,
        )
        self.members[name] = Member(name, disk, journal, engine, applied, snapshots)
        return self.members[name]

    def _members_changed(self, name: str) -> None:
        engine = self.members[name].engine
        self.changed.setdefault(name, []).append(sorted(engine.membership.addresses(engine.commit_index)))

    def _snapshots(self, name: str, disk: SimDisk, journal: Journal, machine: ListMachine) -> Snapshots | None:
        if self.snapshot_options is None:
            return None
        store = SnapshotStore.open(disk, CLUSTER)
        restore(journal, store, machine)
        return Snapshots(
            store,
            journal,
            machine,
            self.snapshot_options,
            members=lambda index: self.members[name].engine.members_at(index),
            cluster_id=CLUSTER,
            run=lambda steps, done: self.run_steps(steps, done),
            install=lambda info, become: self.members[name].engine.install(info, become),
        )

    def kill(self, name: str, *, power_loss: bool = False) -> None:
        """End a process. What it wrote stays, unless the power goes too: then only what was fsynced is sure to stay."""
        member = self.members.pop(name)
        for other in self.names:
            self.disconnect(name, other)
            self.disconnect(other, name)
        if power_loss:
            member.disk.crash()

    def wipe(self, name: str) -> Member:
        """Kill a node and start it again with an empty disk, connected to all."""
        self.kill(name)
        return self.wipe_stopped(name)

    def wipe_stopped(self, name: str) -> Member:
        self.disks[name] = SimDisk(seed=self.random.getrandbits(30))
        member = self.start(name)
        self.connect_all()
        return member

    def join(self, name: str) -> Member:
        """Start a node that is no member, connected to all."""
        self.names.append(name)
        self.disks[name] = SimDisk(seed=self.random.getrandbits(30))
        member = self.start(name)
        self.connect_all()
        return member

    def leader(self) -> str | None:
        leading = [member for member in self.members.values() if member.engine.role == LEADER]
        return max(leading, key=lambda member: member.engine.term).name if leading else None

    # ---- links

    def _send(self, sender: str, receiver: str, message: Message) -> None:
        if (sender, receiver) in self.links:
            self.links[sender, receiver].append(message)

    def connect(self, sender: str, receiver: str) -> None:
        if sender == receiver or (sender, receiver) in self.links or not {sender, receiver} <= self.members.keys():
            return
        self.links[sender, receiver] = deque()
        self.members[receiver].engine.introduced(self.members[sender].engine.hello(receiver))
        self.members[sender].engine.connected(receiver)

    def disconnect(self, sender: str, receiver: str) -> None:
        if self.links.pop((sender, receiver), None) is None:
            return
        if sender in self.members:
            self.members[sender].engine.disconnected(receiver)
        if receiver in self.members:
            self.members[receiver].engine.peer_hung_up(sender)

    def connect_all(self) -> None:
        for sender in self.names:
            for receiver in self.names:
                self.connect(sender, receiver)

    def isolate(self, name: str) -> None:
        for other in self.names:
            self.disconnect(name, other)
            self.disconnect(other, name)

    def deliver(self, sender: str, receiver: str) -> Message | None:
        """Deliver the oldest message of a link; None if there is none."""
        link = self.links.get((sender, receiver))
        if not link:
            return None
        message = link.popleft()
        self.members[receiver].engine.receive(sender, message)
        return message

    # ---- time

    def sync(self, name: str) -> None:
        self.members[name].journal.sync()
        self.members[name].engine.synced()

    def tick(self, name: str) -> None:
        self.members[name].engine.tick()

    def settle(self, *, sync: bool = True) -> None:
        """Deliver and fsync until nothing moves, without letting time pass."""
        for _ in range(1000):
            moved = False
            for sender, receiver in sorted(self.links):
                while self.deliver(sender, receiver) is not None:
                    moved = True
            for name in sorted(self.members):
                before = self.members[name].engine.commit_index, self.members[name].engine.applied_index
                if sync:
                    self.sync(name)
                self.tick(name)
                moved |= before != (self.members[name].engine.commit_index, self.members[name].engine.applied_index)
            if not moved and not any(self.links.values()):
                return
        raise AssertionError("the group does not come to rest")

    def settle_pair(self, leader: str, follower: str) -> None:
        """Deliver and fsync between two nodes only, until nothing moves."""
        while self.deliver(leader, follower) is not None or self.deliver(follower, leader) is not None:
            self.sync(follower)
            self.tick(follower)

    def run_s(self, seconds: float, *, step_s: float = 0.02) -> None:
        """Let time pass for all, delivering and fsyncing everything on the way."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s += step_s
            for name in sorted(self.members):
                self.tick(name)
            self.settle()

    def elect(self, name: str) -> Engine:
        """Make one node the leader by letting it stand first."""
        engine = self.members[name].engine
        for _ in range(20):
            self.clock.now_s += engine.options.election_timeout_max_s + 0.01
            self.tick(name)
            self.settle()
            if engine.is_ready:
                return engine
        raise AssertionError(f"{name} was not elected")

    def propose(self, payload: bytes) -> bool:
        """Propose at the present leader. Returns whether it was taken."""
        name = self.leader()
        if name is None or not self.members[name].engine.is_ready:
            return False

        def done(result: object, error: Exception | None) -> None:
            if error is None:
                assert result == payload
                self.acknowledged.append(payload)

        self.members[name].engine.propose(payload, done)
        return True

    # ---- checks

    def check_outcome(self) -> None:
        """Acknowledged payloads are applied on every node, once, and all nodes applied the same."""
        applied = {name: [payload for _, payload in member.applied] for name, member in self.members.items()}
        first = applied[self.names[0]]
        for name, payloads in applied.items():
            assert payloads == first, f"{name} differs"
        assert len(set(first)) == len(first), "a payload was applied twice"
        assert set(self.acknowledged) <= set(first), "an acknowledged payload is lost"
