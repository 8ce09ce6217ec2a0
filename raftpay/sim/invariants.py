"""What must hold after every step of every node, whatever the faults. A breach ends the run at once.

Names of the properties are those of the Raft paper, figure 3, and of shared promises: nothing is said (a vote, an
acknowledgement, a commit) before it is durable. Whether it is durable is asked of the disk when it is claimed, and
tried by the power losses: what a node claimed to have synced must be there in its next life. Called by member.py; knows
no fault and no client.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from raftpay.ledger.records import Results
from raftpay.raft.catch_up import holds_entry
from raftpay.raft.members import FOUNDING_INDEX, MEMBERS, Members
from raftpay.raft.messages import (
    AppendEntries,
    AppendReply,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    TimeoutNow,
    Vote,
)
from raftpay.raft.node import RaftNode
from raftpay.raft.stock_engine import NO_OP
from raftpay.sim.counts import Counts
from raftpay.sim.trace import Trace, ViolationError
from raftpay.storage.hard_state import HARD_STATE_NAME, HardStateFile
from raftpay.storage.journal import Journal, SyncJob
from raftpay.storage.marks import MARKS_NAME
from raftpay.storage.records import RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES
from raftpay.storage.segment import Segment
from raftpay.storage.sim_disk import SimDisk
from raftpay.storage.snapshots import FOLDER, SnapshotStore


class Watched(Protocol):
    """One life of a node, as the checks see it."""

    name: str
    journal: "WatchedJournal"
    hard_state: HardStateFile
    snapshots: SnapshotStore
    raft: RaftNode
    commit_seen: int
    role_seen: str
    standing_seen: tuple[int, int, int, int] | None
    applied_index: int


@dataclass(slots=True)
class Claims:
    """What a node has said to be on its disk: compared with what its next life finds there."""

    synced_index: int = 0
    synced_term: int = 0
    term: int = 0
    voted_for: str | None = None
    snapshot_index: int = 0


@dataclass(slots=True)
class Committed:
    """One committed entry, and what its first application answered."""

    term: int
    payload: bytes
    results: Sequence[Results] | None = None


@dataclass(slots=True)
class Invariants:
    """The whole cluster through the whole run.

    committed: by index; index 1 is PySyncObj's own first entry. founding: the members that all begin with. leaders: who
    led in a term. votes: who got the vote of a node's incarnation in a term. grants: which incarnations have said that
    they would vote for a node in a term; successors: who was asked to stand in it. incarnations: of each node's present
    disk. configurations: what each node goes by, after the index; configurations_at_end: what it may go by when it
    starts again. entries: (index, term) to (payload, term of the entry before). attempted: each node's latest append.
    journals: the newest of each node; lost: those of disks that are gone. restored_digests: by index, of states that
    came out of snapshots.
    """

    trace: Trace
    incarnations: dict[str, int] = field(default_factory=dict)
    configurations: dict[str, tuple[int, Members]] = field(default_factory=dict)
    configurations_at_end: dict[str, list[Members]] = field(default_factory=dict)
    committed: dict[int, Committed] = field(default_factory=dict)
    commit_max: int = 1
    founding: Members | None = None
    leaders: dict[int, str] = field(default_factory=dict)
    votes: dict[tuple[str, int, int], str] = field(default_factory=dict)
    grants: dict[tuple[str, int], set[tuple[str, int]]] = field(default_factory=dict)
    successors: set[tuple[str, int]] = field(default_factory=set)
    entries: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)
    attempted: dict[str, tuple[int, int, tuple[bytes, int]]] = field(default_factory=dict)
    journals: dict[str, "WatchedJournal"] = field(default_factory=dict)
    lost: dict[tuple[str, int], "WatchedJournal"] = field(default_factory=dict)
    claims: dict[str, Claims] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    restored_digests: dict[int, str] = field(default_factory=dict)

    # ---- the log

    def appended(self, journal: "WatchedJournal", index: int, term: int, entry: tuple[bytes, int]) -> None:
        """Log matching (5.3): index and term decide the payload and what comes before. Members change one at a time."""
        payload = entry[0]
        if payload[:1] == MEMBERS and (index, term) not in self.entries:
            before = self.configurations.get(_owner(journal), (0, {}))[0]
            # What was committed in this same turn of the node has not been looked at yet.
            if before > max(self.commit_max, journal.commit_index()):
                raise self.trace.violated(
                    "one change of members at a time",
                    f"{_owner(journal)} changes the members by entry {index}; entry {before} did, and is not committed",
                )
        known = self.entries.setdefault((index, term), entry)
        if known != entry:
            raise self.trace.violated(
                "log matching",
                f"{_owner(journal)} appends entry {index} of term {term} after term {entry[1]}, elsewhere it came "
                f"after term {known[1]} {'with another payload' if known[0] != payload else ''}",
            )

    def cutting(self, journal: Journal, index: int) -> None:
        """No committed entry leaves a log."""
        self.counts.cuts += 1
        for place in range(max(index, journal.first_index), min(journal.last_index, self.commit_max) + 1):
            if journal.term_at(place) == self.committed[place].term:
                raise self.trace.violated(
                    "leader completeness", f"{_owner(journal)} cuts entry {place}, which is committed"
                )

    # ---- what leaves a node

    def sending(self, life: Watched, receiver: str, message: Message) -> None:
        """Persist before you send: term, vote and entries are on the disk before anybody hears of them."""
        name, durable = life.name, life.hard_state
        match message:
            case AppendEntries():
                self._check_sent(name, message.term == durable.term, message, durable)
            case AppendReply():
                is_synced = not message.matched or message.match_index <= max(1, life.journal.synced_index)
                self._check_sent(name, message.term <= durable.term and is_synced, message, durable)
            case RequestVote():
                self._vote(life, message.term, name)
                self._check_pre_vote(life, message.term)
                self._check_sent(name, message.term == durable.term and durable.voted_for == name, message, durable)
            case Vote():
                self._vote(life, message.term, receiver)
                voted = durable.voted_for
                self._check_sent(name, message.term == durable.term and voted == receiver, message, durable)
            case PreVote():
                self._check_sent(name, message.term == durable.term + 1, message, durable)
            case PreVoteReply() if not message.granted:
                self._check_sent(name, message.term <= durable.term, message, durable)
            case PreVoteReply():
                self.grants.setdefault((receiver, message.term), set()).add((name, durable.incarnation))
            case TimeoutNow():
                self.successors.add((receiver, message.term + 1))
            case _:
                return

    def _check_pre_vote(self, life: Watched, term: int) -> None:
        """A node stands once a majority would vote for it (thesis 9.6), or when its leader asks it to (3.10)."""
        granted = self.grants.get((life.name, term), set()) | {(life.name, life.hard_state.incarnation)}
        voters = [(name, member.incarnation) for name, member in life.raft.members.items() if member.is_voter]
        if len(granted.intersection(voters)) <= len(voters) // 2 and (life.name, term) not in self.successors:
            raise self.trace.violated(
                "a majority grants the pre-vote",
                f"{life.name} stands in term {term}, granted by {sorted(granted)} only",
            )

    def _check_sent(self, name: str, is_durable: bool, message: Message, durable: HardStateFile) -> None:
        if not is_durable or not self.journals[name].is_on_disk(HARD_STATE_NAME):
            journal = self.journals[name]
            raise self.trace.violated(
                "persist before you send",
                f"{name} sends {message} with term {durable.term}, vote {durable.voted_for} and entries up to "
                f"{journal.synced_index} of {journal.last_index} on its disk",
            )

    def _vote(self, life: Watched, term: int, candidate: str) -> None:
        known = self.votes.setdefault((life.name, life.hard_state.incarnation, term), candidate)
        if known != candidate:
            raise self.trace.violated(
                "one vote a term", f"{life.name} votes for {known} and for {candidate} in term {term}"
            )

    # ---- a node's life

    def starting(self, life: Watched, *, is_damaged: bool, is_read: bool) -> None:
        """What was said to be durable is there: in the journal, or before it in a snapshot.

        is_read: the disk has what the node has read there; no write of this start has gone elsewhere since.
        """
        name, journal, hard_state = life.name, life.journal, life.hard_state
        self.journals[name] = journal
        self.incarnations[name] = hard_state.incarnation
        claims = self.claims.setdefault(name, Claims())
        newest = life.snapshots.newest
        reached = 0 if newest is None else newest.index
        if reached < claims.snapshot_index and not is_damaged:
            raise self.trace.violated(
                "durability",
                f"{name} had a snapshot of entry {claims.snapshot_index}, and starts with one of {reached}",
            )
        is_kept = claims.synced_index < journal.first_index - 1 or (
            claims.synced_index <= journal.last_index and journal.term_at(claims.synced_index) == claims.synced_term
        )
        if not is_kept and claims.synced_index > reached:
            raise self.trace.violated(
                "durability",
                f"{name} had synced entry {claims.synced_index} of term {claims.synced_term}, and starts with a "
                f"journal that ends at {journal.last_index} (term {journal.last_term}): {journal.recovery}",
            )
        if newest is not None and not holds_entry(journal, newest.index, newest.term):
            raise self.trace.violated(
                "the log goes on behind the snapshot",
                f"{name} starts with a snapshot of entry {newest.index} of term {newest.term}, and a journal of "
                f"{journal.first_index} to {journal.last_index}",
            )
        life.commit_seen = max(1, reached)
        found = (hard_state.term, hard_state.voted_for)
        if found[0] < claims.term or (found[0] == claims.term and claims.voted_for not in (None, found[1])):
            raise self.trace.violated(
                "hard state is monotone",
                f"{name} had saved term {claims.term} with vote {claims.voted_for}, and starts with {found}",
            )
        journal.name, journal.invariants = name, self
        if is_read:
            for index in range(journal.first_index, journal.last_index + 1):
                self._check_found(name, journal, index)
            journal.check_synced()
        journal.check_no_cut_is_left()
        if not is_damaged:
            journal.check_ends()

    def _check_found(self, name: str, journal: "WatchedJournal", index: int) -> None:
        term = journal.term_at(index)
        attempted = self.attempted.get(name)
        if attempted is not None and attempted[:2] == (index, term):
            self.appended(journal, *attempted)
        known = self.entries.get((index, term))
        if known is None or known[1] != journal.term_at(index - 1) or known[0] != journal.found(index, len(known[0])):
            raise self.trace.violated(
                "durability", f"{name} finds an entry {index} of term {term} that nobody has written"
            )

    def restored(self, life: Watched, index: int, digest: str) -> None:
        """Note a state that came out of a snapshot: the audit compares it with what the log gives up to there."""
        if index > self.commit_max:
            raise self.trace.violated(
                "state machine safety", f"{life.name} restores entry {index}, {self.commit_max} is the last committed"
            )
        if index < life.applied_index:
            raise self.trace.violated(
                "state machine safety", f"{life.name} has applied {life.applied_index} and goes back to entry {index}"
            )
        known = self.restored_digests.setdefault(index, digest)
        if known != digest:
            raise self.trace.violated("state machine safety", f"{life.name} restores another state of entry {index}")
        self.counts.restored += 1
        life.applied_index = index

    def ending(self, life: Watched) -> None:
        """Note what the node had claimed when its life ended."""
        journal, hard_state = self.journals[life.name], life.hard_state
        synced_index = journal.synced_index
        if journal.cut_index is not None:
            synced_index = max(journal.first_index - 1, min(synced_index, journal.cut_index - 1))
        newest = life.snapshots.newest
        self.configurations_at_end[life.name] = life.raft.configurations
        self.claims[life.name] = Claims(
            0 if journal.is_resetting else synced_index,
            journal.term_at(synced_index),
            hard_state.term,
            hard_state.voted_for,
            0 if newest is None else newest.index,
        )

    def forget(self, name: str) -> None:
        """The node has got an empty disk: what it had said of the old one is not to be found on this."""
        if name in self.journals:
            self.lost[name, self.incarnations[name]] = self.journals[name]
        kept = (self.journals, self.claims, self.attempted, self.incarnations)
        for notes in (*kept, self.configurations, self.configurations_at_end):
            notes.pop(name, None)

    def sound_voters(self, members: Members, unsound: Container[str]) -> list[str]:
        """Those that have on their disks what they promised as these members."""
        return [
            name
            for name, member in members.items()
            if member.is_voter and name not in unsound and self.incarnations.get(name) == member.incarnation
        ]

    def turned(self, life: Watched) -> tuple[int, int, int, int]:
        """After each turn of a node: elections and commits. Most turns change nothing of what they rest on.

        Returns what they rest on: RaftNode.standing.
        """
        raft = life.raft
        standing = raft.standing
        if standing == life.standing_seen:
            return standing
        life.standing_seen = standing
        if self.configurations.get(life.name, (0, {}))[0] != raft.members_index:
            self.configurations[life.name] = raft.members_index, raft.members
            self.trace.note("members", life.name, raft.members_index, _shown(raft.members))
            if raft.members_index == FOUNDING_INDEX and self.founding is None:
                self.founding = raft.members
            elif raft.members_index == FOUNDING_INDEX and raft.members != self.founding:
                raise self.trace.violated("founded once", f"{life.name} begins with {raft.members}")
        role = raft.role
        if role != life.role_seen:
            life.role_seen = role
            self.trace.note("role", life.name, role, raft.term)
            if role == "leader":
                self._elected(life, raft.term)
        commit_index = raft.commit_index
        if commit_index > life.commit_seen:
            self._check_members(life, raft.members_index)
            for index in range(life.commit_seen + 1, commit_index + 1):
                if index >= life.journal.first_index:
                    self._commit(life, index)
                elif index not in self.committed:
                    raise self.trace.violated(
                        "state machine safety", f"{life.name} has entry {index} in a snapshot, and nobody committed it"
                    )
            if role == "leader" and life.journal.term_at(commit_index) != raft.term:
                raise self.trace.violated(
                    "commit through the current term only",
                    f"{life.name} leads in term {raft.term} and commits up to entry {commit_index} of term "
                    f"{life.journal.term_at(commit_index)}",
                )
            life.commit_seen = commit_index
        return standing

    def _check_members(self, life: Watched, index: int) -> None:
        """The members are those of an entry of the log, or of the snapshot in the place of what came before."""
        journal, newest = life.journal, life.snapshots.newest
        # One that turned out to be damaged has said so all the same.
        lost = [int(name[len(FOLDER) + 1 :][:20]) for name, _ in life.snapshots.damaged]
        if index <= max([1, *lost] if newest is None else [newest.index, *lost]):
            return
        entry = self.entries[index, journal.term_at(index)] if index <= journal.last_index else None
        if entry is None or entry[0][:1] != MEMBERS:
            raise self.trace.violated(
                "the members are those of the log", f"{life.name} goes by entry {index}, which is not in its log"
            )

    def _elected(self, life: Watched, term: int) -> None:
        """Election safety (5.2), leader completeness (5.4)."""
        self.counts.elections += 1
        voters = {name: member for name, member in life.raft.members.items() if member.is_voter}
        votes = {name: self.votes.get((name, member.incarnation, term)) for name, member in voters.items()}
        if list(votes.values()).count(life.name) <= len(voters) // 2:
            raise self.trace.violated("election by a majority", f"{life.name} leads in term {term} by {votes}")
        known = self.leaders.setdefault(term, life.name)
        if known != life.name:
            raise self.trace.violated("election safety", f"{known} and {life.name} both lead in term {term}")
        journal = life.journal
        for index in range(max(2, journal.first_index), self.commit_max + 1):
            committed = self.committed[index]
            if committed.term < term and (index > journal.last_index or journal.term_at(index) != committed.term):
                raise self.trace.violated(
                    "leader completeness",
                    f"{life.name} leads in term {term} without entry {index} of term {committed.term}, which is "
                    f"committed; its log ends at {journal.last_index}",
                )

    def _commit(self, life: Watched, index: int) -> None:
        """State machine safety (5.4.3), and: a majority has fsynced what is committed."""
        journal = life.journal
        term = journal.term_at(index)
        known = self.committed.get(index)
        if known is not None:
            if known.term != term:
                raise self.trace.violated(
                    "state machine safety",
                    f"{life.name} commits entry {index} of term {term}, it is committed with term {known.term}",
                )
            return
        self.committed[index] = Committed(term, self.entries[index, term][0])
        self.commit_max = index
        members = life.raft.members
        holders = [
            name
            for name, member in members.items()
            if member.is_voter
            and (other := self._journal(name, member.incarnation)) is not None
            and other.held_index >= index
            and (index < other.first_index or other.term_at(index) == term)
        ]
        if len(holders) <= len([name for name, member in members.items() if member.is_voter]) // 2:
            raise self.trace.violated(
                "commit only what a majority has fsynced",
                f"{life.name} commits entry {index} of term {term}, which is on the disks of {holders} only",
            )

    def _journal(self, name: str, incarnation: int) -> "WatchedJournal | None":
        """Of that memory of a node, also of one that was lost after it had acknowledged."""
        if self.incarnations.get(name) == incarnation:
            return self.journals[name]
        return self.lost.get((name, incarnation))

    def applied(self, life: Watched, index: int, payload: bytes, results: Sequence[Results]) -> None:
        """All nodes apply the same entries in order, and answer the same."""
        for skipped in range(life.applied_index + 1, index):
            if self.committed_at(life, skipped).payload[:1] not in (NO_OP, MEMBERS):
                raise self.trace.violated("state machine safety", f"{life.name} passes over entry {skipped}")
        if index <= life.applied_index:
            raise self.trace.violated("state machine safety", f"{life.name} applies entry {index} again")
        life.applied_index = index
        committed = self.committed_at(life, index)
        if committed.payload[1:] != payload:
            raise self.trace.violated("state machine safety", f"{life.name} applies another entry {index}")
        if committed.results is None:
            committed.results = results
        elif committed.results != results:
            raise self.trace.violated("state machine safety", f"{life.name} answers entry {index} differently")

    def committed_at(self, life: Watched, index: int) -> Committed:
        """The entry, which is applied in the same turn in which it was committed."""
        if index not in self.committed:
            self.turned(life)
        if index not in self.committed:
            raise self.trace.violated(
                "state machine safety", f"{life.name} applies entry {index}, which is not committed"
            )
        return self.committed[index]


class WatchedJournal(Journal):
    """The journal, with an eye on what is appended and cut."""

    name = ""
    invariants: Invariants | None = None
    # From where on it is being cut: if the process dies meanwhile, the next one finishes that.
    cut_index: int | None = None
    # All of it is being replaced by a snapshot.
    is_resetting = False
    # See held_index.
    _held_before = 0
    # Told what begins: "cut", "reset" or "compact".
    on_act: Callable[[str], None] = staticmethod(lambda act: None)
    # Of the node that it belongs to.
    commit_index: Callable[[], int] = staticmethod(lambda: 0)
    # Whether the disk has done wrong: then the node need not have left what is on it.
    is_damaged: Callable[[], bool] = staticmethod(lambda: False)

    def append(self, index: int, term: int, payload: bytes) -> None:
        entry = (payload, self.last_term)
        if self.invariants is not None:
            # A write that is cut short may be found whole after all.
            self.invariants.attempted[self.name] = (index, term, entry)
        super().append(index, term, payload)
        if self.invariants is not None:
            self.invariants.appended(self, index, term, entry)

    def truncate_from(self, index: int) -> None:
        if self.invariants is not None:
            self.invariants.cutting(self, index)
        self.cut_index, self._held_before = index, min(self._held_before, index - 1)
        self.on_act("cut")
        super().truncate_from(index)
        self.cut_index = None
        self._check_written()

    def reset(self, index: int, term: int) -> None:
        if self.invariants is not None:
            self.invariants.cutting(self, index + 1)
            self.invariants.counts.resets += 1
        self.is_resetting, self._held_before = True, 0
        self.on_act("reset")
        super().reset(index, term)
        self.is_resetting = False
        self._check_written()
        self._check_beginning()

    def compact_to(self, index: int) -> None:
        first = self.first_index
        self.on_act("compact")
        super().compact_to(index)
        if self.invariants is not None and self.first_index > first:
            self.invariants.counts.compactions += 1
            self._check_beginning()

    def rewrite(self, first: int, payloads: Sequence[bytes]) -> None:
        for index, payload in enumerate(payloads, first):
            if self.invariants is not None and self.invariants.entries[index, self.term_at(index)][0] != payload:
                raise self.invariants.trace.violated(
                    "what is put right is right", f"{self.name} writes entry {index} again, as another one"
                )
        super().rewrite(first, payloads)

    def _write_again(self, segment: Segment, data: bytes, start: int, *, index: int) -> None:
        before = self.held_index
        super()._write_again(segment, data, start, index=index)
        self._held_before = before
        self.check_synced()

    @property
    def held_index(self) -> int:
        """Up to where it was synced when that was said, also while something before that is mended."""
        return max(self.synced_index, min(self._held_before, self.last_index))

    def complete_sync(self, job: SyncJob) -> int:
        synced_index = super().complete_sync(job)
        self.check_synced(job.segments[0].first_index)
        return synced_index

    def found(self, index: int, size: int) -> bytes:
        """So many bytes of an entry's payload as they lie on the disk, whether or not the journal would give them."""
        segment = self._segment_of(index)
        return segment.file.pread(size, segment.offset_of(index) + RECORD_HEADER_BYTES)

    @property
    def next_place(self) -> tuple[str, int]:
        """File and byte where the next entry goes, if it has room there."""
        return self._active.file.name, self._active.end

    def place_of(self, index: int) -> tuple[str, int, int]:
        """File, first byte and byte behind an entry's payload."""
        segment = self._segment_of(index)
        return segment.file.name, segment.offset_of(index) + RECORD_HEADER_BYTES, segment.offset_of(index + 1)

    # ---- the disk is asked: a power loss need not strike in the right moment

    def is_on_disk(self, name: str, stop: int | None = None) -> bool:
        """Whether no power loss can take the file, or the first part of it."""
        assert isinstance(self._disk, SimDisk)
        return self._disk.is_synced(name, stop)

    def _check_written(self) -> None:
        """Where the log was cut or begun anew, nothing can bring back what it was."""
        for name in (MARKS_NAME, self._active.file.name):
            if not self.is_on_disk(name):
                raise self._not_durable(
                    f"a log that ends at entry {self.last_index}, and not all of {name} is on its disk"
                )
        self.check_ends()

    def check_ends(self) -> None:
        """Behind the last record of a segment all is zero: nothing that was cut may be found behind what comes next."""
        if self.is_damaged():
            return
        for segment in self._segments:
            if segment.file.pread(segment.size - segment.end, segment.end).strip(b"\0"):
                raise self._not_durable(f"the end of {segment.file.name} at byte {segment.end}, and more is behind it")

    def check_no_cut_is_left(self) -> None:
        """A start has finished the cut that a crash had interrupted: the next one would take what came behind it."""
        if self._marks.now.cut_segment:
            raise self._not_durable(f"a log of which {self._marks.now} says that it is being cut")

    def check_synced(self, first: int = 0) -> None:
        """What counts as synced is on the disk, in the segments from that of the first entry on."""
        for segment in self._segments:
            last = min(segment.last_index, self.synced_index)
            if max(first, segment.first_index) <= last and not self.is_on_disk(
                segment.file.name, segment.offset_of(last + 1)
            ):
                raise self._not_durable(f"entry {last}, and not all of {segment.file.name} up to it is on its disk")

    def _check_beginning(self) -> None:
        """What the log has no more is in a snapshot that is on the disk, and so is the first segment that it has."""
        first = self._segments[0].file.name
        if not self.is_on_disk(first, SEGMENT_HEADER_BYTES):
            raise self._not_durable(f"a log that begins with {first}, and that name is not on its disk")
        behind = self.first_index - 1
        names = [name for name in self._disk.list(FOLDER) if name.endswith(".snap") and int(name[:20]) >= behind]
        if not any(self.is_on_disk(f"{FOLDER}/{name}") for name in names):
            raise self._not_durable(f"a snapshot of entry {behind}, and none of {names} is on its disk")

    def _not_durable(self, what: str) -> ViolationError:
        assert self.invariants is not None
        return self.invariants.trace.violated("durability", f"{self.name} counts on {what}")


def _shown(members: Members) -> str:
    """n1 n2 n3+ (it learns)"""
    return " ".join(f"{name}{'' if member.is_voter else '+'}" for name, member in members.items())


def _owner(journal: Journal) -> str:
    return str(getattr(journal, "name", "?"))
