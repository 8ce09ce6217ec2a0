"""S10, S23: what stock does when the members of the cluster change."""

from pysyncobj.node import Node

from tests.museum.stock.lab import Lab, hidden


def s10_several_changes_at_once_make_two_clusters() -> None:
    """__changeCluster means to allow one membership change at a time, but __changeClusterIDx, which it asks, is never
    assigned. A leader that is cut off admits node after node before one of them is committed, until these are a
    majority of their own: it and the real majority both acknowledge payments that the other side never sees.
    """
    lab = Lab(dynamicMembershipChange=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.isolate("A")
    for newcomer in "DEFG":
        lab["A"].addNodeToCluster(Node(newcomer))
    lab.tick("A")
    assert lab["A"].raftCommitIndex == 2
    assert len(lab["A"].otherNodes) == 6

    lab.names = "ABCDEFG"
    for newcomer in "DEF":
        lab.start(newcomer)
        lab.connect("A", newcomer)
    lab.pay("A", "here")
    lab.settle("ADEF")
    lab.elect("B", voters="C")
    lab.pay("B", "there")
    lab.settle("BC")

    assert lab.acknowledged() == ["here", "there"]
    assert lab["A"].payments == ["here"]
    assert lab["B"].payments == ["there"]


def s23_a_restarted_node_forgets_a_member_and_wins_with_half_the_votes() -> None:
    """A membership change counts from the moment it is in the log, but after a restart only committed ones are applied
    again (syncobj.py:885-890). The node counts a smaller cluster than the one it is in, and is elected by two of
    four: the other two may elect another.
    """
    lab = Lab(dynamicMembershipChange=True, on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.cut("A", "C")
    lab["A"].addNodeToCluster(Node("D"))
    lab.tick("A")
    lab.heartbeat("A")
    lab.deliver("A", "B")
    assert Node("D") in lab["B"].otherNodes

    lab.kill("B")
    lab.start("B")
    lab.connect("B", "C")
    lab.elect("B", voters="C")

    assert hidden(lab["B"], "raftLog")[2][0][:1] == b"\x02", "the change is in its log"
    assert lab["B"].otherNodes == {Node("A"), Node("C")}
