"""S10, S23: stock's membership changes, which raftpay cannot write. tests/raft/test_membership_rules.py has ours."""

import pickle
from pathlib import Path

import pytest

from raftpay.errors import EngineStoppedError
from raftpay.raft.messages import AppendEntries, LogEntry
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab


@pytest.mark.parametrize("exhibit", exhibits("membership"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("membership", exhibit, tmp_path)


def test_s10_stocks_own_changes_cannot_be_written(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.settle()
    length = lab.members["n1"].journal.last_index

    for change in (leader.addNodeToCluster, leader.removeNodeFromCluster):
        with pytest.raises(Exception, match="dynamicMembershipChange is disabled"):
            change("n4")
    lab.run_s(1)

    assert lab.members["n1"].journal.last_index == length
    assert {node.id for node in leader.otherNodes} == {"n2", "n3"}


def test_s23_stocks_own_change_in_the_log_stops_the_node(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()
    last = lab.members["n2"].journal.last_index
    change = LogEntry(last + 1, 1, b"\x02" + pickle.dumps(["add", "n4"]))

    lab.members["n2"].engine.receive("n1", AppendEntries(1, last + 1, last, 1, 0, [change]))
    with pytest.raises(EngineStoppedError, match=f"entry {last + 1} is of the unknown type"):
        lab.tick("n2")
    lab.kill("n2")
    again = lab.start("n2")

    assert again.journal.last_index == last + 1
    assert {node.id for node in again.engine.otherNodes} == {"n1", "n3"}
