"""Removals: who belongs to the group, whose disk counts, and which commands all can apply."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "one-change-at-a-time",
        "S10",
        "a change of the members is proposed while another is under way",
        (Edit("if self.membership.index > self.applied_index: raise MembershipError(",
              "if False:\n            raise MembershipError("),
         Edit("if not self.is_ready or self.membership.index > self.applied_index or not self.membership.members:",
              "if not self.is_ready or not self.membership.members:")),
    ),
    Removal(
        "members-after-restart",
        "S23",
        "a start forgets the changes of the members that are in the log",
        (Edit("if index > self.configurations.index:", "if False:"),),
    ),
    Removal(
        "members-in-snapshot",
        "S23",
        "a snapshot does not say who the members are",
        (Edit("if members: self.configurations.install", "if False:\n            self.configurations.install"),),
    ),
    Removal(
        "members-go-with-cut",
        "S23",
        "a change of the members stays in force when it is cut from the log",
        (Edit("self.configurations.truncate_from(index)", "pass"),),
    ),
    Removal(
        "heard-until-committed",
        "seed 900149",
        "a node hangs up on a member as soon as its removal is in the log, committed or not",
        (Edit("possible = self._log.configurations.since(commit_index)", "possible = [self.members]"),),
        remark="a removal has to be undone while its member leads without it: none in 400 seeds either; held by "
        "`tests/raft/test_membership_rules.py`",
        faults=("blackout", "exile", "kill", "membership", "partition"),
    ),
    Removal(
        "empty-disks-do-not-count",
        "rebuild",
        "the votes and acknowledgements of a replaced disk count as those of the one that is gone",
        (Edit("if name in self.hellos and self.hellos[name].incarnation == self.members[name].incarnation",
              "if name in self.hellos"),
         Edit("self._name in voting and self.members[self._name].incarnation == self._log.incarnation",
              "self._name in voting")),
    ),
    Removal(
        "progress-of-a-disk",
        "S1, rebuild",
        "what a disk had acknowledged stays counted after it was replaced, and when the new one says that it has less",
        (Edit("if self.membership.met(hello) and peer in self._progress:",
              "if self.membership.met(hello) and False:"),
         Edit("self.match_index = max(1, min(self.match_index, reply.match_index, reply.prev_index - 1))", "pass")),
        faults=("exile", "wipe"),
    ),
    Removal(
        "found-with-empty-disks-only",
        "rebuild",
        "a founder with an empty disk founds the cluster anew, although others have their books",
        (Edit("if not all(name in self.heard and self.hellos[name].is_fresh for name in others):",
              "if not all(name in self.hellos for name in others):"),),
    ),
    Removal(
        "versions-all-know",
        "S20",
        "commands are written in the newest version that some member knows",
        (Edit("self.command_version = min(met, default=0)", "self.command_version = max(met, default=0)"),),
    ),
)  # fmt: skip
