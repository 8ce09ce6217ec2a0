"""Sealing: what the ledger has closed is written into the archive beside the loop, and then leaves the memory.

No answer depends on when that happens. A full disk puts it off, and the ledger holds the rows until there is room.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from raftpay.archive.archive import Archive
from raftpay.errors import DiskFullError, StorageError
from raftpay.ledger import Ledger
from raftpay.ledger.window import Segment
from raftpay.node.log import log_line
from raftpay.raft.snapshots import RunSteps
from raftpay.storage.snapshots import Steps

logger = logging.getLogger("raftpay.node")

_RETRY_S: Final = 5.0


class Runner(Protocol):
    """RaftNode, as far as it is needed here."""

    @property
    def run_steps(self) -> RunSteps: ...


class Sealing:
    """Of one node. runner: does what takes long. clock: seconds, of the node's loop."""

    def __init__(self, ledger: Ledger, archive: Archive, runner: Runner, clock: Callable[[], float]) -> None:
        self._ledger, self._archive, self._runner, self._clock = ledger, archive, runner, clock
        self._is_busy = False
        self._rest_until_s = 0.0

    def look(self) -> None:
        """Begin to seal if there is something to. Called behind each command, on the loop."""
        if self._is_busy:
            return
        segments = self._ledger.segments()
        if not segments or self._clock() < self._rest_until_s:
            return
        segment = segments[0]
        # A node that starts again closes segments that it has sealed in its life before.
        outcome = "sealed" if segment.number >= self._archive.segments else "sealed before, and the same"
        self._is_busy = True
        self._runner.run_steps(self._steps(segment), lambda error: self._done(segment, outcome, error))

    def _steps(self, segment: Segment) -> Steps:
        rows = segment.rows()
        yield
        yield from self._archive.seal(rows)
        # What sealing took is given back when nothing refers to it any more.
        del rows
        self._archive.store.rest()

    def _done(self, segment: Segment, outcome: str, error: StorageError | None) -> None:
        self._is_busy = False
        if isinstance(error, DiskFullError):
            self._rest_until_s = self._clock() + _RETRY_S
            log_line(logger, logging.WARNING, "no room to seal history, tried again later", error=str(error))
            return
        if error is not None:
            raise error
        rows = segment.last - segment.first
        log_line(logger, logging.INFO, outcome, segment=segment.number, first_row=segment.first, rows=rows)
        # Meanwhile a snapshot may have taken the ledger past it.
        if any(known.number == segment.number for known in self._ledger.segments()):
            self._ledger.drop_before(segment.number + 1)
        self.look()
