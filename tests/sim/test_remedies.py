"""Each remedy of the engine can be taken out, and the simulator then says what is missing.

`python -m tests.sim.remedies` runs them all; here only some that fail at once.
"""

import re
from pathlib import Path

import pytest

from raftpay.raft import replication
from raftpay.raft.following import append_entries
from tests.sim.remedies.catalogue import OUT_OF_REACH, REMOVALS
from tests.sim.remedies.edits import Edit, RemedyMovedError, taken_out
from tests.sim.remedies.removal import Removal
from tests.sim.remedies.search import control, search

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text().partition("### One remedy taken out at a time")[2]
# Those of docs/engine.md; there is no D2.
DEFECTS = {*(f"S{number}" for number in range(1, 24)), "D1", *(f"D{number}" for number in range(3, 17))}


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.name)
def test_every_remedy_is_where_it_can_be_taken_out(removal: Removal) -> None:
    with taken_out(removal.edits):
        assert removal.edits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("follower-fsync", "persist before you send"),
        ("commit-own-term", "commit through the current term only"),
        ("snapshot-fsync", "durability"),
        ("hard-state-name-fsync", "persist before you send"),
    ],
)
def test_without_a_remedy_a_run_soon_fails(name: str, expected: str) -> None:
    removal = next(removal for removal in REMOVALS if removal.name == name)

    found = search(removal, nodes=3, first=0, seeds=6, requests=500)

    assert found.violation == expected, found


@pytest.mark.parametrize("name", ["reply-terms", "saved-then-believed", "compact-behind-synced", "announce-cut"])
def test_without_a_remedy_a_run_with_the_faults_that_it_names_soon_fails(name: str) -> None:
    removal = next(removal for removal in REMOVALS if removal.name == name)

    found = search(removal, nodes=removal.nodes, first=0, seeds=20)

    assert removal.faults
    assert found.violation, found


def test_with_all_remedies_back_in_place_the_same_runs_pass() -> None:
    with taken_out(REMOVALS[0].edits):
        pass

    assert control(3, 0, 3, requests=500).whole_fails == 0


def test_a_function_that_was_imported_before_runs_without_the_remedy_and_with_it_again() -> None:
    code = append_entries.__code__
    text = "if entry.index <= journal.last_index and journal.term_at(entry.index) != entry.term:"

    with taken_out([Edit(text, "if entry.index <= journal.last_index:")]):
        assert append_entries.__code__ != code

    assert append_entries.__code__ is code


def test_text_that_is_gone_or_in_several_functions_is_an_error_that_names_them() -> None:
    with pytest.raises(RemedyMovedError, match=r"'a remedy of old' .* and is nowhere"):
        taken_out([Edit("a remedy of old", "pass")]).__enter__()
    with pytest.raises(RemedyMovedError, match=f"{replication.__name__}.Progress"):
        taken_out([Edit("self.is_probing, self.is_probe_sent =", "pass")]).__enter__()


def test_every_defect_is_taken_out_or_said_to_be_out_of_reach() -> None:
    listed = {name for entry in (*REMOVALS, *OUT_OF_REACH) for name in entry.defects.split(", ")}

    assert DEFECTS - listed == set()


def test_what_is_out_of_reach_is_held_by_a_test_that_exists() -> None:
    missing = []
    for entry in OUT_OF_REACH:
        for held_by in entry.held_by:
            path, _, name = held_by.partition("::")
            if not (ROOT / path).exists() or not re.search(rf"^def {name}\b", (ROOT / path).read_text(), re.MULTILINE):
                missing.append(held_by)

    assert missing == []


def test_the_table_in_the_docs_has_a_row_for_each_removal() -> None:
    """To be made anew by `python -m tests.sim.remedies` when removals change."""
    rows = set(re.findall(r"^\| `([a-z0-9-]+)` \|", TABLE, re.MULTILINE))

    assert rows == {removal.name for removal in REMOVALS}
