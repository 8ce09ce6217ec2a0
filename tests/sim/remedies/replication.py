"""Removals: the log, its replication and the commit rule."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "follower-fsync",
        "D1",
        "a follower acknowledges what it has written and not yet fsynced",
        (Edit("return min(self._verified[2], self.log.journal.synced_index)", "return self._verified[2]"),),
    ),
    Removal(
        "leader-fsync",
        "D1",
        "the leader counts itself for what it has written and not yet fsynced",
        (Edit("reached_by_majority(self.log.journal.synced_index, matches)",
              "reached_by_majority(self.last_index, matches)"),),
    ),
    Removal(
        "cut-at-conflicts",
        "S1",
        "a follower cuts what a message repeats, whether or not a term differs",
        (Edit("if entry.index <= journal.last_index and journal.term_at(entry.index) != entry.term:",
              "if entry.index <= journal.last_index:"),),
    ),
    Removal(
        "previous-term",
        "5.3",
        "a follower appends behind an entry whose term it has not compared",
        (Edit("or journal.term_at(prev) != prev_term", ""),),
    ),
    Removal(
        "old-terms",
        "5.1",
        "a follower takes entries from the leader of an old term",
        (Edit("if message.term < self.term:", "if False:", "_on_append_entries"),),
    ),
    Removal(
        "commit-verified",
        "S3",
        "a follower commits what the leader has committed, as far as its own log goes, verified or not",
        (Edit("min(message.commit_index, matched)", "min(message.commit_index, journal.last_index)"),),
    ),
    Removal(
        "verify-anew",
        "S3",
        "what one leader's messages have verified counts as verified for the next leader",
        (Edit("if verified is None or verified[0] != leader or verified[1] != term:", "if verified is None:"),),
        nodes=5,
    ),
    Removal(
        "reply-terms",
        "S2",
        "an acknowledgement that was given to another term counts in this one",
        (Edit("if self.role != LEADER or reply.term != self.term:", "if self.role != LEADER:"),),
        nodes=5,
        faults=("exile",),
    ),
    Removal(
        "refusal-steps-back",
        "S7",
        "a refusal does not move the next index back, so that the same message is sent again",
        (Edit("self.next_index = max(self.match_index + 1, "
              "min(reply.match_index + 1, reply.prev_index, last_index + 1))", "pass"),),
    ),
    Removal(
        "full-disk-stops-acknowledging",
        "D10",
        "an entry for which the disk had no room counts as appended",
        (Edit("sends the entries again: at the pace of heartbeats, until there is room. break",
              "sends the entries again.\n                pass"),),
    ),
    Removal(
        "commit-own-term",
        "5.4.2",
        "a leader commits entries of earlier terms by counting",
        (Edit("if index > self.commit_index and self.log.journal.term_at(index) == self.term:",
              "if index > self.commit_index:"),),
    ),
    Removal(
        "commit-index-is-learnt",
        "D16",
        "after a start everything in the journal counts as committed",
        (Edit("return 1", "return max(1, self.journal.last_index)", "getRaftCommitIndex"),),
    ),
)  # fmt: skip
