"""The part of the journal that may run in another thread: fsyncs, one at a time, and none after a failed one.

Made by `Journal.begin_sync`; nothing here touches what the journal remembers.
"""

import threading
from collections.abc import Sequence

from raftpay.errors import StorageError
from raftpay.storage.disk import Disk
from raftpay.storage.segment import Segment


class SyncGate:
    """lock: held while something is synced. failure: what the first failed fsync met; nothing is synced after it.

    The kernel reports a write that it lost once, to one caller, and then calls the page clean: a second fsync that
    succeeds proves nothing.
    """

    __slots__ = ("failure", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failure: StorageError | None = None


class SyncJob:
    """The fsyncs that make entries up to `index` durable.

    index: lowered by the journal if it is cut below it meanwhile. segments: those to sync. is_linking: whether their
    folder is synced too. is_done: whether `run` succeeded.
    """

    __slots__ = ("_disk", "_gate", "index", "is_done", "is_linking", "segments")

    def __init__(self, disk: Disk, gate: SyncGate, index: int, segments: Sequence[Segment]) -> None:
        self._disk = disk
        self._gate = gate
        self.index = index
        self.segments = segments
        self.is_linking = any(not segment.is_linked for segment in segments)
        self.is_done = False

    def run(self) -> None:
        """Do the fsyncs, in any thread. Raises StorageError, as `Journal.complete_sync` then will."""
        with self._gate.lock:
            if self._gate.failure is not None:
                raise StorageError(f"no fsync after a failed one: {self._gate.failure}") from self._gate.failure
            try:
                for segment in self.segments:
                    segment.file.fdatasync()
                if self.is_linking:
                    self._disk.fsync_folder("journal")
            except StorageError as error:
                self._gate.failure = error
                raise
        self.is_done = True
