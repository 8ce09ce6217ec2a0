"""Members come, go and lose their disks (Raft thesis chapter 4; S10, S23): who counts, and when."""

import pytest

from raftpay.errors import MembershipError, NotLeaderError
from raftpay.raft.engine import FOLLOWER, LEADER
from raftpay.raft.members import decode_members
from raftpay.raft.messages import AppendReply, Vote
from raftpay.raft.transport import refusal
from tests.raft.lab import FREQUENT, Clock, Lab


def nothing(_result: object, _error: Exception | None) -> None:
    """Whoever asked does not want to know."""


def add(lab: Lab, name: str, leader: str = "n1") -> None:
    engine = lab.members[leader].engine
    engine.add_member(name, peer=f"{name}:1", client=f"{name}:2", done=nothing)


def voters(lab: Lab, name: str) -> list[str]:
    return sorted(peer for peer, member in lab.members[name].engine.membership.members.items() if member.is_voter)


def members(lab: Lab, name: str) -> list[str]:
    return sorted(lab.members[name].engine.membership.members)


# ---- the foundation --------------------------------------------------------------------------------------------------


def test_a_cluster_is_founded_once_every_founder_has_been_met(clock: Clock) -> None:
    lab = Lab(clock, is_founded=False)
    lab.settle()

    assert [voters(lab, name) for name in lab.names] == [["n1", "n2", "n3"]] * 3
    assert lab.elect("n2").is_ready


def test_without_one_of_the_founders_nobody_stands_and_nothing_is_founded(clock: Clock) -> None:
    lab = Lab(clock, is_founded=False)
    lab.kill("n3")
    for name in ("n1", "n2"):
        lab.kill(name)
        lab.wipe_stopped(name)

    lab.run_s(5.0)

    assert [lab.members[name].engine.term for name in ("n1", "n2")] == [0, 0]
    assert lab.leader() is None


def test_a_majority_with_empty_disks_does_not_begin_anew_without_the_one_that_has_the_books(clock: Clock) -> None:
    lab = Lab(clock)
    lab.elect("n1")
    lab.propose(b"money")
    lab.run_s(0.3)
    for name in lab.names:
        lab.kill(name)
    for name in ("n1", "n2"):
        lab.wipe_stopped(name)

    lab.run_s(5.0)
    assert lab.leader() is None

    # Nor with it: of three disks two are gone, which no promise covers, and nobody must pretend otherwise.
    lab.start("n3")
    lab.connect_all()
    lab.run_s(5.0)
    assert lab.leader() is None
    assert voters(lab, "n1") == []


def test_a_foundation_reaches_a_founder_that_was_away_when_it_was_told(clock: Clock) -> None:
    lab = Lab(clock, is_founded=False)
    lab.disconnect("n1", "n3")
    lab.settle()

    # n2 has it of n1, and tells n3.
    assert voters(lab, "n3") == ["n1", "n2", "n3"]


def test_a_foundation_survives_the_restart_of_all(clock: Clock) -> None:
    lab = Lab(clock, is_founded=False)
    lab.settle()
    for name in lab.names:
        lab.kill(name, power_loss=True)
    for name in lab.names:
        lab.start(name)

    assert [voters(lab, name) for name in lab.names] == [["n1", "n2", "n3"]] * 3


# ---- an empty disk ---------------------------------------------------------------------------------------------------


def test_the_vote_of_an_empty_disk_does_not_count(lab: Lab) -> None:
    """It has forgotten whom it voted for: with one old vote and one new one, two nodes could lead in one term."""
    lab.elect("n1")
    lab.kill("n1")
    lab.wipe("n3")
    lab.run_s(3.0)

    assert lab.leader() is None
    assert lab.members["n2"].engine.role != LEADER

    lab.start("n1")
    lab.connect_all()
    lab.run_s(3.0)
    assert lab.leader() is not None


def test_the_acknowledgement_of_an_empty_disk_does_not_count(lab: Lab) -> None:
    """It has forgotten what it acknowledged: what a majority has is on the other disks."""
    engine = lab.elect("n1")
    lab.isolate("n2")
    lab.wipe("n3")
    lab.isolate("n2")
    committed = engine.commit_index
    lab.propose(b"money")
    for _ in range(20):
        lab.settle_pair("n1", "n3")
        lab.sync("n1")
        lab.tick("n1")

    assert lab.members["n3"].engine.last_index >= engine.last_index - 1
    assert engine.commit_index == committed
    assert lab.acknowledged == []

    lab.connect_all()
    lab.run_s(1.0)
    assert lab.acknowledged == [b"money"]


def test_a_wiped_node_learns_and_then_votes_again(lab: Lab) -> None:
    lab.elect("n1")
    for number in range(20):
        lab.propose(b"%d" % number)
        lab.settle()
    before = lab.members["n1"].engine.membership.members["n3"].incarnation

    wiped = lab.wipe("n3")
    lab.settle()

    assert wiped.engine.membership.counts_self
    assert voters(lab, "n1") == ["n1", "n2", "n3"]
    assert lab.members["n1"].engine.membership.members["n3"].incarnation != before
    # One change took its vote, another gave it to the new disk.
    entries = lab.members["n1"].journal.beginning_with(0x10)
    assert len(entries) == 2
    first = decode_members(lab.members["n1"].journal.entry(entries[0]).payload[1:])
    assert not first["n3"].is_voter
    lab.run_s(0.2)
    assert [payload for _, payload in wiped.applied] == lab.acknowledged
    lab.kill("n1")
    lab.run_s(2.0)
    assert lab.leader() in ("n2", "n3")


def test_a_wiped_node_is_rebuilt_from_a_snapshot(clock: Clock) -> None:
    lab = Lab(clock, snapshots=FREQUENT)
    lab.elect("n1")
    for number in range(80):
        lab.propose(b"%d" % number * 20)
        lab.settle()
    assert lab.members["n1"].journal.first_index > 20

    wiped = lab.wipe("n3")
    lab.run_s(3.0)

    assert wiped.engine.membership.counts_self
    assert [payload for _, payload in wiped.applied] == lab.acknowledged


def test_the_old_disk_of_a_node_that_comes_back_learns_like_an_empty_one(lab: Lab) -> None:
    lab.elect("n1")
    old = lab.disks["n3"]
    lab.wipe("n3")
    lab.settle()
    lab.kill("n3")
    lab.disks["n3"] = old
    lab.start("n3")
    assert lab.members["n3"].engine.membership.counts_self  # as far as it knows

    lab.connect_all()
    lab.settle()

    assert lab.members["n3"].engine.membership.counts_self
    assert len(lab.members["n1"].journal.beginning_with(0x10)) == 4


# ---- one more, one less ----------------------------------------------------------------------------------------------


def test_a_node_that_is_added_learns_before_it_counts(lab: Lab) -> None:
    engine = lab.elect("n1")
    lab.isolate("n3")
    add(lab, "n4")

    assert members(lab, "n1") == ["n1", "n2", "n3", "n4"]
    assert voters(lab, "n1") == ["n1", "n2", "n3"]
    # Two of three voters suffice, though two of four members do not.
    lab.settle()
    assert engine.commit_index == engine.last_index

    lab.join("n4")
    lab.isolate("n3")
    lab.settle()
    assert voters(lab, "n1") == ["n1", "n2", "n3", "n4"]
    assert lab.members["n4"].engine.membership.counts_self


def test_a_learner_is_not_counted_for_commits_and_cannot_be_elected(lab: Lab) -> None:
    engine = lab.elect("n1")
    add(lab, "n4")
    lab.settle()
    for name in ("n2", "n3"):
        lab.isolate(name)
    learner = lab.join("n4").engine
    for name in ("n2", "n3"):
        lab.isolate(name)
    committed = engine.commit_index
    lab.propose(b"money")
    lab.settle()

    assert learner.last_index == engine.last_index
    assert engine.commit_index == committed
    lab.kill("n1")
    lab.run_s(3.0)
    assert (learner.role, learner.term) == (FOLLOWER, engine.term)


def test_s10_a_second_change_is_refused_until_the_first_is_applied(lab: Lab) -> None:
    engine = lab.elect("n1")
    add(lab, "n4")

    with pytest.raises(MembershipError, match="a change of the members is under way"):
        add(lab, "n5")
    lab.settle()
    add(lab, "n5")
    assert members(lab, "n1") == ["n1", "n2", "n3", "n4", "n5"]
    assert engine.is_ready


def test_s23_an_uncommitted_change_is_in_force_after_a_restart(lab: Lab) -> None:
    lab.elect("n1")
    for name in ("n2", "n3"):
        lab.isolate(name)
    add(lab, "n4")
    lab.sync("n1")
    lab.kill("n1", power_loss=True)

    lab.start("n1")

    assert members(lab, "n1") == ["n1", "n2", "n3", "n4"]


def test_a_change_that_is_cut_from_the_log_is_no_longer_in_force(lab: Lab) -> None:
    lab.elect("n1")
    lab.isolate("n1")
    add(lab, "n4")
    assert members(lab, "n1") == ["n1", "n2", "n3", "n4"]
    lab.run_s(3.0)
    assert lab.leader() in ("n2", "n3")

    lab.connect_all()
    lab.run_s(1.0)

    assert members(lab, "n1") == ["n1", "n2", "n3"]


def test_a_node_that_is_removed_disturbs_nobody(lab: Lab) -> None:
    engine = lab.elect("n1")
    lab.join("n4")
    add(lab, "n4")
    lab.settle()
    engine.remove_member("n3", nothing)
    lab.isolate("n3")
    lab.settle()
    term = engine.term

    engine.receive("n3", AppendReply(term + 5, False, 1, 1, 0))
    lab.run_s(2.0)

    assert (engine.role, engine.term) == (LEADER, term)
    assert voters(lab, "n4") == ["n1", "n2", "n4"]


def test_a_member_is_heard_until_its_removal_is_committed(lab: Lab) -> None:
    """Seed 900149 of the simulator: the removal was undone, by the removed node as leader, and one node never heard."""
    engine = lab.elect("n1")
    lab.join("n4")
    add(lab, "n4")
    lab.run_s(0.5)
    engine.remove_member("n2", nothing)
    lab.isolate("n1")
    assert members(lab, "n1") == ["n1", "n3", "n4"]

    removed = lab.elect("n2")

    heard_by_n1 = engine.membership.addresses(engine.commit_index)
    assert refusal(engine.hello("n2"), removed.hello("n1"), heard_by_n1) == ""
    lab.connect_all()
    lab.run_s(1.0)
    assert members(lab, "n1") == ["n1", "n2", "n3", "n4"]


def test_a_member_whose_removal_is_committed_is_no_longer_dialled(lab: Lab) -> None:
    engine = lab.elect("n1")
    lab.join("n4")
    add(lab, "n4")
    lab.run_s(0.5)

    lab.changed.clear()
    engine.remove_member("n2", nothing)
    lab.run_s(0.5)

    assert {name: lab.changed[name][-1] for name in ("n1", "n3", "n4")} == {
        "n1": ["n3", "n4"], "n3": ["n1", "n4"], "n4": ["n1", "n3"]
    }  # fmt: skip


def test_a_leader_is_not_removed_by_itself(lab: Lab) -> None:
    engine = lab.elect("n1")
    lab.join("n4")
    add(lab, "n4")
    lab.settle()

    with pytest.raises(MembershipError, match="hand the leadership over"):
        engine.remove_member("n1", nothing)


def test_a_change_that_would_leave_no_majority_within_reach_is_refused(lab: Lab) -> None:
    engine = lab.elect("n1")
    lab.join("n4")
    add(lab, "n4")
    lab.settle()
    lab.kill("n2")
    lab.kill("n3")

    with pytest.raises(MembershipError, match="of which only 1 can be reached: the cluster would stand still"):
        engine.remove_member("n4", nothing)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda engine: engine.add_member("n2", peer="a:1", client="b:1", done=nothing), "n2 is a member already"),
        (lambda engine: engine.add_member("n9", peer="127.0.0.1:1", client="b:1", done=nothing), "expected addresses"),
        (lambda engine: engine.remove_member("n9", nothing), "n9 is no member; the members are n1, n2, n3"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_writes_nothing(lab: Lab, change: object, reason: str) -> None:
    engine = lab.elect("n1")
    last_index = engine.last_index

    with pytest.raises(MembershipError, match=reason):
        change(engine)  # type: ignore[operator]
    assert engine.last_index == last_index


def test_only_a_leader_changes_the_members(lab: Lab) -> None:
    lab.elect("n1")

    with pytest.raises(NotLeaderError):
        add(lab, "n4", leader="n2")


def test_two_voters_are_the_least(lab: Lab) -> None:
    engine = lab.elect("n1")
    engine.remove_member("n3", nothing)
    lab.settle()

    with pytest.raises(MembershipError, match="there would be 1 voter, expected 2 at least"):
        engine.remove_member("n2", nothing)


def test_the_vote_of_a_stranger_does_not_count(lab: Lab) -> None:
    engine = lab.members["n1"].engine
    lab.clock.now_s += 1.0
    lab.tick("n1")
    for name in ("n2", "n3"):
        lab.deliver("n1", name)
        lab.deliver(name, "n1")
    engine.receive("n9", Vote(engine.term))

    assert engine.role != LEADER


def test_s20_new_commands_wait_until_the_last_member_knows_them(lab: Lab) -> None:
    """A rolling upgrade: the leader goes by what all members have said of themselves, and so does its successor."""
    lab.elect("n1")
    seen = []
    for name in ("n2", "n3", "n1"):
        lab.kill(name)
        lab.command_versions[name] = 2
        lab.start(name)
        lab.connect_all()
        lab.run_s(2.0)
        leader = lab.leader()
        assert leader is not None
        seen.append(lab.members[leader].engine.membership.command_version)

    assert seen == [1, 1, 2]
    assert voters(lab, "n1") == ["n1", "n2", "n3"]
