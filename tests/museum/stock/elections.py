"""S15, S16, S17: who leads in stock, who believes that it leads, and who is told."""

from tests.museum.stock.lab import LEADER, Lab, hidden


def s15_an_isolated_leader_answers_from_old_state_for_half_a_minute() -> None:
    """There is no read index, and a leader that reaches nobody goes on for leaderFallbackTimeout, 30 s by default
    (syncobj.py:678-687). For that long it shows balances that the cluster has changed, and takes commands.
    """
    lab = Lab()
    lab.elect("A", voters="B")
    lab.settle()
    lab.isolate("A")
    lab.elect("B", voters="C")
    lab.pay("B", "p0")
    lab.settle("BC")
    assert lab.acknowledged() == ["p0"]

    began_s = lab.clock.now_s
    while lab.clock.now_s < began_s + 29:
        lab.heartbeat("A")
        assert lab["A"]._isLeader()
        assert lab["A"].isReady()
        assert lab["A"].payments == []


def s16_one_broken_link_deposes_a_leader_that_has_a_majority() -> None:
    """Without pre-vote a node that does not hear the leader raises its term and stands (_onTick, syncobj.py:635-651),
    whoever else hears it; and a lower term is not answered, so that the old leader believes on. Every few seconds the
    cluster changes its leader and fails its customers, over one cable between two nodes.
    """
    lab = Lab(raftMinTimeout=0.4, raftMaxTimeout=1.4)
    for name in "BC":
        lab[name]._SyncObj__raftElectionDeadline = lab.clock.now_s + 100
    lab.elect("A", voters="BC")
    lab.settle()
    lab.cut("A", "C")

    leaders, believers_max = [], 0
    for _ in range(700):
        lab.clock.now_s += 0.1
        lab.tick("A", "B", "C")
        for sender, receiver in sorted(lab.links):
            lab.deliver(sender, receiver)
        leading = [name for name in "ABC" if lab[name]._isLeader()]
        believers_max = max(believers_max, len(leading))
        newest = max(leading, key=lambda name: lab[name].raftCurrentTerm, default=None)
        if newest is not None and leaders[-1:] != [newest]:
            leaders.append(newest)

    assert leaders[:2] == ["A", "C"]
    assert believers_max == 2


def s17_one_voter_counted_twice_makes_two_leaders_of_one_term() -> None:
    """Votes are counted, not voters (syncobj.py:1063-1068): a vote that is delivered twice counts twice. Two nodes lead
    in one term, and whatever each acknowledges, the other may overwrite.
    """
    lab = Lab("ABCDE")
    for name in "AC":
        lab[name]._SyncObj__raftElectionDeadline = 0
        lab.tick(name)
    lab.deliver("A", "B")
    for voter in "DE":
        lab.deliver("C", voter, 1)
        lab.deliver(voter, "C", 1)
    (vote,) = lab.on_the_way("B", "A")

    lab.receive("B", "A", vote)
    lab.receive("B", "A", vote)

    assert [hidden(lab[name], "raftState") for name in "AC"] == [LEADER, LEADER]
    assert lab["A"].raftCurrentTerm == lab["C"].raftCurrentTerm == 1
