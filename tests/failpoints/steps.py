"""Where a process may end: the steps of what changes the disk, named by who asks for them.

A disk that is watched knows of each change which act it belongs to, by the functions that are under way. So no line of
the product knows of failpoints, and no step has to be listed: whatever an act does to the disk is one. A step is killed
at once, before it is done; a write of more than a sector a second time, half done.
"""

import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from raftpay.storage.disk import SECTOR_BYTES, RealDisk, RealFile

# The functions that stand for an act, by their qualified names.
ACTS: Final = {
    "Node.__init__": "start",
    "SnapshotStore.write": "snapshot",
    "Snapshots._adopt": "snapshot",
    "Journal.compact_to": "compaction",
    "RealDisk._discard": "discard",
    "Archive.seal": "sealing",
    "Archive.take_in": "taking in",
    "Archive._merge_runs": "merging",
    "Snapshots.offered": "fetch",
    "Snapshots.received": "fetch",
    "SnapshotStore.receive": "install",
    "SnapshotStore.receive_file": "install",
    "Snapshots._checked": "install",
    "Journal.reset": "reset",
}
# In the folder of a node's steps: it is to end only while the first one is there; the second has those it ended at.
ARMED_NAME: Final = "armed"
DONE_NAME: Final = "done"
# Of a series of like changes, such as the pages of a file, the first ones are steps of their own.
LIKE_ONES_MAX: Final = 2
# What differs from one file of a kind to the next: digests, numbers, and which table of a segment it is.
_DIFFERENCES: Final = re.compile(r"[0-9a-f]{8,}|[0-9]+|(?<=-)(?:transfers|accounts|failed)(?=\.parquet)")


class Failpoints:
    """Of one process. folder: where it is told of what was done before, and tells what it does.

    is_thorough: all like ones are steps of their own, and an act is another one within each act that asks for it.
    """

    def __init__(self, folder: Path, *, is_thorough: bool) -> None:
        self._armed, done = folder / ARMED_NAME, folder / DONE_NAME
        self._is_thorough = is_thorough
        self._done_fd = os.open(done, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._done = set(done.read_text().splitlines())
        # Of each act the frame that was under way last, and how often it came to each of its steps.
        self._counts: dict[str, tuple[FrameType, dict[str, int]]] = {}

    def reached(self, what: str, name: str) -> None:
        """The process is about to do this to the file: it ends here, the first time that it comes to such a step."""
        if (step := self.named(what, name)) is not None:
            self.end_at(step)

    def named(self, what: str, name: str) -> str | None:
        """The step, where it belongs to an act. Counted: the second fsync of an act is another step than the first."""
        acts, frame = _acts(sys._getframe(2))
        if frame is None:
            return None
        act = " / ".join(acts) if self._is_thorough else acts[-1]
        if self._counts.get(act, (None,))[0] is not frame:
            self._counts[act] = (frame, {})
        counts = self._counts[act][1]
        step = f"{act}: {what} {_DIFFERENCES.sub('*', name)}"
        count = counts[step] = counts.get(step, 0) + 1
        return f"{step} ({count if self._is_thorough else min(count, LIKE_ONES_MAX)})"

    def is_due(self, step: str) -> bool:
        return step not in self._done and self._armed.exists()

    def end_at(self, step: str) -> None:
        """End the process here, if it has not ended at this step before."""
        if self.is_due(step):
            os.write(self._done_fd, f"{step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _acts(frame: FrameType | None) -> tuple[list[str], FrameType | None]:
    """The acts that are under way, the outermost first, and the frame of the innermost."""
    found: list[str] = []
    innermost = None
    while frame is not None:
        act = ACTS.get(frame.f_code.co_qualname)
        if act is not None:
            innermost = innermost or frame
            if act not in found:
                found.insert(0, act)
        frame = frame.f_back
    return found, innermost


class WatchedFile(RealFile):
    """A file whose changes are steps."""

    __slots__ = ("_failpoints",)

    def __init__(self, file: RealFile, failpoints: Failpoints) -> None:
        super().__init__(file._fd, file.name)
        self._failpoints = failpoints

    def pwrite(self, data: bytes, offset: int) -> None:
        step = self._failpoints.named("write", self.name)
        if step is not None:
            self._failpoints.end_at(step)
            half = len(data) // 2 // SECTOR_BYTES * SECTOR_BYTES
            if half and self._failpoints.is_due(f"{step}, half"):
                super().pwrite(data[:half], offset)
                self._failpoints.end_at(f"{step}, half")
        super().pwrite(data, offset)

    def preallocate(self, size: int) -> None:
        self._failpoints.reached("allocate", self.name)
        super().preallocate(size)

    def fdatasync(self) -> None:
        self._failpoints.reached("fsync", self.name)
        super().fdatasync()

    def truncate(self, size: int) -> None:
        self._failpoints.reached("cut", self.name)
        super().truncate(size)


class WatchedDisk(RealDisk):
    """A data directory whose changes are steps. failpoints: those of this process."""

    failpoints: Failpoints

    def open(self, name: str) -> RealFile:
        return WatchedFile(super().open(name), self.failpoints)

    def create(self, name: str) -> RealFile:
        self.failpoints.reached("create", name)
        return WatchedFile(super().create(name), self.failpoints)

    def make_folder(self, folder: str) -> None:
        self.failpoints.reached("make", folder)
        super().make_folder(folder)

    def rename(self, old: str, new: str) -> None:
        self.failpoints.reached("rename", f"{old} to {new}")
        super().rename(old, new)

    def remove(self, name: str) -> None:
        self.failpoints.reached("remove", name)
        super().remove(name)

    def fsync_folder(self, folder: str = "") -> None:
        self.failpoints.reached("fsync", f"{folder}/")
        super().fsync_folder(folder)
