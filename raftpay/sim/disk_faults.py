"""What disks do wrong: bits that flip, sectors that cannot be read, writes that land elsewhere. Called by faults.py.

Each strikes one file of a node. The damage is silent: what the node makes of it is under test. It must say so and stay
away, or not need what was damaged; what it had acknowledged must not be missing when it votes.
"""

import random
from collections.abc import Callable

from raftpay.sim.member import Member
from raftpay.sim.trace import Trace
from raftpay.storage.disk import SECTOR_BYTES

HEADER_BYTES = 64
# The newest record of a journal and a bit more.
NEWEST_BYTES = 600
# How many writes go right before one goes astray.
WRITES_BEFORE_MAX = 40
# Of the room that what is written next does not take.
AHEAD_BYTES = 4096
RUNS_ON = 0.8


def flip_bit(member: Member, rng: random.Random) -> None:
    """One bit of a file. Only of a node that was killed: recovery.py says what stays ambiguous after a power loss."""
    place = _place(member, rng)
    if place is not None:
        name, offset = place
        # A third of them in what the file begins with, which says what the rest is.
        offset = rng.choice([offset % HEADER_BYTES, offset, offset])
        member.disk.flip_bit(name, offset, rng.randrange(8))


def flip_bit_of_snapshot(leader: Member, rng: random.Random, asker: Member | None = None) -> None:
    """One bit of a file that belongs to the newest snapshot and that whoever asks for it lacks, or of the snapshot."""
    life = leader.life
    newest = life.snapshots.newest if life is not None and life.is_open else None
    if newest is None:
        return
    leader.is_damaged = True
    lacked = [file.name for file in newest.header.files if asker is not None and not asker.disk.exists(file.name)]
    name = rng.choice(lacked or [newest.name])
    leader.disk.flip_bit(name, rng.randrange(leader.disk.used_bytes(name)), rng.randrange(8))


def flip_bit_of_entry(leader: Member, follower: str, rng: random.Random) -> bool:
    """One bit of an entry's payload that the follower lacks and the leader will read from its disk, if there is one."""
    life = leader.life
    if life is None or not life.is_open:
        return False
    journal = life.journal
    match_index = next((peer.match_index for peer in life.raft.peers() if peer.name == follower), None)
    if match_index is None:
        return False
    lacked = range(max(journal.first_index, match_index + 1), journal.synced_index + 1)
    read = [index for index in lacked if journal.payload_in_memory(index) is None]
    if not read:
        return False
    name, start, stop = journal.place_of(rng.choice(read))
    leader.disk.flip_bit(name, rng.randrange(start, stop), rng.randrange(8))
    return True


def fail_sectors(member: Member, rng: random.Random, trace: Trace) -> None:
    """Some sectors of a file cannot be read until they are written again."""
    place = _place(member, rng)
    if place is not None:
        length = rng.choice([1, SECTOR_BYTES, 8 * SECTOR_BYTES])
        member.disk.fail_sectors(*place, length)
        trace.note("unreadable", member.name, *place, length)


def misdirect(member: Member, rng: random.Random, trace: Trace, landed: Callable[[], None]) -> None:
    """One of the node's next writes lands in another sector of its file, in another file, or nowhere."""

    def landing(name: str, offset: int) -> tuple[str, int] | None:
        landed()
        way = rng.random()
        size = member.disk.open(name).size() if member.disk.exists(name) else 0
        place = (name, rng.randrange(size)) if way < 0.5 and size > 0 else _place(member, rng)
        if way > 0.9 or place is None:
            trace.note("misdirected", member.name, name, offset, "nowhere")
            return None
        target, start = place
        start += offset % SECTOR_BYTES - start % SECTOR_BYTES
        trace.note("misdirected", member.name, name, offset, target, start)
        return target, start

    member.disk.misdirect(rng.randint(0, WRITES_BEFORE_MAX), landing)


def misdirect_newest(member: Member, rng: random.Random, trace: Trace) -> None:
    """A next entry lands in the room behind it, in its own segment; soon after the power goes, and the marks with it.

    That the entry lies where it was never meant to be then says alone that it was not torn: nothing may be written over
    it, so there must be room, and the end comes before much else is written.
    """

    def behind(offset: int, size: int) -> int:
        return offset + (size - offset - HEADER_BYTES) // SECTOR_BYTES * SECTOR_BYTES

    def is_wanted(name: str, offset: int) -> bool:
        life = member.life
        is_append = life is not None and life.is_open and life.journal.next_place == (name, offset)
        return is_append and behind(offset, member.disk.open(name).size()) >= offset + AHEAD_BYTES

    def landing(name: str, offset: int) -> tuple[str, int]:
        member.is_damaged = True
        target = behind(offset, member.disk.open(name).size())
        trace.note("misdirected", member.name, name, offset, name, target)
        member.cut_soon(rng.randint(1, 3), is_power_lost=True)
        return name, target

    member.disk.misdirect(rng.randint(0, WRITES_BEFORE_MAX), landing, is_wanted)


def runs_on(member: Member, rng: random.Random) -> bool:
    """Whether a node with a damaged disk is left to find that by itself: mostly, where it can."""
    return member.is_scrubbed and rng.random() < RUNS_ON


def _place(member: Member, rng: random.Random) -> tuple[str, int] | None:
    """A byte of a file of the journal, the snapshots, the archive, or of the hard state; None where there is none."""
    disk = member.disk
    folder = rng.choice(["journal", "journal", "snapshots", "snapshots", "index", "archive", ""])
    names = [f"{folder}/{name}" for name in disk.list(folder)] if folder else ["hard_state"]
    names = [name for name in names if disk.exists(name) and disk.open(name).size() > 0]
    if not names:
        return None
    name = rng.choice(names)
    # A journal is preallocated: most of it is zeros. What was written last is what a torn tail is told from.
    used, way = disk.used_bytes(name), rng.random()
    if used == 0 or way < 0.1:
        return name, rng.randrange(disk.open(name).size())
    first = max(0, used - NEWEST_BYTES) if way < 0.4 else 0
    return name, rng.randrange(first, used)
