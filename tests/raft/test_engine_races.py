"""Events in an unlucky order, on real engines: between two looks at the clock, two lives of a node, two connections."""

import pysyncobj.syncobj as stock

from raftpay.errors import NotLeaderError
from raftpay.raft.engine import FOLLOWER
from raftpay.raft.log import SLICE_BYTES_MAX
from raftpay.raft.messages import AppendEntries, Message, PreVote, ReadIndexReply
from raftpay.storage.sim_disk import SimDelays
from tests.raft.lab import Clock, Lab


def test_an_answer_to_a_question_of_an_earlier_life_confirms_no_read(lab: Lab) -> None:
    """What S13 is for commands. Between question and answer a write was acknowledged, so the answer is too old."""
    lab.elect("n1")
    lab.settle()
    lab.members["n2"].engine.request_read(lambda error: None)
    lab.deliver("n2", "n1")
    lab.kill("n2")
    follower = lab.start("n2")
    lab.connect("n2", "n1")
    lab.connect("n1", "n2")
    while lab.deliver("n1", "n2"):
        lab.sync("n2")
    while lab.deliver("n2", "n1"):
        lab.tick("n1")
    assert any(isinstance(message, ReadIndexReply) for message in lab.links["n1", "n2"])
    lab.propose(b"money")
    while lab.deliver("n1", "n3"):
        lab.sync("n3")
    lab.sync("n1")
    while lab.deliver("n3", "n1"):
        lab.tick("n1")
    assert lab.acknowledged == [b"money"]

    seen: list[list[bytes]] = []
    follower.engine.request_read(lambda error: seen.append([payload for _, payload in follower.applied]))
    while lab.deliver("n1", "n2"):
        lab.tick("n2")
    assert seen == []

    lab.settle()
    assert seen == [[b"money"]]


def test_a_question_that_a_leader_between_two_connections_could_not_answer_is_not_left_open(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()
    lab.disconnect("n1", "n2")
    answers: list[Exception | None] = []

    lab.members["n2"].engine.request_read(answers.append)
    lab.settle()
    lab.connect("n1", "n2")
    lab.run_s(1)

    assert [type(answer) for answer in answers] == [NotLeaderError]
    assert lab.members["n2"].engine.leader == "n1"


def test_a_deadline_that_passes_within_a_tick_does_not_spare_the_pre_vote(lab: Lab, clock: Clock) -> None:
    """S16: stock looks at the clock itself, a moment after us. A node stopped in between looks much later."""
    lab.elect("n1")
    engine = lab.members["n2"].engine
    lab.disconnect("n1", "n2")
    term, start_s = engine.term, engine._SyncObj__raftElectionDeadline - 1.0

    def a_second_at_each_look() -> float:
        nonlocal start_s
        start_s += 0.75
        return start_s

    stock.monotonicTime = a_second_at_each_look
    engine.tick()
    stock.monotonicTime = clock

    assert (engine.role, engine.term) == (FOLLOWER, term)


def test_a_pre_vote_granted_before_the_leader_was_heard_again_deposes_nobody(lab: Lab, clock: Clock) -> None:
    leader = lab.elect("n1")
    lab.settle()
    clock.now_s += leader.options.election_timeout_max_s + 0.1
    lab.tick("n2")
    asked = [lab.deliver("n2", "n3") for _ in range(len(lab.links["n2", "n3"]))]
    assert any(isinstance(message, PreVote) for message in asked)
    lab.tick("n1")
    lab.deliver("n1", "n2")

    lab.settle()

    assert [member.engine.term for member in lab.members.values()] == [1, 1, 1]
    assert lab.leader() == "n1"


def test_a_new_leader_commits_a_long_log_without_reading_it(lab: Lab) -> None:
    """A whole cluster restarts: nobody knows what is committed, and the log may be larger than memory."""
    lab.elect("n1")
    for number in range(500):
        lab.propose(b"%d" % number + b"x" * 4000)
        lab.settle()
    for name in lab.names:
        lab.kill(name)
    for name in lab.names:
        lab.start(name)
    lab.connect_all()
    # A simulated second for each byte that is read.
    lab.disks["n1"].delays = SimDelays(byte_s=1.0)
    engine, longest = lab.members["n1"].engine, 0.0
    lab.clock.now_s += engine.options.election_timeout_max_s + 0.01

    while not engine.is_ready:
        before = lab.disks["n1"].elapsed_s
        lab.tick("n1")
        longest = max(longest, lab.disks["n1"].elapsed_s - before)
        for sender, receiver in sorted(lab.links):
            lab.deliver(sender, receiver)
        for name in lab.names:
            lab.sync(name)

    assert lab.disks["n1"].elapsed_s > 500 * 4000
    assert longest < 2 * SLICE_BYTES_MAX


def test_many_refusals_of_what_was_under_way_bring_one_probe(lab: Lab) -> None:
    """The follower's disk fills up while a whole window is on its way to it."""
    lab.elect("n1")
    lab.settle()
    for number in range(100):
        lab.propose(b"%d" % number + b"x" * 1500)
    on_their_way = sum(map(_size, lab.links["n1", "n3"]))
    lab.disks["n3"].capacity_bytes = 0

    delivered = 0
    while (message := lab.deliver("n1", "n3")) is not None:
        delivered += _size(message)
        while lab.deliver("n3", "n1") is not None:
            continue

    assert delivered <= on_their_way + 1600
    lab.disks["n3"].capacity_bytes = 1 << 50
    lab.run_s(1)
    lab.check_outcome()


def _size(message: Message) -> int:
    return sum(len(entry.payload) for entry in message.entries) if isinstance(message, AppendEntries) else 0
