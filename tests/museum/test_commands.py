"""What becomes of a command: S8, S9, S11, S12, S13, S18, S19, S20, stock and ours.

S8 of ours: test_an_entry_that_cannot_be_applied_stops_the_node_and_is_not_tried_again in test_engine_rules.
"""

from pathlib import Path

import pytest

from raftpay.errors import EngineStoppedError, LeadershipLostError, NotLeaderError, ProtocolError
from raftpay.ledger import Ledger
from raftpay.machine import Machine
from raftpay.raft import messages
from raftpay.raft.messages import AppendEntries, LogEntry, ReadIndexReply
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab
from tests.raft.test_node import Group, with_group


@pytest.mark.parametrize("exhibit", exhibits("commands"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("commands", exhibit, tmp_path)


def test_s9_a_proposer_that_gave_up_changes_nothing_on_any_node(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()

        leader.raft.propose(b"p0").cancel()
        assert await leader.raft.propose(b"p1") == b"P1"

        for member in group.members.values():
            await group.wait_applied(member, b"p1")
            assert member.machine.applied == [b"p0", b"p1"]

    with_group(tmp_path, test)


def test_s11_a_proposer_is_told_unknown_when_the_new_leader_may_commit(lab: Lab) -> None:
    leader = lab.elect("n1")
    outcomes: list[Exception | None] = []
    leader.propose(b"p0", lambda _, error: outcomes.append(error))
    lab.deliver("n1", "n2")
    lab.isolate("n1")
    lab.elect("n2")
    lab.connect_all()
    lab.run_s(1)

    # Not NotLeaderError, which means that nothing was written.
    assert [type(outcome) for outcome in outcomes] == [LeadershipLostError]
    assert [payload for _, payload in lab.members["n1"].applied] == [b"p0"]


def refuse_everywhere_but_at_the_leader(lab: Lab, *, leader: str | None) -> None:
    """Propose at each node that does not lead: refused at once, nothing written, nothing sent, nothing later."""
    lengths = {name: member.journal.last_index for name, member in lab.members.items()}
    for name, member in lab.members.items():
        if name != leader:
            with pytest.raises(NotLeaderError) as refusal:
                member.engine.propose(b"p0", lambda _, error: pytest.fail("answered later"))
            assert refusal.value.leader == leader
    assert not any(lab.links.values())
    assert lengths == {name: member.journal.last_index for name, member in lab.members.items()}
    lab.run_s(5)
    assert lab.history == {}


def test_s12_a_follower_refuses_at_once_and_forwards_nothing(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()

    refuse_everywhere_but_at_the_leader(lab, leader="n1")


def test_s13_no_message_answers_a_command_so_that_none_can_be_mistaken(lab: Lab) -> None:
    lab.elect("n1")
    lab.propose(b"old life")
    lab.settle()
    for kind in ("apply_command", "apply_command_response"):
        with pytest.raises(ProtocolError):
            messages.decode(messages._encoder.encode({"type": kind, "request_id": 1, "log_idx": 3, "log_term": 1}))
    lab.kill("n1")
    lab.start("n1")
    lab.connect_all()
    leader = lab.elect("n1")
    answers: list[object] = []

    leader.propose(b"new life", lambda result, error: answers.append(result))
    lab.settle()

    assert answers == [b"new life"]


def test_s13_the_answer_to_a_read_of_an_earlier_life_confirms_no_read_of_this_one(lab: Lab) -> None:
    lab.elect("n1")
    lab.settle()
    lab.members["n2"].engine.request_read(lambda error: None)
    lab.deliver("n2", "n1")
    lab.deliver("n1", "n3")
    lab.deliver("n3", "n1")
    lab.tick("n1")
    late = lab.links["n1", "n2"][-1]
    assert isinstance(late, ReadIndexReply)
    lab.kill("n2")
    lab.start("n2")
    lab.connect_all()
    lab.run_s(0.2)
    answers: list[Exception | None] = []

    lab.members["n2"].engine.request_read(answers.append)
    lab.members["n2"].engine.receive("n1", late)

    assert answers == []
    lab.settle()
    assert answers == [None]


@pytest.mark.parametrize(
    "payload", [b"", b"\x02add", b"\x03\x07", b"\xff"], ids=["empty", "member", "version", "other"]
)
def test_s18_an_entry_of_an_unknown_type_stops_a_node_and_what_is_behind_it_waits(lab: Lab, payload: bytes) -> None:
    lab.elect("n1")
    lab.settle()
    node = lab.members["n2"]
    last, term = node.journal.last_index, node.engine.term
    entries = [LogEntry(last + 1, term, payload), LogEntry(last + 2, term, b"\x00good")]

    node.engine.receive("n1", AppendEntries(term, last + 2, last, term, 0, entries))
    for _ in range(2):
        with pytest.raises(EngineStoppedError, match=f"entry {last + 1} is of the unknown type"):
            node.engine.tick()

    assert node.applied == []


def test_s18_a_payload_that_is_empty_is_a_payload_to_the_engine(lab: Lab) -> None:
    lab.elect("n1")

    lab.propose(b"")
    lab.propose(b"good")
    lab.run_s(0.2)

    assert lab.acknowledged == [b"", b"good"]
    lab.check_outcome()


def test_s19_a_command_without_a_leader_is_refused_and_never_made(lab: Lab) -> None:
    refuse_everywhere_but_at_the_leader(lab, leader=None)

    lab.elect("n1")
    lab.run_s(1)

    assert lab.history == {}


def test_s20_a_node_that_does_not_know_the_version_of_a_command_stops_before_it(lab: Lab) -> None:
    old_release = Machine(Ledger())
    lab.members["n2"].engine._apply = old_release.apply
    lab.elect("n1")
    lab.propose(b"\x02 a command of the next version")
    lab.propose(b"\x02 and another")

    for _ in range(2):
        with pytest.raises(EngineStoppedError, match="the command has version 2, this release knows version 1"):
            lab.run_s(0.2)

    assert lab.members["n2"].engine.applied_index == 2
    assert old_release._ledger.time == 0
