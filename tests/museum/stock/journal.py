"""D1, D3, D9 to D13, D16: stock's journal and its meta file."""

import os
import signal
import struct
from collections import Counter
from mmap import mmap
from pathlib import Path

import pysyncobj.journal as stock_journal
from pysyncobj.journal import createJournal

from tests.museum.stock.lab import Lab, error_of, hidden, last_index, log

HEADER_BYTES = 40
# Where the header has the end of the last record, as 32 bits.
END_AT = 36


def flip(path: str, at: int, bit: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1 << bit
    Path(path).write_bytes(data)


def forget_after(path: str, count: int) -> None:
    """Make a journal end behind its first entries, as when later pages were not written back before a power loss."""
    data, end = bytearray(Path(path).read_bytes()), HEADER_BYTES
    for _ in range(count):
        end += struct.unpack_from("<I", data, end)[0] + 8
    struct.pack_into("<I", data, END_AT, end)
    Path(path).write_bytes(data)


def d1_nothing_is_fsynced_before_an_answer() -> None:
    """The journal is a memory map that nobody flushes, the meta file (term and vote) is closed without fsync, and the
    option that was to change it is accepted and unknown (journal.py, config.py). Every acknowledged payment of the last
    half minute hangs on the power supply.
    """
    calls: Counter[str] = Counter()
    os.fsync = os.fdatasync = lambda _file: calls.update(["fsync"])
    stock_journal.ResizableFile.flush = lambda _self: calls.update(["msync"])
    lab = Lab(on_disk=True, flushJournal=True)
    lab.elect("A", voters="B")
    lab.pay("A", *(f"p{number}" for number in range(50)))
    lab.settle()

    assert len(lab.acknowledged()) == 50
    assert not calls
    assert not hasattr(lab["A"].conf, "flushJournal")


def d3_an_unreadable_meta_file_gives_a_second_vote_in_the_same_term() -> None:
    """MetaStorer.getMeta swallows every error and returns "never voted" (journal.py, bare except); the file is empty
    after a power loss, as it is not fsynced. One node votes for two candidates of a term, and both may lead.
    """
    lab = Lab(on_disk=True)
    request = {"type": "request_vote", "term": 5, "last_log_index": 1, "last_log_term": 0}
    lab.receive("A", "B", request)
    first = lab.on_the_way("B", "A")
    lab.kill("B")
    Path("B.journal.meta").write_bytes(b"")
    lab.start("B")
    lab.connect("B", "C")
    lab.receive("C", "B", request)

    assert first == lab.on_the_way("B", "C") == [{"type": "response_vote", "term": 5}]


def d9_a_flipped_bit_in_the_journal_becomes_another_payment() -> None:
    """Records have no checksum (journal.py): what the disk returns is what was ordered. One node's books differ from
    the others', and it says so to nobody.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("A", "alice pays 1000")
    lab.settle()
    hidden(lab["B"], "raftLog").onOneSecondTimer()
    lab.kill("B")
    flip("B.journal", Path("B.journal").read_bytes().index(b"pays 1000") + 5, bit=3)
    lab.start("B")
    lab.connect_all()
    lab.settle()

    assert lab["A"].payments == ["alice pays 1000"]
    assert lab["B"].payments == ["alice pays 9000"]


def d10_an_entry_that_the_disk_refused_is_acknowledged_and_gone_after_a_restart() -> None:
    """FileJournal.add appends to its list before it writes (journal.py), so that after an error (no room) the entry is
    in memory and not on disk. It counts for the majority all the same; after a restart its place in the file is taken
    by the next one, and the node applies other payments than were committed.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.cut("A", "C")
    lab.pay("A", "p0")
    lab.heartbeat("A")
    file, write = hidden(lab["B"], "raftLog")._FileJournal__journalFile, stock_journal.ResizableFile.write
    file.write = _no_room
    assert error_of(lambda: lab.deliver("A", "B")) is OSError
    file.write = lambda *arguments: write(file, *arguments)
    lab.pay("A", "p1")
    lab.settle("AB")
    assert lab.acknowledged() == ["p0", "p1"]

    hidden(lab["B"], "raftLog").onOneSecondTimer()
    lab.kill("B")
    lab.start("B")
    lab.tick("B")
    assert lab["A"].payments == ["p0", "p1"]
    assert lab["B"].payments == ["p1"]


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


class FillingUp:
    """A journal's memory map on a disk that becomes full: the pages that were never allocated cannot be had."""

    def __init__(self, pages: mmap, path: str) -> None:
        self.pages, self.path = pages, path

    def size(self) -> int:
        size = self.pages.size()
        # What a fault on a page beyond the end of a file gives is what one gives for which there is no room.
        os.truncate(self.path, os.stat(self.path).st_blocks * 512)
        return size

    def __setitem__(self, where: slice, data: bytes) -> None:
        self.pages[where] = data


def d11_a_page_that_the_disk_cannot_supply_kills_the_process() -> None:
    """The journal is a sparse memory map (ResizableFile, journal.py): it claims room that it does not have, and a store
    into a page which the disk cannot supply ends in SIGBUS. There is no error to catch, every restart meets it again,
    and a disk that fills up on all nodes ends them all at once.
    """
    journal = createJournal("full.journal")
    # The map doubles when it is full: the last entry leaves much of its second half empty.
    for index in range(1, 66):
        journal.add(bytes(16 * 1024), index, 1)
    status = os.stat("full.journal")
    assert status.st_blocks * 512 < status.st_size * 3 // 4

    process = os.fork()
    if process == 0:
        file = journal._FileJournal__journalFile
        file._ResizableFile__mm = FillingUp(file._ResizableFile__mm, "full.journal")
        journal.add(bytes(16 * 1024), 66, 1)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGBUS


def d12_a_page_that_was_not_written_back_brings_old_entries_among_the_new() -> None:
    """Compaction writes the kept entries over the old ones from the start of the file, and records carry an index that
    is not looked at on loading (journal.py). A power loss that spares one old page gives a log whose entries have other
    indexes than their places: payments are applied again, others never.
    """
    journal = createJournal("page.journal")
    for index in range(1, 201):
        journal.add(b"payment %06d " % index + bytes(40), index, 1)
    before = Path("page.journal").read_bytes()
    journal.deleteEntriesTo(99)
    for index in range(201, 261):
        journal.add(b"payment %06d " % index + bytes(40), index, 1)
    after = Path("page.journal").read_bytes()
    Path("page.journal").write_bytes(after[:4096] + before[4096:8192] + after[8192:])

    indexes = [index for _, index, _ in createJournal("page.journal")[:]]

    assert (indexes[0], indexes[-1], len(indexes)) == (100, 260, 161)
    assert len(set(range(100, 261)) - set(indexes)) > 40


def d13_a_journal_dies_at_4_gib() -> None:
    """Its end is kept in 32 bits (journal.py, LAST_RECORD_OFFSET). At 4 GiB every append raises, with the entry already
    in memory: the node takes no more payments until somebody finds out why.
    """
    journal = createJournal("large.journal")
    journal._FileJournal__currentOffset = 2**32 - 20

    assert error_of(lambda: journal.add(bytes(100), 1, 1)) is struct.error
    assert len(journal) == 1


def d16_a_stored_commit_index_lets_a_leader_acknowledge_alone() -> None:
    """The commit index is stored apart from the journal (in the meta file, syncobj.py:176), and is ahead of it when a
    power loss took the tail of all journals. A leader whose commit index is ahead of its log takes each new entry for
    committed: it acknowledges payments that nobody else has.
    """
    lab = Lab(on_disk=True)
    lab.elect("A", voters="B")
    lab.settle()
    lab.pay("A", *(f"p{number}" for number in range(20)))
    lab.settle()
    for name in "ABC":
        hidden(lab[name], "raftLog").onOneSecondTimer()
    lab.kill("A", "B", "C")
    for name in "ABC":
        forget_after(f"{name}.journal", 10)
        lab.start(name)
    lab.connect_all()
    assert last_index(lab["A"]) == 10 < lab["A"].raftCommitIndex
    lab.elect("A", voters="B")
    lab.isolate("A")

    lab.pay("A", "only here")
    lab.tick("A")

    assert lab.answers["only here"] == ["SUCCESS"]
    assert max(log(lab["B"]) + log(lab["C"])) < max(log(lab["A"]))
