"""PySyncObj made safe: replication, commit, reads, snapshots and members by the rules of Raft.

The layers below are elections.py and stock_engine.py; that one alone touches PySyncObj's private names. What shared
rules PySyncObj breaks is replaced, each override beside its reason. S.. and D.. name the defects listed in
docs/engine.md; line numbers are those of syncobj.py of PySyncObj 0.3.17.

No sockets, threads or event loop live here: messages come in by `receive`, go out by the `send` callback, time
passes by `tick`. The journal is written through at once and fsynced by the caller, who then tells `synced`.
"""

import random
from collections.abc import Callable

from raftpay.errors import DiskFullError, EngineStoppedError, LeadershipLostError, MembershipError, NotLeaderError
from raftpay.raft.catch_up import holds_entry
from raftpay.raft.determinism import now
from raftpay.raft.elections import Elections
from raftpay.raft.following import append_entries, retry_after
from raftpay.raft.log import RaftLog
from raftpay.raft.members import (
    MEMBERS,
    Members,
    decode_members,
    encode_members,
    with_member,
    without_member,
)
from raftpay.raft.messages import (
    AppendEntries,
    AppendReply,
    Founding,
    Hello,
    LogEntry,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotChunk,
    SnapshotFetch,
    SnapshotOffer,
    TimeoutNow,
    Vote,
)
from raftpay.raft.options import RaftOptions
from raftpay.raft.reads import ReadDone, Reads
from raftpay.raft.replication import Progress
from raftpay.raft.snapshots import Snapshots
from raftpay.raft.stock_engine import CANDIDATE, FOLLOWER, LEADER, NO_OP, REGULAR
from raftpay.storage.snapshots import SnapshotInfo

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "Engine"]

Done = Callable[[object, Exception | None], None]


class Engine(Elections):
    """One member of the group.

    options: names, times and sizes. log: opened journal and hard state. apply: called with index and payload of each
    committed entry, in order; what it returns goes to the proposer. send: takes a message for a connected peer.
    on_role: called with the role after each change of it. on_members: called when the configuration is another one,
    and when it is committed. rng: draws the election timeouts. snapshots: the machine is restored from the newest;
    None to keep the log whole.
    """

    def __init__(
        self,
        options: RaftOptions,
        log: RaftLog,
        *,
        apply: Callable[[int, bytes], object],
        send: Callable[[str, Message], None],
        on_role: Callable[[int], None],
        on_members: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        rng = rng or random.Random()
        self.snapshots = snapshots
        self._apply, self._on_role, self._on_members = apply, on_role, on_members
        self._progress: dict[str, Progress] = {}
        # The leader that we follow, its term, and how far our log is known to equal its log.
        self._verified: tuple[str, int, int] | None = None
        # The latest round of that leader, the latest one that we have answered, and the index last acknowledged.
        self._heard_round = self._answered_round = self._acknowledged_index = 0
        # Grows with each confirmation of leadership asked for.
        self._round = 0
        self._reads = Reads(first_number=rng.getrandbits(48))
        # Entries proposed here and not answered yet.
        self._proposals: dict[int, Done] = {}
        super().__init__(options, log, send, rng)
        if snapshots is not None and snapshots.index > 0:
            # What the snapshot holds is committed and applied. Stock loads its dump on the first tick (line 623).
            self._set_applied_index(snapshots.index)
            self._set_commit_index(snapshots.index)
        self.membership.has_changed()
        self._set_other_voters(self.membership.other_voters)

    # ---- what the engine is at ------------------------------------------------------------------------------------

    def match_index(self, peer: str) -> int | None:
        """How far a follower's journal is known to equal ours; None where this node does not lead."""
        progress = self._progress.get(peer)
        return None if progress is None or self.role != LEADER else progress.match_index

    def members_at(self, index: int) -> bytes | None:
        """The configuration in force at an entry, for a snapshot of it; None where it is not known here."""
        members = self.log.configurations.at(index)
        return None if members is None else encode_members(members)

    # ---- what the caller tells --------------------------------------------------------------------------------------

    def hello(self, receiver: str) -> Hello:
        """What to say to a peer when it is dialled."""
        return self.membership.hello(receiver)

    def introduced(self, hello: Hello) -> None:
        """A peer has opened the connection on which it speaks, and said who it is."""
        peer = hello.sender
        if self.membership.met(hello) and peer in self._progress:
            # Another disk than the one whose acknowledgements these are.
            self._progress[peer] = Progress(next_index=self.last_index + 1)
        self._found_if_due()
        self._tell_founding(peer)

    def connected(self, peer: str) -> None:
        """Messages to the peer go out from now on."""
        self._note_connected(peer)
        if self.role == LEADER and peer in self._progress:
            self._progress[peer].reset_connection()
            self._replicate_to(peer, is_heartbeat=True)
        self._tell_founding(peer)

    def disconnected(self, peer: str) -> None:
        """Messages to the peer are lost from now on, and some before may be."""
        self._note_disconnected(peer)
        if peer == self.leader:
            self._reads.abandon(peer)

    def peer_hung_up(self, peer: str) -> None:
        """The peer closed the connection on which it speaks. If it led, it is gone: stand for election soon.

        Only a hint, and safe as one: a pre-vote asks the others whether they still hear the leader. A node that
        has yet to apply what is committed would not serve at once, and leaves the first try to the others.
        """
        self.membership.heard.discard(peer)
        if self.role == FOLLOWER and self.leader == peer:
            self._reads.abandon(None)
            self._leader_contact_s = float("-inf")
            self._forget_leader()  # It cannot answer our questions before it is back.
            if self.applied_index < self.commit_index:
                return
            soon = now() + self._rng.uniform(0.1, 1.0) * self.options.heartbeat_s
            self._election_deadline_s = min(self._election_deadline_s, soon)

    def tick(self) -> None:
        """Let time pass: elections, heartbeats, commit, apply. Raises EngineStoppedError where it must not go on."""
        self._campaign_if_due()
        self._commit()
        if self._is_stock_tick_due():
            self._stock_tick()
        self._tend_members()
        self._advance_reads()
        if self.snapshots is not None:
            now_s = now()
            self.snapshots.tick(self.applied_index, now_s)
            if self.role == LEADER:
                self.snapshots.serve(self.term, now_s, self._send)

    def advance(self) -> None:
        """Do what an event has made possible: commit, apply, answer reads. The rest of a tick only time brings."""
        if self.has_unapplied or self._reads.is_waiting or self.role == LEADER:
            self._commit()
            if self.has_unapplied:
                self._apply_committed()
            self._advance_reads()

    def propose(self, payload: bytes, done: Done) -> int:
        """Append an entry and send it to the followers; the caller fsyncs. Returns its index.

        done is called once, with what apply returned, or with LeadershipLostError if that will not be known here.
        Raises NotLeaderError or DiskFullError with nothing written.
        """
        if not self.is_ready:
            raise NotLeaderError(self.leader)
        return self._add(REGULAR + payload, done)

    def _add(self, entry: bytes, done: Done) -> int:
        index = self.last_index + 1
        # Not through stock's queue: a process held up for a heartbeat there leaves the command in it (line 510).
        self.log.add(entry, index, self.term)
        self._proposals[index] = done
        self._check_members()
        self._replicate(is_heartbeat=False)
        return index

    def synced(self) -> None:
        """The journal was fsynced further: pay the acknowledgement that was held back for it (D1)."""
        is_following = self.role != LEADER and self._verified is not None and self._verified[1] == self.term
        # Part of what is verified may have come after that fsync began; it is acknowledged after the next one.
        if is_following and self._durable_index() > self._acknowledged_index:
            self._acknowledge()

    def request_read(self, done: ReadDone) -> None:
        """Have done called once this node's state is as new as any answer given before (Raft thesis 6.4; S15).

        A leader confirms its leadership by a round begun now; a follower asks it. done gets NotLeaderError where
        neither can be had; nothing was changed, so the read may be tried again anywhere.
        """
        leader = self.leader
        if self.is_ready:
            self._confirm_read(lambda index: self._read_confirmed(index, done))
        elif self.role == FOLLOWER and leader is not None and self.is_connected(leader):
            self._send(leader, ReadIndex(self._reads.ask(done)))
        else:
            done(NotLeaderError(leader))

    def _confirm_read(self, confirmed: Callable[[int], None]) -> None:
        self._round += 1
        self._reads.confirm(self._round, self.commit_index, confirmed)
        self._replicate(is_heartbeat=True)

    def _read_confirmed(self, read_index: int, done: ReadDone) -> None:
        done(NotLeaderError(self.leader)) if read_index == 0 else self._reads.wait_applied(read_index, done)

    def _on_read_index(self, peer: str, message: ReadIndex) -> None:
        if self.is_ready:
            self._confirm_read(lambda index: self._send(peer, ReadIndexReply(message.number, index)))
        else:
            self._send(peer, ReadIndexReply(message.number, 0))

    def _advance_reads(self) -> None:
        if self._reads.is_waiting:
            self._reads.advance(self._confirmed_round() if self.role == LEADER else 0, self.applied_index)

    def _confirmed_round(self) -> int:
        """The latest round that a majority, this node included, has confirmed in its term."""
        confirmed = ((peer, progress.confirmed_round) for peer, progress in self._progress.items())
        return self.membership.reached_by_majority(self._round, confirmed)

    def _abandon_reads(self, leader: str | None) -> None:
        self._reads.abandon(leader)

    def hand_over(self, peer: str) -> None:
        """Ask a follower that has the whole log to take over at once (Raft thesis 3.10)."""
        self._send(peer, TimeoutNow(self.term))

    # ---- messages ---------------------------------------------------------------------------------------------------

    def receive(self, peer: str, message: Message) -> None:
        """Take a message from a peer. The caller fsyncs the journal afterwards and ticks."""
        match message:
            case AppendEntries():
                self._on_append_entries(peer, message)
            case AppendReply():
                self._on_append_reply(peer, message)
            case PreVote():
                self._on_pre_vote(peer, message)
            case PreVoteReply():
                self._on_pre_vote_reply(peer, message)
            case RequestVote():
                self._on_request_vote(peer, message)
            case Vote():
                self._on_vote(peer, message)
            case ReadIndex():
                self._on_read_index(peer, message)
            case ReadIndexReply():
                self._reads.answered(message.number, message.read_index, self.applied_index)
            case SnapshotOffer() | SnapshotFetch() | SnapshotChunk():
                self._on_snapshot_message(peer, message)
            case TimeoutNow():
                self._on_timeout_now(peer, message)
            case Founding():
                self._on_founding(message)
            case _:
                raise EngineStoppedError(f"the transport handed a {type(message).__name__} to the engine")

    def _on_append_entries(self, peer: str, message: AppendEntries) -> None:
        if message.term < self.term:
            # S16: stock keeps silent, and a leader of an old term goes on believing.
            self._send(peer, AppendReply(self.term, False, 0, message.prev_index, 0))
            return
        if message.term == self.term and self.role == LEADER:
            raise EngineStoppedError(f"{peer} also leads in term {self.term}: two nodes were elected in one term")
        if self.leader != peer:
            self._reads.abandon(peer)
        self._hear_leader(peer, message.term)
        self._leader_contact_s, self._pre_vote = now(), None
        journal, entries, prev, prev_term = self.log.journal, message.entries, message.prev_index, message.prev_term
        head = journal.first_index - 1
        if prev < head:
            # What our snapshot covers is committed, and so in the log of every later leader (Raft paper 5.4).
            entries = [entry for entry in entries if entry.index > head]
            prev, prev_term = head, journal.term_at(head)
        if prev > journal.last_index or journal.term_at(prev) != prev_term:
            self._send(
                peer, AppendReply(self.term, False, retry_after(journal, prev, self.commit_index), prev, message.round)
            )
            return
        self._verify(peer, prev)
        appended = append_entries(self.log, entries, prev, self.commit_index)
        self._check_members()
        # S3: only what this leader's messages have shown to be equal may count as committed.
        matched = self._verify(peer, appended)
        self._heard_round = message.round
        self._commit_to(min(message.commit_index, matched))
        is_durable = self._durable_index() == matched
        is_new_round = message.round > self._answered_round
        if appended == prev + len(entries) and (is_durable or is_new_round or not entries):
            self._acknowledge()

    def _verify(self, leader: str, index: int) -> int:
        """Note that our log is equal to the leader's up to index; returns how far it is known to be."""
        verified, term = self._verified, self.term
        if verified is None or verified[0] != leader or verified[1] != term:
            self._heard_round = self._answered_round = self._acknowledged_index = 0
        else:
            index = max(index, verified[2])
        self._verified = (leader, term, index)
        return index

    def _commit_to(self, commit_index: int) -> None:
        if commit_index > self.commit_index:
            is_changing = self.commit_index < self.membership.index <= commit_index
            self._set_commit_index(commit_index)
            if is_changing:
                self._on_members()  # Those of the configurations before are out of touch from now on.

    def _durable_index(self) -> int:
        """How far our log is known to equal the leader's and is fsynced here."""
        assert self._verified is not None
        return min(self._verified[2], self.log.journal.synced_index)

    def _acknowledge(self) -> None:
        """Tell the leader how far our log is equal to its log and fsynced (D1: never more than is fsynced)."""
        assert self._verified is not None
        self._answered_round, self._acknowledged_index = self._heard_round, self._durable_index()
        self._send(
            self._verified[0],
            AppendReply(self._verified[1], True, self._acknowledged_index, 1, self._heard_round),
        )

    def _on_append_reply(self, peer: str, reply: AppendReply) -> None:
        if not self.membership.is_member(peer):
            return  # Raft thesis 4.2.3: what a removed node says must not depose anyone.
        if reply.term > self.term:
            self._adopt_term(reply.term)
        if self.role != LEADER or reply.term != self.term:
            return  # S2: an acknowledgement given to another term says nothing in this one.
        self._heard(peer)
        progress = self._progress[peer]
        progress.answered(reply, self.last_index)
        if progress.next_index <= self.last_index and progress.has_room(self.options.window_bytes_max):
            self._replicate_to(peer, is_heartbeat=False)

    # ---- roles ------------------------------------------------------------------------------------------------------

    def _state_changed(self, _old: int, new: int) -> None:
        self._verified = None
        if new == CANDIDATE:
            self._votes = set()
        if new == LEADER:
            self._pre_vote = None
            self._progress = {peer: Progress(next_index=self.last_index + 1) for peer in self.membership.others}
            self._round += 1
            self.membership.begin_term()
            if self.snapshots is not None:
                self.snapshots.abandon()
        else:
            self.abandon_proposals()
            if self.snapshots is not None:
                self.snapshots.stop_serving()
        self._reads.abandon(None)
        self._on_role(new)

    def abandon_proposals(self) -> None:
        """Tell every proposer that this node will not learn the outcome."""
        # S11, S14: the new leader may commit these entries or not; this node will not learn it in time to say.
        proposals, self._proposals = self._proposals, {}
        for index, done in proposals.items():
            done(None, LeadershipLostError(f"entry {index} was sent, then this node lost the leadership"))

    # ---- replication ------------------------------------------------------------------------------------------------

    def _replicate(self, *, is_heartbeat: bool) -> None:
        if is_heartbeat:
            self._set_heartbeat_due(now() + self.options.heartbeat_s)
        for peer in self._progress:
            if self.is_connected(peer):
                self._replicate_to(peer, is_heartbeat=is_heartbeat)

    def _replicate_to(self, peer: str, *, is_heartbeat: bool) -> None:
        progress, journal, sent = self._progress[peer], self.log.journal, False
        if progress.next_index < journal.first_index:
            # S21: stock spins here. Heartbeats go on, each with the offer of a snapshot once there is one.
            if is_heartbeat:
                self._send(peer, self._append_message(self.log.journal.first_index - 1, []))
                if self.snapshots is not None:
                    self.snapshots.offer_to(peer, self.term, self._send)
            return
        last_index, options = journal.last_index, self.options
        while progress.next_index <= last_index and progress.has_room(options.window_bytes_max):
            entries = journal.entries(progress.next_index, last_index, bytes_max=options.append_bytes_max)
            size = sum(len(entry.payload) for entry in entries)
            wire_entries = [LogEntry(entry.index, entry.term, entry.payload) for entry in entries]
            self._send(peer, self._append_message(progress.next_index - 1, wire_entries))
            progress.sent(entries[-1].index, size)
            sent = True
        if is_heartbeat and not sent:
            # While a probe is on its way next_index stays where it is, so the same question is asked again, empty.
            self._send(peer, self._append_message(progress.next_index - 1, []))

    def _append_message(self, prev: int, entries: list[LogEntry]) -> AppendEntries:
        prev_term = self.log.journal.term_at(prev)
        return AppendEntries(self.term, self.commit_index, prev, prev_term, self._round, entries)

    def _commit(self) -> None:
        """Commit what a majority has fsynced; the leader counts itself only up to its own fsync (D1).

        Terms ascend along the log: the last such entry decides (Raft paper 5.4.2). Stock's loop (lines 658-672) reads
        every entry from the commit index on, the whole log after a restart; without match indexes it ends at once.
        """
        if self.role == LEADER and self.commit_index < self.last_index:
            index = self._quorum_index()
            if index > self.commit_index and self.log.journal.term_at(index) == self.term:
                self._commit_to(index)

    def _quorum_index(self) -> int:
        """How far a majority, this leader's own journal included, has fsynced the log."""
        matches = ((peer, progress.match_index) for peer, progress in self._progress.items())
        return self.membership.reached_by_majority(self.log.journal.synced_index, matches)

    # ---- snapshots (Raft paper 7) -----------------------------------------------------------------------------------

    def _on_snapshot_message(self, peer: str, message: SnapshotOffer | SnapshotFetch | SnapshotChunk) -> None:
        """Of the present term only; an offer follows a heartbeat, which has told who leads in it."""
        if self.snapshots is None or message.term != self.term:
            return
        if isinstance(message, SnapshotFetch):
            if self.role == LEADER and peer in self._progress:
                self._heard(peer)
                self.snapshots.asked(peer, message, now())
                self.snapshots.serve(self.term, now(), self._send)
        elif self.role == FOLLOWER and self.leader == peer:
            self.snapshots.told(peer, message, self.applied_index, now(), self._send)

    def install(self, info: SnapshotInfo, become: Callable[[], None]) -> bool:
        """Take a verified snapshot for the state, unless that is past it already (S4). Returns whether it is, now.

        become: puts the snapshot's state in the place of the machine's.

        The snapshot is durable; the log is kept where it has the same entry, else it begins anew behind it. Both are
        done before anything is acknowledged (S5). A crash in between is mended by the next start (catch_up.py).
        """
        if info.index <= self.applied_index:
            return True
        if self.role == LEADER:
            return False  # Its log has all that is committed, and is not to be touched.
        assert self.snapshots is not None
        try:
            self.log.install(info, keeps_log=holds_entry(self.log.journal, info.index, info.term))
        except DiskFullError:
            return False  # The leader goes on offering it.
        self._check_members()
        become()
        self._set_applied_index(info.index)
        self._commit_to(info.index)
        self.abandon_proposals()  # S14: what the snapshot covers is answered, as unknown.
        self._reads.advance(0, self.applied_index)
        if self.leader is not None and self.role == FOLLOWER:
            self._verify(self.leader, info.index)
            self._acknowledge()
        return True

    # ---- members (Raft thesis chapter 4) ----------------------------------------------------------------------------

    def add_member(self, name: str, *, peer: str, client: str, done: Done) -> None:
        """Add a node, which learns at first and votes once it has caught up. done: as of `propose`.

        Raises NotLeaderError, MembershipError or DiskFullError with nothing written.
        """
        self._check_changeable()
        self._change_members(with_member(self.membership.members, name, peer=peer, client=client), done)

    def remove_member(self, name: str, done: Done) -> None:
        """Remove a node, but not this one: hand the leadership over first. done, errors: as of `add_member`."""
        self._check_changeable()
        if name == self.options.name:
            raise MembershipError(f"{name} leads: hand the leadership over before it is removed")
        left = without_member(self.membership.members, name)
        reachable = [other for other in left if other == self.options.name or self.is_connected(other)]
        voting = [other for other, member in left.items() if member.is_voter]
        if len([other for other in voting if other in reachable]) <= len(voting) // 2:
            raise MembershipError(
                f"without {name}, {len(voting)} voters are left, of which only {len(reachable)} can be reached: "
                "the cluster would stand still. Bring one of the others back first"
            )
        self._change_members(left, done)

    def _check_changeable(self) -> None:
        if not self.is_ready:
            raise NotLeaderError(self.leader)
        if self.membership.index > self.applied_index:
            raise MembershipError(
                "a change of the members is under way, and there is one at a time; try again soon", is_passing=True
            )

    def _change_members(self, members: Members, done: Done) -> None:
        self._add(MEMBERS + encode_members(members), done)

    def _tend_members(self) -> None:
        """A leader's own changes: a replaced disk learns anew, a learner that has caught up votes."""
        if not self.is_ready or self.membership.index > self.applied_index or not self.membership.members:
            return
        matches = {peer: progress.match_index for peer, progress in self._progress.items()}
        members = self.membership.next_change(matches, self.last_index, now())
        if members is None:
            return
        try:
            self._change_members(members, lambda _result, _error: None)
        except DiskFullError:
            return  # The next tick tries again.

    def _check_members(self) -> None:
        """Go by the configuration that is in force now, if it is another than before."""
        membership = self.membership
        if not membership.has_changed():
            return
        self._set_other_voters(membership.other_voters)
        if self.role == LEADER:
            others = membership.others
            known = {peer: progress for peer, progress in self._progress.items() if peer in others}
            new = {peer: Progress(next_index=self.last_index + 1) for peer in others if peer not in known}
            self._progress = known | new
        self._on_members()

    def _found_if_due(self) -> None:
        members = self.membership.to_found()
        if members is not None:
            self._begin_with(members)

    def _begin_with(self, members: Members) -> None:
        try:
            self.log.found(members)
        except DiskFullError:
            return  # The next hello tries again.
        self._check_members()
        for peer in self.membership.others:
            self._tell_founding(peer)

    def _tell_founding(self, peer: str) -> None:
        if self.membership.is_unfounded(peer) and self.is_connected(peer):
            self._send(peer, Founding(encode_members(self.membership.members)))

    def _on_founding(self, message: Founding) -> None:
        members = decode_members(message.members)
        if self.membership.accepts(members):
            self._begin_with(members)

    # ---- apply ------------------------------------------------------------------------------------------------------

    def _apply_command(self, command: bytes) -> None:
        """What raises here stops the node (S8, S18)."""
        index = self.applied_index + 1
        kind = command[:1]
        if kind == NO_OP:
            return
        if kind == MEMBERS:
            # It has been in force since it was appended.
            self._answer(index, None)
            return
        if kind != REGULAR:
            raise EngineStoppedError(f"entry {index} is of the unknown type {kind!r}; this release cannot apply it")
        try:
            result = self._apply(index, command[1:])
        except Exception as error:  # the engine's outermost frame: it stops for good
            raise EngineStoppedError(f"entry {index} could not be applied: {error}") from error
        self._answer(index, result)

    def _answer(self, index: int, result: object) -> None:
        done = self._proposals.pop(index, None)
        if done is not None:
            done(result, None)
