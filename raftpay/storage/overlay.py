"""A disk that is only read: what is written to it stays in memory, and is gone with it.

For those who look at the data directory of a node, or at a copy, with the code that a node starts with: opening a
journal finishes what a crash interrupted, and a check must leave everything as it lies.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from raftpay.errors import StorageError
from raftpay.storage.disk import DiskFile, RealDisk, RealFile, storage_error


class _Content:
    """What a name stands for. written: the whole of it once it was written to; None: what lies on the disk."""

    __slots__ = ("written",)

    def __init__(self, written: bytearray | None = None) -> None:
        self.written = written


class OverlayFile:
    """An open file. file: what lies on the disk, None for one that was made here."""

    __slots__ = ("_content", "_file", "name")

    def __init__(self, name: str, content: _Content, file: RealFile | None) -> None:
        self.name, self._content, self._file = name, content, file

    def pread(self, size: int, offset: int) -> bytes:
        written = self._content.written
        if written is not None:
            return bytes(written[offset : offset + size])
        assert self._file is not None, "what was made here has its bytes in memory"
        return self._file.pread(size, offset)

    def pwrite(self, data: bytes, offset: int) -> None:
        written = self._whole()
        if len(written) < offset:
            written.extend(bytes(offset - len(written)))
        written[offset : offset + len(data)] = data

    def preallocate(self, size: int) -> None:
        written = self._whole()
        written.extend(bytes(max(0, size - len(written))))

    def truncate(self, size: int) -> None:
        self.preallocate(size)
        del self._whole()[size:]

    def fdatasync(self) -> None:
        """Nothing of it is ever durable."""

    def size(self) -> int:
        written = self._content.written
        if written is not None:
            return len(written)
        assert self._file is not None, "what was made here has its bytes in memory"
        return self._file.size()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _whole(self) -> bytearray:
        if self._content.written is None:
            self._content.written = bytearray(self.pread(self.size(), 0))
        return self._content.written


class OverlayDisk:
    """The answer of `Disk` over a folder. What others write there meanwhile is seen where nothing was written here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = RealDisk(root)
        # By name; None for what was removed.
        self._contents: dict[str, _Content | None] = {}

    def open(self, name: str) -> OverlayFile:
        content = self._contents.setdefault(name, _Content())
        if content is None:
            raise StorageError(f"opening {name} in {self.root}: it was removed")
        return OverlayFile(name, content, self._open_real(name) if content.written is None else None)

    def open_uncached(self, name: str) -> OverlayFile:
        return self.open(name)

    def create(self, name: str) -> OverlayFile:
        if self.exists(name):
            raise StorageError(f"creating {name} in {self.root}: it is there")
        content = self._contents[name] = _Content(bytearray())
        return OverlayFile(name, content, None)

    def exists(self, name: str) -> bool:
        if name in self._contents:
            content = self._contents[name]
            return content is not None and (content.written is not None or self._real.exists(name))
        return self._real.exists(name)

    def list(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        names = set(self._real.list(folder))
        for path, content in self._contents.items():
            name = path.removeprefix(prefix)
            if not path.startswith(prefix) or "/" in name:
                continue
            if content is None:
                names.discard(name)
            elif content.written is not None:
                names.add(name)
        return sorted(names)

    def make_folder(self, folder: str) -> None:
        """A folder is where names begin; there is nothing to make."""

    def rename(self, old: str, new: str) -> None:
        file = self.open(old)
        try:
            data = bytearray(file.pread(file.size(), 0))
        finally:
            file.close()
        self._contents[old], self._contents[new] = None, _Content(data)

    def remove(self, name: str) -> None:
        if not self.exists(name):
            raise StorageError(f"removing {name} from {self.root}: it is not there")
        self._contents[name] = None

    def fsync_folder(self, folder: str = "") -> None:
        """Nothing of it is ever durable."""

    def free_bytes(self) -> int:
        return self._real.free_bytes()

    def prepare(self, name: str, size: int) -> "_Prepared":
        file = self.create(name)
        file.preallocate(size)
        return _Prepared(self, file)

    def discard(self, files: Sequence[DiskFile]) -> Callable[[], None]:
        for file in files:
            self.remove(file.name)
            file.close()
        return lambda: None

    def random_u32(self) -> int:
        return self._real.random_u32()

    def _open_real(self, name: str) -> RealFile:
        try:
            # Not for writing: a copy may lie where nothing can be written.
            return RealFile(os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC), name)
        except OSError as error:
            raise storage_error(error, f"opening {name} in {self.root}") from error


class _Prepared:
    """A file that is there at once."""

    def __init__(self, disk: OverlayDisk, file: OverlayFile) -> None:
        self._disk, self._file = disk, file

    def take(self) -> OverlayFile:
        return self._file

    def is_linked(self) -> bool:
        return True

    def cancel(self) -> None:
        self._disk.remove(self._file.name)
