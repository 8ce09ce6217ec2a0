"""Removals: terms, votes, elections, and what a leader tells its clients."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "vote-saved",
        "5.2",
        "the vote is given and not saved",
        (Edit("self._hard_state.save(term, voted_for)", "self._hard_state.save(term, None)"),),
    ),
    Removal(
        "term-saved",
        "5.2",
        "term and vote are not saved",
        (Edit("self._hard_state.save(term, voted_for)", "pass"),),
    ),
    Removal(
        "saved-then-believed",
        "seed 9",
        "a term is believed before it is saved, and kept where the disk has no room for it",
        (Edit("self.log.setCurrentTerm(term, voted_for) "
              "self._SyncObj__raftCurrentTerm, self._SyncObj__votedForNodeId = term, voted_for",
              "self._SyncObj__raftCurrentTerm, self._SyncObj__votedForNodeId = term, voted_for\n"
              "        self.log.setCurrentTerm(term, voted_for)"),),
        faults=("full",),
    ),
    Removal(
        "pre-vote",
        "S16",
        "a node that hears no leader stands for election without asking first",
        (Edit("self._pre_vote = (self.term + 1, set())", 'self._election_deadline_s = float("-inf")\n        return'),),
    ),
    Removal(
        "pre-vote-stickiness",
        "S16",
        "a pre-vote is granted also by those who hear the leader, and by the leader",
        (Edit("and not hears_leader and not is_leading", ""),),
    ),
    Removal(
        "step-down",
        "S15",
        "a leader that nobody answers stays in office for 30 s",
        (Edit("leaderFallbackTimeout=2 * options.election_timeout_max_s", "leaderFallbackTimeout=30.0"),),
    ),
    Removal(
        "ready-with-own-entry",
        "8",
        "a leader serves before its own first entry is applied",
        (Edit("return self.role == LEADER and self.applied_index >= self._SyncObj__noopIDx",
              "return self.role == LEADER"),),
    ),
    Removal(
        "lost-leadership-is-unknown",
        "S11",
        "a leader that steps down calls refused what the next one may commit",
        (Edit('LeadershipLostError(f"entry {index} was sent, then this node lost the leadership")',
              "NotLeaderError(self.leader)"),),
    ),
    Removal(
        "proposals-end-with-leadership",
        "S11, S14",
        "proposals outlive the leadership in which they were made",
        (Edit("else: self.abandon_proposals()", "else:\n            pass"),),
    ),
    Removal(
        "no-stock-queue",
        "seed 53",
        "proposals pass stock's queue",
        (Edit("self.log.add(entry, index, self.term)",
              "self._applyCommand(entry, None); self._checkCommandsToApply()"),),
        faults=("stall",),
    ),
    Removal(
        "read-round",
        "S15",
        "a leader answers reads without asking a majority whether it still leads",
        (Edit("self._reads.confirm(self._round, self.commit_index, confirmed)",
              "self._reads.confirm(0, self.commit_index, confirmed)"),),
    ),
    Removal(
        "read-round-begun-after",
        "S15",
        "a read is vouched for by a round that began before the read came",
        (Edit("self._round += 1 self._reads.confirm", "self._reads.confirm"),),
    ),
    Removal(
        "reads-wait-their-turn",
        "S15",
        "a read joins the round that is under way in its node",
        (Edit("self._waiting.append((call, read))",
              "(self._waiting if self._round is None else self._served).append((call, read))"),),
    ),
    Removal(
        "follower-asks",
        "S15",
        "a follower answers reads from what it has, without asking the leader",
        (Edit("self._send(leader, ReadIndex(self._reads.ask(done)))", "done(None)"),),
    ),
    Removal(
        "follower-waits",
        "S15",
        "a follower answers a read once the leader has told the index, applied or not",
        (Edit("elif applied_index >= read_index:", "else:\n            done(None)\n        if False:"),),
    ),
    Removal(
        "question-numbers",
        "S13",
        "the questions of a follower to its leader are numbered from 1 in each life",
        (Edit("first_number=rng.getrandbits(48)", "first_number=0"),),
    ),
)  # fmt: skip
