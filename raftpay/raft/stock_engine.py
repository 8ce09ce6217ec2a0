"""PySyncObj behind names of our own: the one file that touches its private ones.

PySyncObj keeps elections, terms, votes and the order of apply. The rules that it breaks are replaced above, in
elections.py and engine.py, through the methods that this class overrides; tests/raft/test_engine_pin.py holds the
version that they were written for. S.. and D.. name the defects listed in docs/engine.md; line numbers are those of
syncobj.py of PySyncObj 0.3.17.
"""

from collections.abc import Callable, Iterable
from typing import Final

import pysyncobj.syncobj as stock
from pysyncobj import SyncObj
from pysyncobj.node import Node

from raftpay.errors import DiskFullError
from raftpay.raft.determinism import PlacedNode, now
from raftpay.raft.log import RaftLog
from raftpay.raft.messages import Message
from raftpay.raft.options import RaftOptions
from raftpay.raft.stock_parts import EngineTransport, NoPoller, stock_configuration

PYSYNCOBJ_VERSION: Final = "0.3.17"

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2

# The type byte that PySyncObj puts before a payload.
REGULAR: Final = b"\x00"
NO_OP: Final = b"\x01"


class StockEngine(SyncObj):  # type: ignore[misc]  # PySyncObj ships no types
    """What PySyncObj holds and does, for the rules above it."""

    def __init__(self, options: RaftOptions, log: RaftLog, send: Callable[[str, Message], None]) -> None:
        self.options, self.log, self._send = options, log, send
        self._nodes: dict[str, PlacedNode] = {}
        others = [self._node(name) for name in sorted(options.peers) if name != options.name]
        conf = stock_configuration(options, log, on_state=self._state_changed)
        super().__init__(
            PlacedNode(options.name), others, conf, nodeClass=PlacedNode, transport=EngineTransport(self, send)
        )
        # It has no sockets of its own to poll, and a tick costs a third less without the system call.
        self._poller = NoPoller()
        # After a start, wait a whole timeout before standing: the leader, if there is one, speaks within a heartbeat.
        self._election_deadline_s = now() + self._election_timeout_s()

    # ---- what the layers above decide -------------------------------------------------------------------------------

    def _state_changed(self, _old: int, new: int) -> None:
        """Called within every change of role, before PySyncObj acts in the new one."""
        raise NotImplementedError

    def _election_timeout_s(self) -> float:
        raise NotImplementedError

    def _may_stand(self) -> bool:
        raise NotImplementedError

    def _replicate(self, *, is_heartbeat: bool) -> None:
        raise NotImplementedError

    def _apply_command(self, command: bytes) -> None:
        raise NotImplementedError

    # ---- what it is at ----------------------------------------------------------------------------------------------

    # Read many times for each message, so neither converted nor asked through PySyncObj's own properties.
    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__transferInProgress: bool

    @property
    def role(self) -> int:
        return self._SyncObj__raftState

    @property
    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    @property
    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def has_unapplied(self) -> bool:
        """Whether more is committed than is applied."""
        return self._SyncObj__raftLastApplied < self._SyncObj__raftCommitIndex

    @property
    def standing(self) -> tuple[int, int, int, int]:
        """Role, term, commit index, index of the members: for whoever asks again and again what has changed."""
        return (
            self._SyncObj__raftState,
            self._SyncObj__raftCurrentTerm,
            self._SyncObj__raftCommitIndex,
            self.log.configurations.index,
        )

    @property
    def last_index(self) -> int:
        return self.log.journal.last_index

    @property
    def leader(self) -> str | None:
        node = self._getLeader()
        return None if node is None else str(node.id)

    @property
    def is_ready(self) -> bool:
        """Leads, and its own no-op is applied: then every entry of earlier terms is applied too (Raft paper 8)."""
        return self.role == LEADER and self.applied_index >= self._SyncObj__noopIDx

    @property
    def is_transferring(self) -> bool:
        """A TimeoutNow is being received, and its election has not begun."""
        return bool(self._SyncObj__transferInProgress)

    def _drop_transfer(self) -> None:
        if self.is_transferring:
            self._SyncObj__transferInProgress = False
            self._election_deadline_s = now() + self._election_timeout_s()

    def is_connected(self, peer: str) -> bool:
        return bool(self.isNodeConnected(self._node(peer)))

    def _node(self, name: str) -> PlacedNode:
        if name not in self._nodes:
            self._nodes[name] = PlacedNode(name)
        return self._nodes[name]

    @property
    def _election_deadline_s(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    @_election_deadline_s.setter
    def _election_deadline_s(self, deadline_s: float) -> None:
        self._SyncObj__raftElectionDeadline = deadline_s

    # ---- what is done to it -----------------------------------------------------------------------------------------

    def _note_connected(self, peer: str) -> None:
        self._SyncObj__onNodeConnected(self._node(peer))

    def _note_disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(self._node(peer))

    def _set_other_voters(self, names: Iterable[str]) -> None:
        """Whom PySyncObj asks for votes, and whose silence ends a leadership."""
        nodes = {self._node(name) for name in names}
        heard: dict[PlacedNode, float] = self._SyncObj__lastResponseTime
        for node in nodes - heard.keys():
            heard[node] = now()
        # Its commit loop (line 658) looks every voter up; what it finds there is never more than 0.
        self._SyncObj__raftMatchIndex = dict.fromkeys(nodes, 0)
        self._SyncObj__otherNodes = nodes

    def _heard(self, peer: str) -> None:
        """A follower has answered."""
        self._SyncObj__lastResponseTime[self._node(peer)] = now()

    def _heard_since(self, horizon_s: float) -> list[str]:
        """The peers that have answered this leader since then."""
        return [str(node.id) for node, at_s in self._SyncObj__lastResponseTime.items() if at_s > horizon_s]

    def _forget_leader(self) -> None:
        self._SyncObj__raftLeader = None

    def _step_down(self) -> None:
        self._SyncObj__setState(FOLLOWER)
        self._forget_leader()

    def _win(self) -> None:
        """A majority has voted for this candidate (line 1215)."""
        self._guard_disk_full(self._SyncObj__onBecomeLeader)

    def _set_commit_index(self, commit_index: int) -> None:
        self._SyncObj__raftCommitIndex = commit_index
        self._SyncObj__leaderCommitIndex = commit_index

    def _set_applied_index(self, applied_index: int) -> None:
        self._SyncObj__raftLastApplied = applied_index

    def _apply_committed(self) -> None:
        self._SyncObj__applyLogEntries()

    def _stock_tick(self) -> None:
        self._guard_disk_full(lambda: self.doTick(0.0))

    def _stock_message(self, peer: str, **message: object) -> None:
        self._SyncObj__onMessageReceived(self._node(peer), message)

    def _hear_leader(self, peer: str, term: int) -> None:
        """Stock's handling of a message of a leader without entries: term, leader, role, election deadline (lines
        945-961). With the commit index unchanged it does nothing else; where the leader is known, only the last.
        """
        leader = self._SyncObj__raftLeader
        is_known = leader is not None and leader.id == peer and term == self.term and self.role == FOLLOWER
        if is_known:
            self._election_deadline_s = now() + self._election_timeout_s()
            self._SyncObj__leaderCommitIndex = self.commit_index
        else:
            self._stock_message(peer, type="append_entries", term=term, commit_index=self.commit_index, serialized=None)

    def _save_term(self, term: int, voted_for: str | None) -> None:
        self._SyncObj__setCurrentTerm(term, voted_for)

    def _set_heartbeat_due(self, at_s: float) -> None:
        self._SyncObj__newAppendEntriesTime = at_s

    def _guard_disk_full(self, act: Callable[[], None]) -> None:
        """A leader that cannot even write its no-op must not stay in office."""
        try:
            act()
        except DiskFullError:
            self._step_down()
            self._election_deadline_s = now() + 2 * self.options.election_timeout_max_s

    # ---- what it is made to do otherwise ----------------------------------------------------------------------------

    def __dir__(self) -> list[str]:
        """Stock looks up each of these names several times, for methods to replicate (lines 226, 460): there is none.

        That took half of the construction of an engine.
        """
        return []

    def _SyncObj__generateRaftTimeout(self) -> float:
        """Stock draws from the module's dice."""
        return self._election_timeout_s()

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        """Stock changes term and vote in memory first: with the disk full, the node would speak in an unsaved term."""
        self.log.setCurrentTerm(term, voted_for)
        self._SyncObj__raftCurrentTerm, self._SyncObj__votedForNodeId = term, voted_for

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Stock asks this after its own look at the clock, then stands: only a pre-vote won lets it (S16)."""
        return self._may_stand()

    def _SyncObj__sendAppendEntries(self, *, is_heartbeat: bool = True) -> None:
        """Stock sends whole backlogs without a window, and moves nextIndex on whether or not a message left."""
        self._replicate(is_heartbeat=is_heartbeat)

    def _SyncObj__tryLogCompaction(self) -> None:
        """Stock looks on every tick for a dump to make, and never makes one here (stock_parts.py)."""

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        """S8, S18: stock unpickles, and applies again on every tick what raised."""
        self._apply_command(command)


assert (stock._RAFT_STATE.FOLLOWER, stock._RAFT_STATE.CANDIDATE, stock._RAFT_STATE.LEADER) == (0, 1, 2)
assert issubclass(PlacedNode, Node)
