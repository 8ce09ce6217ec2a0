"""The reserve: a file that holds room back, so that a node on a full disk can still finish what it accepted.

The journal makes it, and takes no new segment while it is not whole. `save_durably` gives it up when a small file
that must be written (the hard state) finds no room; the journal takes it back when there is room again.
"""

from raftpay.errors import DiskFullError, StorageError
from raftpay.storage.disk import Disk

RESERVE_NAME = "reserve"


class Reserve:
    """size_bytes: how much is held back; 0 for nothing."""

    def __init__(self, disk: Disk, size_bytes: int) -> None:
        self._disk = disk
        self._size_bytes = size_bytes

    def try_restore(self) -> bool:
        """Whether the reserve is whole, after making it so if there is room."""
        disk = self._disk
        if self._size_bytes == 0:
            return True
        if disk.exists(RESERVE_NAME):
            file = disk.open(RESERVE_NAME)
            try:
                if file.size() >= self._size_bytes:
                    return True
            finally:
                file.close()
            disk.remove(RESERVE_NAME)
        if disk.free_bytes() < self._size_bytes:
            return False
        try:
            file = disk.create(RESERVE_NAME)
        except DiskFullError:
            return False
        try:
            file.preallocate(self._size_bytes)
        except DiskFullError:
            disk.remove(RESERVE_NAME)
            return False
        finally:
            file.close()
        return True


def give_up(disk: Disk) -> bool:
    """Make room by removing the reserve. False if there is none."""
    if not disk.exists(RESERVE_NAME):
        return False
    disk.remove(RESERVE_NAME)
    return True


def save_durably(disk: Disk, name: str, data: bytes) -> None:
    """Put data in the place of the whole file: written to a temporary, synced, renamed, the folder synced.

    After a power loss the file is the old or the new one. Raises DiskFullError if there is no room even without the
    reserve: then the old one stands; after any other StorageError it may be either.
    """
    try:
        _write_temporary(disk, name, data)
    except DiskFullError:
        if not give_up(disk):
            raise
        _write_temporary(disk, name, data)
    disk.rename(temporary_name(name), name)
    try:
        disk.fsync_folder(name.rpartition("/")[0])
    except DiskFullError as error:
        raise StorageError(f"{name} was replaced, but its folder could not be synced: {error}") from error


def temporary_name(name: str) -> str:
    return f"{name}.tmp"


def _write_temporary(disk: Disk, name: str, data: bytes) -> None:
    temporary = temporary_name(name)
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        file.pwrite(data, 0)
        file.fdatasync()
    except DiskFullError:
        disk.remove(temporary)
        raise
    finally:
        file.close()
