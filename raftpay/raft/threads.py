"""What runs beside a node's loop, each in a thread of its own. Made and stopped by node.py."""

import asyncio
import queue
import threading
from collections.abc import Callable

from raftpay.errors import StorageError
from raftpay.storage.journal import SyncJob
from raftpay.storage.snapshots import Steps


class SyncThread:
    """Runs fsyncs beside the loop, one at a time, and reports each on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[SyncJob, StorageError | None], None]) -> None:
        self._loop, self._done = loop, done
        self._jobs: queue.SimpleQueue[SyncJob | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="raftpay fsync", daemon=True)
        self._thread.start()

    def submit(self, job: SyncJob) -> None:
        self._jobs.put(job)

    def stop(self) -> None:
        """Wait for the fsync under way."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            error: StorageError | None = None
            try:
                job.run()
            except StorageError as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._done, job, error)


class StepThread:
    """Runs series of steps beside the loop, one after the other, and reports the end of each on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._series: queue.SimpleQueue[tuple[Steps, Callable[[StorageError | None], None]] | None]
        self._series = queue.SimpleQueue()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="raftpay steps", daemon=True)
        self._thread.start()

    def submit(self, steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        self._series.put((steps, done))

    def stop(self) -> None:
        """Leave off after the step under way; opening removes what is half done."""
        self._is_stopping = True
        self._series.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (series := self._series.get()) is not None:
            steps, done = series
            error: StorageError | None = None
            try:
                for _ in steps:
                    if self._is_stopping:
                        return
            except StorageError as failure:
                error = failure
            except Exception as failure:  # noqa: BLE001  the thread's outermost frame: the node is to stop
                error = StorageError(f"what is done beside the loop failed: {failure!r}")
            self._loop.call_soon_threadsafe(done, error)
