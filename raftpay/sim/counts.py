"""What happened in a run, in numbers, and in many runs together. Shown by `raftpay sim`."""

from typing import Self

import msgspec


class Counts(msgspec.Struct):
    """Of one run, or the sums over many.

    answered: requests. commands: committed entries. cuts: conflicting tails of logs. starts: of processes; restarts:
    those after the first of each node. refusals: nodes that would not start because their disk is damaged.
    snapshots_made, snapshots_installed: written and verified, or fetched from a leader and restored. restored: states
    restored from either. resets: logs begun anew behind a fetched snapshot. compactions: heads of logs dropped.
    scrubs: passes over all of a node's files. scrub_found, scrub_repaired: damaged files that these found, and put
    right. healed: how often nothing damaged was left on a disk.
    """

    answered: int = 0
    commands: int = 0
    elections: int = 0
    cuts: int = 0
    starts: int = 0
    restarts: int = 0
    refusals: int = 0
    snapshots_made: int = 0
    snapshots_installed: int = 0
    restored: int = 0
    resets: int = 0
    compactions: int = 0
    scrubs: int = 0
    scrub_found: int = 0
    scrub_repaired: int = 0
    healed: int = 0

    def add(self, other: Self) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
