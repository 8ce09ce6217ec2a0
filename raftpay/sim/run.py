"""One run of the simulator: a cluster, clients and faults, all drawn from one seed, and the verdict on what happened.

The order of a run: the nodes start, clients work, faults strike. After FAULTS_MIN_S, when the clients have finished, or
after FAULTS_MAX_S, the faults end; then everything asked must be answered and one more write succeed within RECOVERY_S
(liveness). At last the nodes are compared and the history is audited. Called by search.py and `raftpay sim`.
"""

import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from raftpay.raft.determinism import clock_replaced
from raftpay.sim import scrubs
from raftpay.sim.churn import Churn
from raftpay.sim.counts import Counts
from raftpay.sim.faults import KINDS, Fault, Faults, plan
from raftpay.sim.history import History
from raftpay.sim.invariants import Invariants
from raftpay.sim.loop import Schedule
from raftpay.sim.member import Member, World, leader_of
from raftpay.sim.network import Network
from raftpay.sim.settings import Settings
from raftpay.sim.talk import Talk
from raftpay.sim.trace import Trace, ViolationError
from raftpay.sim.workload import Workload

FIRST_FAULT_S: Final = 0.2
# Faults strike for so long at least; longer, up to the second number, if not everything is answered by then.
FAULTS_MIN_S: Final = 10.0
FAULTS_MAX_S: Final = 14.0
# After the last fault: dials that wait for an answer (3 s), connections that the kernel gives up (5 s), elections.
RECOVERY_S: Final = 12.0
# After that: two passes of the slowest scrub.
MENDED_S: Final = 10.0
LAST_EVENTS: Final = 60
# A failing run is tried with so few, the fewest first.
SHORTER_REQUESTS: Final = (50, 200, 800)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run. only: the numbers of the planned faults to bring, all of them if None."""

    seed: int
    nodes: int = 3
    requests: int = 2000
    kinds: tuple[str, ...] = tuple(KINDS)
    only: tuple[int, ...] | None = None

    def command(self) -> str:
        """The command that replays the run."""
        parts = [f"raftpay sim --seed {self.seed} --nodes {self.nodes} --requests {self.requests}"]
        if self.kinds != tuple(KINDS):
            parts.append(f"--faults {','.join(self.kinds) or 'none'}")
        if self.only is not None:
            parts.append(f"--only {','.join(map(str, self.only)) or 'none'}")
        return " ".join(parts)


@dataclass(slots=True)
class Outcome:
    """What a run came to. violation: the property that was broken and how, "" if none was."""

    plan: Plan
    violation: str = ""
    what: str = ""
    trace_digest: str = ""
    simulated_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    recovery_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_events: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many requests were."""
        return self.counts.answered


class Simulation:
    """Everything of one run."""

    def __init__(self, run: Plan, on_line: Callable[[str], None] | None = None) -> None:
        self.plan = run
        rng = random.Random(run.seed)
        self.schedule = Schedule()
        self.trace = Trace(lambda: self.schedule.now_s, on_line)
        self.network = Network(self.schedule, random.Random(rng.getrandbits(64)), self.trace)
        names = [f"n{number}" for number in range(1, run.nodes + 1)]
        self.invariants = Invariants(self.trace)
        self._rng = random.Random(rng.getrandbits(64))
        settings = Settings.draw(self._rng, scrubs.draw(run.seed))
        world = World(
            self.schedule, self.network, self.invariants, Talk(self.trace), self._rng, names, settings, self._ended
        )
        self.members = [Member(world, name, rng.getrandbits(64)) for name in names]
        if "membership" in run.kinds:
            self.members.append(Member(world, f"n{run.nodes + 1}", rng.getrandbits(64), is_spare=True))
        self.history = History(self.trace, settings.window)
        workload_rng = random.Random(rng.getrandbits(64))
        self.workload = Workload(
            self.schedule, workload_rng, self.members, self.history, requests=run.requests, spread_s=FAULTS_MIN_S
        )
        self._fault_rng = random.Random(rng.getrandbits(64))
        churn = Churn(self.schedule, self.members, self.invariants, run.nodes)
        self.faults = Faults(self.schedule, self.network, self.members, self.trace, churn=churn, on_restart=self._start)
        if "clock" in run.kinds:
            for member in self.members:
                member.clock_drift = 0.03
                member.wall_offset_ns = int(self._rng.uniform(-1e9, 1e9))
        self.planned = plan(self._fault_rng, run.kinds, first_s=FIRST_FAULT_S, last_s=FAULTS_MAX_S)
        if run.only is not None:
            self.planned = [fault for fault in self.planned if fault.number in run.only]

    def run(self) -> None:
        """Run it through. Raises ViolationError."""
        for member in self.members:
            member.start()
        self.workload.start()
        self.faults.start(self.planned)
        self._pass_time(FAULTS_MIN_S, lambda: False)
        self._pass_time(FAULTS_MAX_S, lambda: self.workload.is_done)
        self.workload.close()
        self._recover()
        self._compare()

    def counted(self) -> Counts:
        """What happened so far."""
        counts = self.invariants.counts
        counts.answered, counts.commands = self.workload.answered, len(self.invariants.committed)
        counts.starts = sum(member.starts for member in self.members)
        counts.restarts = counts.starts - sum(member.starts > 0 for member in self.members)
        return counts

    def close(self) -> None:
        """Leave no task of a node behind."""
        for member in self.members:
            if member.life is not None:
                member.life.loop.die()
        self.schedule.enter(None)

    def _pass_time(self, end_s: float, is_over: Callable[[], bool]) -> None:
        self.schedule.run_until(end_s, lambda: self.trace.violation is not None or is_over())
        if self.trace.violation is not None:
            raise self.trace.violation

    # ---- processes are started again

    def _ended(self, name: str, may_start: bool) -> None:
        if may_start and not self.faults.is_held_down(name):
            self.schedule.after(self._rng.uniform(0.05, 0.5), self._start, name)

    def _start(self, name: str) -> None:
        if not self.faults.is_held_down(name):
            self._member(name).start()

    def _member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    # ---- the end

    def _recover(self) -> None:
        """Liveness: once the faults have ended, all is answered, all catch up, and a new write is."""
        self.faults.stop()
        self.stopped_s = self.schedule.now_s
        end_s = self.stopped_s + RECOVERY_S
        self._pass_time(end_s, lambda: self.workload.is_done)
        answered = self.workload.answered
        if self.workload.is_done:
            self.workload.one_more()
            self._pass_time(end_s, lambda: self.workload.answered > answered and self._is_level())
        if not (self.workload.is_done and self.workload.answered > answered and self._is_level()):
            states = [
                f"{member.name}: {member.role}, term {life.raft.term}, commit {life.raft.commit_index} of "
                f"{life.raft.last_index}, leader {life.raft.leader}"
                if (life := member.life) is not None and life.is_open
                else f"{member.name}: down"
                for member in self.members
            ]
            raise self.trace.violated(
                "liveness", f"{RECOVERY_S} s after the last fault: {'; '.join(states)}; answered {answered}"
            )
        self.recovered_s = self.schedule.now_s
        # A sweep of expiries may be committed meanwhile: the books are compared when all have applied that, too.
        self._pass_time(self.recovered_s + MENDED_S, lambda: not self._unmended() and self._is_level())
        if unmended := self._unmended():
            raise self.trace.violated("what is damaged is put right", f"{MENDED_S} s later: {'; '.join(unmended)}")
        if not self._is_level():
            raise self.trace.violated("liveness", f"{MENDED_S} s after they were level some have not applied all")

    def _unmended(self) -> list[str]:
        """What scrubbing has still to put right."""
        lives = [(member.name, member.life) for member in self.members if member.is_scrubbed]
        return [
            f"{name}: {', '.join(damaged)}"
            for name, life in lives
            if life is not None and life.is_open and (damaged := life.scrubbing.unmended())
        ]

    def _is_level(self) -> bool:
        """All members whose disk is whole have applied all that is committed, and vote."""
        return all(
            member.is_corrupt
            or (
                member.life is not None
                and member.life.is_open
                and member.life.raft.applied_index == self.invariants.commit_max
                and member.life.raft.is_voter
            )
            for member in self._present()
        )

    def _present(self) -> list[Member]:
        """The members, as the leader has it."""
        leader = leader_of(self.members)
        present = leader.life.raft.members if leader is not None and leader.life is not None else {}
        return [member for member in self.members if member.name in present or not present]

    def _compare(self) -> None:
        """The books of all nodes are those that follow from the log."""
        ledger = self.history.audit(self.invariants.committed, self.invariants.restored_digests)
        expected = ledger.state_digest()
        for member in self._present():
            if member.life is not None and member.life.ledger.state_digest() != expected:
                raise self.trace.violated("digests are equal", f"{member.name} has other books than the log gives")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without log lines, and without the collector of circles: it takes a fifth of a run, and finds little before its
    end.
    """
    disabled, is_collecting = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        logging.disable(disabled)
        if is_collecting:
            gc.enable()


def simulate(run: Plan, on_line: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed. Never raises for what it finds: that is in the outcome."""
    outcome = Outcome(run)
    simulation = Simulation(run, on_line)
    try:
        with clock_replaced(simulation.schedule.engine_clock), _undisturbed():
            simulation.run()
    except ViolationError as error:
        outcome.violation, outcome.what = error.name, error.what
    except Exception as error:  # noqa: BLE001  whatever the code under test raises is a finding
        outcome.violation, outcome.what = "no exception", repr(error)
    finally:
        simulation.close()
    outcome.counts = simulation.counted()
    outcome.trace_digest = simulation.trace.digest()
    outcome.simulated_s = simulation.schedule.now_s
    ended_s = getattr(simulation, "recovered_s", simulation.schedule.now_s)
    outcome.recovery_s = ended_s - getattr(simulation, "stopped_s", ended_s)
    outcome.faults, outcome.coverage = simulation.planned, simulation.faults.coverage
    if outcome.violation:
        outcome.last_events = list(simulation.trace.last_lines(LAST_EVENTS))
    return outcome


def shrink(failed: Outcome, *, runs_max: int = 120) -> Outcome:
    """The same failure with fewer requests and faults: leave out halves of these, then one by one, as long as the
    property stays broken.
    """
    best, runs = failed, 0
    for requests in SHORTER_REQUESTS:
        if best is failed and requests < failed.plan.requests:
            runs += 1
            tried = simulate(replace(failed.plan, requests=requests))
            best = tried if tried.violation == failed.violation else best
    numbers = [fault.number for fault in best.faults]
    size = max(1, len(numbers) // 2)
    while runs < runs_max:
        place, is_smaller = 0, False
        while place < len(numbers) and runs < runs_max:
            fewer = numbers[:place] + numbers[place + size :]
            tried = simulate(replace(best.plan, only=tuple(fewer)))
            runs += 1
            if tried.violation == failed.violation:
                best, numbers, is_smaller = tried, fewer, True
            else:
                place += size
        if size == 1 and not is_smaller:
            break
        size = max(1, size // 2)
    return best


def check_kinds(names: Sequence[str]) -> tuple[str, ...]:
    """The kinds of that name, in the order of KINDS; "all" and "none" stand for themselves. Raises ValueError."""
    if list(names) == ["none"]:
        return ()
    if list(names) in (["all"], []):
        return tuple(KINDS)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"there is no fault called {unknown[0]!r}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)
