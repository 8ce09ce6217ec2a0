"""Group commit: the requests that arrive while entries are on their way become the next entry together.

One queue, first come first served. Here the leader gives each command its time. Nothing here knows sockets or what a
request means: it holds checked bytes, and spreads the results of a command back to the calls in it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from raftpay.config import COMMAND_OVERHEAD_BYTES_MAX, ClusterConfig
from raftpay.errors import DiskFullError, NotLeaderError
from raftpay.ledger import Ledger, Results
from raftpay.machine import COMMAND_VERSION, COMMAND_VERSION_MIN, CheckedRequest, build_command
from raftpay.node.calls import OVERLOADED, UNAVAILABLE, UNKNOWN, Call, Refusals
from raftpay.node.log import log_line
from raftpay.raft.node import RaftNode

logger = logging.getLogger("raftpay.node")

STOPPING: Final = "this node is stopping; nothing was written, ask another one"

# A clock that is set while a timer runs would leave it wrong for as long as it runs: look again at least this often.
SWEEP_TIMER_MAX_S: Final = 30.0
# The clock and the loop's timer may differ by a hair, and a full disk takes no sweep: do not spin.
SWEEP_TIMER_MIN_S: Final = 0.005
# A new leader is ready as soon as its first entry is committed: look again soon.
READY_TIMER_S: Final = 0.05


class QueuedWrite:
    """A checked request and the call that waits for its result. deadline: on the loop's clock."""

    __slots__ = ("call", "deadline", "is_single", "request")

    def __init__(self, call: Call, request: CheckedRequest, deadline: float, *, is_single: bool) -> None:
        self.call = call
        self.request = request
        self.deadline = deadline
        # Answered with one number rather than with one for each event.
        self.is_single = is_single


@dataclass(frozen=True, slots=True)
class GroupCommitOptions:
    """The configured values that matter here; meanings in cluster.example.toml."""

    commands_in_flight_max: int
    command_events_max: int
    entry_bytes_max: int
    queue_requests_max: int
    queue_bytes_max: int
    request_timeout_s: float
    command_version: int = COMMAND_VERSION

    @classmethod
    def of(cls, config: ClusterConfig) -> "GroupCommitOptions":
        return cls(
            commands_in_flight_max=config.commit.commands_in_flight_max,
            command_events_max=config.commit.command_events_max,
            entry_bytes_max=config.entry_bytes_max,
            queue_requests_max=config.limits.queue_requests_max,
            queue_bytes_max=config.limits.queue_bytes_max,
            request_timeout_s=config.limits.request_timeout_s,
        )


class GroupCommit:
    """The queue before the log, and what is in the log and not yet applied.

    clock_ns: nanoseconds since the epoch; only a leader's clock is ever asked.
    """

    def __init__(
        self,
        options: GroupCommitOptions,
        raft: RaftNode,
        ledger: Ledger,
        refusals: Refusals,
        clock_ns: Callable[[], int],
    ) -> None:
        self._options = options
        self._raft = raft
        self._ledger = ledger
        self._refusals = refusals
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        # Accepted and not yet proposed, in order of arrival, hence of deadline.
        self._queue: deque[QueuedWrite] = deque()
        self._queue_bytes = 0
        # Proposed and not yet applied, one batch a command, by a running number. A sweep is an empty batch.
        self._in_flight: dict[int, list[QueuedWrite]] = {}
        self._proposed_count = 0
        # The earliest time that the next command may have, as far as this node has given times.
        self._next_time = 0
        self._is_closed = False
        # Told once to the log, not with each of the refusals.
        self._is_disk_full = False
        self._is_pump_due = False
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        raft.on_role_change.append(self._role_changed)

    @property
    def in_flight_count(self) -> int:
        """Commands in the log and not yet applied."""
        return len(self._in_flight)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def check_leads(self) -> None:
        """Raise NotLeaderError unless this node may propose. Cheap: asked before a request is decoded."""
        if not self._raft.is_ready:
            raise NotLeaderError(self._raft.leader)

    def submit(self, call: Call, request: CheckedRequest, *, is_single: bool = False) -> None:
        """Queue a checked request. Its call is answered with [timestamp, results], or refused.

        is_single: an operator's act, answered with [timestamp, result].
        """
        if self._is_closed:
            call.refuse(UNAVAILABLE, STOPPING)
            return
        options = self._options
        if (
            len(self._queue) >= options.queue_requests_max
            or self._queue_bytes + request.size_bytes > options.queue_bytes_max
        ):
            call.refuse(
                OVERLOADED,
                f"{len(self._queue)} requests of {self._queue_bytes} bytes wait already (limits queue_requests_max = "
                f"{options.queue_requests_max}, queue_bytes_max = {options.queue_bytes_max}); try again later",
            )
            return
        deadline = self._loop.time() + options.request_timeout_s
        self._queue.append(QueuedWrite(call, request, deadline, is_single=is_single))
        self._queue_bytes += request.size_bytes
        if self._deadline_timer is None:
            self._deadline_timer = self._loop.call_at(deadline, self._expire)
        # Not at once: whatever else has arrived in this turn of the loop belongs to the same command.
        if not self._is_pump_due:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    # ---- into the log -----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._is_pump_due = False
        while self._queue and len(self._in_flight) < self._options.commands_in_flight_max:
            if not self._raft.is_ready:
                self._refuse_queue(NotLeaderError(self._raft.leader))
                break
            self._propose(self._take_batch())
        self._arm_sweep()
        self._tell_drained()

    def _take_batch(self) -> list[QueuedWrite]:
        """From the head of the queue, what goes into one command; at least one request."""
        events, size_bytes = 0, COMMAND_OVERHEAD_BYTES_MAX
        batch: list[QueuedWrite] = []
        while self._queue:
            request = self._queue[0].request
            events += request.event_count
            size_bytes += request.size_bytes
            # A request may alone be over the first limit, never over the second: a message is smaller than an entry.
            is_full = events > self._options.command_events_max or size_bytes > self._options.entry_bytes_max
            if batch and is_full:
                break
            self._queue_bytes -= request.size_bytes
            batch.append(self._queue.popleft())
        return batch

    def _propose(self, batch: list[QueuedWrite]) -> bool:
        """Propose the command of these requests, or refuse their calls. Returns whether it is on its way."""
        # Above every time in the log: the ledger has applied all of the earlier terms (is_ready), and the rest of it
        # has been given here.
        time = max(self._clock_ns(), self._ledger.time + 1, self._next_time)
        self._next_time = time + max(1, sum(write.request.event_count for write in batch))
        try:
            future = self._raft.propose(self._command(time, batch))
        except (NotLeaderError, DiskFullError) as error:
            self._tell_disk(error)
            self._refuse(batch, error)
            return False
        self._tell_disk(None)
        self._proposed_count += 1
        number = self._proposed_count
        self._in_flight[number] = batch
        future.add_done_callback(lambda future: self._applied(number, future))
        return True

    def _command(self, time: int, batch: list[QueuedWrite]) -> bytes:
        """In the newest version that every member can apply: while nodes are upgraded one by one, that of the oldest.

        A node of a release that is too old even for the least version here stops by itself and says so.
        """
        version = max(COMMAND_VERSION_MIN, min(self._options.command_version, self._raft.command_version))
        return build_command(time, [write.request for write in batch], version=version)

    def _tell_disk(self, error: Exception | None) -> None:
        is_full = isinstance(error, DiskFullError)
        if is_full and not self._is_disk_full:
            log_line(logger, logging.WARNING, "disk full, writes are refused until there is room", error=str(error))
        if error is None and self._is_disk_full:
            log_line(logger, logging.INFO, "the disk has room again, writes are taken")
        if is_full or error is None:
            self._is_disk_full = is_full

    # ---- out of the log ---------------------------------------------------------------------------------------------

    def _applied(self, number: int, future: "asyncio.Future[object]") -> None:
        batch = self._in_flight.pop(number)
        error = future.exception()
        if error is None:
            self._spread(batch, future.result())
        else:
            assert isinstance(error, Exception), "raft answers with one of its own errors"
            self._refuse(batch, error)
        self._pump()

    def _spread(self, batch: list[QueuedWrite], results: object) -> None:
        """Give each call the results of its own request."""
        assert isinstance(results, list), "the machine returns a list of Results"
        result: Results
        for write, result in zip(batch, results, strict=True):
            if write.call.is_open:
                numbers = result.results
                write.call.answer((result.timestamp, numbers[0] if write.is_single else bytes(numbers)))

    # ---- ends without a result --------------------------------------------------------------------------------------

    def _refuse(self, batch: list[QueuedWrite], error: Exception) -> None:
        for write in batch:
            if write.call.is_open:
                self._refusals.refuse(write.call, error)

    def _refuse_queue(self, error: Exception) -> None:
        queue, self._queue = list(self._queue), deque()
        self._queue_bytes = 0
        self._refuse(queue, error)

    def _expire(self) -> None:
        """Refuse what has waited too long, and set the timer for what is due next."""
        self._deadline_timer = None
        now, timeout_s = self._loop.time(), self._options.request_timeout_s
        due: list[float] = []
        for batch in self._in_flight.values():
            for write in batch:
                if not write.call.is_open:
                    continue
                if write.deadline > now:
                    due.append(write.deadline)
                    break
                write.call.refuse(
                    UNKNOWN,
                    f"in the log, but not committed within {timeout_s} s (request_timeout_s): it may still be; "
                    "send the same request again, under the same ids",
                )
        while self._queue and self._queue[0].deadline <= now:
            write = self._queue.popleft()
            self._queue_bytes -= write.request.size_bytes
            write.call.refuse(
                UNAVAILABLE, f"waited {timeout_s} s (request_timeout_s) for its place in the log; nothing was written"
            )
        due += [write.deadline for write in self._queue][:1]
        if due:
            self._deadline_timer = self._loop.call_at(min(due), self._expire)
        self._tell_drained()

    def _role_changed(self, role: str) -> None:
        self._pump()

    # ---- expiry of pending transfers while nobody asks for anything -------------------------------------------------

    def _arm_sweep(self) -> None:
        """Leave a timer for the next expiry, if this node leads and nothing is on its way that would sweep as well."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        if self._is_closed or self._in_flight or self._raft.role != "leader":
            return
        if not self._raft.is_ready:
            self._sweep_timer = self._loop.call_later(READY_TIMER_S, self._arm_sweep)
        elif (next_expiry := self._ledger.next_expiry) is not None:
            wait_s = (next_expiry - self._clock_ns()) / 1e9
            if wait_s > 0 or not self._propose([]):
                wait_s = min(max(wait_s, SWEEP_TIMER_MIN_S), SWEEP_TIMER_MAX_S)
                self._sweep_timer = self._loop.call_later(wait_s, self._arm_sweep)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Accept no more requests. What has been accepted goes on."""
        self._is_closed = True
        self._arm_sweep()

    async def drain(self, timeout_s: float) -> bool:
        """After `close`, wait until nothing is queued or in the log and not applied. Returns whether that came true."""
        self._drained = self._loop.create_future()
        self._tell_drained()
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained
        except TimeoutError:
            return False
        return True

    def abandon(self) -> None:
        """Leave no timer behind, and no call without an answer."""
        for timer in (self._deadline_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        for write in self._queue:
            write.call.refuse(UNAVAILABLE, STOPPING)
        self._queue.clear()
        for batch in self._in_flight.values():
            for write in batch:
                if write.call.is_open:
                    write.call.refuse(UNKNOWN, "the node stopped; send the same request again, under the same ids")

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._drained.done() and not self._queue and not self._in_flight:
            self._drained.set_result(None)
