"""The engine's log over the journal: what PySyncObj expects of a journal object, kept by raftpay's own storage.

It also keeps the configurations that are in the log (members.py), since they come and go with its entries.

PySyncObj addresses entries by their place in a list and reads [0] and [-1] at every turn; the journal addresses them by
index. This adapter translates, bounds what one slice may load, and keeps term and vote in the hard state.
"""

from typing import Final

from raftpay.raft.members import FOUNDING_INDEX, MEMBERS, Configurations, Members, decode_members, encode_members
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Journal
from raftpay.storage.snapshots import SnapshotInfo

# (payload with its type byte, index, term): the order that PySyncObj's log uses.
EngineEntry = tuple[bytes, int, int]

# One slice is applied in one go on the loop, or sent as one message: stock PySyncObj takes the whole rest of the log.
SLICE_BYTES_MAX: Final = 256 * 1024
# Stands for the entry before the first one that is kept: a no-op to PySyncObj, never applied and never sent.
COMPACTED: Final = b"\x01"


class RaftLog:
    """The log as PySyncObj sees it. The names of most public methods are PySyncObj's.

    snapshot: what the machine was restored from.
    """

    def __init__(self, journal: Journal, hard_state: HardStateFile, snapshot: SnapshotInfo | None = None) -> None:
        self.journal = journal
        self._hard_state = hard_state
        self.configurations = Configurations()
        if snapshot is not None:
            self._install_members(snapshot)
        elif hard_state.founding:
            self.configurations.append(FOUNDING_INDEX, decode_members(hard_state.founding))
        for index in journal.beginning_with(MEMBERS[0]):
            if index > self.configurations.index:
                self.configurations.append(index, decode_members(journal.entry(index).payload[1:]))
        # The last entry, which PySyncObj reads many times a tick. None: not loaded since the last change.
        self._last: EngineEntry | None = None

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry: written, not yet fsynced. Raises DiskFullError with the log unchanged."""
        members = decode_members(command[1:]) if command[:1] == MEMBERS else None
        self.journal.append(idx, term, command)
        self._last = (command, idx, term)
        if members is not None:
            self.configurations.append(idx, members)

    @property
    def _head(self) -> int:
        """The index at place 0. A log whose beginning is compacted shows the entry before its first as an empty one.

        Stock keeps the last entries of a snapshot at the head of its log (line 1493) and reads [0] and [-1] whatever
        there is; that entry is committed, and its term decides whether what follows may be appended.
        """
        return max(1, self.journal.first_index - 1)

    def __len__(self) -> int:
        return self.journal.last_index - self._head + 1

    def __getitem__(self, place: int | slice) -> EngineEntry | list[EngineEntry]:
        if isinstance(place, slice):
            return self._slice(place)
        if place == -1:
            if self._last is None:
                self._last = self._load(self.journal.last_index)
            return self._last
        return self._load(self._head + place)

    def _slice(self, places: slice) -> list[EngineEntry]:
        start, stop, _ = places.indices(len(self))
        first, last = max(self._head + start, self.journal.first_index), self._head + stop - 1
        if first > last:
            return []
        entries = self.journal.entries(first, last, bytes_max=SLICE_BYTES_MAX)
        return [(entry.payload, entry.index, entry.term) for entry in entries]

    def _load(self, index: int) -> EngineEntry:
        if index == self.journal.first_index - 1:
            return COMPACTED, index, self.journal.term_at(index)
        entry = self.journal.entry(index)
        return entry.payload, entry.index, entry.term

    def install(self, info: SnapshotInfo, *, keeps_log: bool) -> None:
        """Go on behind a snapshot; without keeps_log the log begins anew there, durably before this returns.

        Raises DiskFullError with the log unchanged.
        """
        if not keeps_log:
            self.journal.reset(info.index, info.term)
            self._last = None
        self._install_members(info, keeps_log=keeps_log)

    def _install_members(self, info: SnapshotInfo, *, keeps_log: bool = False) -> None:
        members = decode_members(info.header.members)
        if members:
            self.configurations.install(info.index, members, keeps_log=keeps_log)

    def truncate_from(self, index: int) -> None:
        """Cut the suffix from index on, durably before this returns."""
        self.journal.truncate_from(index)
        self._last = None
        self.configurations.truncate_from(index)

    @property
    def incarnation(self) -> int:
        return self._hard_state.incarnation

    @property
    def is_fresh(self) -> bool:
        """Nothing has been written but what is in every log."""
        return (self.journal.first_index, self.journal.last_index, self.configurations.index) == (1, 1, 0)

    def found(self, members: Members) -> None:
        """Begin with these members, durably."""
        self._hard_state.found(encode_members(members))
        self.configurations.append(FOUNDING_INDEX, members)

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        """Persist term and vote before anything that rests on them is sent (Raft paper 5.2)."""
        if (term, voted_for) != (self._hard_state.term, self._hard_state.voted_for):
            self._hard_state.save(term, voted_for)

    def getCurrentTerm(self) -> int:
        return self._hard_state.term

    def getVotedForNodeId(self) -> str | None:
        return self._hard_state.voted_for

    def getRaftCommitIndex(self) -> int:
        # A commit index from disk may be ahead of a log that lost its tail; then one node could acknowledge alone
        # (defect D16). It is learnt anew from the leader after each start; the engine sets what its snapshot proves.
        return 1

    def setRaftCommitIndex(self, commit_index: int) -> None:
        """Not stored, for the reason given in getRaftCommitIndex."""

    def onOneSecondTimer(self) -> None:
        """PySyncObj writes its meta file here; the hard state is written when it changes."""
