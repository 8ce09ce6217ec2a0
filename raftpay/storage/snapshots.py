"""Snapshots on the disk: written whole or not at all, read back before they count, checked at every read.

Bytes only: what they mean is the state machine's business, when to make one raft's. A file holds a header (whose it is,
which entry it includes last, the members, the files that belong to it), blocks with a crc each, and an end with the crc
of all. The rules:

1. A snapshot is written beside, synced, renamed, its folder synced, and then read back: only then is it `newest`.
2. The newest and the one before are kept. A damaged newest one is passed over on opening, and said to be; whether the
   journal still reaches back to the one before is for the caller to find out (raft/catch_up.py): never empty state.
3. What takes long is a series of steps (a generator), so that a thread may run it, and a simulation one by one.
"""

import hashlib
import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

import msgspec
from crc32c import crc32c

from raftpay.errors import CorruptionError, FormatVersionError, StorageError
from raftpay.storage.disk import Disk, DiskFile
from raftpay.storage.records import REBUILD_ADVICE, check_cluster, cluster_hash

FORMAT_VERSION: Final = 2
FOLDER: Final = "snapshots"
BLOCK_BYTES_MAX: Final = 1 << 20
# The header lists the files of a whole history.
HEADER_BYTES_MAX: Final = 64 << 20
_TEMPORARY: Final = f"{FOLDER}/writing.tmp"
_PART_SUFFIX: Final = ".part"
_MAGIC: Final = b"raftpayS"
# magic, format version, length of the header, crc of all that and of the header
_HEAD: Final = struct.Struct("<8sII")
# length and crc of a block; a block of length 0 is the end, and its crc is that of all blocks' bytes
_BLOCK: Final = struct.Struct("<II")
_CRC: Final = struct.Struct("<I")

Steps = Iterator[None]
OpenFile = Callable[[str], DiskFile]


class StateFile(msgspec.Struct, frozen=True, array_like=True):
    """An immutable file that belongs to the state, by its path in the data directory.

    digest: SHA-256 of its content. A peer's list is believed only where it names files of the archive.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^archive/[0-9A-Za-z][0-9A-Za-z._-]*$")]
    size_bytes: int
    digest: bytes


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True):
    """index, term: of the last entry included. members: the configuration at that entry, as bytes of raft's.

    files: what belongs to the state.
    """

    cluster: int
    index: int
    term: int
    members: bytes
    files: list[StateFile]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A verified snapshot. digest: SHA-256 of the whole file, of size_bytes."""

    name: str
    header: SnapshotHeader
    size_bytes: int
    digest: bytes

    @property
    def index(self) -> int:
        return self.header.index

    @property
    def term(self) -> int:
        return self.header.term


@dataclass(slots=True)
class Written:
    """What a series of steps has come to."""

    info: SnapshotInfo | None = None


def snapshot_name(index: int, term: int) -> str:
    return f"{FOLDER}/{index:020d}-{term:020d}.snap"


def part_name(digest: bytes) -> str:
    """Where a file that is being fetched lies until it is whole; the same after a restart."""
    return f"{FOLDER}/{digest.hex()}{_PART_SUFFIX}"


@dataclass(slots=True)
class SnapshotStore:
    """The snapshots of one data directory. Opened by `SnapshotStore.open`.

    newest, previous: verified, None where there is none. damaged: those that were found and are not, with the reason.
    """

    disk: Disk
    cluster: int
    newest: SnapshotInfo | None = None
    previous: SnapshotInfo | None = None
    damaged: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def open(cls, disk: Disk, cluster_id: str) -> Self:
        """Verify what is there, newest first. Raises FormatVersionError, DataDirectoryError (another cluster's)."""
        store = cls(disk, cluster_hash(cluster_id))
        disk.make_folder(FOLDER)
        names = [f"{FOLDER}/{name}" for name in disk.list(FOLDER)]
        if _TEMPORARY in names:
            disk.remove(_TEMPORARY)
        # What a killed process renamed and did not sync is relied on from now on.
        disk.fsync_folder(FOLDER)
        for name in sorted((name for name in names if name.endswith(".snap")), reverse=True):
            if store.previous is not None:
                disk.remove(name)
                continue
            try:
                info = store._verify_at_once(name)
            except CorruptionError as error:
                store.damaged.append((name, str(error)))
                continue
            if store.newest is None:
                store.newest = info
            else:
                store.previous = info
        return store

    # ---- writing

    def write(self, header: SnapshotHeader, chunks: Iterable[bytes], written: Written) -> Steps:
        """Write a snapshot and verify it. The caller then takes it in with `adopt`. Raises StorageError."""
        disk = self.disk
        with suppress(StorageError):
            if disk.exists(_TEMPORARY):
                disk.remove(_TEMPORARY)
        file = disk.create(_TEMPORARY)
        try:
            yield from _write_blocks(file, header, chunks)
            file.fdatasync()
        except StorageError:
            file.close()
            with suppress(StorageError):
                disk.remove(_TEMPORARY)
            raise
        file.close()
        yield
        yield from self._publish(_TEMPORARY, header.index, header.term, written)

    def receive(self, part: str, index: int, term: int, written: Written) -> Steps:
        """Make a snapshot of a file that was fetched whole. CorruptionError: it is not one, and was removed."""
        file = self.disk.open(part)
        try:
            file.fdatasync()
        finally:
            file.close()
        yield
        try:
            checked = Written()
            yield from self._verify(part, checked)
            assert checked.info is not None
            if (checked.info.index, checked.info.term) != (index, term):
                raise CorruptionError(f"{part}: holds entry {checked.info.index} of term {checked.info.term}")
        except CorruptionError:
            self.disk.remove(part)
            raise
        yield from self._publish(part, index, term, written)

    def receive_file(self, part: str, wanted: StateFile) -> Steps:
        """Put a file of the state that was fetched whole in its place.

        CorruptionError: it differs or cannot be read back, and was removed, so that it is fetched anew.
        """
        file = self.disk.open(part)
        try:
            file.fdatasync()
            if not (yield from _is_file(file, wanted)):
                raise CorruptionError(f"{wanted.name}: what was fetched differs from what the peer had announced")
        except CorruptionError:
            self.disk.remove(part)
            raise
        finally:
            file.close()
        folder = wanted.name.rpartition("/")[0]
        self.disk.make_folder(folder)
        self.disk.rename(part, wanted.name)
        self.disk.fsync_folder(folder)

    def _publish(self, temporary: str, index: int, term: int, written: Written) -> Steps:
        name = snapshot_name(index, term)
        self.disk.rename(temporary, name)
        yield
        self.disk.fsync_folder(FOLDER)
        yield
        yield from self._verify(name, written)

    def adopt(self, info: SnapshotInfo) -> list[str]:
        """A verified snapshot is the newest from now on. Returns what is obsolete, to be removed by `forget`.

        What lies ahead of the newest is not: another one was written or fetched meanwhile, and is adopted next.
        """
        if self.newest is None or info.index > self.newest.index:
            self.previous, self.newest = self.newest, info
        elif info.index == self.newest.index:
            self.newest = info  # The same entry's, from a peer, now lies under this name.
        newest = self.newest.name
        kept = {newest, self.previous.name} if self.previous is not None else {newest}
        self.damaged = []
        return [
            name
            for name in (f"{FOLDER}/{name}" for name in self.disk.list(FOLDER))
            if name.endswith(".snap") and name < newest and name not in kept
        ]

    def check(self, info: SnapshotInfo, open_file: OpenFile | None = None) -> Steps:
        """Read a snapshot once more. Raises CorruptionError if it is not what it was."""
        found = Written()
        yield from self._verify(info.name, found, open_file)
        if found.info != info:
            raise _damaged(info.name, 0, "it is another one than was written")

    def check_file(self, known: StateFile) -> Steps:
        """Read a file of the state once more. Raises CorruptionError if it is not what it was."""
        file = self.disk.open(known.name)
        try:
            if not (yield from _is_file(file, known)):
                raise CorruptionError(f"{known.name}: its bytes are not those that were sealed. {REBUILD_ADVICE}")
        finally:
            file.close()

    def lose(self, info: SnapshotInfo, reason: str) -> None:
        """A snapshot has turned out to be damaged: it does not count any more."""
        self.damaged.append((info.name, reason))
        if self.newest == info:
            self.newest, self.previous = self.previous, None
        elif self.previous == info:
            self.previous = None

    def forget(self, names: Iterable[str]) -> None:
        """Remove files that are obsolete. What a power loss brings back is removed again by the next opening."""
        for name in names:
            with suppress(StorageError):
                self.disk.remove(name)

    def parts(self) -> list[str]:
        """What has been fetched in part."""
        names = (f"{FOLDER}/{name}" for name in self.disk.list(FOLDER))
        return [name for name in names if name.endswith(_PART_SUFFIX)]

    # ---- reading

    def chunks(self, info: SnapshotInfo) -> Iterator[bytes]:
        """The state's bytes, as they were written. Raises CorruptionError."""
        file = self.disk.open(info.name)
        try:
            _, offset = _read_header(file, info.name, self.cluster)
            total = 0
            while True:
                data, crc, offset = _read_block(file, info.name, offset)
                if not data:
                    if crc != total:
                        raise _damaged(info.name, offset, "the crc of the whole is wrong")
                    return
                total = crc32c(data, total)
                yield data
        finally:
            file.close()

    def _verify_at_once(self, name: str) -> SnapshotInfo:
        written = Written()
        for _ in self._verify(name, written):
            continue
        assert written.info is not None
        return written.info

    def _verify(self, name: str, written: Written, open_file: OpenFile | None = None) -> Steps:
        """Read the whole file as it lies on the disk. Raises CorruptionError."""
        file = (open_file or self.disk.open)(name)
        try:
            header, offset = _read_header(file, name, self.cluster)
            digest, total, start = hashlib.sha256(file.pread(offset, 0)), 0, offset
            while True:
                yield
                data, crc, offset = _read_block(file, name, start)
                digest.update(_BLOCK.pack(len(data), crc) + data)
                if not data:
                    break
                total, start = crc32c(data, total), offset
            if crc != total:
                raise _damaged(name, start, "the crc of the whole is wrong")
            if file.size() != offset:
                raise _damaged(name, offset, f"the file has {file.size()} bytes and should end here")
        finally:
            file.close()
        written.info = SnapshotInfo(name, header, offset, digest.digest())


def _is_file(file: DiskFile, known: StateFile) -> Generator[None, None, bool]:
    """Whether it has the bytes of that file of the state, all of which are read."""
    digest = hashlib.sha256()
    for offset in range(0, known.size_bytes, BLOCK_BYTES_MAX):
        digest.update(file.pread(min(BLOCK_BYTES_MAX, known.size_bytes - offset), offset))
        yield
    return digest.digest() == known.digest and file.size() == known.size_bytes


def _write_blocks(file: DiskFile, header: SnapshotHeader, chunks: Iterable[bytes]) -> Steps:
    body = msgspec.msgpack.encode(header)
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, len(body))
    start = head + _CRC.pack(crc32c(body, crc32c(head))) + body
    file.pwrite(start, 0)
    offset, total = len(start), 0
    for chunk in chunks:
        for place in range(0, len(chunk), BLOCK_BYTES_MAX):
            yield
            data = chunk[place : place + BLOCK_BYTES_MAX]
            file.pwrite(_BLOCK.pack(len(data), crc32c(data)) + data, offset)
            offset, total = offset + _BLOCK.size + len(data), crc32c(data, total)
    yield
    file.pwrite(_BLOCK.pack(0, total), offset)


def _read_header(file: DiskFile, name: str, cluster: int) -> tuple[SnapshotHeader, int]:
    head = file.pread(_HEAD.size + _CRC.size, 0)
    if len(head) < _HEAD.size + _CRC.size or head[:8] != _MAGIC:
        raise _damaged(name, 0, "it does not begin like a snapshot")
    _, version, length = _HEAD.unpack_from(head)
    if length > HEADER_BYTES_MAX:
        raise _damaged(name, _HEAD.size, "the header's length is wrong")
    body = file.pread(length, len(head))
    if crc32c(body, crc32c(head[: _HEAD.size])) != _CRC.unpack_from(head, _HEAD.size)[0]:
        raise _damaged(name, _HEAD.size, "the crc of the header is wrong")
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"{name}: format version {version} found, {FORMAT_VERSION} expected. "
            "Run the release that wrote it, or a newer one"
        )
    header = msgspec.msgpack.decode(body, type=SnapshotHeader)
    check_cluster(name, header.cluster, cluster)
    return header, len(head) + length


def _read_block(file: DiskFile, name: str, offset: int) -> tuple[bytes, int, int]:
    """Data, crc and the byte behind the block; no data at the end, where the crc is that of the whole."""
    head = file.pread(_BLOCK.size, offset)
    if len(head) < _BLOCK.size:
        raise _damaged(name, offset, "the file ends here")
    length, crc = _BLOCK.unpack(head)
    if length > BLOCK_BYTES_MAX:
        raise _damaged(name, offset, f"a block of {length} bytes, at most {BLOCK_BYTES_MAX} expected")
    data = file.pread(length, offset + _BLOCK.size) if length else b""
    if len(data) < length or (length and crc32c(data) != crc):
        raise _damaged(name, offset, "the crc of the block is wrong")
    return data, crc, offset + _BLOCK.size + length


def _damaged(name: str, offset: int, reason: str) -> CorruptionError:
    return CorruptionError(f"{name}: byte {offset}: {reason}. {REBUILD_ADVICE}")
