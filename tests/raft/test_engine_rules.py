"""The rules of Raft on real engines, step by step; names follow the sections of the paper and the thesis."""

import pytest

from raftpay.errors import EngineStoppedError, NotLeaderError
from raftpay.raft.engine import CANDIDATE, FOLLOWER, LEADER
from raftpay.raft.messages import AppendEntries, AppendReply, LogEntry, PreVoteReply, RequestVote, Vote
from raftpay.storage.sim_disk import SimDisk
from tests.raft.lab import Clock, Lab


def test_5_2_a_majority_elects_one_leader(lab: Lab) -> None:
    lab.elect("n1")

    assert [member.engine.role for member in lab.members.values()] == [LEADER, FOLLOWER, FOLLOWER]
    assert {member.engine.leader for member in lab.members.values()} == {"n1"}


def test_5_2_a_node_without_a_majority_does_not_even_raise_its_term(lab: Lab) -> None:
    lab.kill("n2")
    lab.kill("n3")

    lab.run_s(10)

    assert lab.members["n1"].engine.role != LEADER
    assert lab.members["n1"].engine.term == 0


def test_5_2_one_voter_is_counted_once(clock: Clock) -> None:
    lab = Lab(clock, size=5)
    engine = lab.members["n1"].engine
    clock.now_s += 1
    engine.tick()
    for peer in ("n2", "n3"):
        engine.receive(peer, PreVoteReply(term=1, granted=True))
    assert engine.role == CANDIDATE

    for _ in range(5):
        engine.receive("n2", Vote(term=1))

    assert engine.role == CANDIDATE
    engine.receive("n3", Vote(term=1))
    assert engine.role == LEADER


def test_5_2_a_vote_survives_the_restart_of_the_voter(lab: Lab) -> None:
    voter = lab.members["n3"]
    voter.engine.receive("n1", RequestVote(term=7, last_log_index=9, last_log_term=6))
    assert list(lab.links["n3", "n1"]) == [Vote(7)]

    lab.kill("n3", power_loss=True)
    again = lab.start("n3")
    lab.connect_all()
    again.engine.receive("n2", RequestVote(term=7, last_log_index=9, last_log_term=6))

    assert again.engine.term == 7
    assert not lab.links["n3", "n2"]


def test_5_3_an_entry_is_committed_and_applied_everywhere(lab: Lab) -> None:
    lab.elect("n1")

    lab.propose(b"one")
    lab.propose(b"two")
    lab.run_s(0.1)

    assert lab.acknowledged == [b"one", b"two"]
    lab.check_outcome()


def test_5_3_a_repeated_frame_does_not_cut_what_follows_it(lab: Lab) -> None:
    """S1: stock cuts the log after prev_index whatever the terms say."""
    lab.elect("n1")
    follower = lab.members["n2"]
    for number in range(3):
        lab.propose(b"entry %d" % number)
    lab.settle()
    before = follower.journal.last_index
    first = follower.journal.entry(before - 2)
    again = AppendEntries(1, 1, first.index - 1, 1, 0, [LogEntry(first.index, first.term, first.payload)])

    follower.engine.receive("n1", again)

    assert follower.journal.last_index == before


def test_5_3_a_conflicting_suffix_is_replaced_by_the_leaders(lab: Lab) -> None:
    lab.elect("n1")
    lab.isolate("n1")
    lab.propose(b"never committed 1")
    lab.propose(b"never committed 2")
    lab.elect("n2")
    lab.propose(b"committed")
    lab.settle()

    lab.connect_all()
    lab.run_s(2)

    assert lab.acknowledged == [b"committed"]
    lab.check_outcome()


def test_5_3_a_conflict_below_the_commit_index_stops_the_node(lab: Lab) -> None:
    lab.elect("n1")
    lab.propose(b"committed")
    lab.run_s(0.1)
    follower = lab.members["n2"]
    committed = follower.engine.commit_index
    other = LogEntry(committed, 9, b"\x00other")
    previous = follower.journal.entry(committed - 1)

    with pytest.raises(EngineStoppedError, match=f"entry {committed} of term 1 is committed here"):
        follower.engine.receive("n3", AppendEntries(9, 1, previous.index, previous.term, 1, [other]))


def test_5_3_persistence_comes_before_the_acknowledgement(lab: Lab) -> None:
    """D1: a follower acknowledges nothing that is not fsynced."""
    lab.elect("n1")
    lab.propose(b"money")
    lab.deliver("n1", "n2")

    unsynced = [reply for reply in lab.links["n2", "n1"] if isinstance(reply, AppendReply)]
    lab.sync("n2")
    synced = [reply for reply in lab.links["n2", "n1"] if isinstance(reply, AppendReply)]

    last = lab.members["n2"].journal.last_index
    assert all(reply.match_index < last for reply in unsynced)
    assert synced[-1].match_index == last


def test_5_3_the_leader_counts_itself_only_after_its_own_fsync(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.isolate("n3")
    committed = leader.commit_index
    lab.propose(b"money")
    lab.deliver("n1", "n2")
    lab.sync("n2")
    while lab.deliver("n2", "n1"):
        lab.tick("n1")
    assert leader.commit_index == committed

    lab.sync("n1")
    lab.tick("n1")

    assert leader.commit_index == committed + 1
    assert lab.acknowledged == [b"money"]


def test_5_3_two_followers_commit_without_the_leaders_disk(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.propose(b"money")
    for peer in ("n2", "n3"):
        lab.deliver("n1", peer)
        lab.sync(peer)
        while lab.deliver(peer, "n1"):
            lab.tick("n1")

    assert lab.members["n1"].journal.synced_index < lab.members["n1"].journal.last_index
    assert leader.commit_index == leader.last_index
    assert lab.acknowledged == [b"money"]


def test_5_3_an_acknowledgement_of_another_term_counts_for_nothing(lab: Lab) -> None:
    """S2: stock's acknowledgements carry no term."""
    leader = lab.elect("n1")
    lab.propose(b"money")
    lab.sync("n1")
    committed = leader.commit_index

    leader.receive("n2", AppendReply(term=0, matched=True, match_index=99, prev_index=1, round=99))
    lab.tick("n1")

    assert leader.commit_index == committed


def test_5_1_a_reply_of_a_higher_term_makes_the_leader_step_down(lab: Lab) -> None:
    leader = lab.elect("n1")

    leader.receive("n2", AppendReply(term=8, matched=False, match_index=0, prev_index=1, round=0))

    assert (leader.role, leader.term) == (FOLLOWER, 8)


def test_5_1_an_old_leader_is_told_that_its_term_is_over(lab: Lab) -> None:
    lab.elect("n1")
    lab.isolate("n1")
    lab.elect("n2")
    lab.connect("n1", "n3")
    lab.connect("n3", "n1")

    lab.settle()

    assert lab.members["n1"].engine.role == FOLLOWER
    assert lab.members["n1"].engine.term == lab.members["n2"].engine.term


def test_6_2_a_leader_without_a_majority_steps_down_within_two_election_timeouts(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.isolate("n1")

    lab.run_s(2 * leader.options.election_timeout_max_s + 0.1)

    assert leader.role != LEADER


def test_6_2_a_proposer_is_told_when_its_leader_steps_down(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.isolate("n1")
    outcomes: list[Exception | None] = []
    leader.propose(b"money", lambda _, error: outcomes.append(error))

    lab.run_s(2)

    assert [type(outcome).__name__ for outcome in outcomes] == ["LeadershipLostError"]


def test_6_4_a_read_is_confirmed_only_by_replies_to_messages_sent_after_it_arrived(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.settle()
    lab.clock.now_s += leader.options.heartbeat_s + 0.01
    lab.tick("n1")
    for peer in ("n2", "n3"):
        lab.deliver("n1", peer)

    answers: list[Exception | None] = []
    leader.request_read(answers.append)
    for peer in ("n2", "n3"):
        lab.deliver(peer, "n1")
    lab.tick("n1")
    assert answers == []

    lab.deliver("n1", "n2")
    lab.deliver("n2", "n1")
    lab.tick("n1")

    assert answers == [None]


def test_6_4_a_follower_reads_what_was_acknowledged_before_it_asked(lab: Lab) -> None:
    lab.elect("n1")
    lab.propose(b"money")
    for peer in ("n2", "n3"):
        lab.deliver("n1", peer)
    lab.sync("n1")
    lab.sync("n2")
    while lab.deliver("n2", "n1"):
        lab.tick("n1")
    assert lab.acknowledged == [b"money"]
    follower = lab.members["n3"]
    assert follower.applied == []

    seen: list[list[bytes]] = []
    follower.engine.request_read(lambda error: seen.append([payload for _, payload in follower.applied]))
    lab.settle()

    assert seen == [[b"money"]]


def test_6_4_a_leader_that_was_replaced_confirms_no_read(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.isolate("n1")
    lab.elect("n2")
    answers: list[Exception | None] = []

    leader.request_read(answers.append)
    lab.run_s(2)

    assert [type(answer) for answer in answers] == [NotLeaderError]


def test_6_4_a_follower_that_loses_its_leader_gives_up_its_questions(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()
    answers: list[Exception | None] = []

    lab.members["n2"].engine.request_read(answers.append)
    lab.kill("n1")

    assert [type(answer) for answer in answers] == [NotLeaderError]


def test_9_6_a_node_back_from_a_partition_does_not_depose_the_leader(lab: Lab) -> None:
    leader = lab.elect("n1")
    term = leader.term
    lab.isolate("n3")
    lab.run_s(10)

    lab.connect_all()
    lab.run_s(3)

    assert (leader.role, leader.term) == (LEADER, term)
    assert lab.members["n3"].engine.leader == "n1"


def test_a_leader_that_is_gone_is_not_named_any_more(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()
    assert lab.members["n3"].engine.leader == "n1"
    lab.kill("n1")
    lab.kill("n2")

    lab.run_s(2)

    assert lab.members["n3"].engine.leader is None


def test_9_6_one_broken_link_does_not_depose_the_leader(lab: Lab) -> None:
    """S16: a follower that does not hear a leader which the others hear."""
    leader = lab.elect("n1")
    term = leader.term
    lab.disconnect("n1", "n3")

    lab.run_s(10)

    assert (leader.role, leader.term) == (LEADER, term)


def test_3_10_a_follower_that_cannot_take_over_at_once_does_not_do_it_later(lab: Lab) -> None:
    """Seed 2190 of the simulator: it was cut off, kept the wish, and deposed the leader when it was back."""
    engine = lab.elect("n1")
    lab.propose(b"a")
    lab.settle()
    follower = lab.members["n3"].engine
    lab.disconnect("n3", "n1")
    lab.disconnect("n3", "n2")
    engine.hand_over("n3")
    lab.settle()
    lab.isolate("n3")
    lab.run_s(0.1)
    term = engine.term

    lab.connect_all()
    lab.run_s(1.0)

    assert (engine.role, engine.term, follower.term) == (LEADER, term, term)


def test_3_10_leadership_is_handed_to_a_complete_follower_at_once(lab: Lab) -> None:
    leader = lab.elect("n1")
    lab.propose(b"money")
    lab.settle()
    now_s = lab.clock.now_s

    leader.hand_over("n2")
    lab.settle()

    assert lab.clock.now_s == now_s
    assert lab.leader() == "n2"
    assert lab.members["n2"].engine.is_ready


def test_8_a_new_leader_serves_only_after_its_no_op_is_applied(lab: Lab) -> None:
    lab.elect("n1")
    lab.members["n1"].engine.hand_over("n2")
    lab.deliver("n1", "n2")
    lab.tick("n2")
    while lab.members["n2"].engine.role != LEADER:
        lab.deliver("n2", "n3")
        lab.deliver("n3", "n2")

    with pytest.raises(NotLeaderError):
        lab.members["n2"].engine.propose(b"too early", lambda result, error: None)


def test_an_entry_that_cannot_be_applied_stops_the_node_and_is_not_tried_again(lab: Lab) -> None:
    """S8: stock applies it again on every tick, and again after each restart."""
    lab.elect("n1")
    lab.propose(b"good")
    lab.settle()
    tries: list[int] = []

    def fail(index: int, payload: bytes) -> None:
        tries.append(index)
        raise ValueError("insufficient understanding")

    lab.members["n1"].engine._apply = fail
    lab.propose(b"bad")

    with pytest.raises(EngineStoppedError, match="could not be applied: insufficient understanding"):
        lab.settle()
    assert len(tries) == 1


def test_a_backlog_of_many_frames_after_a_conflict_converges(lab: Lab) -> None:
    """S7: stock sends the same first frame for ever."""
    lab.elect("n1")
    lab.isolate("n1")
    for number in range(50):
        lab.propose(b"lost %d" % number + b"x" * 90)
    lab.elect("n2")
    for number in range(200):
        lab.propose(b"kept %d" % number + b"x" * 90)
        lab.settle()

    lab.connect_all()
    lab.run_s(1)

    assert lab.members["n1"].engine.commit_index == lab.members["n2"].engine.last_index
    lab.check_outcome()


def test_a_full_disk_of_a_follower_costs_nothing_and_heals(lab: Lab) -> None:
    lab.elect("n1")
    lab.disks["n3"].capacity_bytes = 0
    for number in range(30):
        lab.propose(b"%d" % number + b"x" * 5000)
        lab.settle()
    assert len(lab.acknowledged) == 30
    assert lab.members["n3"].journal.last_index < lab.members["n1"].journal.last_index

    lab.disks["n3"].capacity_bytes = 1 << 50
    lab.run_s(2)

    lab.check_outcome()


def test_a_follower_whose_disk_was_replaced_is_filled_again_by_the_same_leader(lab: Lab) -> None:
    lab.elect("n1")
    for number in range(30):
        lab.propose(b"%d" % number + b"x" * 90)
    lab.settle()
    lab.kill("n3")
    lab.disks["n3"] = SimDisk(seed=77)

    lab.start("n3")
    lab.connect_all()
    lab.run_s(1)

    assert lab.leader() == "n1"
    lab.check_outcome()


def test_all_nodes_restart_and_nothing_is_lost(lab: Lab) -> None:
    lab.elect("n1")
    for number in range(20):
        lab.propose(b"%d" % number)
    lab.settle()
    for name in lab.names:
        lab.kill(name, power_loss=True)

    for name in lab.names:
        lab.start(name)
    lab.connect_all()
    lab.run_s(3)

    assert len(lab.acknowledged) == 20
    lab.check_outcome()
