"""Files of the archive on the disk: written beside, synced, renamed, their folder synced, and then read back.

After a power loss there is the whole file or none. What takes long is a series of steps, so that a thread may run it,
and a simulation one by one. What the bytes mean is known elsewhere.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from raftpay.errors import CorruptionError, StorageError
from raftpay.storage.disk import Disk
from raftpay.storage.reserve import temporary_name
from raftpay.storage.snapshots import Steps

_PART_BYTES: Final = 1 << 20


def publish(disk: Disk, name: str, parts: Iterable[bytes]) -> Steps:
    """Put a file of these parts, which are gone through twice, under that name in the place of what was there.

    Raises StorageError; the name then stands for what it stood for, or for the new file.
    """
    temporary = temporary_name(name)
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.create(temporary)
    offset = 0
    try:
        for part in parts:
            file.pwrite(part, offset)
            offset += len(part)
            yield
        file.fdatasync()
    except StorageError:
        file.close()
        with suppress(StorageError):
            disk.remove(temporary)
        raise
    file.close()
    yield
    disk.rename(temporary, name)
    yield
    disk.fsync_folder(name.rpartition("/")[0])
    yield
    yield from _check(disk, name, parts)


def _check(disk: Disk, name: str, parts: Iterable[bytes]) -> Steps:
    """Raises CorruptionError where the file is not what was written."""
    file, offset = disk.open(name), 0
    try:
        for part in parts:
            if file.pread(len(part), offset) != part:
                raise CorruptionError(f"{name}: what is read back is not what was written, behind byte {offset}")
            offset += len(part)
            yield
        if file.size() != offset:
            raise CorruptionError(f"{name}: {offset} bytes were written, {file.size()} are there")
    finally:
        file.close()


def parts_of(data: bytes) -> list[bytes]:
    """The data in parts of a megabyte."""
    return [data[offset : offset + _PART_BYTES] for offset in range(0, len(data), _PART_BYTES)]


def read_parts(disk: Disk, name: str) -> Iterator[bytes]:
    """The file from its beginning to its end."""
    file = disk.open(name)
    try:
        offset = 0
        while part := file.pread(_PART_BYTES, offset):
            yield part
            offset += len(part)
    finally:
        file.close()


def read_whole(disk: Disk, name: str) -> bytes:
    return b"".join(read_parts(disk, name))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
