"""The data directory of one node: whose it is, and that only one process uses it.

The node opens it first and hands its `disk` to journal and hard state. It holds `identity` (format version, cluster,
node; a line of JSON that an operator can read), `lock`, and what the rest of the room puts beside them.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crc32c import crc32c

from raftpay.errors import CorruptionError, DataDirectoryError, FormatVersionError
from raftpay.storage.disk import RealDisk, storage_error
from raftpay.storage.records import REBUILD_ADVICE
from raftpay.storage.reserve import save_durably, temporary_name

FORMAT_VERSION = 1
IDENTITY_NAME = "identity"
LOCK_NAME = "lock"
# What may lie in a directory that is nobody's yet: leftovers of a first start, and what a fresh filesystem brings.
_HARMLESS_NAMES = {LOCK_NAME, temporary_name(IDENTITY_NAME), "lost+found"}


class DataDirectory:
    """path: the folder. disk: the files in it. Held by this process from `open` to `close`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.disk = RealDisk(path)
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, *, cluster_id: str, node_name: str) -> "DataDirectory":
        """Take the directory for this node; on first use make it.

        Raises DataDirectoryError (used by another process, belongs to another node or cluster, or is no data
        directory), FormatVersionError, CorruptionError, StorageError.
        """
        _make(path)
        directory = cls(path, take_lock(path))
        try:
            directory._check_identity(cluster_id, node_name)
        except BaseException:
            directory.close()
            raise
        return directory

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _check_identity(self, cluster_id: str, node_name: str) -> None:
        if not self.disk.exists(IDENTITY_NAME):
            strangers = sorted(set(self.disk.list()) - _HARMLESS_NAMES)
            if strangers:
                raise DataDirectoryError(
                    f"{self.path} has no file {IDENTITY_NAME!r}, but holds {', '.join(strangers[:5])}: it is no data "
                    "directory of raftpay, or a damaged one. Give the node an empty one, or put back what was there"
                )
            save_durably(self.disk, IDENTITY_NAME, _encode_identity(cluster_id, node_name))
            return
        file = self.disk.open(IDENTITY_NAME)
        try:
            found = _decode_identity(self.path, file.pread(file.size(), 0))
        finally:
            file.close()
        if found != (cluster_id, node_name):
            raise DataDirectoryError(
                f"{self.path} belongs to node {found[1]!r} of cluster {found[0]!r}; this is node {node_name!r} of "
                f"cluster {cluster_id!r}. Correct `data` in the cluster file, or give this node a directory of its own"
            )


def read_identity(path: Path) -> tuple[str, str]:
    """The cluster and the node that a data directory belongs to, whether it is in use or not.

    Raises DataDirectoryError where it is none, CorruptionError, FormatVersionError.
    """
    disk = RealDisk(path)
    if not path.is_dir() or not disk.exists(IDENTITY_NAME):
        raise DataDirectoryError(f"{path} has no file {IDENTITY_NAME!r}: it is no data directory of a node")
    file = disk.open(IDENTITY_NAME)
    try:
        return _decode_identity(path, file.pread(file.size(), 0))
    finally:
        file.close()


@contextmanager
def held_unused(path: Path) -> Iterator[bool]:
    """Whether no node uses the directory; inside, none can begin to. Changes nothing in it, and many may hold it so."""
    try:
        fd = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # a copy without its lock
        return
    except OSError as error:
        raise storage_error(error, f"opening {path / LOCK_NAME}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _make(path: Path) -> None:
    """Make the folder durably, with its parents."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            RealDisk(folder.parent).fsync_folder()
    except OSError as error:
        raise storage_error(error, f"making the data directory {path}") from error
    if not path.is_dir():
        raise DataDirectoryError(f"{path} is not a folder. Correct `data` in the cluster file")


def take_lock(path: Path) -> int:
    """The open and locked lock file; the lock ends with the process, however it ends."""
    try:
        fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, f"opening {path / LOCK_NAME}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise DataDirectoryError(
            f"{path} is in use by process {holder}. Stop that process, or give this node a directory of its own"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _encode_identity(cluster_id: str, node_name: str) -> bytes:
    content = {"format_version": FORMAT_VERSION, "cluster_id": cluster_id, "node_name": node_name}
    body = json.dumps(content, sort_keys=True)
    return f"{body}\n{crc32c(body.encode()):08x}\n".encode()


def _decode_identity(path: Path, data: bytes) -> tuple[str, str]:
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[1] != b"%08x" % crc32c(lines[0]):
        raise CorruptionError(
            f"{path / IDENTITY_NAME} is damaged: its second line is not the crc of the first. {REBUILD_ADVICE}"
        )
    content = json.loads(lines[0])
    if content["format_version"] != FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format version {content['format_version']}; this release knows {FORMAT_VERSION}. "
            "Run the release that wrote it, or a newer one"
        )
    return content["cluster_id"], content["node_name"]
