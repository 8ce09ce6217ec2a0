"""S4, S5, S14, S21, S22 are stock's snapshots. What ours does in their place: tests/raft/test_snapshot_rules.py."""

from pathlib import Path

import pytest

from raftpay.storage.sim_disk import SimDisk
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import FREQUENT, Clock, Lab


@pytest.mark.parametrize("exhibit", exhibits("snapshots"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("snapshots", exhibit, tmp_path)


def test_s21_a_follower_with_an_empty_disk_gets_a_message_a_heartbeat_and_the_others_go_on(lab: Lab) -> None:
    leader = lab.elect("n1")
    for number in range(100):
        lab.propose(b"p%d" % number + b"x" * 500)
    lab.settle()
    lab.kill("n3")
    lab.disks["n3"] = SimDisk(seed=77)
    lab.start("n3")
    lab.connect_all()
    link = lab.links["n1", "n3"]
    link.clear()

    for number in range(10):
        lab.clock.now_s += leader.options.heartbeat_s + 0.001
        lab.propose(b"meanwhile %d" % number)
        lab.tick("n1")
        while lab.deliver("n1", "n2") is not None:
            pass
        lab.sync("n1")
        lab.sync("n2")
        while lab.deliver("n2", "n1") is not None:
            lab.tick("n1")

    # The eleventh asks, with entries, where the logs agree.
    assert len(link) <= 11
    assert len(lab.acknowledged) == 110
    lab.run_s(1)
    lab.check_outcome()


def test_s22_compaction_and_an_install_at_once_leave_the_log_its_last_entry(clock: Clock) -> None:
    lab = Lab(clock, snapshots=FREQUENT)
    lab.elect("n1")
    lab.kill("n3")
    for number in range(100):
        lab.propose(b"p%d" % number + b"x" * 100)
        lab.settle()
    lab.start("n3")
    lab.connect_all()
    for number in range(100):
        lab.propose(b"q%d" % number + b"x" * 100)
        lab.run_s(0.02)
        for member in lab.members.values():
            log = member.engine.log
            assert log[-1][1] == member.engine.last_index
            assert log[0][1] <= log[-1][1]
    lab.run_s(2)

    lab.check_outcome()
