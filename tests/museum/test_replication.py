"""How logs are copied and committed: S1, S2, S3, S7, stock and ours (stock/replication.py has the stock half)."""

from pathlib import Path

import pytest

from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Clock, Lab


@pytest.mark.parametrize("exhibit", exhibits("replication"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("replication", exhibit, tmp_path)


def test_s1_repeated_frames_and_the_leaders_death_lose_nothing(lab: Lab) -> None:
    lab.elect("n1")
    lab.isolate("n3")
    for number in range(6):
        lab.propose(b"p%d" % number + b"x" * 90)
    frames = list(lab.links["n1", "n2"])
    lab.settle()
    assert len(lab.acknowledged) == 6
    length = lab.members["n2"].journal.last_index

    for frame in frames:
        lab.members["n2"].engine.receive("n1", frame)
        assert lab.members["n2"].journal.last_index == length
    lab.kill("n1")
    lab.connect_all()
    lab.elect("n2")
    lab.run_s(0.1)

    assert set(lab.acknowledged) <= {payload for _, payload in lab.members["n3"].applied}


@pytest.mark.parametrize("power_loss", [False, True])
def test_s1_a_follower_killed_while_it_repeats_a_frame_has_it_still(lab: Lab, power_loss: bool) -> None:
    lab.elect("n1")
    lab.isolate("n3")
    lab.propose(b"p0")
    (frame,) = lab.links["n1", "n2"]
    lab.settle()
    assert lab.acknowledged == [b"p0"]

    lab.members["n2"].engine.receive("n1", frame)
    lab.kill("n2", power_loss=power_loss)
    lab.kill("n1")
    lab.start("n2")
    lab.connect_all()
    lab.elect("n2")
    lab.run_s(0.1)

    assert [payload for _, payload in lab.members["n3"].applied] == [b"p0"]


def test_s2_a_late_acknowledgement_of_another_term_commits_nothing(clock: Clock) -> None:
    lab = Lab(clock, size=5)
    lab.elect("n1")
    for name in ("n3", "n4", "n5"):
        lab.disconnect("n1", name)
    for number in range(3):
        lab.propose(b"old %d" % number)
    while lab.deliver("n1", "n2"):
        pass
    lab.sync("n2")
    late = lab.links["n2", "n1"][-1]
    lab.isolate("n1")
    lab.isolate("n2")
    lab.elect("n3")
    lab.connect_all()
    lab.settle()
    leader = lab.elect("n1")
    committed = leader.commit_index
    for name in ("n2", "n3", "n5"):
        lab.isolate(name)
    lab.propose(b"new")
    lab.settle()

    leader.receive("n2", late)
    lab.tick("n1")

    assert late.match_index == leader.last_index, "n2 acknowledged, in the old term, another entry with this index"
    assert (leader.commit_index, lab.acknowledged) == (committed, [])


def test_s3_no_message_commits_a_tail_that_the_leader_does_not_have(lab: Lab) -> None:
    lab.elect("n1")
    lab.isolate("n1")
    lab.propose(b"never committed")
    lab.elect("n2")
    for number in range(5):
        lab.propose(b"p%d" % number)
        lab.settle()

    lab.connect_all()
    for _ in range(20):
        lab.deliver("n2", "n1")
        lab.tick("n1")
        assert b"never committed" not in {payload for _, payload in lab.members["n1"].applied}
        lab.deliver("n1", "n2")
    lab.run_s(1)

    assert b"never committed" not in lab.acknowledged
    lab.check_outcome()
