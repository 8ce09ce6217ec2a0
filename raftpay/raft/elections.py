"""How a node comes to lead and stops leading: pre-vote, votes counted by voter, terms, and who may stand at all.

The election itself is PySyncObj's: candidacy, the rule of the up-to-date log, one vote a term. The layer below is
stock_engine.py, the one above engine.py. S.. name the defects listed in docs/engine.md.
"""

import random
from collections.abc import Callable

from raftpay.raft.determinism import now
from raftpay.raft.log import RaftLog
from raftpay.raft.membership import Membership
from raftpay.raft.messages import Message, PreVote, PreVoteReply, RequestVote, TimeoutNow, Vote
from raftpay.raft.options import RaftOptions
from raftpay.raft.stock_engine import CANDIDATE, LEADER, StockEngine


class Elections(StockEngine):
    """Everything about terms and votes."""

    def __init__(
        self, options: RaftOptions, log: RaftLog, send: Callable[[str, Message], None], rng: random.Random
    ) -> None:
        self._rng = rng
        self.membership = Membership(options, log)
        # Those whose vote in the present candidacy has been counted (S17: stock counts votes, not voters).
        self._votes: set[str] = set()
        # The term asked for in the pre-vote under way and who granted it, or None.
        self._pre_vote: tuple[int, set[str]] | None = None
        # When the leader of the present term last spoke; far in the past once it is known to be gone.
        self._leader_contact_s = float("-inf")
        super().__init__(options, log, send)

    def _abandon_reads(self, leader: str | None) -> None:
        raise NotImplementedError

    def _election_timeout_s(self) -> float:
        return self._rng.uniform(self.options.election_timeout_min_s, self.options.election_timeout_max_s)

    # ---- standing ---------------------------------------------------------------------------------------------------

    def _campaign_if_due(self) -> None:
        """Stand once nobody has led for a whole timeout."""
        if self.role == LEADER or self._election_deadline_s >= now():
            return
        if self.membership.counts_self:
            self._start_pre_vote()
        else:
            self._leader_fell_silent()

    def _is_to_stand(self) -> bool:
        """A pre-vote was won, or the leader asks for it."""
        return self.is_transferring or self._election_deadline_s == float("-inf")

    def _may_stand(self) -> bool:
        return bool(self._is_to_stand() and self.hasQuorum and self.membership.counts_self)

    def _is_stock_tick_due(self) -> bool:
        """Whether a tick of PySyncObj would do anything (lines 611-706): it leads, stands or applies, all else is off.

        Asking costs a tenth of the tick, which in a follower at rest is half of ours.
        """
        return self.role == LEADER or self.has_unapplied or self._is_to_stand()

    def _leader_fell_silent(self) -> None:
        """Nobody has spoken as leader for a whole timeout: callers must not be sent to one that may be gone."""
        self._forget_leader()
        self._abandon_reads(None)
        self._election_deadline_s = now() + self._election_timeout_s()

    def _start_pre_vote(self) -> None:
        """Ask before standing (S16): a node that merely lost touch must not depose a leader that others hear."""
        self._leader_fell_silent()
        self._pre_vote = (self.term + 1, set())
        for peer in self.membership.other_voters:
            if self.is_connected(peer):
                self._send(peer, PreVote(self.term + 1, self.last_index, self.log.journal.last_term))

    def _on_pre_vote(self, peer: str, message: PreVote) -> None:
        last_index, last_term = self.last_index, self.log.journal.last_term
        hears_leader = now() - self._leader_contact_s < self.options.election_timeout_min_s
        is_leading = self.role == LEADER and self._has_recent_quorum()
        is_up_to_date = (message.last_log_term, message.last_log_index) >= (last_term, last_index)
        granted = message.term > self.term and is_up_to_date and not hears_leader and not is_leading
        self._send(peer, PreVoteReply(message.term if granted else self.term, granted))

    def _has_recent_quorum(self) -> bool:
        horizon = now() - self.options.election_timeout_min_s
        return self.membership.is_majority(self._heard_since(horizon))

    def _on_pre_vote_reply(self, peer: str, reply: PreVoteReply) -> None:
        if not reply.granted:
            if reply.term > self.term and self.membership.is_member(peer):
                self._adopt_term(reply.term)
            return
        if self._pre_vote is None or not reply.term == self._pre_vote[0] == self.term + 1:
            return
        self._pre_vote[1].add(peer)
        if self.membership.is_majority(self._pre_vote[1]):
            self._pre_vote = None
            self._votes = set()
            # Stock stands for election on its next tick once its deadline is past (lines 634-652).
            self._election_deadline_s = float("-inf")
            self._stock_tick()

    # ---- votes ------------------------------------------------------------------------------------------------------

    def _on_request_vote(self, peer: str, message: RequestVote) -> None:
        self._stock_message(
            peer,
            type="request_vote",
            term=message.term,
            last_log_index=message.last_log_index,
            last_log_term=message.last_log_term,
        )

    def _on_vote(self, peer: str, message: Vote) -> None:
        """S17: counted by voter; stock's own count (line 1065) knows no learners and no replaced disks."""
        if message.term != self.term or self.role != CANDIDATE:
            return
        self._votes.add(peer)
        if self.membership.is_majority(self._votes):
            self._win()

    def _on_timeout_now(self, peer: str, message: TimeoutNow) -> None:
        """A leader that asks to be replaced needs no pre-vote, and has its wish now or not at all: stock keeps it until
        a majority can be reached (line 635), then deposes a leader that leads again, and does not stand meanwhile.
        """
        if self.membership.counts_self:
            self._stock_message(peer, type="timeout_now", term=message.term)
            if self.is_transferring:
                self._stock_tick()
                self._drop_transfer()

    def _adopt_term(self, term: int) -> None:
        """A higher term exists: step down (Raft paper 5.1; S16)."""
        self._save_term(term, None)
        self._step_down()
        self._pre_vote = None
