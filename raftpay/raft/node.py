"""A member of the Raft group as the rest of raftpay sees it: drives the engine from one asyncio loop.

Events drive it (a message, an fsync done, a proposal), and a timer for what only time brings. Everything runs on the
loop but fsync, which has a thread of its own. What the engine must not survive ends in `failure`; the owner then exits.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftpay.errors import (
    DiskFullError,
    EngineStoppedError,
    LeadershipLostError,
    MembershipError,
    NotLeaderError,
    RaftError,
    StorageError,
    WireError,
)
from raftpay.raft import engine as engine_room
from raftpay.raft.copies import Copies
from raftpay.raft.determinism import now
from raftpay.raft.engine import Done, Engine
from raftpay.raft.log import RaftLog
from raftpay.raft.members import Members
from raftpay.raft.messages import CopyChunk, CopyFetch, Message
from raftpay.raft.options import RaftOptions
from raftpay.raft.snapshots import Applying, SnapshotParts, Snapshots
from raftpay.raft.threads import StepThread, SyncThread
from raftpay.raft.transport import PeerEvents, PeerTransport
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Journal, SyncJob
from raftpay.storage.snapshots import Steps

logger = logging.getLogger("raftpay.raft")

# When a node that knows no members says so, and how often it says it again.
HINT_FIRST_S = 3.0
HINT_EVERY_S = 30.0
# A leader with a full disk asks a follower to lead, and so long after that another one.
GIVE_WAY_EVERY_S = 5.0

# What copies.py takes; all other messages are the engine's.
_OF_COPIES: Final = (CopyFetch, CopyChunk)

ROLE_NAMES = {engine_room.FOLLOWER: "follower", engine_room.CANDIDATE: "candidate", engine_room.LEADER: "leader"}


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """name: the peer. is_voter: else it learns. is_connected: our way to it. match_index: known to its leader only."""

    name: str
    is_voter: bool
    is_connected: bool
    match_index: int | None


class Links(Protocol):
    """Messages to and from the peers: PeerTransport, or a simulated network."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def send(self, peer: str, message: Message) -> None: ...

    def set_peers(self, peers: Mapping[str, str]) -> None: ...


class Syncs(Protocol):
    """Runs fsyncs beside the loop: SyncThread, or a simulated one."""

    def submit(self, job: SyncJob) -> None: ...

    def stop(self) -> None: ...


class StepRunner(Protocol):
    """Runs what takes long beside the loop: StepThread, or a simulated one."""

    def submit(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RaftParts:
    """What a node has of the machine it runs on. The simulator brings its own."""

    links: Callable[[RaftOptions, PeerEvents], Links] = PeerTransport
    syncs: Callable[[asyncio.AbstractEventLoop, Callable[[SyncJob, StorageError | None], None]], Syncs] = SyncThread
    steps: Callable[[asyncio.AbstractEventLoop], StepRunner] = StepThread
    rng: random.Random = field(default_factory=random.Random)


class RaftNode:
    """One member. Construct it with an opened journal and hard state, then `start`.

    snapshots: None to keep the log whole.

    failure: done when the engine has stopped itself; its result is the reason. snapshots, copies: of this node.
    on_role_change: called on the loop with "leader", "follower" or "candidate".
    """

    def __init__(
        self,
        options: RaftOptions,
        journal: Journal,
        hard_state: HardStateFile,
        machine: Applying,
        *,
        parts: RaftParts | None = None,
        snapshots: SnapshotParts | None = None,
    ) -> None:
        assert snapshots is not None or journal.first_index == 1
        self.options, self._journal = options, journal
        self._parts = parts or RaftParts()
        self.on_role_change: list[Callable[[str], None]] = []
        self._loop = asyncio.get_running_loop()
        self.failure: asyncio.Future[Exception] = self._loop.create_future()
        self._engine: Engine
        events = PeerEvents(
            hello=lambda peer: self._engine.hello(peer),
            introduced=lambda hello: self._guarded(self._engine.introduced, hello),
            received=self._received,
            connected=lambda peer: self._guarded(self._engine.connected, peer),
            disconnected=lambda peer: self._guarded(self._engine.disconnected, peer),
            hung_up=lambda peer: self._guarded(self._engine.peer_hung_up, peer),
        )
        self._transport = self._parts.links(options, events)
        self.copies = Copies(
            journal,
            None if snapshots is None else snapshots.store.disk,
            self._transport.send,
            lambda: [peer.name for peer in self.peers() if peer.is_connected],
        )
        self.snapshots: Snapshots | None = None
        if snapshots is not None:
            self.snapshots = Snapshots(
                snapshots.store,
                journal,
                snapshots.machine,
                snapshots.options,
                members=lambda index: self._engine.members_at(index),
                cluster_id=options.cluster_id,
                run=self.run_steps,
                install=lambda info, become: self._engine.install(info, become),
            )
        self._engine = Engine(
            options,
            RaftLog(journal, hard_state, None if snapshots is None else snapshots.store.newest),
            apply=machine.apply,
            send=self._transport.send,
            on_role=self._role_changed,
            on_members=self._members_changed,
            rng=self._parts.rng,
            snapshots=self.snapshots,
        )
        self._sync_thread: Syncs | None = None
        self._step_runner: StepRunner | None = None
        self._is_syncing = False
        # An fsync has begun for which no step has been put off yet.
        self._is_acknowledging = False
        self._is_step_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._hint: asyncio.TimerHandle | None = None
        # With a full disk: to whom the leadership was offered last, and when it may be again.
        self._gave_way_to, self._give_way_s = "", float("-inf")
        # Looked at after every step: (what is waited for, whom to tell).
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, dial the peers, begin to tick. Raises ConfigError when the peer port cannot be had."""
        self._transport.set_peers(self.addresses())
        await self._transport.start()
        self._sync_thread = self._parts.syncs(self._loop, self._sync_done)
        self._step_runner = self._parts.steps(self._loop)
        self._tick()
        self._hint = self._loop.call_later(HINT_FIRST_S, self._tell_waiting)

    async def stop(self) -> None:
        """Close all connections and finish the fsync under way. The journal stays open: it is the caller's."""
        for timer in (self._timer, self._hint):
            if timer is not None:
                timer.cancel()
        await self._transport.stop()
        if self._sync_thread is not None:
            await asyncio.to_thread(self._sync_thread.stop)
        if self._step_runner is not None:
            await asyncio.to_thread(self._step_runner.stop)
        self._end_waiting(EngineStoppedError("the node is stopping"))

    # ---- what it is at ----------------------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        return ROLE_NAMES[self._engine.role]

    @property
    def standing(self) -> tuple[int, int, int, int]:
        """Changes whenever role, term, commit index or the members do, and costs less to ask than these."""
        return self._engine.standing

    @property
    def leader(self) -> str | None:
        return self._engine.leader

    @property
    def is_ready(self) -> bool:
        """Leads, and has applied everything of earlier terms: proposals and linearizable reads are served."""
        return self._engine.is_ready and not self.failure.done()

    @property
    def term(self) -> int:
        return self._engine.term

    @property
    def commit_index(self) -> int:
        return self._engine.commit_index

    @property
    def applied_index(self) -> int:
        return self._engine.applied_index

    @property
    def last_index(self) -> int:
        return self._journal.last_index

    @property
    def synced_index(self) -> int:
        return self._journal.synced_index

    @property
    def snapshot_index(self) -> int:
        """The last entry of the newest snapshot on this node's disk; 0 for none."""
        return 0 if self.snapshots is None else self.snapshots.index

    @property
    def has_quorum(self) -> bool:
        """Whether this node reaches a majority, itself included."""
        return bool(self._engine.hasQuorum)

    @property
    def members(self) -> Members:
        """The configuration in force; empty while this node knows of none."""
        return self._engine.membership.members

    @property
    def members_index(self) -> int:
        """Of the entry that says who the members are; 0 while this node knows of none."""
        return self._engine.membership.index

    @property
    def configurations(self) -> list[Members]:
        """Those that may be in force: the one at the commit index, and any later one, which may still be undone."""
        return self._engine.log.configurations.since(self._engine.commit_index)

    @property
    def is_voter(self) -> bool:
        """Whether this node's vote counts, as far as it knows."""
        return self._engine.membership.counts_self

    @property
    def command_version(self) -> int:
        """The newest that every member can apply; 0 while no configuration is known."""
        return self._engine.membership.command_version

    def addresses(self) -> dict[str, str]:
        """Where the others are dialled."""
        return self._engine.membership.addresses(self._engine.commit_index)

    def peers(self) -> list[PeerStatus]:
        engine, membership = self._engine, self._engine.membership
        return [
            PeerStatus(name, name in membership.other_voters, engine.is_connected(name), engine.match_index(name))
            for name in membership.others
        ]

    # ---- what it does -----------------------------------------------------------------------------------------------

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        """Append an entry. The future gives what apply returned, or LeadershipLostError: committed or not is unknown.

        Raises NotLeaderError or DiskFullError at once, with nothing written.
        """
        if len(payload) > self.options.entry_bytes_max:
            raise ValueError(f"an entry has at most {self.options.entry_bytes_max} bytes, found {len(payload)}")
        if self.failure.done():
            raise NotLeaderError(None)
        return self._proposed(lambda done: self._engine.propose(payload, done))

    def _proposed(self, propose: Callable[[Done], object]) -> asyncio.Future[object]:
        future: asyncio.Future[object] = self._loop.create_future()

        def done(result: object, error: Exception | None) -> None:
            if not future.done():
                future.set_result(result) if error is None else future.set_exception(error)

        try:
            propose(done)
            self._start_sync()
        except (NotLeaderError, MembershipError):
            raise
        except DiskFullError:
            self._give_way()
            raise
        except Exception as error:  # noqa: BLE001  as in _guarded; the entry may be on its way
            self._fail(error)
            done(None, LeadershipLostError(f"this node stopped: {error}"))
        return future

    async def add_member(self, name: str, *, peer: str, client: str) -> None:
        """Add a node; returns once that is committed. It learns, and votes when it has caught up.

        Raises NotLeaderError, MembershipError or DiskFullError with nothing written; LeadershipLostError: unknown.
        """
        await self._proposed(lambda done: self._engine.add_member(name, peer=peer, client=client, done=done))

    async def remove_member(self, name: str) -> None:
        """Remove a node; returns once that is committed. Raises as `add_member`. This node, if it leads, hands over."""
        if name == self.options.name and self._engine.is_ready:
            await self.transfer_leadership(self.options.election_timeout_max_s * 4)
            raise NotLeaderError(self.leader)
        await self._proposed(lambda done: self._engine.remove_member(name, done))

    async def read_barrier(self) -> None:
        """Return when this node's state is as new as any answer given before the call, wherever it was given.

        Raft thesis 6.4: a leader has a majority confirm its leadership in a round begun after the call; a follower
        asks its leader to, and waits until it has applied as far. No clock is trusted. Raises NotLeaderError where
        no leader could be asked.
        """
        if self.failure.done():
            raise NotLeaderError(None)
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: NotLeaderError | None) -> None:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

        try:
            self._engine.request_read(done)
        except Exception as error:
            self._fail(error)
            raise NotLeaderError(None) from error
        await future

    async def transfer_leadership(self, timeout_s: float) -> bool:
        """Hand the leadership to the follower that has everything (Raft thesis 3.10). The caller proposes no more.

        Returns whether another node leads now; False if this node did not lead, or nobody took over in time.
        """
        if self._engine.role != engine_room.LEADER:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                # Without a majority nobody can be elected: a whole cluster that stops must not wait for itself.
                await self._wait_until(lambda: bool(self._successors()) or not self._can_be_replaced())
                for successor in self._successors()[:1]:
                    self._engine.hand_over(successor)
                await self._wait_until(lambda: self._is_replaced() or not self._can_be_replaced())
        except TimeoutError:
            return False
        return self._is_replaced()

    async def take_snapshot(self, timeout_s: float) -> None:
        """Have a snapshot, so that the next start need not apply the log again; unless that is short, or it fails."""
        snapshots = self.snapshots
        if snapshots is None or not self.members or snapshots.is_recent:
            return
        with contextlib.suppress(TimeoutError, LeadershipLostError):
            async with asyncio.timeout(timeout_s):
                await self._wait_until(lambda: not snapshots.is_writing)
                snapshots.is_wanted = True
                await self._wait_until(lambda: not (snapshots.is_writing or snapshots.is_due(now())))

    def _is_replaced(self) -> bool:
        return self.leader not in (None, self.options.name)

    def _can_be_replaced(self) -> bool:
        return self.has_quorum and not self.failure.done()

    def _successors(self) -> list[str]:
        """The connected followers with the whole log."""
        if self._engine.commit_index != self.last_index:
            return []
        return [
            peer.name
            for peer in self.peers()
            if peer.is_voter and peer.is_connected and peer.match_index == self.last_index
        ]

    def _give_way(self) -> None:
        """There is no room on this disk: let a follower lead, which may have some. Where none has any, the leadership
        comes back, and the next one is asked a while later.
        """
        successors = self._successors()
        if successors and now() >= self._give_way_s:
            self._give_way_s = now() + GIVE_WAY_EVERY_S
            self._gave_way_to = next((name for name in successors if name != self._gave_way_to), successors[0])
            logger.warning("no room on the disk, another node is to lead node=%s", self._gave_way_to)
            self._engine.hand_over(self._gave_way_to)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _received(self, peer: str, message: Message) -> None:
        if isinstance(message, _OF_COPIES):
            self._guarded(self.copies.received, peer, message)
        else:
            self._guarded(self._engine.receive, peer, message)

    def _guarded(self, act: Callable[..., None], *args: object) -> None:
        """Let the engine act, and step soon after. Whatever it must not survive stops it."""
        if self.failure.done():
            return
        try:
            act(*args)
        except WireError:
            raise  # The transport closes the connection on which it came.
        except Exception as error:  # noqa: BLE001  as in _step; asyncio would pass over some of them, OSError for one
            self._fail(error)
            return
        if not self._is_step_due:
            self._is_step_due = True
            self._loop.call_soon(self._step)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self.options.heartbeat_s / 4, self._tick)
        self._step(is_timer=True)

    def _step(self, *, is_timer: bool = False) -> None:
        """Fsync what was appended; commit, apply and elect where there is something to; look whose waiting is over."""
        self._is_step_due = False
        if self.failure.done():
            return
        try:
            self._start_sync()
            if is_timer:
                self._engine.tick()
                self.copies.tick()
            elif self._is_acknowledging and self._engine.role == engine_room.FOLLOWER:
                # Applying now would keep the fsync thread from the interpreter, and the leader from its answer. The
                # end of this fsync brings another step.
                self._is_acknowledging = False
                return
            else:
                self._engine.advance()
            self._start_sync()
        except Exception as error:  # noqa: BLE001  the outermost frame of the engine, where it stops for good
            self._fail(error)
            return
        if self._waiters:
            self._tell_waiters()
        if self._engine.has_unapplied and not self._is_step_due:
            # A long log is applied in slices, so that messages and heartbeats get their turn between them.
            self._is_step_due = True
            self._loop.call_soon(self._step)

    def _tell_waiters(self) -> None:
        for waiter in [waiter for waiter in self._waiters if waiter[0]()]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    def _start_sync(self) -> None:
        if self._is_syncing or self._sync_thread is None:
            return
        job = self._journal.begin_sync()
        if job is not None:
            self._is_syncing = self._is_acknowledging = True
            self._sync_thread.submit(job)

    def _sync_done(self, job: SyncJob, error: StorageError | None) -> None:
        self._is_syncing = False
        if self.failure.done():
            return
        if error is not None:
            self._fail(error)
            return
        self._guarded(self._after_sync, job)

    def _after_sync(self, job: SyncJob) -> None:
        self._journal.complete_sync(job)
        self._start_sync()
        self._is_acknowledging = False
        self._engine.synced()

    def run_steps(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        """Run them beside the loop, behind what waits there; then `done` on the loop. What it raises stops the node."""
        assert self._step_runner is not None
        self._step_runner.submit(steps, lambda error: self._guarded(done, error))

    def fail(self, error: Exception) -> None:
        """Stop for good, for what was found outside of the engine."""
        self._fail(error)

    def _tell_waiting(self) -> None:
        """Say what keeps a new node from taking part, for as long as it lasts."""
        if self.members or self.failure.done():
            return
        logger.warning(
            "this node knows no members yet: a new cluster begins once all its nodes have been up together, and a node "
            "that was added or rebuilt is sent the log by the leader awaited=%s",
            ",".join(self._engine.membership.awaited) or "a leader",
        )
        self._hint = self._loop.call_later(HINT_EVERY_S, self._tell_waiting)

    def _members_changed(self) -> None:
        members = self.members
        learning = [name for name, member in members.items() if not member.is_voter]
        logger.info(
            "members=%s learning=%s index=%d",
            ",".join(members),
            ",".join(learning) or "none",
            self._engine.membership.index,
        )
        self._transport.set_peers(self.addresses())

    def _role_changed(self, role: int) -> None:
        logger.info("role=%s term=%d last_index=%d", ROLE_NAMES[role], self._engine.term, self._journal.last_index)
        for callback in self.on_role_change:
            self._loop.call_soon(callback, ROLE_NAMES[role])

    async def _wait_until(self, is_over: Callable[[], bool]) -> None:
        if is_over():
            return
        future: asyncio.Future[None] = self._loop.create_future()
        waiter = (is_over, future)
        self._waiters.append(waiter)
        try:
            await future
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _fail(self, error: Exception) -> None:
        """Stop for good: no message leaves any more, nothing is acknowledged."""
        logger.critical("raft stops error=%s", error, exc_info=not isinstance(error, RaftError | StorageError))
        if not self.failure.done():
            self.failure.set_result(error)
        self._engine.abandon_proposals()
        self._end_waiting(LeadershipLostError(f"this node stopped: {error}"))

    def _end_waiting(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(error)
