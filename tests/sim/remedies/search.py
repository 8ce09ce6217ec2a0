"""Seeds against an engine without one of its remedies, until the first failure. Called by the command and its test."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from raftpay.sim.run import Plan, check_kinds, simulate
from tests.sim.remedies.edits import taken_out
from tests.sim.remedies.removal import Removal

# A run takes a second. One that takes so long does not end: what is without a remedy may spin.
RUN_CPU_S_MAX: Final = 20.0


class SpinError(BaseException):
    """A run does not end. No Exception: the code under test must not catch it."""


@dataclass(frozen=True, slots=True)
class Found:
    """seeds: run until the first failure, or in all. violation, what: of that failure; "" if there was none.

    whole_fails: how many of them the engine with all remedies fails too; these are passed over.
    """

    nodes: int
    seeds: int
    cpu_s: float
    violation: str = ""
    what: str = ""
    whole_fails: int = 0

    def describe(self) -> str:
        """What failed, in short; an exception of the code by its own name."""
        if self.violation in ("the engine runs on", "no exception"):
            return f"{self.violation}: {self.what.split('(')[0]}"
        return self.violation


def search(removal: Removal, *, nodes: int, first: int, seeds: int, requests: int = 2000) -> Found:
    """Run seeds from the first on without the remedy. Raises RemedyMovedError where it is not there to be taken out."""
    began_s, whole_fails = time.process_time(), 0
    kinds = check_kinds(removal.faults)
    for count, seed in enumerate(range(first, first + seeds), 1):
        plan = Plan(seed, nodes=nodes, requests=requests, kinds=kinds)
        with taken_out(removal.edits):
            violation, what = _run(plan)
        if violation and not _run(plan)[0]:
            return Found(nodes, count, time.process_time() - began_s, violation, what, whole_fails)
        whole_fails += bool(violation)
    return Found(nodes, seeds, time.process_time() - began_s, whole_fails=whole_fails)


def control(nodes: int, first: int, seeds: int, requests: int = 2000) -> Found:
    """The same seeds with all remedies in place."""
    began_s = time.process_time()
    failed = sum(bool(_run(Plan(seed, nodes=nodes, requests=requests))[0]) for seed in range(first, first + seeds))
    return Found(nodes, seeds, time.process_time() - began_s, whole_fails=failed)


def _run(plan: Plan) -> tuple[str, str]:
    try:
        with _bounded():
            outcome = simulate(plan)
    except SpinError as error:
        return "liveness: it spins", str(error)
    return outcome.violation, outcome.what


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SpinError(f"a run took more than {RUN_CPU_S_MAX} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, RUN_CPU_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
