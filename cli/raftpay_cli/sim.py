"""`raftpay sim`: run the simulator on a seed, on many, or for a time on all cores; say what it found."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from raftpay.sim.counts import Counts
from raftpay.sim.faults import IMPOSSIBLE, KINDS, ROLES
from raftpay.sim.run import Outcome, Plan, check_kinds, shrink, simulate
from raftpay.sim.search import Tally, cores, search, soak
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, facts, say, table
from raftpay_cli.settings import Settings

# After a few seeds it would be a long list.
UNMET_NAMED_MAX = 12


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if value == "none":
        return ()
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("expected numbers of faults with commas between them") from error


def _kinds(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    try:
        return check_kinds(value.split(","))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=Command)
@click.option("--seed", type=int, default=None, metavar="N", help="The seed, or the first one. [default: a fresh one]")
@click.option("--seeds", type=click.IntRange(min=1), default=1, metavar="COUNT", help="Run so many seeds. [default: 1]")
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0), metavar="SECONDS", help="Run seeds for so long instead."
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="COUNT", help="With --for: processes. [default: all cores]")
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", help="Size of the cluster. [default: 3]")
@click.option("--requests", type=click.IntRange(min=1), default=2000, help="Requests of a run. [default: 2000]")
@click.option("--faults", default="all", callback=_kinds, metavar="KINDS", help=f"all, none or: {', '.join(KINDS)}.")
@click.option("--only", callback=_numbers, metavar="NUMBERS", help="Bring only these of the seed's faults, or none.")
@click.option("--trace", is_flag=True, help="Print every event of the run to stderr.")
@pass_settings
def sim(
    settings: Settings,
    seed: int | None,
    seeds: int,
    seconds: float | None,
    jobs: int | None,
    *,
    nodes: str,
    requests: int,
    faults: tuple[str, ...],
    only: tuple[int, ...] | None,
    trace: bool,
) -> int:
    """Simulate a cluster under faults, from a seed.

    Real nodes run in one process on simulated clocks, network and disks, while clients move money. The rules of Raft
    are checked at every step, the clients' history at the end. The same seed gives the same run. Ends with 1 if a
    promise was broken: then it prints which, the last events, and the command that replays it with as few faults as
    it could; of many seeds, the first that failed. docs/reliability.md says what is simulated.
    """
    first = int.from_bytes(os.urandom(5), "big") if seed is None else seed
    like = Plan(first, int(nodes), requests, faults, only)
    if seconds is not None:
        tally = soak(like, seconds=seconds, jobs=jobs or cores(), told=say)
    elif seeds > 1:
        tally = search(iter(range(first, first + seeds)), like, told=_tell)
    else:
        outcome = simulate(like, _write_line if trace else None)
        _explain(outcome)
        emit(_value(outcome), is_json=settings.is_json, table=lambda: _tables(outcome))
        return ExitCode.REFUSED if outcome.violation else ExitCode.OK
    emit(_tally_value(tally, faults), is_json=settings.is_json, table=lambda: _tally_tables(tally, faults))
    if tally.failures:
        _explain(simulate(replace(like, seed=tally.failures[0].seed)))
    return ExitCode.REFUSED if tally.failed else ExitCode.OK


def _write_line(line: str) -> None:
    sys.stderr.write(line + "\n")


def _tell(outcome: Outcome) -> None:
    if outcome.violation:
        say(f"FAILED {outcome.plan.command()}\n  {outcome.violation}: {outcome.what}")


def _explain(outcome: Outcome) -> None:
    """What a failed run broke, on stderr, with the shortest run that still breaks it."""
    if not outcome.violation:
        return
    say(f"seed {outcome.plan.seed} breaks a promise: {outcome.violation}\n  {outcome.what}")
    say("leaving out faults ...")
    shortest = shrink(outcome)
    for line in shortest.last_events:
        say(line)
    say(f"{shortest.violation}: {shortest.what}")
    for fault in shortest.faults:
        say(f"  fault {fault}")
    say(f"replay: {shortest.plan.command()}")


def _value(outcome: Outcome) -> dict[str, Any]:  # Any: what json carries
    return {
        "command": outcome.plan.command(),
        "violation": outcome.violation,
        "what": outcome.what,
        "trace_digest": outcome.trace_digest,
        "simulated_s": outcome.simulated_s,
        "recovery_s": outcome.recovery_s,
        **msgspec.structs.asdict(outcome.counts),
        "faults": [str(fault) for fault in outcome.faults],
    }


def _tables(outcome: Outcome) -> Iterator[Table | Text | str]:
    yield facts(
        [
            ("verdict", Text("ok", "green") if not outcome.violation else Text(outcome.violation, "bold red")),
            ("seed", str(outcome.plan.seed)),
            ("simulated", f"{outcome.simulated_s:.1f} s, the last {outcome.recovery_s:.1f} s without faults"),
            ("requests", f"{outcome.answered:,} answered, in {outcome.counts.commands:,} entries"),
            *_counted(outcome.counts),
            ("faults", str(sum(outcome.coverage.values()))),
            ("trace", outcome.trace_digest),
        ]
    )


def _unmet(tally: Tally, kinds: tuple[str, ...]) -> list[str]:
    """The pairs of a kind of fault and a role of the node that it hits, "kill leader", that never came."""
    return [pair for pair in _pairs(kinds) if not tally.faults.get(pair)]


def _pairs(kinds: tuple[str, ...]) -> list[str]:
    return [f"{kind} {role}" for kind in kinds for role in ROLES if (kind, role) not in IMPOSSIBLE]


def _tally_value(tally: Tally, kinds: tuple[str, ...]) -> dict[str, Any]:  # Any: what json carries
    return {
        "seeds": tally.seeds,
        "failed": tally.failed,
        "failures": [{"command": failure.command, "violation": failure.violation} for failure in tally.failures],
        "simulated_hours": tally.simulated_s / 3600,
        **msgspec.structs.asdict(tally.counts),
        "answered_per_seed": tally.counts.answered / tally.seeds if tally.seeds else 0,
        "answered_min": tally.answered_min if tally.seeds else 0,
        "fully_answered": tally.fully_answered,
        "recovery_max_s": tally.recovery_max_s,
        "seeds_per_minute_per_core": tally.seeds_per_minute,
        "faults": tally.faults,
        "faults_unmet": _unmet(tally, kinds),
    }


def _counted(counts: Counts) -> list[tuple[str, str]]:
    """The numbers of one run or of many."""
    return [
        ("elections", f"{counts.elections:,}"),
        ("starts", f"{counts.starts:,} of nodes, {counts.restarts:,} of them again"),
        ("refusals", f"{counts.refusals:,} of nodes to start from a damaged disk"),
        ("snapshots", f"{counts.snapshots_made:,} made, {counts.snapshots_installed:,} installed from a leader"),
        ("restored", f"{counts.restored:,} states from snapshots, each compared"),
        (
            "logs",
            f"{counts.compactions:,} compacted, {counts.cuts:,} conflicting tails cut, {counts.resets:,} begun anew",
        ),
        (
            "scrubbing",
            f"{counts.scrubs:,} passes, {counts.scrub_found:,} damaged files found, {counts.scrub_repaired:,} put "
            f"right, {counts.healed:,} disks whole again",
        ),
    ]


def _tally_tables(tally: Tally, kinds: tuple[str, ...]) -> Iterator[Table | Text | str]:
    answered, least = tally.counts.answered, tally.answered_min
    yield facts(
        [
            ("seeds", f"{tally.seeds:,}, {tally.seeds_per_minute:.0f} a minute and core"),
            ("failed", Text(str(tally.failed), "bold red" if tally.failed else "green")),
            ("simulated", f"{tally.simulated_s / 3600:.2f} hours"),
            (
                "requests",
                f"{answered:,} answered, {answered / max(1, tally.seeds):,.0f} a seed, {least:,} at least; "
                f"all that was asked in {tally.fully_answered:,} seeds",
            ),
            *_counted(tally.counts),
            ("recovery", f"{tally.recovery_max_s:.1f} s at most after the last fault"),
        ]
    )
    yield ""
    shown = table("fault", *ROLES, "all", right=(*ROLES, "all"), title="Faults by the role of the node that they hit")
    for kind in kinds:
        hits = [tally.faults.get(f"{kind} {role}", 0) for role in ROLES]
        shown.add_row(kind, *(f"{count:,}" for count in (*hits, sum(hits))))
    yield shown
    unmet, count = _unmet(tally, kinds), len(_pairs(kinds))
    named = f"; not {', '.join(unmet)}" if 0 < len(unmet) <= UNMET_NAMED_MAX else ""
    yield f"{count - len(unmet)} of {count} pairs of a fault and a role came{named}"
    for failure in tally.failures:
        yield Text(f"{failure.violation}: {failure.command}", "bold red")
