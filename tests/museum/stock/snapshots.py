"""S4, S5, S14, S21, S22: what stock does with snapshots."""

from pathlib import Path

from pysyncobj.node import Node

from tests.museum.stock.lab import HEARTBEAT_S, Lab, error_of, hidden, last_index, log


def behind_a_snapshot(lab: Lab, *, before: int = 4, after: int = 6) -> None:
    """Elect A and have payments made: some before its snapshot, some after."""
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("A", *(f"p{number}" for number in range(before)))
    lab.settle()
    lab["A"].forceLogCompaction()
    lab.settle()
    lab.pay("A", *(f"p{number}" for number in range(before, before + after)))
    lab.settle()


def send_snapshot(lab: Lab, sender: str, receiver: str) -> None:
    """Have the leader send its snapshot, and deliver all of it but nothing that follows."""
    # A refusal that came late over an older connection: it carries no term, and nextIndex follows it.
    refusal = {"type": "next_node_idx", "next_node_idx": 2, "reset": True, "success": False}
    lab.receive(receiver, sender, refusal)
    lab.heartbeat(sender)
    while lab.on_the_way(sender, receiver):
        part = lab.on_the_way(sender, receiver)[0]
        lab.deliver(sender, receiver, 1)
        if part.get("serialized") and part["serialized"][2]:
            break


def s4_an_older_snapshot_rolls_the_books_back() -> None:
    """A snapshot is installed whatever the node has applied since (syncobj.py:1022-1024, __loadDumpFile), and its log
    is thrown away. Payments that were acknowledged with this node's word leave its books, while the leader goes on
    counting it for them: when the leader dies, so do they.
    """
    lab = Lab(on_disk=True)
    behind_a_snapshot(lab, before=4, after=0)
    lab.cut("A", "C")
    lab.pay("A", "p4", "p5")
    lab.settle("AB")
    assert lab.acknowledged()[-2:] == lab["B"].payments[-2:] == ["p4", "p5"]

    send_snapshot(lab, "A", "B")

    assert lab["B"].payments == ["p0", "p1", "p2", "p3"]
    assert last_index(lab["B"]) < last_index(lab["A"]) == hidden(lab["A"], "raftMatchIndex")[Node("B")]
    lab.kill("A")
    lab.elect("B", voters="C")
    lab.settle()
    assert lab.lost(at="B") == ["p4", "p5"]


def s5_a_snapshot_that_cannot_be_loaded_is_acknowledged() -> None:
    """A bare except swallows what goes wrong in loading a snapshot, and the follower then acknowledges the end of its
    own log (syncobj.py:1023, __loadDumpFile), which may be a divergent one. Here the leader's file has lost its end,
    and the leader acknowledges a payment that nobody but itself has.
    """
    lab = Lab(on_disk=True)
    lab.elect("C", voters="B")
    lab.settle()
    lab.isolate("C")
    lab.pay("C", *(f"tail {number}" for number in range(20)))
    lab.elect("A", voters="B")
    lab["A"].pay("p0")
    lab["A"].pay("p1")
    lab.settle("AB")
    lab["A"].forceLogCompaction()
    lab.settle("AB")
    dump = Path("A.dump").read_bytes()
    Path("A.dump").write_bytes(dump[: len(dump) // 2])

    lab.isolate("A")
    lab.connect("A", "C")
    lab.heartbeat("A")
    lab.deliver("A", "C")
    lab.deliver("C", "A")
    lab.cut("A", "C")
    lab.pay("A", "only here")
    lab.tick("A", "A")

    assert log(lab["C"])[-1] == (22, 1)
    assert lab.answers["only here"] == ["SUCCESS"]
    assert all("only here" not in lab[name].payments for name in "BC")


def s14_the_answer_to_a_payment_inside_a_snapshot_never_comes() -> None:
    """Callbacks wait by index (__commandsWaitingCommit) and fire only when that entry is applied; a snapshot jumps over
    it. The payment is made, and its customer waits for ever.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("C", "p0")
    lab.deliver("C", "A")
    lab.tick("A")
    lab.deliver("A", "C")
    lab.isolate("C")
    lab["A"].pay("p1")
    lab["A"].pay("p2")
    lab.settle("AB")
    lab["A"].forceLogCompaction()
    lab.settle("AB")
    lab.connect_all()
    send_snapshot(lab, "A", "C")
    lab.settle(rounds=100)

    assert lab["C"].payments[:1] == ["p0"]
    assert lab.answers["p0"] == []


def s21_while_a_snapshot_is_written_the_leader_spins_and_floods() -> None:
    """With no snapshot to send yet, the loop of __sendAppendEntries sends empty frames until a whole period is over
    (`serialized: None`, and nextIndex does not move), and the node does nothing else meanwhile. A follower with an
    empty disk thus halts payments for all others.
    """
    lab = Lab()
    behind_a_snapshot(lab)
    lab.kill("C")
    lab.start("C")
    lab.connect_all()
    lab["A"].forceLogCompaction()
    lab.receive("C", "A", {"type": "next_node_idx", "next_node_idx": 2, "reset": True, "success": False})
    lab.tick("A")  # writes the snapshot, and knows that it is written only at the next tick
    began_s = lab.clock.now_s
    lab.heartbeat("A")

    empty = [message for message in lab.on_the_way("A", "C") if "serialized" in message]
    assert len(empty) > 500
    assert {message["serialized"] for message in empty} == {None}
    assert lab.clock.now_s - began_s > HEARTBEAT_S + 0.1


def s22_a_snapshot_taken_in_the_middle_of_compaction_empties_the_log() -> None:
    """Compaction cuts the log by the index that its own snapshot had (syncobj.py:1208, 1427), even when an older
    one was installed in between and the log ends before that: it is empty then, which nothing expects. Every message
    from a leader raises IndexError until somebody restarts the node.
    """
    lab = Lab(on_disk=True)
    behind_a_snapshot(lab, before=6, after=30)
    lab["B"].forceLogCompaction()
    lab.tick("B")  # its own snapshot is written; the cut comes with the next tick
    send_snapshot(lab, "A", "B")
    lab.tick("B")
    lab.links["A", "B"].clear()
    lab.heartbeat("A")

    assert len(hidden(lab["B"], "raftLog")) == 0
    assert error_of(lambda: lab.deliver("A", "B")) is IndexError
