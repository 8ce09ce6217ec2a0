"""One simulated node: the real journal, hard state, RaftNode, group commit, reads and ledger over simulated parts.

What raftpay/node/node.py puts together, without sockets. A life begins with `start` and ends with `end`; the disk
outlives it. Which faults it meets is decided in faults.py.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec

from raftpay.archive.archive import Archive
from raftpay.archive.history import SealedFiles
from raftpay.archive.plain_store import PlainStore
from raftpay.errors import CorruptionError, DiskFullError, StorageError
from raftpay.ledger import Ledger, Results
from raftpay.machine import COMMAND_VERSION, CheckedRequest, Machine, StateImage
from raftpay.node.calls import Call, Refusals
from raftpay.node.group_commit import GroupCommit
from raftpay.node.reads import LinearizableReads, Read
from raftpay.node.sealing import Sealing
from raftpay.raft.catch_up import restore
from raftpay.raft.messages import AppendEntries, AppendReply, Message, SnapshotFetch
from raftpay.raft.node import RaftNode, RaftParts
from raftpay.raft.options import RaftOptions
from raftpay.raft.snapshots import SnapshotParts
from raftpay.raft.transport import PeerEvents
from raftpay.sim.contacts import Contacts
from raftpay.sim.invariants import Invariants, WatchedJournal
from raftpay.sim.loop import NodeLoop, Schedule
from raftpay.sim.network import Network, SimLinks
from raftpay.sim.scrubs import WatchedScrubbing
from raftpay.sim.settings import CLUSTER, REQUEST_TIMEOUT_S, Settings
from raftpay.sim.talk import TALKED_ABOUT, Talk
from raftpay.sim.watched import FETCH, WatchedArchive, WatchedHardState, WatchedRaft, WatchedStore
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import SyncJob
from raftpay.storage.sim_disk import PowerLossError, SimDelays, SimDisk
from raftpay.storage.snapshots import SnapshotStore, Steps

# How long one step of writing or checking a snapshot takes.
STEP_S: Final = (0.0001, 0.004)
READS_WAITING_MAX: Final = 64
# Whoever runs a node that stops for damage so often does what it says: it needs another disk.
DAMAGE_STOPS_MAX: Final = 3
# Those that have been answered are forgotten from this number on.
LETTERS_KEPT: Final = 128
NEXT_COMMAND_VERSION: Final = COMMAND_VERSION + 1
SYNC_S: Final = (0.0002, 0.003)
# The wall clocks begin in 2026.
EPOCH_NS: Final = 1_780_000_000 * 10**9
# Nearly all messages are these, and are looked at by the invariants alone.
_MOST: Final = (AppendEntries, AppendReply)


@dataclass(frozen=True, slots=True)
class World:
    """What all members share.

    names: of the founders. on_end: told which node's process has ended, and whether it may start again.
    """

    schedule: Schedule
    network: Network
    invariants: Invariants
    talk: Talk
    rng: random.Random
    names: list[str]
    settings: Settings
    on_end: Callable[[str, bool], None]


class Letter(msgspec.Struct, frozen=True, eq=False):
    """A client's request, or linearizable question. lose: called if the process ends without an answer to it."""

    call: Call
    lose: Callable[[], None]
    wanted: CheckedRequest | Read


class _NumberedImage(StateImage):
    """An image that says which entry was applied last, so that the audit can compare it with the log."""

    def __init__(self, image: StateImage, applied_index: int) -> None:

        def chunks() -> Iterator[bytes]:
            yield applied_index.to_bytes(8, "big")
            yield from image.chunks()

        self.chunks, self.release, self.files = chunks, image.release, image.files


class _WatchedMachine(Machine):
    def __init__(self, ledger: Ledger, archive: Archive, life: "Life", invariants: Invariants) -> None:
        super().__init__(ledger, archive)
        self._life, self._invariants, self._books = life, invariants, ledger

    def image(self) -> StateImage:
        return _NumberedImage(super().image(), self._life.applied_index)

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]:
        stream = iter(chunks)
        index = int.from_bytes(next(stream), "big")
        become = super().load(stream)

        def watched() -> object:
            was = become()
            self._invariants.counts.snapshots_installed += self._life.is_open
            self._invariants.restored(self._life, index, self._books.state_digest())
            return was

        return watched

    def apply(self, index: int, payload: bytes) -> list[Results]:
        # The next release has another version byte for the same commands, which this one does not know.
        known = self._life.release > COMMAND_VERSION and payload[0] == NEXT_COMMAND_VERSION
        results = super().apply(index, bytes((COMMAND_VERSION,)) + payload[1:] if known else payload)
        self._invariants.applied(self._life, index, payload, results)
        return results


class _SimSyncs:
    """In the place of the fsync thread: at some moment the data is on the disk, at a later one the node is told."""

    def __init__(self, member: "Member", life: "Life", done: Callable[[SyncJob, StorageError | None], None]) -> None:
        self._member, self._life, self._done = member, life, done

    def submit(self, job: SyncJob) -> None:
        low, high = self._member.sync_s
        rng = self._member.world.rng
        lasts_s = rng.uniform(low, high)
        # What is written after that moment is not on the disk when the fsync ends.
        synced_s = rng.random() * lasts_s
        self._member.world.schedule.after(synced_s, self._run, job, lasts_s - synced_s)

    def stop(self) -> None:
        """Nothing runs on."""

    def _run(self, job: SyncJob, left_s: float) -> None:
        if self._life.loop.is_dead:
            return
        error: StorageError | None = None
        try:
            job.run()
        except StorageError as failure:
            error = failure
        except PowerLossError:
            self._member.after_turn(self._life)
            return
        world = self._member.world
        world.schedule.after(left_s + world.rng.uniform(0.0, 0.0003), self._life.loop.deliver, self._done, job, error)


class _SimSteps:
    """In the place of the snapshot thread: each step takes a while, and the node may end between any two."""

    def __init__(self, member: "Member", life: "Life") -> None:
        self._member, self._life = member, life
        self._series: deque[tuple[Steps, Callable[[StorageError | None], None]]] = deque()

    def submit(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        self._series.append((steps, done))
        if len(self._series) == 1:
            self._later()

    def stop(self) -> None:
        """Nothing runs on."""

    def _later(self) -> None:
        world = self._member.world
        world.schedule.after(world.rng.uniform(*STEP_S), self._step)

    def _step(self) -> None:
        if self._life.loop.is_dead:
            return
        steps, done = self._series[0]
        try:
            next(steps)
        except StopIteration:
            self._end(done, None)
        except StorageError as failure:
            self._end(done, failure)
        except PowerLossError:
            self._member.after_turn(self._life)
        else:
            self._later()

    def _end(self, done: Callable[[StorageError | None], None], error: StorageError | None) -> None:
        self._series.popleft()
        if self._series:
            self._later()
        # What is done there may submit the next series, which begins by itself where none waits.
        self._life.loop.deliver(done, error)


class Life:
    """One life of a node's process: what is in its memory."""

    def __init__(self, member: "Member", loop: NodeLoop) -> None:
        self.name = member.name
        self.loop = loop
        self.journal: WatchedJournal
        self.hard_state: HardStateFile
        self.snapshots: SnapshotStore
        self.contacts: Contacts
        self.events: PeerEvents
        self.machine: _WatchedMachine
        self.raft: RaftNode
        self.ledger: Ledger
        self.archive: Archive
        self.group_commit: GroupCommit
        self.reads: LinearizableReads
        self.scrubbing: WatchedScrubbing
        # False until everything was opened.
        self.is_open = False
        self.commit_seen = 1
        self.role_seen = "follower"
        # What the checks have seen of RaftNode.standing.
        self.standing_seen: tuple[int, int, int, int] | None = None
        self.applied_index = 1
        self.release = member.release
        # Who is to lead next; "" for anybody.
        self.heir = ""
        # Those that will learn of the end of this process, in order of arrival.
        self.letters: list[Letter] = []


class Member:
    """A node through its lives.

    is_damaged: something on its disk is not what it should be, or was not and may not be yet. is_threatened: it may
    become so at any moment.
    is_astray: a write of this life, or of the one before if none is under way, went elsewhere than it should.
    astray_start: the number of the start in whose life one last did.
    sync_s: from and to how long its fsyncs take. wall_offset_ns: how far its wall clock is off.
    damage_stops: how often it has stopped for damage of this disk. is_corrupt: it refuses to start for that, or has
    stopped too often; it stays down until it gets another disk. is_spare: it is no member, and does not run.
    is_cut_by_power: whether it is power, not a kill, that ends it within a coming write, where that is armed.
    ambushes: what happens, once, when the node begins an act.
    """

    def __init__(self, world: World, name: str, seed: int, *, is_spare: bool = False) -> None:
        self.world, self.name = world, name
        self.disk = self._new_disk(seed)
        self.life: Life | None = None
        self.sync_s = SYNC_S
        self.clock_drift = 0.0
        self.wall_offset_ns = 0
        self.is_damaged = False
        self.is_threatened = False
        self.is_astray = False
        self.astray_start = 0
        self.is_corrupt = False
        self.damage_stops = 0
        self.is_spare = is_spare
        # The newest version of commands that its program knows. A node that is added comes with the newest program.
        self.release = NEXT_COMMAND_VERSION if is_spare else COMMAND_VERSION
        self.is_cut_by_power = False
        self.ambushes: dict[str, Callable[[], None]] = {}
        self.starts = 0
        self.rng = random.Random(seed)

    # ---- lives

    def start(self) -> None:
        """Begin a life, if none is under way and the disk allows it."""
        if self.life is not None or self.is_corrupt or self.is_spare:
            return
        self.starts += 1
        rate = 1.0 + self.clock_drift * self.rng.uniform(-1.0, 1.0)
        loop = NodeLoop(  # type: ignore[abstract]  # nothing calls the rest of a loop
            self.world.schedule,
            rate=rate,
            offset_s=self.rng.uniform(100.0, 10_000.0),
        )
        self.life = life = Life(self, loop)
        loop.after_turn = partial(self.after_turn, life)
        self.world.invariants.trace.note("start", self.name)
        loop.deliver(self._open, life)

    def _open(self, life: Life) -> None:
        try:
            self._open_disk(life)
            self._join(life)
        except CorruptionError as error:
            if not self.is_damaged:
                raise self.world.invariants.trace.violated(
                    "durability", f"{self.name} refuses to start, undamaged: {error}"
                ) from error
            self.is_corrupt = True
            self.world.invariants.counts.refusals += 1
            self.end(why=f"refuses to start: {error}")
        except StorageError as error:  # no room to begin with; tried again later
            self.end(why=str(error))

    def begins(self, act: str) -> None:
        """The node begins something that a fault may wait for."""
        ambush = self.ambushes.pop(act, None)
        if ambush is not None:
            ambush()

    def _open_disk(self, life: Life) -> None:
        invariants = self.world.invariants
        self.begins("start")
        settings = self.world.settings
        life.journal = WatchedJournal.open(self.disk, settings.journal)  # type: ignore[assignment]  # makes what it is called on
        hard_state = WatchedHardState.open(self.disk, cluster_id=CLUSTER, draw=lambda: self.rng.getrandbits(62) + 1)
        hard_state.on_act, life.hard_state = self.begins, hard_state  # type: ignore[attr-defined]  # as above
        store = WatchedStore.open(self.disk, CLUSTER)
        store.counts, store.on_act, life.snapshots = invariants.counts, self.begins, store
        archive = WatchedArchive.open(self.disk, CLUSTER, PlainStore())
        archive.on_act, life.archive = self.begins, archive
        life.ledger = Ledger(SealedFiles(life.archive), sizes=settings.window)
        life.machine = _WatchedMachine(life.ledger, life.archive, life, invariants)
        restore(life.journal, life.snapshots, life.machine)
        invariants.starting(life, is_damaged=self.is_damaged, is_read=self.astray_start < self.starts)
        life.journal.on_act, life.journal.is_damaged = self.begins, lambda: self.is_damaged
        self.is_astray = False

    def _join(self, life: Life) -> None:
        world, loop = self.world, life.loop
        known = dict.fromkeys([*world.names, self.name], "sim:1")
        options = RaftOptions(
            self.name,
            CLUSTER,
            known,
            heartbeat_s=world.settings.heartbeat_s,
            append_bytes_max=4096,
            founders=tuple(world.names),
            command_version=life.release,
        )

        contacts = life.contacts = Contacts(options, world.invariants.trace, loop.reading)

        def received(peer: str, message: Message) -> None:
            contacts.received(life.raft, message)
            life.events.received(peer, message)
            if isinstance(message, AppendReply | SnapshotFetch):
                contacts.answered(life.raft, peer, message)

        def hung_up(peer: str) -> None:
            contacts.hung_up(life.raft, peer)
            life.events.hung_up(peer)

        def links(options: RaftOptions, events: PeerEvents) -> SimLinks:
            life.events = events
            host = world.network.attach(loop, options, replace(events, received=received, hung_up=hung_up))
            return SimLinks(world.network, host, self._sending)

        life.raft = raft = WatchedRaft(
            options,
            life.journal,
            life.hard_state,
            life.machine,
            parts=RaftParts(
                links=links,
                syncs=lambda _loop, done: _SimSyncs(self, life, done),
                steps=lambda _loop: _SimSteps(self, life),
                rng=random.Random(self.rng.getrandbits(64)),
            ),
            snapshots=SnapshotParts(life.snapshots, life.machine, world.settings.snapshots),
        )
        raft.on_act, raft.heir, life.journal.commit_index = self.begins, lambda: life.heir, lambda: raft.commit_index
        life.machine.on_applied = Sealing(life.ledger, life.archive, life.raft, loop.time).look
        life.raft.failure.add_done_callback(lambda future: self._failed(future.result()))
        refusals = Refusals(self.name, lambda name: name)
        commit = replace(world.settings.group_commit, command_version=life.release)
        life.group_commit = GroupCommit(commit, life.raft, life.ledger, refusals, self._wall_clock_ns)
        life.reads = LinearizableReads(life.raft, refusals, waiting_max=READS_WAITING_MAX, timeout_s=REQUEST_TIMEOUT_S)
        life.scrubbing = WatchedScrubbing(
            world.settings.scrub,
            raft,
            name=self.name,
            journal=life.journal,
            archive=life.archive,
            clock_ns=self._wall_clock_ns,
            invariants=world.invariants,
            on_whole=self._is_whole,
        )
        life.is_open = True
        loop.create_task(self._begin(life))

    async def _begin(self, life: Life) -> None:
        await life.raft.start()
        life.scrubbing.start()

    def _is_whole(self) -> None:
        """Nothing on its disk is damaged: it is as if it never was."""
        if self.is_damaged:
            self.world.invariants.trace.note("whole again", self.name)
            self.world.invariants.counts.healed += 1
            self.is_damaged = self.is_astray = False
            self.damage_stops = 0

    def hand_over(self, heir: str = "") -> bool:
        """Have it hand the leadership over, to this node or to whoever has everything. False if it does not run."""
        life = self.life
        if life is None or not life.is_open or life.raft.failure.done():
            return False

        async def transfer() -> None:
            life.heir = heir
            await life.raft.transfer_leadership(1.0)
            life.heir = ""

        life.loop.deliver(lambda: life.loop.create_task(transfer()))
        return True

    def end(self, *, why: str, is_power_lost: bool = False) -> None:
        """End the process: by a kill, or by the power going, which takes what was not synced."""
        life, self.life = self.life, None
        if life is None:
            return
        self.world.invariants.trace.note("end", self.name, why)
        life.loop.die()
        if life.is_open:
            self.world.invariants.ending(life)
            life.journal.invariants = None
        self.world.network.detach(self.name, is_power_lost=is_power_lost)
        self.disk.interrupt(0, None)
        # A write that went astray and is lost besides is what recovery.py cannot tell from a torn tail.
        if is_power_lost and not self.is_astray:
            self.disk.crash()
        if not is_power_lost:
            for letter in life.letters:
                letter.lose()
        self.world.on_end(self.name, not self.is_corrupt)

    def _failed(self, error: Exception) -> None:
        """The engine stopped itself. That is right after an error of the disk, and only then."""
        if self.life is not None and self.life.loop.is_cut:
            return  # after_turn ends this life.
        is_of_damage = isinstance(error, CorruptionError) or isinstance(error.__cause__, CorruptionError)
        if isinstance(error, DiskFullError) or (is_of_damage and self.is_damaged):
            self.damage_stops += is_of_damage
            if self.damage_stops >= DAMAGE_STOPS_MAX:
                self.is_corrupt = True
                self.world.invariants.counts.refusals += 1
            self.end(why=f"stops: {error}")
            return
        raise self.world.invariants.trace.violated("the engine runs on", f"{self.name} stopped: {error!r}") from error

    def after_turn(self, life: Life) -> None:
        if life is not self.life:
            return
        if life.loop.is_cut:
            self.end(why="within a write", is_power_lost=self.is_cut_by_power)
        elif life.is_open:
            standing = self.world.invariants.turned(life)
            if life.role_seen == "leader":
                life.contacts.turned(life.raft, standing)

    def cut_soon(self, after: int, *, is_power_lost: bool) -> None:
        """End the process within the write or fsync after so many others."""
        self.is_cut_by_power = is_power_lost
        self.disk.interrupt(after, PowerLossError())

    def _cut(self) -> None:
        if self.life is not None:
            self.life.loop.is_cut = True

    def _sending(self, receiver: str, message: Message) -> None:
        life = self.life
        if life is not None:
            self.world.invariants.sending(life, receiver, message)
            if isinstance(message, _MOST):
                return
            life.contacts.sending(message)
            if isinstance(message, TALKED_ABOUT):
                self.world.talk.sending(life, receiver, message)
                if isinstance(message, SnapshotFetch) and message.offset == 0:
                    self.begins(FETCH)

    def _new_disk(self, seed: int) -> SimDisk:
        return SimDisk(seed, on_delay=self._disk_delayed, on_interruption=self._cut)

    def wipe(self) -> None:
        """The process ends, and the next one finds an empty disk."""
        self.end(why="killed, its disk is replaced")
        self.disk = self._new_disk(self.rng.getrandbits(64))
        self.is_damaged = self.is_threatened = self.is_astray = self.is_corrupt = False
        self.damage_stops = 0
        self.world.invariants.forget(self.name)

    # ---- clocks and disk

    @property
    def is_scrubbed(self) -> bool:
        """Whether its processes read the disk again, to find damage and mend it."""
        return self.world.settings.scrub.rate_bytes_max > 0

    def _wall_clock_ns(self) -> int:
        return EPOCH_NS + int(self.world.schedule.now_s * 1e9) + self.wall_offset_ns

    def slow_disk(self, sync_s: tuple[float, float]) -> None:
        """fsyncs of the journal take so long, those of the hard state hold the loop up."""
        self.sync_s = sync_s
        self.disk.delays = SimDelays(sync_s=sync_s[1] / 4 if sync_s is not SYNC_S else 0.0)

    def _disk_delayed(self, seconds: float) -> None:
        life = self.life
        if life is not None and self.world.schedule.running is life.loop:
            life.loop.spend(seconds)

    # ---- clients

    def take(self, letters: list[Letter]) -> bool:
        """Hand clients' requests to the node, in one turn. False if nobody listens there."""
        life = self.life
        if life is None or not life.is_open:
            return False
        if len(life.letters) >= LETTERS_KEPT:
            life.letters = [letter for letter in life.letters if letter.call.is_open]
        life.letters += letters
        life.loop.deliver(self._read, life, letters)
        return True

    def _read(self, life: Life, letters: list[Letter]) -> None:
        for letter in letters:
            if life.raft.failure.done():
                return
            if isinstance(letter.wanted, CheckedRequest):
                life.group_commit.submit(letter.call, letter.wanted)
            else:
                life.reads.submit(letter.call, letter.wanted)

    @property
    def role(self) -> str:
        """leader, follower, candidate, or down."""
        life = self.life
        return life.role_seen if life is not None and life.is_open else "down"


def leader_of(members: Sequence[Member]) -> Member | None:
    """The one that leads in the highest term, or None."""
    leading = [member for member in members if member.role == "leader"]
    return max(leading, key=lambda member: member.life.raft.term if member.life else 0, default=None)
