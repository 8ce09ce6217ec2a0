"""The simulated disk: a folder tree in memory that loses power, sectors and bits, fills up and slows down, from a seed.

Used by tests and by the simulator (raftpay/sim) in the place of RealDisk; it knows nothing of what is stored. A file
is a bytearray and the list of its unsynced writes, so an operation costs microseconds. What a power loss may do:

- of each sector with unsynced writes, any number of the earliest survive: none, some, all; sectors independently of
  each other.
- a size that was not synced is the old or the new one.
- of the folder operations that were not fsynced any subset survives, each whole (a rename within a folder is one, from
  one folder to another it is two), or any prefix.

The same seed and the same calls give the same losses.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from raftpay.errors import DiskFullError, StorageError
from raftpay.storage.disk import SECTOR_BYTES, DiskFile, unreadable_error

# A disk of that size never fills up.
PLENTY_BYTES = 1 << 40
# The file and offset at which a write was to go; those where it goes.
Landing = Callable[[str, int], tuple[str, int] | None]


class PowerLossError(Exception):
    """Raised where `interrupt` asked for it, to leave the code under test as a power loss would. Then call `crash`."""


@dataclass(frozen=True, slots=True)
class SimDelays:
    """Simulated seconds that operations take."""

    sync_s: float = 0.0  # an fdatasync or a folder fsync
    byte_s: float = 0.0  # each byte written or read


class _Inode:
    """data: content as processes see it, without the zeros at its end; size: with them.
    unsynced: (offset, bytes before, bytes written) since the last fdatasync; synced_size: the size at that time.
    bad_sectors: those that cannot be read, until they are written again; renewed: those that were, since the last
    fdatasync. wrong: where a byte is not what a disk without faults would have, and what that would have. is_renewed:
    some of that was written again since the last fdatasync. is_spoiled: power was lost with it, and nobody knows what
    would be right.
    """

    __slots__ = (
        "bad_sectors",
        "data",
        "is_renewed",
        "is_spoiled",
        "renewed",
        "size",
        "synced_size",
        "unsynced",
        "wrong",
    )

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.synced_size = 0
        self.unsynced: list[tuple[int, bytes, bytes]] = []
        self.bad_sectors: set[int] = set()
        self.renewed: set[int] = set()
        self.wrong: dict[int, int] = {}
        self.is_renewed = self.is_spoiled = False

    @property
    def is_damaged(self) -> bool:
        return bool(self.wrong or self.bad_sectors or self.renewed or self.is_renewed or self.is_spoiled)

    def read(self, size: int, offset: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        data = bytes(self.data[offset : offset + size])
        return data if len(data) == size else data.ljust(size, b"\0")

    def put(self, data: bytes, offset: int) -> None:
        """Change what is there behind everybody's back."""
        stop = offset + len(data)
        if stop > len(self.data):
            self.data.extend(bytes(stop - len(self.data)))
        right = bytes(self.wrong.get(place, self.data[place]) for place in range(offset, stop))
        self.data[offset:stop] = data
        self.miss(right, offset)

    def miss(self, data: bytes, offset: int) -> None:
        """What a disk without faults would have there."""
        for place, byte in enumerate(data, offset):
            if byte != (self.data[place] if place < len(self.data) else 0):
                self.wrong[place] = byte
            else:
                self.wrong.pop(place, None)

    def write(self, data: bytes, offset: int) -> None:
        stop, end = offset + len(data), len(self.data)
        if offset == end:
            self.unsynced.append((offset, bytes(len(data)), bytes(data)))
            self.data += data
        else:
            if stop > end:
                self.data.extend(bytes(stop - end))
            self.unsynced.append((offset, bytes(self.data[offset:stop]), bytes(data)))
            self.data[offset:stop] = data
        self.size = max(self.size, stop)
        if self.wrong or self.bad_sectors:
            self._renew(offset, stop)

    def _renew(self, offset: int, stop: int) -> None:
        """What is written again is as it should be, once it is synced."""
        renewed = self.bad_sectors.intersection(_sectors(offset, stop))
        self.bad_sectors -= renewed
        self.renewed |= renewed
        for place in [place for place in self.wrong if offset <= place < stop]:
            del self.wrong[place]
            self.is_renewed = True

    def truncate(self, size: int) -> None:
        if size < len(self.data):
            self.write(bytes(len(self.data) - size), size)
        self.size = size

    def sync(self) -> None:
        self.unsynced.clear()
        self.synced_size = self.size
        self.renewed.clear()
        self.is_renewed = False

    def crash(self, rng: random.Random) -> None:
        data = self.data
        for offset, before, _ in reversed(self.unsynced):
            data[offset : offset + len(before)] = before
        survival = rng.choice((0.0, 1.0, rng.random()))
        stopped: set[int] = set()
        for offset, _, written in self.unsynced:
            stop = offset + len(written)
            for sector in range(offset // SECTOR_BYTES, -(-stop // SECTOR_BYTES)):
                if sector in stopped:
                    continue
                if rng.random() >= survival:
                    stopped.add(sector)
                    continue
                start, end = max(offset, sector * SECTOR_BYTES), min(stop, (sector + 1) * SECTOR_BYTES)
                data[start:end] = written[start - offset : end - offset]
        self.size = rng.choice((self.synced_size, self.size))
        del data[self.size :]
        self.bad_sectors |= self.renewed & stopped
        self.is_spoiled |= self.is_renewed or any(
            offset <= place < offset + len(written) for offset, _, written in self.unsynced for place in self.wrong
        )
        self.sync()


class SimFile:
    """An open file of a SimDisk; of no use after its crash."""

    __slots__ = ("_disk", "_inode", "_life", "name")

    def __init__(self, disk: "SimDisk", inode: _Inode, name: str) -> None:
        self._disk = disk
        self._inode = inode
        self._life = disk.crashes
        self.name = name

    def pread(self, size: int, offset: int) -> bytes:
        self._check_alive()
        disk, inode = self._disk, self._inode
        data = inode.read(size, offset)
        if inode.bad_sectors:
            bad = inode.bad_sectors.intersection(_sectors(offset, offset + len(data)))
            if bad:
                raise unreadable_error(self.name, max(offset, min(bad) * SECTOR_BYTES), "Input/output error")
        if disk.delays.byte_s:
            disk.spend(len(data) * disk.delays.byte_s)
        return data

    def pwrite(self, data: bytes, offset: int) -> None:
        self._check_alive()
        disk, inode = self._disk, self._inode
        error = disk.step()
        if error is not None:
            stop = disk.rng.randint(offset, offset + len(data)) // SECTOR_BYTES * SECTOR_BYTES
            inode.write(data[: max(0, stop - offset)], offset)
            raise error
        if disk.delays.byte_s:
            disk.spend(len(data) * disk.delays.byte_s)
        if offset + len(data) > inode.size:
            disk.take_room(offset + len(data) - inode.size, self.name)
        if disk.is_misdirected(self.name, data, offset):
            inode.size = max(inode.size, offset + len(data))
            inode.miss(data, offset)
        else:
            inode.write(data, offset)

    def preallocate(self, size: int) -> None:
        self._check_alive()
        self._disk.check_step()
        if size > self._inode.size:
            self._disk.take_room(size - self._inode.size, self.name)
            self._inode.size = size

    def fdatasync(self) -> None:
        self._check_alive()
        self._disk.check_step()
        self._disk.spend(self._disk.delays.sync_s)
        self._inode.sync()

    def truncate(self, size: int) -> None:
        self._check_alive()
        self._disk.check_step()
        self._inode.truncate(size)

    def size(self) -> int:
        return self._inode.size

    def close(self) -> None:
        self._life = self._disk.crashes

    def _check_alive(self) -> None:
        if self._life != self._disk.crashes:
            raise StorageError(f"{self.name} was opened before the power loss")


class SimDisk:
    """A disk that is simulated.

    seed: of all that is random in it. capacity_bytes: how much room the files together have; may be changed at any
    time.
    delays, on_delay: simulated seconds, added up in `elapsed_s` and told to on_delay one by one.
    on_interruption: called before an interruption is raised.
    operations: how many changes were asked for; `interrupt` counts by it. strikes: how often it has damaged a file.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        capacity_bytes: int = 1 << 50,
        delays: SimDelays | None = None,
        on_delay: Callable[[float], None] | None = None,
        on_interruption: Callable[[], None] | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.capacity_bytes = capacity_bytes
        self.delays = delays or SimDelays()
        self.elapsed_s = 0.0
        # How many writes go right before one does not, and where that one lands.
        self._misdirection: tuple[int, Landing, Callable[[str, int], bool]] | None = None
        self.operations = self.strikes = 0
        self.crashes = 0
        self._on_delay, self._on_interruption = on_delay, on_interruption
        self._interruption: tuple[int, Exception] | None = None
        self._names: dict[str, _Inode] = {}
        self._synced_names: dict[str, _Inode] = {}
        # What was done to names and not fsynced: the name's new file, None if it is gone; in order.
        self._unsynced: list[dict[str, _Inode | None]] = []

    def open(self, name: str) -> SimFile:
        if name not in self._names:
            raise StorageError(f"opening {name}: No such file or directory")
        return SimFile(self, self._names[name], name)

    def open_uncached(self, name: str) -> SimFile:
        return self.open(name)

    def create(self, name: str) -> SimFile:
        self.check_step()
        if name in self._names:
            raise StorageError(f"creating {name}: File exists")
        self.take_room(1, name)
        self._change({name: _Inode()})
        return self.open(name)

    def exists(self, name: str) -> bool:
        return name in self._names

    def list(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return sorted({name[len(prefix) :].split("/")[0] for name in self._names if name.startswith(prefix)})

    def make_folder(self, folder: str) -> None:
        """Folders are only parts of names here, and durable with the first name in them."""

    def rename(self, old: str, new: str) -> None:
        self.check_step()
        inode = self._names[old]
        if new.rpartition("/")[0] == old.rpartition("/")[0]:
            self._change({new: inode, old: None})
            return
        # Each folder has its own share in it, and only together do they make it whole.
        self._change({new: inode})
        self._change({old: None})

    def remove(self, name: str) -> None:
        self.check_step()
        if name not in self._names:
            raise StorageError(f"removing {name}: No such file or directory")
        self._change({name: None})

    def fsync_folder(self, folder: str = "") -> None:
        self.check_step()
        self.spend(self.delays.sync_s)
        left = []
        for change in self._unsynced:
            if all(name.rpartition("/")[0] == folder for name in change):
                _apply(change, self._synced_names)
            else:
                left.append(change)
        self._unsynced = left

    def free_bytes(self) -> int:
        return max(0, self.capacity_bytes - sum(inode.size for inode in self._names.values()))

    def prepare(self, name: str, size: int) -> "SimPreparation":
        return SimPreparation(self, name, size)

    def discard(self, files: Sequence[DiskFile]) -> Callable[[], None]:
        for file in files:
            with suppress(StorageError):
                self.remove(file.name)
            file.close()
        return lambda: None

    def random_u32(self) -> int:
        return self.rng.getrandbits(32)

    def is_synced(self, name: str, stop: int | None = None) -> bool:
        """Whether no power loss can take the name, or any byte of the file before stop (of all of it if None)."""
        inode = self._names.get(name)
        if inode is None or self._synced_names.get(name) is not inode:
            return False
        unsynced = inode.unsynced
        return not unsynced or (stop is not None and all(offset >= stop for offset, _, _ in unsynced))

    def used_bytes(self, name: str) -> int:
        """The size of a file without the zeros at its end, and without what a write left astray behind it."""
        return min(len(self._names[name].data), self._names[name].size)

    def crash(self) -> None:
        """Lose power, and come back: open files are dead, and only what may survive did."""
        self._interruption = None
        self.crashes += 1
        way = self.rng.choice(("prefix", "any"))
        if way == "prefix":
            survivors = self._unsynced[: self.rng.randint(0, len(self._unsynced))]
        else:
            survivors = [change for change in self._unsynced if self.rng.random() < 0.5]
        for change in survivors:
            _apply(change, self._synced_names)
        self._unsynced = []
        self._names = dict(self._synced_names)
        for inode in self._names.values():
            inode.crash(self.rng)

    def interrupt(self, after: int, error: Exception | None) -> None:
        """Raise error at a later change, once: with after=0 at the next one. A write is done in part before it.

        None for error: raise nothing any more.
        """
        self._interruption = None if error is None else (self.operations + after + 1, error)

    def flip_bit(self, name: str, offset: int, bit: int = 0) -> None:
        """Change one bit behind everybody's back; the offset must lie within the file."""
        inode = self._names[name]
        assert offset < inode.size, (name, offset, inode.size)
        self.strikes += 1
        byte = inode.data[offset] if offset < len(inode.data) else 0
        inode.put(bytes((byte ^ 1 << bit,)), offset)

    def fail_sectors(self, name: str, offset: int, size: int) -> None:
        """Make the sectors of these bytes unreadable, until they are written again."""
        self.strikes += 1
        self._names[name].bad_sectors.update(_sectors(offset, offset + size))

    # ---- what the faults have left: for those who watch the code under test

    def damaged(self) -> set[str]:
        """The files that are not what a disk without faults would have, or would not be after a power loss."""
        known = [self._names.items(), self._synced_names.items(), *(change.items() for change in self._unsynced)]
        return {name for items in known for name, inode in items if inode is not None and inode.is_damaged}

    def is_damaged_within(self, name: str, start: int, stop: int) -> bool:
        """Whether a byte of these is wrong, or cannot be read, now."""
        inode = self._names[name]
        return any(start <= place < stop for place in inode.wrong) or not inode.bad_sectors.isdisjoint(
            _sectors(start, stop)
        )

    def is_damaged(self, name: str) -> bool:
        """Whether it is one of them; False where there is none of that name."""
        inode = self._names.get(name)
        return inode is not None and inode.is_damaged

    def right_bytes(self, name: str) -> bytes | None:
        """What a disk without faults would have there; None where nobody knows it."""
        inode = self._names.get(name)
        if inode is None or inode.is_spoiled:
            return None
        data = bytearray(inode.read(inode.size, 0))
        for place, byte in inode.wrong.items():
            if place < len(data):
                data[place] = byte
        return bytes(data)

    def misdirect(
        self,
        after: int,
        landing: "Landing | None",
        is_wanted: Callable[[str, int], bool] = lambda name, offset: True,
    ) -> None:
        """Have one write, after so many others, land elsewhere, silently: its own place keeps what was there.

        landing: told file and offset where it was to go, says where it goes, None for nowhere; itself None: no write.
        is_wanted: asked of each write with no others left before it, by its file and offset, whether it may be this.
        """
        self._misdirection = None if landing is None else (after, landing, is_wanted)

    def is_misdirected(self, name: str, data: bytes, offset: int) -> bool:
        """Whether this write is the one that goes astray; then it has."""
        if self._misdirection is None:
            return False
        left, landing, is_wanted = self._misdirection
        if left > 0:
            self._misdirection = (left - 1, landing, is_wanted)
            return False
        if not is_wanted(name, offset):
            return False
        self._misdirection = None
        self.strikes += 1
        place = landing(name, offset)
        if place is not None:
            inode = self._names[place[0]]
            inode.put(data[: max(0, inode.size - place[1])], place[1])
        return True

    def step(self) -> Exception | None:
        """Count a change; the error that it is to meet, if any."""
        self.operations += 1
        if self._interruption is not None and self.operations == self._interruption[0]:
            error, self._interruption = self._interruption[1], None
            if self._on_interruption is not None:
                self._on_interruption()
            return error
        return None

    def check_step(self) -> None:
        error = self.step()
        if error is not None:
            raise error

    def take_room(self, size: int, name: str) -> None:
        # The files are added up only where a disk is small enough for it to matter.
        if self.capacity_bytes < PLENTY_BYTES and size > self.free_bytes():
            raise DiskFullError(f"{name}: no room for {size} bytes on the simulated disk")

    def spend(self, seconds: float) -> None:
        if seconds:
            self.elapsed_s += seconds
            if self._on_delay is not None:
                self._on_delay(seconds)

    def _change(self, change: dict[str, _Inode | None]) -> None:
        self._unsynced.append(change)
        _apply(change, self._names)


class SimPreparation:
    """Makes the file at once; what it met is told by `take`, as by the real one."""

    def __init__(self, disk: SimDisk, name: str, size: int) -> None:
        self._disk = disk
        self._file: SimFile | None = None
        self._error: StorageError | None = None
        try:
            self._file = disk.create(name)
            self._file.preallocate(size)
        except StorageError as error:
            self._error = error

    def take(self) -> SimFile:
        if self._error is not None:
            self.cancel()
            raise self._error
        assert self._file is not None
        return self._file

    def is_linked(self) -> bool:
        return False

    def cancel(self) -> None:
        if self._file is not None:
            self._disk.remove(self._file.name)
            self._file = None


def _sectors(start: int, stop: int) -> range:
    return range(start // SECTOR_BYTES, -(-stop // SECTOR_BYTES))


def _apply(change: dict[str, _Inode | None], names: dict[str, _Inode]) -> None:
    for name, inode in change.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
