"""Who leads: S15, S16, S17, stock and ours. S17 of ours: test_5_2_one_voter_is_counted_once in test_engine_rules."""

from pathlib import Path

import pytest

from raftpay.errors import NotLeaderError
from raftpay.raft.engine import FOLLOWER, LEADER
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab


@pytest.mark.parametrize("exhibit", exhibits("elections"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("elections", exhibit, tmp_path)


def test_s15_an_isolated_leader_answers_no_read_and_gives_up_within_two_election_timeouts(lab: Lab) -> None:
    old = lab.elect("n1")
    lab.isolate("n1")
    lab.elect("n2")
    lab.propose(b"p0")
    lab.settle()
    assert lab.acknowledged == [b"p0"]
    answers: list[Exception | None] = []

    old.request_read(answers.append)
    lab.run_s(2 * old.options.election_timeout_max_s)

    assert [type(answer) for answer in answers] == [NotLeaderError]
    assert old.role != LEADER


def test_s16_one_broken_link_deposes_nobody_and_never_are_there_two_leaders(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.settle()
    term = leader.term
    lab.disconnect("n1", "n3")
    lab.disconnect("n3", "n1")

    for _ in range(700):
        lab.run_s(0.1)
        assert [member.engine.role for member in lab.members.values()].count(LEADER) == 1

    assert (leader.role, leader.term) == (LEADER, term)
    assert lab.members["n3"].engine.role == FOLLOWER
