"""Many seeds: what is counted, added up over processes, and shown."""

import json
from itertools import count

from click.testing import CliRunner

from raftpay.sim.faults import IMPOSSIBLE, KINDS, ROLES
from raftpay.sim.run import Plan, simulate
from raftpay.sim.search import Tally, search, soak
from raftpay_cli.root import root

SHORT = Plan(30_000, requests=60)


def test_a_tally_is_the_sum_of_its_runs() -> None:
    runs = [simulate(SHORT), simulate(Plan(30_001, requests=60))]

    tally = search(iter((30_000, 30_001)), SHORT, told=lambda outcome: None)

    assert (tally.seeds, tally.failed, tally.fully_answered) == (2, 0, 2)
    for name in tally.counts.__struct_fields__:
        assert getattr(tally.counts, name) == sum(getattr(run.counts, name) for run in runs), name
    assert tally.counts.answered == 124
    assert tally.answered_min == 62
    assert sum(tally.faults.values()) == sum(sum(run.coverage.values()) for run in runs)


def test_a_run_counts_what_its_nodes_did() -> None:
    counts = simulate(Plan(30_002, requests=2000, kinds=("kill", "partition"))).counts

    assert counts.restarts == counts.starts - 3 > 0
    assert counts.snapshots_made > 5
    assert counts.compactions > 2
    assert counts.restored >= counts.snapshots_installed
    assert counts.refusals == 0


def test_processes_add_up_what_they_found() -> None:
    tally = soak(SHORT, seconds=0.01, jobs=2, told=lambda line: None)

    assert tally.seeds == 2
    assert tally.counts.answered == 124
    assert tally.cpu_s > 0


def test_an_empty_tally_changes_nothing() -> None:
    tally = search(iter([30_000]), SHORT, told=lambda outcome: None)
    before = tally.answered_min, tally.counts.answered

    tally.merge(Tally())

    assert (tally.answered_min, tally.counts.answered) == before


def test_what_many_seeds_came_to_is_told_as_json() -> None:
    arguments = ["--json", "sim", "--seed", "30000", "--seeds", "2", "--requests", "60"]

    result = CliRunner().invoke(root, arguments)

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (told["seeds"], told["answered"], told["answered_min"], told["fully_answered"]) == (2, 124, 62, 2)
    met, pairs = set(told["faults"]), {f"{kind} {role}" for kind in KINDS for role in ROLES}
    assert met | set(told["faults_unmet"]) == pairs - {" ".join(pair) for pair in IMPOSSIBLE}
    assert not met & set(told["faults_unmet"])


def test_a_fault_without_a_victim_is_not_counted() -> None:
    seeds = count(30_000)
    outcome = next(found for seed in seeds if (found := simulate(Plan(seed, requests=60))).coverage["kill", "down"])

    assert not any(pair in outcome.coverage for pair in IMPOSSIBLE)
