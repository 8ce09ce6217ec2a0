"""S1, S2, S3, S7: what stock does to a log that is copied, acknowledged and committed."""

import pickle
from contextlib import suppress

from pysyncobj.node import Node

from tests.museum.stock.lab import Lab, hidden, last_index, log


def s1_a_repeated_frame_cuts_acknowledged_entries() -> None:
    """A follower deletes all that follows prevLogIdx before it appends (syncobj.py:990-1006), whatever the terms say,
    and an acknowledgement may move nextIndex back (1072-1082), so that a leader repeats frames in a healthy network.
    If it dies between a repeated first frame and the rest, payments that customers were told of are gone.
    """
    lab = Lab(appendEntriesBatchSizeBytes=60)
    lab.elect("A", voters="B")
    lab.settle()
    lab.cut("A", "C")
    lab.pay("A", *(f"p{number}" for number in range(10)))
    lab.heartbeat("A")
    lab.deliver("A", "B", 1)
    lab.deliver("B", "A")
    frames = len(lab.on_the_way("A", "B"))
    lab.heartbeat("A")
    assert len(lab.on_the_way("A", "B")) > frames, "sent again: the acknowledgement of frame 1 moved nextIndex back"

    lab.deliver("A", "B", frames)
    lab.deliver("B", "A")
    lab.tick("A")
    assert len(lab.acknowledged()) == 10
    lab.deliver("A", "B", 1)
    lab.kill("A")
    lab.elect("B", voters="C")
    lab.settle()

    assert lab.lost(at="B") == ["p6", "p7", "p8", "p9"]
    assert lab["B"].payments == lab["C"].payments


def s1_a_follower_killed_while_it_repeats_a_frame_has_lost_it() -> None:
    """The same deletion, met by a SIGKILL of the follower before it has appended the frame again: its journal has
    forgotten entries that it acknowledged (syncobj.py:1004-1006). With the leader lost too, so are the payments.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.cut("A", "C")
    lab.pay("A", "p0", "p1")
    lab.heartbeat("A")
    (frame,) = lab.on_the_way("A", "B")
    lab.deliver("A", "B")
    lab.deliver("B", "A")
    lab.tick("A")
    assert lab.acknowledged() == ["p0", "p1"]

    hidden(lab["B"], "raftLog").add = _killed
    with suppress(KeyboardInterrupt):
        lab.receive("A", "B", frame)
    lab.kill("A", "B")
    lab.start("B")
    lab.connect("B", "C")
    lab.elect("B", voters="C")
    lab.settle()

    assert lab.lost(at="B") == ["p0", "p1"]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def s2_a_late_acknowledgement_of_another_term_commits_on_a_minority() -> None:
    """next_node_idx carries no term (syncobj.py:1068-1083): what a follower acknowledged to an earlier leadership is
    counted in a new one of the same node, although its log has been replaced since. The leader acknowledges a payment
    that two of five nodes have, and those two may die.
    """
    lab = Lab("ABCDE")
    lab.elect("A", voters="BC")
    lab.settle()
    for payment in ("old 0", "old 1", "old 2"):
        lab["A"].pay(payment)
    lab.tick("A")
    lab.heartbeat("A")
    lab.deliver("A", "B")  # and B's acknowledgement stays on its way
    lab.elect("C", voters="DE")
    for follower in "DEBA":
        lab.deliver("C", follower)
        lab.deliver(follower, "C")
    lab.heartbeat("C")
    for follower in "CDE":
        lab.deliver("A", follower)
    lab.elect("A", voters="DE")

    lab.pay("A", "new")
    lab.heartbeat("A")
    lab.deliver("A", "D")
    lab.deliver("D", "A")
    lab.tick("A")
    assert lab.acknowledged() == []
    lab.deliver("B", "A", 1)
    lab.tick("A")

    assert hidden(lab["A"], "raftMatchIndex")[Node("B")] == last_index(lab["A"])
    assert log(lab["B"])[-1] != log(lab["A"])[-1]
    assert lab.acknowledged() == ["new"]
    lab.kill("A", "D")
    lab.elect("E", voters="BC")
    lab.settle()
    assert lab.lost(at="E") == ["new"]


def s3_a_snapshot_frame_commits_whatever_the_log_holds() -> None:
    """Any append_entries message raises the commit index up to the end of the log, a part of a snapshot too, which
    compares nothing (syncobj.py:1020-1036). An old leader that comes back applies its own divergent tail and tells the
    customer that a payment is done which the cluster never had.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.isolate("A")
    lab.pay("A", "never committed")
    lab.elect("B", voters="C")
    for number in range(5):
        lab["B"].pay(f"p{number}")
    lab.settle("BC")
    lab["B"].forceLogCompaction()
    lab.settle("BC")
    assert lab.answers["never committed"] == []

    lab.connect("A", "B")
    lab.heartbeat("B")
    lab.deliver("B", "A", 1)
    lab.tick("A")

    assert lab["A"].payments == ["never committed"]
    assert lab.answers["never committed"] == ["SUCCESS"]
    assert "never committed" not in lab["B"].payments


def s7_a_conflicting_tail_and_a_long_backlog_never_converge() -> None:
    """Each refusal moves nextIndex to the refused index, each frame on its way moves it forward again
    (syncobj.py:985-989, __sendAppendEntries): behind a conflict and with more than one frame to send, the leader goes
    round in a circle. The node stays out for ever, megabytes are sent, and one more failure stops the cluster.
    """
    lab = Lab()
    lab.elect("A", voters="B")
    lab.settle()
    lab.isolate("A")
    lab.pay("A", "tail 0", "tail 1", "tail 2")
    lab.elect("B", voters="C")
    for number in range(5):
        lab["B"].pay(f"p{number}" + "x" * 40_000)
    lab.settle("BC")
    lab.elect("C", voters="B")
    lab.settle("BC")

    lab.connect_all()
    sent_bytes = 0
    for _ in range(600):  # one virtual minute
        lab.clock.now_s += 0.1
        lab.tick("A", "B", "C")
        sent_bytes += sum(map(len, lab.links["C", "A"]))
        for sender, receiver in sorted(lab.links):
            lab.deliver(sender, receiver)

    assert lab["A"].payments == []
    assert len(pickle.dumps(lab["C"].payments)) * 20 < sent_bytes
