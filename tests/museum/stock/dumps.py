"""D4 to D8, D14, D15: stock's compaction, and what its dumps and its entries mean to the next life of a node."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from pysyncobj import SyncObjConf, replicated

from tests.museum.stock.lab import Books, Lab, hidden, last_index


def restart_all(lab: Lab) -> None:
    lab.kill(*lab.nodes)
    for name in lab.names:
        lab.start(name)
    lab.connect_all()


def compact_all(lab: Lab) -> None:
    for name in lab.names:
        lab[name].forceLogCompaction()
    lab.settle()


def d4_a_journal_without_a_dump_file_loses_everything_at_compaction() -> None:
    """SyncObjConf.validate accepts a journal without a dump file. Compaction, which comes by itself after five minutes,
    then keeps the snapshot in memory and cuts the journal on disk: after the next restart the books are empty.
    """
    lab = Lab(on_disk=True, fullDumpFile=None)
    lab.elect("A", voters="B")
    lab.pay("A", *(f"p{number}" for number in range(10)))
    lab.settle()
    assert len(lab.acknowledged()) == 10
    compact_all(lab)
    restart_all(lab)
    lab.elect("A", voters="B")
    lab.settle()

    assert [lab[name].payments for name in "ABC"] == [[], [], []]


def payments_before_and_after_a_dump_of_b(lab: Lab) -> None:
    """C is cut off, B writes a dump, and before it cuts its journal two payments are acknowledged with its word."""
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("A", "p0", "p1")
    lab.settle()
    lab.isolate("C")
    lab["B"].forceLogCompaction()
    lab.tick("B")
    lab.pay("A", "p2", "p3")
    lab.heartbeat("A")
    lab.deliver("A", "B")
    lab.deliver("B", "A")
    lab.tick("A")
    assert lab.acknowledged() == ["p0", "p1", "p2", "p3"]


def b_and_c_go_on(lab: Lab) -> None:
    lab.kill("A")
    lab.connect("B", "C")
    lab.elect("B", voters="C")
    lab.settle()


def d5_a_kill_while_the_journal_is_compacted_loses_acknowledged_entries() -> None:
    """FileJournal.deleteEntriesTo empties the file in place and then writes the kept entries again, one by one
    (journal.py). A process that is killed in between has forgotten the others; with the leader lost too, acknowledged
    payments are gone.
    """
    lab = Lab(on_disk=True)
    payments_before_and_after_a_dump_of_b(lab)
    journal, left = hidden(lab["B"], "raftLog"), [2]
    add = journal.add

    def add_until_killed(*entry: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        add(*entry)

    journal.add = add_until_killed
    with suppress(KeyboardInterrupt):
        lab.tick("B")
    lab.kill("B")
    lab.start("B")
    assert last_index(lab["B"]) < last_index(lab["A"]), "its journal has forgotten entries"
    b_and_c_go_on(lab)

    assert lab.lost(at="B") == ["p2", "p3"]


def d6_a_kill_between_the_dump_and_the_cut_throws_the_whole_journal_away() -> None:
    """On start the journal must begin with the two entries of the dump, or all of it is cleared (__loadDumpFile). A
    process killed after its dump was renamed and before its journal was cut has neither: what it acknowledged since
    the dump is gone.
    """
    lab = Lab(on_disk=True)
    payments_before_and_after_a_dump_of_b(lab)
    lab.kill("B")
    lab.start("B")
    assert last_index(lab["B"]) == last_index(lab["A"]), "all is there on disk"
    lab.tick("B")
    b_and_c_go_on(lab)

    assert lab.lost(at="B") == ["p2", "p3"]


class Gate:
    """Holds up whoever pickles it until there is a byte in a pipe."""

    def __init__(self, pipe: int = -1) -> None:
        self.pipe = pipe

    def __reduce__(self) -> Any:
        os.read(self.pipe, 1)
        return (Gate, ())


class Alone(Books):
    """A node that acknowledges by itself: what it loses is lost."""


def _live_until_killed_while_dumping(gate: int) -> None:
    lab = Lab("A", kind=Alone, on_disk=True, useFork=True)
    lab["A"]._SyncObj__raftElectionDeadline = 0
    lab.settle()
    lab["A"].gate = Gate(gate)
    lab.pay("A", "p0")
    lab.settle()
    lab["A"].forceLogCompaction()
    lab.tick("A")  # forks the process that dumps
    lab.pay("A", "p1")
    lab.settle()
    Path("acknowledged").write_text(" ".join(lab.acknowledged()))
    os.kill(os.getpid(), signal.SIGKILL)


def d7_the_dumping_child_of_a_dead_process_renames_its_dump_later() -> None:
    """Dumps are written by a forked child that nobody ends with its parent (serializer.py). It puts its dump in place
    after the parent was killed, perhaps after the restart; the dump does not fit the journal then, and the whole
    journal is thrown away, as in D6.
    """
    gate, opener = os.pipe()
    end_of_all, alive = os.pipe()
    process = os.fork()
    if process == 0:
        _live_until_killed_while_dumping(gate)
    os.close(alive)
    os.waitpid(process, 0)
    assert Path("acknowledged").read_text() == "p0 p1"
    assert not Path("A.dump").exists()

    os.write(opener, b"!")
    os.read(end_of_all, 1)  # the orphan has it open until it ends
    assert Path("A.dump").exists()
    lab = Lab("A", kind=Alone, on_disk=True)
    assert last_index(lab["A"]) == 4
    lab.tick("A")

    assert (last_index(lab["A"]), lab["A"].payments) == (3, ["p0"])


def d8_a_node_with_an_unreadable_dump_runs_on_with_empty_books() -> None:
    """A bare except around the loading of a dump (__loadDumpFile) leaves the node running with nothing. It votes, is
    elected and leads; to whoever asks it, all balances are zero, and what it proposes is applied by the others only.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.pay("A", *(f"p{number}" for number in range(5)))
    lab.settle()
    compact_all(lab)
    lab.kill("A")
    Path("A.dump").write_bytes(b"")  # it was never fsynced, and the power failed
    lab.start("A")
    lab.connect_all()
    lab.settle()
    lab.elect("A", voters="B")
    lab.pay("A", "p5")
    lab.settle()

    assert lab["A"]._isLeader()
    assert lab["A"].payments == []
    assert lab["B"].payments == lab["C"].payments == ["p0", "p1", "p2", "p3", "p4", "p5"]


class Account(Books):
    def __init__(self, lab: Lab, name: str, conf: SyncObjConf) -> None:
        super().__init__(lab, name, conf)
        self.balance = 0

    @replicated
    def credit(self, amount: int) -> None:
        self.balance += amount

    @replicated
    def debit(self, amount: int) -> None:
        self.balance -= amount


class AuditedAccount(Account):
    @replicated
    def audit(self, amount: int) -> None:
        """A new method of the next release; its name comes first in the alphabet."""


def d14_a_new_method_gives_old_entries_another_meaning() -> None:
    """Entries name a method by its place in a sorted list (syncobj.py:248-255). A release with one method more reads
    the old journal with all places moved: a debit is replayed as a credit.
    """
    lab = Lab(kind=Account, on_disk=True)
    lab.elect("A", voters="B")
    lab["A"].credit(100)
    lab["A"].debit(30)
    lab.settle()
    assert lab["A"].balance == 70

    lab.kind = AuditedAccount
    restart_all(lab)
    lab.elect("A", voters="B")
    lab.settle()

    assert [lab[name].balance for name in "ABC"] == [30, 30, 30]


class EarlyBooks(Books):
    """Makes an attribute before PySyncObj's constructor, as is usual in Python."""

    def __init__(self, lab: Lab, name: str, conf: SyncObjConf) -> None:
        self.balances: dict[str, int] = {}
        super().__init__(lab, name, conf)

    @replicated
    def deposit(self, account: str, amount: int) -> None:
        self.balances[account] = self.balances.get(account, 0) + amount
        self.payments.append(account)


def d15_an_attribute_made_before_the_constructor_is_left_out_of_dumps() -> None:
    """What exists when PySyncObj's constructor ends counts as its own and is not dumped (__properies,
    syncobj.py:274-276). The balances of all accounts are gone after the first compaction and restart.
    """
    lab = Lab(kind=EarlyBooks, on_disk=True)
    lab.elect("A", voters="B")
    for account in ("alice", "bob", "carol"):
        lab["A"].deposit(account, 100)
    lab.settle()
    compact_all(lab)
    restart_all(lab)
    lab.elect("A", voters="B")
    lab.settle()

    assert lab["A"].payments == ["alice", "bob", "carol"]
    assert "alice" not in lab["A"].balances
