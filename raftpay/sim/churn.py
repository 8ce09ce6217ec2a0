"""Which disks may be lost without breaking a promise, and the changes of members that a run makes. Called by faults.py.

What is acknowledged survives while, of every configuration that may be in force somewhere, a majority of the voters has
kept its disk. A run that goes beyond that would prove nothing.
"""

import random
from collections.abc import Sequence

from raftpay.errors import RaftError, StorageError
from raftpay.raft.members import Members
from raftpay.sim.invariants import Invariants
from raftpay.sim.loop import Schedule
from raftpay.sim.member import NEXT_COMMAND_VERSION, Life, Member, leader_of

# A removed node still runs for so long, and calls those that no longer listen.
RETIRES_S = (0.2, 3.0)


class Churn:
    """founders: how many members the cluster has at first; it is never made smaller."""

    def __init__(self, schedule: Schedule, members: Sequence[Member], invariants: Invariants, founders: int) -> None:
        self._schedule, self._members, self._invariants = schedule, members, invariants
        self._founders = founders
        # Added and removed, as far as was answered.
        self.added = self.removed = 0

    def may_lose(self, name: str) -> bool:
        """Whether this node's disk may go, now, with those that are damaged already."""
        lost = [member for member in self._members if member.is_damaged or member.is_threatened or member.is_corrupt]
        unsound = {member.name for member in lost} | {name}
        known = {member.name: self._possible(member) for member in self._members if member.name not in unsound}
        possible = [members for configurations in known.values() for members in configurations]
        # A member that has yet to learn who the others are is about to be counted.
        is_joining = any(not known.get(other, [{}]) for members in possible for other in members)
        return (
            bool(possible)
            and not is_joining
            and all(
                len(self._invariants.sound_voters(members, unsound)) > _voters(members) // 2 for members in possible
            )
        )

    def is_settled(self, name: str) -> bool:
        """Whether a node is a voter as all know it: one that learns may become one with damage that nobody has met."""
        configurations = [members for member in self._members for members in self._possible(member)]
        return all(name in members and members[name].is_voter for members in configurations)

    def _possible(self, member: Member) -> list[Members]:
        """The configurations that a node goes by or may go back to."""
        life = member.life
        if life is not None and life.is_open:
            return life.raft.configurations
        return self._invariants.configurations_at_end.get(member.name, [])

    def change(self, rng: random.Random) -> None:
        """Add a node that is no member, or remove one that is; now and then both at once, of which one is refused."""
        self._change(rng)
        if rng.random() < 0.3:
            self._change(rng)

    def _change(self, rng: random.Random) -> None:
        leader = leader_of(self._members)
        if leader is None or leader.life is None or not leader.life.raft.is_ready:
            return
        life = leader.life
        present = life.raft.members
        # A program that is too old would stop at the first entry of those that the others have agreed on meanwhile.
        absent = [
            member for member in self._members if member.name not in present and member.release == NEXT_COMMAND_VERSION
        ]
        leavers = [name for name in present if self.may_lose(name)] if _voters(present) > self._founders else []
        if leavers and (not absent or rng.random() < 0.6):
            name = rng.choice(leavers)
            life.loop.deliver(lambda: life.loop.create_task(self._remove(life, name, rng.uniform(*RETIRES_S))))
        elif absent:
            newcomer = rng.choice(absent)
            newcomer.is_spare = False
            newcomer.start()
            life.loop.deliver(lambda: life.loop.create_task(self._add(life, newcomer.name)))

    async def _add(self, life: Life, name: str) -> None:
        try:
            await life.raft.add_member(name, peer=f"{name}:1", client=f"{name}:2")
            self.added += 1
        except (RaftError, StorageError):
            return  # Another change is under way, the leadership was lost, there is no room: as for an operator.

    async def _remove(self, life: Life, name: str, retires_s: float) -> None:
        try:
            await life.raft.remove_member(name)
        except (RaftError, StorageError):
            return
        self.removed += 1
        self._schedule.after(retires_s, self._retire, name)

    def _retire(self, name: str) -> None:
        """The operator switches a removed node off, unless it was added again meanwhile."""
        leader = leader_of(self._members)
        if leader is None or leader.life is None:
            self._schedule.after(1.0, self._retire, name)
        elif name not in leader.life.raft.members and leader.life.raft.is_ready:
            member = next(member for member in self._members if member.name == name)
            member.wipe()
            member.is_spare, member.release = True, NEXT_COMMAND_VERSION


def _voters(members: Members) -> int:
    return len([member for member in members.values() if member.is_voter])
