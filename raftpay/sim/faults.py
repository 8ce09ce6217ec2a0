"""The faults: a plan drawn from the seed, and what each kind does to the cluster.

A plan is a list, so that a failing run can be shortened by leaving faults out. Whom a fault hits (the leader, a
follower, anybody) is decided when it strikes, and counted by the role of the node it hit. Called by run.py.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from raftpay.sim import disk_faults
from raftpay.sim.churn import Churn
from raftpay.sim.loop import Schedule
from raftpay.sim.member import NEXT_COMMAND_VERSION, SYNC_S, Life, Member, leader_of
from raftpay.sim.network import DELAYS_S, Network
from raftpay.sim.trace import Trace
from raftpay.sim.watched import ACTS, FETCH, FETCHED, PROPOSE
from raftpay.storage.sim_disk import PLENTY_BYTES

KINDS: Final = {
    "kill": "a process is killed (SIGKILL)",
    "torn": "a process is killed, or loses power, in the middle of a write or fsync",
    "power": "a machine loses power: any subset of its unsynced sectors and names is lost",
    "blackout": "all machines lose power, or are restarted, at once",
    "pause": "a process is stopped for a while (SIGSTOP)",
    "stall": "a process is held up between two readings of its clock",
    "partition": "no packet between one part of the cluster and the rest",
    "oneway": "no packet from one node to another; the other direction works",
    "exile": "a leader is cut off with less than a majority, goes on taking requests, and comes back",
    "loss": "connections break; a first part of what was on its way arrives",
    "delay": "packets take up to 1.5 s, everywhere or one way",
    "slow": "fsyncs take up to 300 ms; those of the hard state hold the loop up",
    "full": "a disk has no room",
    "rot": "a bit of a killed node's files flips",
    "unreadable": "sectors of a node's files cannot be read",
    "misdirect": "a write lands at another place of its file, in another file, or nowhere",
    "clock": "a wall clock jumps, up to a year",
    "transfer": "the leader hands the leadership over",
    "wipe": "a node is killed and comes back with an empty disk",
    "membership": "a node is added, or one is removed and switched off",
    "upgrade": "a node is killed and comes back with the next release",
}
ROLES: Final = ("leader", "follower", "candidate", "down")
# Of a process that does not run there is nothing to pause, to stall, to misdirect or to hand over.
IMPOSSIBLE: Final = {(kind, "down") for kind in ("pause", "stall", "misdirect", "transfer")}
# The mean time between two faults of a storm.
PAUSE_S: Final = 0.45
# An exile lasts until another leads, and has entries that conflict with the old leader's.
EXILE_S: Final = (0.5, 2.5)
# Whoever comes back asks for a snapshot within so long, or does not need one.
FETCH_S_MAX: Final = 1.5
# How long a follower is kept away until the leader has no more of the log that it lacks.
BEHIND_S_MAX: Final = 4.0
# How often is looked whether it has come so far.
LOOK_S: Final = 0.1
# How often is looked whether another leads.
RECALL_S: Final = 0.02
RECALLED_S_MAX: Final = 4.0
# Of the last one, which strikes when the clients have finished: no load and no other fault then hides what it leaves.
AT_THE_END_S: Final = float("inf")
LAST_KINDS: Final = ("kill", "power", "blackout", "wipe", "wipe")
# Faults come in storms, and most runs have lulls between them, in which all of them are over: a cluster that never gets
# to its feet has nothing to lose.
STORM_S: Final = (0.8, 3.0)
LULL_S: Final = (0.5, 2.0)
# In so many runs only some of the kinds are drawn, which then strike often and meet each other ("swarm testing").
SWARMS: Final = 0.4
SWARM_KINDS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """number: its place in the plan. whom: "leader", "follower" or "any". seed: of whatever it draws itself."""

    number: int
    at_s: float
    kind: str
    whom: str
    lasts_s: float
    seed: int

    def __str__(self) -> str:
        when = "at the end" if self.at_s == AT_THE_END_S else f"at {self.at_s:.3f} s"
        return f"#{self.number} {when}: {self.kind} of {self.whom}, {self.lasts_s:.2f} s"


def plan(rng: random.Random, kinds: Sequence[str], *, first_s: float, last_s: float) -> list[Fault]:
    """Faults of these kinds over that time, in order. A run has its own mix and its own pace."""
    if len(kinds) > SWARM_KINDS_MAX and rng.random() < SWARMS:
        swarm = rng.sample(kinds, rng.randint(1, SWARM_KINDS_MAX))
        kinds = [kind for kind in kinds if kind in swarm]
    weights = [rng.choice([0.2, 1.0, 1.0, 3.0]) for _ in kinds]
    pause_s = PAUSE_S * rng.choice([0.5, 1.0, 2.0])
    has_lulls = rng.random() < 0.9
    storm_end_s = first_s + rng.uniform(*STORM_S) if has_lulls else last_s
    faults: list[Fault] = []
    at_s = first_s
    while kinds and (at_s := at_s + rng.expovariate(1 / pause_s)) < last_s:
        if at_s >= storm_end_s:
            at_s = storm_end_s + rng.uniform(*LULL_S)
            storm_end_s = at_s + rng.uniform(*STORM_S)
        kind = rng.choices(kinds, weights)[0]
        whom = rng.choice(["leader", "leader", "follower", "any"])
        lasts_s = rng.choice([rng.uniform(0.02, 0.3), rng.uniform(0.2, 2.0), rng.uniform(1.0, 7.0)])
        if has_lulls:
            lasts_s = min(lasts_s, storm_end_s - at_s)
        if kind == "exile":
            lasts_s = rng.uniform(*EXILE_S)
            storm_end_s = max(storm_end_s, at_s + lasts_s)
        faults.append(Fault(len(faults), at_s, kind, whom, lasts_s, rng.getrandbits(48)))
    last = rng.choice([*LAST_KINDS, ""])
    if last in kinds:
        whom = rng.choice(["leader", "follower", "follower"])
        faults.append(Fault(len(faults), AT_THE_END_S, last, whom, 0.0, rng.getrandbits(48)))
    return faults


class Faults:
    """Carries a plan out. coverage: (kind, role of the node hit) to how often; what did nothing is not counted."""

    def __init__(
        self,
        schedule: Schedule,
        network: Network,
        members: list[Member],
        trace: Trace,
        *,
        churn: Churn,
        on_restart: Callable[[str], None],
    ) -> None:
        self._schedule, self._network, self._members, self._trace = schedule, network, members, trace
        self._churn = churn
        self._on_restart = on_restart
        self.coverage: Counter[tuple[str, str]] = Counter()
        # What ends the faults under way, by a number; at the end of the run all of it is called.
        self._endings: dict[int, Callable[[], None]] = {}
        self._is_over = False
        self._has_missed = False
        self._last: list[Fault] = []
        # Who has to live on at the end, because its memory has what no disk has any more.
        self._spared: Member | None = None

    def start(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if fault.at_s == AT_THE_END_S:
                self._last.append(fault)
            else:
                self._schedule.at(fault.at_s, self._strike, fault)

    def stop(self) -> None:
        """Bring the last, and end all that is under way: links work, disks have room, processes run."""
        for fault in self._last:
            self._strike(fault)
        self._is_over = True
        for member in self._members:
            member.ambushes.clear()
        for number in list(self._endings):
            self._end(number)

    def _strike(self, fault: Fault) -> None:
        if self._is_over:
            return
        rng = random.Random(fault.seed)
        member = self._victim(fault, rng)
        role, self._has_missed = member.role, False
        self._trace.note("fault", fault, member.name, role)
        act: Callable[[Fault, Member, random.Random], Callable[[], None] | None] = getattr(self, f"_{fault.kind}")
        ending = act(fault, member, rng)
        if not self._has_missed:
            self.coverage[fault.kind, role] += 1
        if ending is not None:
            self._endings[fault.number] = ending
            self._schedule.after(fault.lasts_s, self._end, fault.number)

    def _miss(self) -> Callable[[], None] | None:
        """This fault does nothing: its victim is down, or has to keep its disk."""
        self._has_missed = True
        return None

    def _end(self, number: int) -> None:
        ending = self._endings.pop(number, None)
        if ending is not None:
            self._trace.note("fault over", f"#{number}")
            ending()

    def _victim(self, fault: Fault, rng: random.Random) -> Member:
        leader = leader_of(self._members)
        if (fault.whom == "leader" or fault.kind == "exile") and leader is not None:
            return leader
        others = [member for member in self._members if member is not leader or fault.whom == "any"]
        running = [member for member in others if member.role != "down"]
        # Mostly somebody who feels it.
        return rng.choice(running if running and rng.random() < 0.8 else others)

    def is_held_down(self, name: str) -> bool:
        """Whether a fault keeps this node from being started again."""
        return any(name in getattr(ending, "holds", ()) for ending in self._endings.values())

    # ---- processes; what is killed is started again after the fault's time

    def _down(self, names: list[str]) -> "_Restart":
        return _Restart(names, self._on_restart)

    def _kill(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """At once, or when somebody next fetches a snapshot, or has it: then those who do not are killed."""
        if fault.at_s != AT_THE_END_S and rng.random() < 0.25:
            act, after_s = rng.choice([FETCH, FETCHED]), rng.uniform(0.0, 0.02)
            for other in self._members:
                other.ambushes[act] = partial(
                    self._schedule.after, after_s, self._kill_others, other, rng.random() < 0.5
                )
            return None
        return self._end_life(fault, member)

    def _end_life(self, fault: Fault, member: Member) -> Callable[[], None]:
        ending = self._down([member.name])
        self._hold(fault, ending)
        member.end(why="killed")
        return ending

    def _kill_others(self, member: Member, are_all: bool) -> None:
        leader = leader_of(self._members)
        if self._is_over or leader is None or leader is member:
            return
        others = [other for other in self._members if other is not member] if are_all else [leader]
        # So that the one who has the snapshot may be chosen again.
        others.sort(key=lambda other: other is not leader)
        for other in others:
            other.end(why="killed, a snapshot was being fetched")

    def _power(self, _fault: Fault, member: Member, _rng: random.Random) -> Callable[[], None]:
        ending = self._down([member.name])
        self._hold(_fault, ending)
        member.end(why="power lost", is_power_lost=True)
        return ending

    def _blackout(self, _fault: Fault, _member: Member, rng: random.Random) -> Callable[[], None]:
        is_power_lost = rng.random() < 0.6
        ending = self._down([member.name for member in self._members])
        self._hold(_fault, ending)
        for member in self._members:
            member.end(why="blackout", is_power_lost=is_power_lost)
        return ending

    def _hold(self, fault: Fault, ending: Callable[[], None]) -> None:
        """Before the node ends, so that nobody starts it at once."""
        self._endings[fault.number] = ending

    def _torn(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """At once, or within what takes several steps and is rare: when the node, or any node, next begins it."""
        act, is_power_lost = rng.choice([None, None, *ACTS]), rng.random() < 0.6
        after = rng.randint(0, ACTS[act or "start"])
        if act is None:
            member.cut_soon(after, is_power_lost=is_power_lost)
            return None
        if act != "start":
            for other in self._members:
                other.ambushes[act] = partial(other.cut_soon, after, is_power_lost=is_power_lost)
            return None
        member.ambushes[act] = partial(member.cut_soon, after, is_power_lost=is_power_lost)
        ending = self._down([member.name])
        self._hold(fault, ending)
        member.end(why="killed, to end again within its next start")
        return ending

    def _pause(self, _fault: Fault, member: Member, _rng: random.Random) -> Callable[[], None] | None:
        life = member.life
        if life is None:
            return self._miss()
        life.loop.pause()
        return life.loop.resume

    def _stall(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        if member.life is None:
            return self._miss()
        loop, lasts_s = member.life.loop, min(fault.lasts_s, 2.0)
        if rng.random() < 0.5:
            loop.stall(rng.randint(1, 200), lasts_s)
        else:
            member.ambushes[PROPOSE] = partial(loop.stall, rng.randint(1, 3), lasts_s)
        return None

    # ---- network

    def _partition(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None]:
        names = [other.name for other in self._members]
        side = {member.name}
        if rng.random() < 0.3:
            side |= set(rng.sample(names, len(names) // 2))
        ways = [(a, b) for a in names for b in names if a != b and (a in side) != (b in side)]
        return self._block(ways)

    def _oneway(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None]:
        others = [other.name for other in self._members if other is not member]
        ways = [(member.name, other) for other in rng.sample(others, rng.randint(1, len(others)))]
        return self._block(ways if rng.random() < 0.5 else [way[::-1] for way in ways])

    def _exile(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """Nobody follows it but less than half; what these tell it may wait longer. It may be killed as it returns."""
        others = [other.name for other in self._members if other is not member]
        side = [member.name, *rng.sample(others, rng.randint(0, max(0, (len(others) - 1) // 2)))]
        unblock = self._block([way for a in side for b in others if b not in side for way in ((a, b), (b, a))])
        is_recalled = len(side) > 1 and rng.random() < 0.4
        late = self._block([(name, member.name) for name in side[1:]] if is_recalled or rng.random() < 0.5 else [])
        if is_recalled:
            self._schedule.after(RECALL_S, self._recall, fault, member)
            self._endings[fault.number], self._endings[-1 - fault.number] = unblock, late
            self._schedule.after(RECALLED_S_MAX, self._end, fault.number)
            self._schedule.after(RECALLED_S_MAX, self._end, -1 - fault.number)
            return None
        if rng.random() < 0.4:
            member.slow_disk((0.05, 0.3))
        is_killed, life = rng.random() < 0.4, member.life

        def end() -> None:
            if is_killed and member.life is life and member is not self._spared:
                member.end(why="killed, back from its exile", is_power_lost=rng.random() < 0.3)
            unblock()
            member.slow_disk(SYNC_S)
            if self._is_over:
                late()
            else:
                self._endings[-1 - fault.number] = late
                self._schedule.after(rng.uniform(0.5, 2.0), self._end, -1 - fault.number)

        return end

    def _recall(self, fault: Fault, member: Member) -> None:
        """As soon as another leads it comes back, and that one hands over to it: what it was told when it led before
        arrives when it leads again, with another log.
        """
        leader = leader_of(self._members)
        if self._is_over or -1 - fault.number not in self._endings:
            return
        if leader is not None and leader is not member:
            self._end(fault.number)
            leader.hand_over(member.name)
        elif leader is member and fault.number not in self._endings:
            self._end(-1 - fault.number)
        self._schedule.after(RECALL_S, self._recall, fault, member)

    def _block(self, ways: list[tuple[str, str]]) -> Callable[[], None]:
        for way in ways:
            self._network.block(*way)

        def unblock() -> None:
            for way in ways:
                self._network.unblock(*way)

        return unblock

    def _loss(self, fault: Fault, member: Member, rng: random.Random) -> None:
        others = [other.name for other in self._members if other is not member]
        for _ in range(rng.choice([1, 1, 3, 8])):
            other = rng.choice(others)
            way = (member.name, other) if rng.random() < 0.5 else (other, member.name)
            self._schedule.after(rng.uniform(0, fault.lasts_s), self._network.cut, *way)

    def _delay(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None]:
        delays_s = rng.choice([(0.001, 0.01), (0.01, 0.08), (0.001, 0.3), (0.5, 1.5)])
        network = self._network
        if rng.random() < 0.4:
            network.delays_s = delays_s
            return lambda: setattr(network, "delays_s", DELAYS_S)
        other = rng.choice([other.name for other in self._members if other is not member])
        way = (member.name, other) if rng.random() < 0.5 else (other, member.name)
        network.slow_ways[way] = delays_s
        return lambda: network.slow_ways.pop(way, None) and None

    # ---- disks

    def _slow(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None]:
        """At once, or when the node, or any node, next begins a snapshot, which the log is compacted behind."""
        high = rng.choice([0.02, 0.1, 0.3])
        if rng.random() < 0.5:
            member.slow_disk((high / 4, high))
            return lambda: member.slow_disk(SYNC_S)
        ambushes = {other: partial(other.slow_disk, (high, 2 * high)) for other in self._members}
        for other, ambush in ambushes.items():
            other.ambushes["snapshot"] = ambush

        def end() -> None:
            for other, ambush in ambushes.items():
                if other.ambushes.get("snapshot") is ambush:
                    del other.ambushes["snapshot"]
                other.slow_disk(SYNC_S)

        return end

    def _full(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None]:
        """Now and then the leader ends just then, so that there is an election."""
        disk = member.disk
        disk.capacity_bytes = PLENTY_BYTES
        disk.capacity_bytes = PLENTY_BYTES - disk.free_bytes() + rng.choice([-20_000, 0, 3000, 40_000])
        leader = leader_of(self._members)
        if leader is not None and leader is not member and rng.random() < 0.4:
            # Whoever stands now, or votes, has no room for its term.
            self._schedule.after(
                rng.uniform(0.0, 0.2), self._end_if_same, leader, leader.life, "killed, a disk is full"
            )

        def relieve() -> None:
            disk.capacity_bytes = PLENTY_BYTES

        return relieve

    def _end_if_same(self, member: Member, life: Life | None, why: str) -> None:
        if not self._is_over and member.life is life:
            member.end(why=why)

    def _rot(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """A bit flips while the process is down. What that damages is found; the node then stays down."""
        aim = rng.random()
        if aim < 0.25:
            return self._rot_what_is_given(fault, rng)
        if aim < 0.45:
            return self._rot_what_is_lacked(fault, rng)
        if not self._may_damage(member):
            return self._miss()
        if member.life is not None and rng.random() < (0.8 if member.is_scrubbed else 0.4):
            return self._rot_alive(member, rng)
        ending = self._end_life(fault, member)
        member.is_damaged = True
        disk_faults.flip_bit(member, rng)
        return ending

    def _rot_alive(self, member: Member, rng: random.Random) -> Callable[[], None]:
        """Found where the node reads it again, or when it starts, which it may not have to if its disk is scrubbed."""
        member.is_damaged = member.is_astray = True
        disk_faults.flip_bit(member, rng)
        life = member.life

        def end() -> None:
            if member.life is life and not disk_faults.runs_on(member, rng):
                member.end(why="killed, a bit of its disk has flipped")

        return end

    def _rot_what_is_given(self, fault: Fault, rng: random.Random) -> Callable[[], None] | None:
        """A follower is killed and falls behind; the leader's snapshot, or a file of it, rots when it asks for that."""
        leader, followers = leader_of(self._members), [other for other in self._members if other.role == "follower"]
        if leader is None or not followers or leader.is_threatened or not self._may_damage(leader):
            return self._miss()
        asker, life, disk = rng.choice(followers), leader.life, leader.disk
        assert asker.life is not None
        assert life is not None
        had = asker.life.journal.last_index
        leader.is_threatened = is_armed = True

        def relieve() -> None:
            nonlocal is_armed
            if is_armed and leader.disk is disk:
                leader.is_threatened = False
            is_armed = False

        def strike() -> None:
            is_due = is_armed and not self._is_over and leader.life is life
            relieve()
            if is_due:
                disk_faults.flip_bit_of_snapshot(leader, rng, asker)

        def look() -> None:
            if fault.number not in self._endings:
                self._schedule.after(FETCH_S_MAX, relieve)
            elif leader.life is not life or life.journal.first_index > had + 1:
                self._end(fault.number)
                look()
            else:
                self._schedule.after(LOOK_S, look)

        asker.ambushes[FETCH] = strike
        self._hold(fault, self._down([asker.name]))
        asker.end(why="killed, what it will ask for will rot")
        self._schedule.after(BEHIND_S_MAX, self._end, fault.number)
        look()
        return None

    def _rot_what_is_lacked(self, fault: Fault, rng: random.Random) -> Callable[[], None] | None:
        """A follower is killed, and what it lacks when it comes back rots on the leader's disk."""
        leader = leader_of(self._members)
        followers = [other for other in self._members if other.role == "follower"]
        if leader is None or not followers or not self._may_damage(leader):
            return self._miss()
        follower, life = rng.choice(followers), leader.life

        def restart(name: str) -> None:
            is_in_time = not self._is_over and leader.life is life and self._may_damage(leader)
            if is_in_time and disk_faults.flip_bit_of_entry(leader, name, rng):
                leader.is_damaged = leader.is_astray = True
            self._on_restart(name)

        self._hold(fault, _Restart([follower.name], restart))
        follower.end(why="killed, what it lacks will rot")
        self._schedule.after(rng.uniform(0.05, 0.5), self._end, fault.number)
        return None

    def _unreadable(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """Found at once where the node reads, or by its scrub, or when it starts again."""
        if not self._may_damage(member):
            return self._miss()
        member.is_damaged = True
        disk_faults.fail_sectors(member, rng, self._trace)
        is_killed = rng.random() < 0.5 and not disk_faults.runs_on(member, rng)
        return self._end_life(fault, member) if is_killed else None

    def _misdirect(self, _fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """Found at once where the node reads what it writes, or when it starts again, as in `_rot_alive`."""
        if member.life is None or member.is_threatened or member.is_astray or not self._may_damage(member):
            return self._miss()
        member.is_threatened = True

        def landed() -> None:
            member.is_astray = member.is_damaged = True
            member.astray_start = member.starts

        def end() -> None:
            member.disk.misdirect(0, None)
            member.is_threatened = False
            if member.is_astray and not disk_faults.runs_on(member, rng):
                member.end(why="killed, a write went astray")

        if rng.random() < 0.3:
            disk_faults.misdirect_newest(member, rng, self._trace)
        else:
            disk_faults.misdirect(member, rng, self._trace, landed)
        return end

    def _may_damage(self, member: Member) -> bool:
        """Whether this node's disk may be damaged, with those that are damaged already."""
        if member.is_spare or not self._churn.is_settled(member.name):
            return False
        return member.is_damaged or self._churn.may_lose(member.name)

    # ---- clocks and leadership

    def _clock(self, _fault: Fault, member: Member, rng: random.Random) -> None:
        size_s = rng.choice([0.001, 0.1, 5.0, 3600.0, 86_400.0 * 365])
        member.wall_offset_ns += int(rng.uniform(-size_s, size_s) * 1e9)

    def _transfer(self, _fault: Fault, member: Member, _rng: random.Random) -> Callable[[], None] | None:
        return None if member.hand_over() else self._miss()

    # ---- members

    def _wipe(self, fault: Fault, member: Member, rng: random.Random) -> Callable[[], None] | None:
        """Somebody puts an empty disk in, where that loses nothing; mostly in the place of a damaged one."""
        corrupt = [other for other in self._members if other.is_corrupt]
        if corrupt and rng.random() < 0.7:
            member = rng.choice(corrupt)
        if member.is_spare or not (member.is_corrupt or self._churn.may_lose(member.name)):
            return self._miss()
        ending = self._down([member.name])
        self._hold(fault, ending)
        leader = leader_of(self._members)
        member.wipe()
        if fault.at_s == AT_THE_END_S and leader is not None and leader is not member and rng.random() < 0.3:
            # No more snapshots are made by themselves, and the leader, which has it all in memory, lives on.
            leader.disk.interrupt(0, None)
            leader.ambushes.clear()
            self._spared = leader
            disk_faults.flip_bit_of_snapshot(leader, rng)
        return ending

    def _upgrade(self, fault: Fault, member: Member, _rng: random.Random) -> Callable[[], None]:
        """Its program knows a version of commands that those of the others do not know yet."""
        ending = self._down([member.name])
        self._hold(fault, ending)
        member.end(why="killed, its release is replaced")
        member.release = NEXT_COMMAND_VERSION
        return ending

    def _membership(self, _fault: Fault, _member: Member, rng: random.Random) -> Callable[[], None] | None:
        """Now and then the leader is cut off with it, so that the change is undone when it comes back."""
        self._churn.change(rng)
        leader = leader_of(self._members)
        if leader is None or rng.random() < 0.6:
            return None
        others = [other.name for other in self._members if other is not leader]
        near = set(rng.sample(others, rng.randint(0, max(0, (len(others) - 1) // 2))))
        ways = [way for name in others if name not in near for way in ((leader.name, name), (name, leader.name))]
        return self._block(ways)


class _Restart:
    """Ends a fault that took nodes down. holds: whom it keeps down until then."""

    def __init__(self, names: list[str], on_restart: Callable[[str], None]) -> None:
        self.holds = tuple(names)
        self._on_restart = on_restart

    def __call__(self) -> None:
        for name in self.holds:
            self._on_restart(name)
