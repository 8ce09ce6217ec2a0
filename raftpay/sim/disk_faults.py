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


def flip_bit(member: Member, rng: random.Random) -> None:
    """One bit of a file. Only of a node that was killed: recovery.py says what stays ambiguous after a power loss."""
    place = _place(member, rng)
    if place is not None:
        name, offset = place
        # A third of them in what the file begins with, which says what the rest is.
        offset = rng.choice([offset % HEADER_BYTES, offset, offset])
        member.disk.flip_bit(name, offset, rng.randrange(8))


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
