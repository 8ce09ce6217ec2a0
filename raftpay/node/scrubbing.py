"""Scrubbing: a slow pass, again and again, over all that the node relies on and seldom reads, to find it damaged while
it can still be put right.

The loop decides what is read and judges it; the reading is done beside it, a quarter of a megabyte at a time, by the
thread that writes snapshots, and pauses are made so that the rate holds. What is found damaged is first read once more
as its owner knows it by then: a file that was compacted away, or cut, is no damage. scrub_items.py says what is read
and how each kind is put right.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from raftpay.archive.archive import Archive
from raftpay.config import ScrubConfig
from raftpay.errors import CorruptionError, StorageError
from raftpay.node.log import log_line
from raftpay.node.scrub_items import Item, Later, Member, Parts, items_of
from raftpay.storage.disk import Disk
from raftpay.storage.journal import Journal
from raftpay.storage.scrub import STEP_BYTES, Rereading
from raftpay.storage.snapshots import Steps

logger = logging.getLogger("raftpay.node")

# A start has much to read besides.
_FIRST_S: Final = 60.0
_BETWEEN_S: Final = 1.0


@dataclass(slots=True)
class ScrubReport:
    """What was found so far. last_pass_ended: nanoseconds since the epoch, 0 for never. last_pass_bytes: that it read.
    found, repaired: how many damaged files.
    """

    passes: int = 0
    last_pass_ended: int = 0
    last_pass_bytes: int = 0
    found: int = 0
    repaired: int = 0


class Scrubbing:
    """Of one node. report: what it has found. clock_ns: the wall clock."""

    def __init__(
        self,
        config: ScrubConfig,
        raft: Member,
        *,
        journal: Journal,
        archive: Archive,
        clock_ns: Callable[[], int],
    ) -> None:
        assert raft.snapshots is not None
        self._config, self._raft, self._clock_ns = config, raft, clock_ns
        self._loop = asyncio.get_running_loop()
        self._parts = Parts(journal, raft, raft.snapshots, archive, self._pause)
        self._rereading = Rereading(self._disk)
        self._task: asyncio.Task[None] | None = None
        # By name: what is damaged and has not been put right.
        self._left: dict[str, Later] = {}
        self.report = ScrubReport()

    @property
    def _disk(self) -> Disk:
        return self._parts.disk

    @property
    def damaged(self) -> list[str]:
        """What is damaged and not put right yet: its name, and why."""
        self._settle()
        return [f"{name}: {later.why}" for name, later in self._left.items()]

    def start(self) -> None:
        """Begin, unless the rate is 0."""
        if self._config.rate_bytes_max:
            self._task = self._loop.create_task(self._run(), name="scrub")

    def stop(self) -> None:
        """End at once: what is half read is read again by the next life."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._pause(min(_FIRST_S, self._config.interval_s))
            while True:
                begun = self._loop.time()
                await self._pass()
                rest = self._config.interval_s - (self._loop.time() - begun)
                await self._pause(max(rest, min(_BETWEEN_S, self._config.interval_s)))
        except Exception as error:  # noqa: BLE001  the task's outermost frame: a node that cannot mend itself stops
            self._raft.fail(error)

    async def _pass(self) -> None:
        begun, report = self._rereading.read_bytes, self.report
        found = report.found
        for item in items_of(self._parts):
            await self._look_at(item)
            self._settle()
        report.passes += 1
        report.last_pass_bytes = self._rereading.read_bytes - begun
        report.last_pass_ended = self._clock_ns()
        log_line(
            logger,
            logging.INFO,
            "scrub: all was read again",
            bytes=report.last_pass_bytes,
            damaged=report.found - found,
            not_repaired=len(self._left),
        )

    async def _look_at(self, item: Item) -> None:
        if not item.is_current() or await self._read(item) is None:
            self._is_right(item)
            return
        # Compacted or cut while it was read? Once more, as it is by now.
        error = await self._read(item) if item.is_current() else None
        if error is None or not item.is_current():
            self._is_right(item)
            return
        if not isinstance(error, CorruptionError) and self._disk.exists(item.name):
            log_line(logger, logging.WARNING, "scrub: not read, tried again in the next pass", error=str(error))
            return
        if item.name not in self._left:
            self._note_found(item.name)
        log_line(logger, logging.ERROR, "scrub: damaged", file=item.name, error=str(error))
        later = await item.mend(error)
        if later is None and item.is_current() and (error := await self._read(item)) is not None:
            later = Later(f"it was put right, and is damaged again: {error}")
        if later is None:
            self._left.pop(item.name, None)
            self._note_repaired(item.name)
        else:
            self._left[item.name] = later
            log_line(logger, logging.ERROR, "scrub: not repaired yet", file=item.name, why=later.why)

    def _is_right(self, item: Item) -> None:
        """What was damaged is whole again, or has gone the way of all old files."""
        if self._left.pop(item.name, None) is not None:
            self._note_repaired(item.name)

    def _settle(self) -> None:
        for name in [name for name, later in self._left.items() if later.is_over()]:
            del self._left[name]
            self._note_repaired(name)

    def _note_found(self, _name: str) -> None:
        self.report.found += 1

    def _note_repaired(self, name: str) -> None:
        self.report.repaired += 1
        log_line(logger, logging.WARNING, "scrub: repaired", file=name)

    async def _read(self, item: Item) -> StorageError | None:
        """Read an item to its end, at the rate; what was wrong with it."""
        steps = item.read(self._rereading.open)
        while True:
            begun = self._rereading.read_bytes
            some = _Some(steps, self._rereading)
            error = await self._parts.run(some.steps())
            await self._pause((self._rereading.read_bytes - begun) / self._config.rate_bytes_max)
            if error is not None or some.is_end:
                return error

    async def _pause(self, seconds: float) -> None:
        # Not asyncio.sleep, which asks a simulated loop for more than it has.
        future: asyncio.Future[None] = self._loop.create_future()
        handle = self._loop.call_later(seconds, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            handle.cancel()


class _Some:
    """The next steps of a reading, until enough has been read. is_end: they were the last ones."""

    def __init__(self, reading: Steps, rereading: Rereading) -> None:
        self._reading, self._rereading = reading, rereading
        self.is_end = False

    def steps(self) -> Steps:
        stop = self._rereading.read_bytes + STEP_BYTES
        while self._rereading.read_bytes < stop:
            try:
                next(self._reading)
            except StopIteration:
                self.is_end = True
                return
            yield
