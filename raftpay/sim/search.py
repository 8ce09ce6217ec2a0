"""Many seeds: one after the other in this process, or for a given time in plain child processes on all cores.

What is added up is a `Tally`; it travels from a child as one JSON document on its stdout. Called by `raftpay sim`; run
as `python -m raftpay.sim.search` it is such a child.
"""

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Final

import msgspec

from raftpay.sim.counts import Counts
from raftpay.sim.run import Outcome, Plan, simulate

FAILURES_KEPT: Final = 20


class Failure(msgspec.Struct):
    """A seed that failed. command: replays it."""

    seed: int
    violation: str
    what: str
    command: str


class Tally(msgspec.Struct):
    """What many runs came to.

    answered_min: of one run. fully_answered: runs in which everything that was asked was answered. faults: by kind and
    role of the node hit, "kill leader". cpu_s: of this process.
    """

    seeds: int = 0
    failed: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    counts: Counts = msgspec.field(default_factory=Counts)
    answered_min: int = sys.maxsize
    fully_answered: int = 0
    recovery_max_s: float = 0.0
    faults: dict[str, int] = {}
    failures: list[Failure] = []

    def add(self, outcome: Outcome) -> None:
        plan = outcome.plan
        hits = {f"{kind} {role}": hits for (kind, role), hits in outcome.coverage.items()}
        self.merge(
            Tally(
                seeds=1,
                failed=int(bool(outcome.violation)),
                simulated_s=outcome.simulated_s,
                counts=outcome.counts,
                answered_min=outcome.answered,
                fully_answered=int(outcome.answered >= plan.requests + 2),
                recovery_max_s=outcome.recovery_s,
                faults=hits,
                failures=[Failure(plan.seed, outcome.violation, outcome.what, plan.command())]
                if outcome.violation
                else [],
            )
        )

    def merge(self, other: "Tally") -> None:
        for name in ("seeds", "failed", "simulated_s", "cpu_s", "fully_answered"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts.add(other.counts)
        self.answered_min = min(self.answered_min, other.answered_min)
        self.recovery_max_s = max(self.recovery_max_s, other.recovery_max_s)
        self.faults = dict(Counter(self.faults) + Counter(other.faults))
        self.failures = (self.failures + other.failures)[:FAILURES_KEPT]

    @property
    def seeds_per_minute(self) -> float:
        """Of one core."""
        return 60 * self.seeds / self.cpu_s if self.cpu_s else 0.0


def search(
    seeds: Iterator[int], like: Plan, *, until_s: float = float("inf"), told: Callable[[Outcome], None]
) -> Tally:
    """Run these seeds one after the other, as long as `time.monotonic` is below until_s; told hears of each."""
    tally, began_s = Tally(), time.process_time()
    with _frozen():
        for seed in seeds:
            outcome = simulate(replace(like, seed=seed))
            tally.add(outcome)
            told(outcome)
            gc.collect()  # A run leaves thousands of circles, and is not collected while it lasts.
            if time.monotonic() >= until_s:
                break
    tally.cpu_s = time.process_time() - began_s
    return tally


def soak(like: Plan, *, seconds: float, jobs: int, told: Callable[[str], None]) -> Tally:
    """Run fresh seeds from like.seed on, on so many cores for so long. told hears the children's lines of progress."""
    children = []
    for place in range(jobs):
        command = [
            *(sys.executable, "-m", "raftpay.sim.search", str(like.seed + place), str(jobs), str(seconds)),
            msgspec.json.encode(like).decode(),
        ]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    tally = Tally()
    for child in children:
        out, _ = child.communicate()
        if child.returncode != 0:
            told(f"a child process ended with {child.returncode}")
            tally.failed += 1
            continue
        tally.merge(msgspec.json.decode(out, type=Tally))
    return tally


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def _frozen() -> Iterator[None]:
    """What is there before the first run is not looked through after each, nor a run by itself at its end, when all of
    it is still in use.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if is_collecting:
            gc.enable()


def main(arguments: Sequence[str]) -> None:
    """A child of `soak`: first seed, step, seconds, and the plan to run as JSON. Failures go to stderr as they come."""
    first, step, seconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    like = msgspec.json.decode(arguments[3], type=Plan)

    def told(outcome: Outcome) -> None:
        if outcome.violation:
            sys.stderr.write(f"FAILED {outcome.plan.command()}\n  {outcome.violation}: {outcome.what}\n")
            sys.stderr.flush()

    tally = search(count(first, step), like, until_s=time.monotonic() + seconds, told=told)
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main(sys.argv[1:])
