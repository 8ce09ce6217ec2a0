"""S8, S9, S11, S12, S13, S18, S19, S20: what becomes of a command in stock, and what its sender is told."""

import pickle
from collections import Counter

from pysyncobj import replicated

from tests.museum.stock.lab import HEARTBEAT_S, Books, Lab, error_of

# The defaults: nodes stand for election by themselves.
DEFAULT_TIMEOUTS = {"raftMinTimeout": 0.4, "raftMaxTimeout": 1.4}


def settle_despite_errors(lab: Lab, *, rounds: int = 100) -> Counter[str]:
    """Let heartbeats pass as a node's thread does, which logs an exception and ticks again. Returns who raised."""
    raised: Counter[str] = Counter()
    for _ in range(rounds):
        lab.clock.now_s += HEARTBEAT_S
        for name in lab.nodes:
            try:
                lab.tick(name)
            except Exception:  # noqa: BLE001  as PySyncObj's _autoTickThread
                raised[name] += 1
        for sender, receiver in sorted(lab.links):
            lab.deliver(sender, receiver)
    return raised


class Refusing(Books):
    @replicated
    def refuse(self, payment: str) -> None:
        self.payments.append(payment)
        raise ValueError("insufficient funds")


def s8_a_command_that_raises_is_applied_again_on_every_tick() -> None:
    """lastApplied moves on only after a command has returned (syncobj.py:708-725), so one that raises is met again on
    each tick, its side effects included, and nothing behind it is ever applied. All nodes are wedged alike, and the
    entry waits in their journals for the restart.
    """
    lab = Lab(kind=Refusing, on_disk=True, **DEFAULT_TIMEOUTS)
    lab.elect("A", voters="B")
    lab.settle()
    lab["A"].refuse("bad")
    lab.pay("A", "good")
    raised = settle_despite_errors(lab)

    assert raised.keys() == {"A", "B", "C"}
    for name in "ABC":
        assert lab[name].payments.count("bad") > 5
        assert "good" not in lab[name].payments
    assert lab.answers["good"] == []

    lab.kill("A", "B", "C")
    for name in "ABC":
        lab.start(name)
    lab.connect_all()
    assert settle_despite_errors(lab).keys() == {"A", "B", "C"}


def s9_an_exception_in_a_callback_applies_the_payment_twice_on_one_node() -> None:
    """The completion callback runs inside apply, before lastApplied moves (syncobj.py:715-721). If it raises, say
    because the caller has given up its future, the command is applied again, on that node only: the books part.
    """
    lab = Lab()
    lab.elect("A", voters="B")
    lab.settle()
    calls = []

    def give_up(_result: object, reason: int) -> None:
        calls.append(reason)
        raise RuntimeError("invalid state: the caller does not wait any more")

    lab["A"].pay("p0", callback=give_up)
    raised = settle_despite_errors(lab)

    assert (raised, len(calls)) == ({"A": 1}, 1)
    assert lab["A"].payments == ["p0", "p0"]
    assert lab["B"].payments == lab["C"].payments == ["p0"]


def s11_leader_changed_is_told_for_a_payment_that_is_made() -> None:
    """On a change of leader everything forwarded and unanswered fails with LEADER_CHANGED (__onLeaderChanged),
    although the old leader may have copied it already. Whoever takes the word for "it did not happen" pays twice.
    """
    lab = Lab()
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("C", "p0")
    lab.deliver("C", "A")
    lab.tick("A")
    lab.links["A", "C"].clear()
    lab.heartbeat("A")
    lab.deliver("A", "B")
    lab.kill("A")
    lab.elect("B", voters="C")
    lab.settle()

    assert lab.answers["p0"] == ["LEADER_CHANGED"]
    assert lab["C"].payments == ["p0"]


def s12_a_forwarded_payment_vanishes_without_an_answer() -> None:
    """A follower sends a command on and ignores whether it could (_checkCommandsToApply, syncobj.py:560-566); there is
    no time-out. The customer waits for ever, in a cluster in which every node is up and connected.
    """
    lab = Lab()
    lab.elect("A", voters="B")
    lab.settle()
    lab.cut("A", "C")
    lab.pay("C", "p0")
    lab.connect("A", "C")
    lab.settle(rounds=200)

    assert lab.answers["p0"] == []
    assert lab["A"].payments == []


def s13_a_restarted_node_takes_the_answer_of_its_earlier_life_as_its_own() -> None:
    """Numbers of forwarded requests begin at 1 in each life (__commandsLocalCounter), so that a leader's late answer to
    the first request before a restart answers the first one after it. A customer is told that a payment is done which
    reached nobody.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("C", "old life")
    lab.deliver("C", "A")
    lab.kill("C")
    lab.start("C")
    lab.connect_all()
    lab.heartbeat("A")
    lab.deliver("A", "C", 1)
    answer = lab.on_the_way("A", "C")
    lab.pay("C", "new life")
    lab.links["C", "A"].clear()
    lab.settle()

    assert [message["type"] for message in answer] == ["apply_command_response"]
    assert lab.answers["new life"] == ["SUCCESS"]
    assert lab["A"].payments == lab["C"].payments == ["old life"]


def s18_an_empty_command_wedges_the_whole_cluster() -> None:
    _wedge_with(b"")


def s18_an_unknown_method_wedges_the_whole_cluster() -> None:
    _wedge_with(b"\0" + pickle.dumps((99, ())))


def _wedge_with(command: bytes) -> None:
    """What a follower forwards goes into the log unread, and __doApplyCommand (syncobj.py:870-907) raises on it on
    every tick of every node. One frame from one broken node, and nobody is paid any more.
    """
    lab = Lab(**DEFAULT_TIMEOUTS)
    lab.elect("A", voters="B")
    lab.settle()
    lab.receive("C", "A", {"type": "apply_command", "command": command})
    lab["A"].pay("good")

    raised = settle_despite_errors(lab)

    assert raised.keys() == {"A", "B", "C"}
    assert [lab[name].payments for name in "ABC"] == [[], [], []]
    assert lab["A"].raftCommitIndex > lab["A"].raftLastApplied


def s19_a_payment_queued_without_a_leader_is_made_much_later() -> None:
    """While there is no leader a command waits (commandsWaitLeader, syncobj.py:507), for as long as that takes, and
    cannot be withdrawn. The customer has long since paid in another way when it runs.
    """
    lab = Lab()
    lab.pay("C", "p0")
    for _ in range(30):
        lab.clock.now_s += 1
        lab.tick("C")
    assert lab.answers["p0"] == []

    lab.elect("A", voters="BC")
    lab.settle()

    assert lab["A"].payments == ["p0"]


class Upgraded(Books):
    @replicated(ver=1)
    def pay_abroad(self, payment: str) -> None:
        self.payments.append(payment)


def s20_a_node_that_does_not_know_the_code_version_applies_a_payment_twice() -> None:
    """An entry that switches to a version which the node does not know is passed over without moving lastApplied
    (syncobj.py:726-729), which is one behind from then on. In the middle of a rolling upgrade the next payment is made
    twice, on the nodes of the old release only.
    """
    lab = Lab(kind=Upgraded)
    lab.kill("B")
    lab.kind = Books
    lab.start("B")
    lab.connect_all()
    lab.elect("A", voters="B")
    lab.settle()
    lab["A"].setCodeVersion(1)
    lab.settle()
    lab.pay("A", "p0")
    lab.settle()

    assert lab["A"].payments == lab["C"].payments == ["p0"]
    assert lab["B"].payments == ["p0", "p0"]


def s20_a_restart_from_a_snapshot_forgets_the_methods_of_the_enabled_version() -> None:
    """Loading a snapshot resets the table of methods to version 0 (syncobj.py:1509). A cluster that was switched to
    version 1 long ago refuses its own calls after a restart.
    """
    lab = Lab(kind=Upgraded, on_disk=True)
    lab.elect("A", voters="B")
    lab["A"].setCodeVersion(1)
    lab.settle()
    lab["A"].pay_abroad("p0")
    lab.settle()
    for name in "ABC":
        lab[name].forceLogCompaction()
    lab.settle()
    assert [lab[name].payments for name in "ABC"] == [["p0"]] * 3

    lab.kill("A", "B", "C")
    for name in "ABC":
        lab.start(name)
    lab.connect_all()
    lab.elect("A", voters="B")
    lab.settle()

    assert lab["A"].payments == ["p0"]
    assert error_of(lambda: lab["A"].pay_abroad("p1")) is KeyError
