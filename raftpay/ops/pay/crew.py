"""The worker processes and the one queue that feeds them. Knows batches and answers, no CSV, and nothing of the books.

Every batch that was handed out is in exactly one place: with a living worker, or back in the queue. A worker is gone
when its stream ends, whatever ended it; then its unanswered batches go back to the front of the queue and another
worker is started. The workers' streams only put what arrives into one queue of events; all decisions are made by the
one coroutine that reads it.
"""

import asyncio
import heapq
import math
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import msgspec

from raftpay.errors import OutcomeUnknown, Rejected
from raftpay.ops.pay.lines import Batch
from raftpay.ops.pay.pipes import Answer, Failure, Message, MessageDecoder, Ready, Start, Submit, encode_message

WORKERS_MAX: Final = 64
# Batches that a worker has at a time, when there are several workers: one on its way, one to go on with.
BATCHES_A_WORKER: Final = 2
# A batch that is not answered by then, beyond the client's own deadline: its worker is stuck, and is killed.
STUCK_AFTER_S: Final = 15.0
# A process that has not started by then, on however busy a machine, never will.
START_TIMEOUT_S: Final = 60.0
# Workers that may die one after the other without an answer from any; then something is wrong with all of them.
DEATHS_IN_ROW_MAX: Final = 10
# After a failed attempt, before the next; the client itself has already retried until its deadline.
RETRY_PAUSE_S: Final = 0.25
# How long batches on their way are waited for once the run is to stop.
STOP_GRACE_S: Final = 3.0
TROUBLE_TOLD_EVERY_S: Final = 5.0
DEADLINE_MIN_S: Final = 0.05
_TICK_S: Final = 0.1
EXIT_TIMEOUT_S: Final = 5.0


class Ending(Enum):
    """Why a crew stopped."""

    DONE = auto()
    STOPPED = auto()
    NO_MAJORITY = auto()


@dataclass(frozen=True, slots=True)
class CrewOptions:
    """start: what each worker is told first. workers: how many. deadline_s: of one attempt to have a batch answered.
    patience_s: how long nothing may be answered before the crew gives up.

    One worker has one batch at a time, so that the lines take effect in the order of the file.
    """

    start: Start
    workers: int
    deadline_s: float
    patience_s: float

    @property
    def batches_a_worker(self) -> int:
        return 1 if self.workers == 1 else BATCHES_A_WORKER

    @property
    def window(self) -> int:
        """How many batches may be read ahead of the oldest unanswered one."""
        return 4 * self.workers * self.batches_a_worker + 4


@dataclass(slots=True, eq=False)
class Worker(asyncio.Protocol):
    """One process and our end of its stream; what arrives on it goes to `events`, and at its end nothing, once.

    started_at: by the loop's clock. is_ready: it has said so, and may be given batches.
    held: its unanswered batches by number, each with the time it was given.
    """

    process: subprocess.Popen[bytes]
    events: "asyncio.Queue[tuple[Worker, bytes] | None]"
    started_at: float
    is_ready: bool = False
    transport: asyncio.Transport | None = None
    held: dict[int, tuple[Batch, float]] = field(default_factory=dict)
    decoder: MessageDecoder = field(default_factory=MessageDecoder)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.events.put_nowait((self, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.put_nowait((self, b""))

    def send(self, message: Message) -> None:
        assert self.transport is not None
        self.transport.write(encode_message(message))


class Crew:
    """Brings batches into the ledger through worker processes.

    source: the batches, read one at a time as there is room.
    on_answer: called with each batch and the result numbers of its events, once a batch, in the order of the answers.
    on_notice: called with sentences for people: a worker replaced, no majority.
    """

    def __init__(
        self,
        options: CrewOptions,
        source: Iterator[Batch],
        *,
        on_answer: Callable[[Batch, bytes], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self._options = options
        self._source = source
        self._on_answer = on_answer
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        # What arrived from the workers; None only wakes the run.
        self._events: asyncio.Queue[tuple[Worker, bytes] | None] = asyncio.Queue()
        self._workers: list[Worker] = []
        # Batches to hand out again, lowest number first.
        self._again: list[tuple[int, Batch]] = []
        # The next batch of the source, read while the workers are busy.
        self._ready: Batch | None = None
        # Numbers that are read and not answered, and the highest that was read.
        self._open: set[int] = set()
        self._newest = 0
        self._is_source_empty = False
        self._answered_at = self._loop.time()
        self._deaths_in_row = 0
        # When `stop` stops waiting for what is on its way.
        self._stop_at: float | None = None
        # Why there is no majority, or "" while there is one; the time before which nothing is handed out.
        self._trouble = ""
        self._trouble_told_at = -math.inf
        self._pause_until = 0.0
        # How many workers were replaced.
        self.replaced = 0
        # Set once a run ended early: whether lines without an answer may be in the ledger; what the last failure said.
        self.may_have_happened = False
        self.trouble_at_end = ""

    @property
    def processes(self) -> Sequence[subprocess.Popen[bytes]]:
        """The living workers' handles."""
        return [worker.process for worker in self._workers]

    def stop(self) -> None:
        """Hand out no more; what is on its way is waited for, a short while."""
        if self._stop_at is None:
            self._stop_at = self._loop.time() + STOP_GRACE_S
            self._events.put_nowait(None)

    async def run(self) -> Ending:
        """Work until the source is empty and all is answered, or until `stop`, or until patience is at its end.

        Raises Rejected if a request as such was refused, OutcomeUnknown if workers cannot be kept alive, and what
        the source raises. No process is left behind, however it ends.
        """
        try:
            for _ in range(self._options.workers):
                await self._start_worker()
            while True:
                self._hand_out()
                ending = self._ending()
                if ending is not None:
                    self._note_ending()
                    return ending
                await self._take_event()
        finally:
            await self._dismiss()

    def _ending(self) -> Ending | None:
        now = self._loop.time()
        if self._is_source_empty and not self._open:
            return Ending.DONE
        is_idle = not any(worker.held for worker in self._workers)
        if self._stop_at is not None and (is_idle or now >= self._stop_at):
            return Ending.STOPPED
        if self._is_out_of_patience(now) and (is_idle or self._is_out_of_patience(now - STOP_GRACE_S)):
            return Ending.NO_MAJORITY
        return None

    def _is_out_of_patience(self, now: float) -> bool:
        return bool(self._trouble) and now - self._answered_at >= self._options.patience_s

    def _note_ending(self) -> None:
        given = [batch for worker in self._workers for batch, _ in worker.held.values()]
        self.may_have_happened = bool(given) or any(batch.may_have_happened for _, batch in self._again)
        self.trouble_at_end = self._trouble

    async def _take_event(self) -> None:
        """Wait for something to arrive, but not for long: time itself may bring work."""
        try:
            async with asyncio.timeout(_TICK_S):
                event = await self._events.get()
        except TimeoutError:
            self._kill_stuck()
            self._tell_trouble()
            return
        if event is None:
            return
        worker, data = event
        if not data:
            await self._replace(worker)
            return
        for message in worker.decoder.feed(data):
            if isinstance(message, Ready):
                worker.is_ready = True
                continue
            assert isinstance(message, Answer | Failure), f"a worker sent {type(message).__name__}"
            batch, _ = worker.held.pop(message.number)
            if isinstance(message, Answer):
                self._settle(batch, message)
            else:
                self._fail(batch, message)

    def _settle(self, batch: Batch, answer: Answer) -> None:
        assert len(answer.results) == len(batch.events), f"batch {batch.number} and its answer differ in length"
        self._open.remove(batch.number)
        self._answered_at = self._loop.time()
        self._deaths_in_row = 0
        self._trouble = ""
        self._on_answer(batch, answer.results)

    def _fail(self, batch: Batch, failure: Failure) -> None:
        batch.may_have_happened |= failure.may_have_happened
        if failure.is_final:
            raise Rejected(f"lines {batch.lines[0]}-{batch.lines[-1]}: {failure.message}")
        heapq.heappush(self._again, (batch.number, batch))
        self._trouble = failure.message
        self._pause_until = self._loop.time() + RETRY_PAUSE_S
        self._tell_trouble()

    def _tell_trouble(self) -> None:
        now = self._loop.time()
        if self._trouble and now - self._trouble_told_at >= TROUBLE_TOLD_EVERY_S:
            self._trouble_told_at = now
            self._on_notice(
                f"no majority took anything for {now - self._answered_at:.0f} s ({self._trouble}); "
                f"this goes on for up to {self._options.patience_s:g} s"
            )

    async def _start_worker(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            # A process group of its own: Ctrl-C in the terminal is for the parent, which stops in good order.
            process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for here
                [sys.executable, "-m", "raftpay.ops.pay.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        worker = Worker(process, self._events, self._loop.time())
        self._workers.append(worker)
        await self._loop.create_unix_connection(lambda: worker, sock=ours)
        worker.send(self._options.start)

    async def _replace(self, worker: Worker) -> None:
        """A worker's stream ended: its process is gone, or as good as that."""
        self._workers.remove(worker)
        worker.process.kill()
        code = worker.process.wait()
        for batch, _ in worker.held.values():
            batch.may_have_happened = True
            heapq.heappush(self._again, (batch.number, batch))
        self._deaths_in_row += 1
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if self._deaths_in_row > DEATHS_IN_ROW_MAX:
            raise OutcomeUnknown(
                f"{self._deaths_in_row} worker processes ended one after the other ({how}) and none answered; what "
                "they printed is above. Run the same command again when the cause is gone: nothing is done twice"
            )
        self.replaced += 1
        self._on_notice(
            f"worker process {worker.process.pid} ended ({how}); another takes over its {len(worker.held)} "
            "unanswered batches, under the same ids"
        )
        await self._start_worker()

    def _hand_out(self) -> None:
        """Give what there is to the workers that have room, and have the next batch ready."""
        now = self._loop.time()
        if self._stop_at is not None or now < self._pause_until or self._is_out_of_patience(now):
            return
        # No attempt outlasts the patience: so it is known of each batch, at the end, whether it may have happened.
        patience_s = self._options.patience_s - (now - self._answered_at if self._trouble else 0.0)
        deadline_s = max(min(self._options.deadline_s, patience_s), DEADLINE_MIN_S)
        # Round by round, so that each has its first before one has its second.
        for held in range(self._options.batches_a_worker):
            for worker in self._workers:
                if not worker.is_ready or len(worker.held) > held:
                    continue
                batch = self._next_batch()
                if batch is None:
                    return
                worker.held[batch.number] = (batch, now)
                batch.given_at = now if batch.given_at is None else batch.given_at
                worker.send(Submit(batch.number, msgspec.msgpack.encode(batch.events), deadline_s))
        if self._ready is None:
            self._ready = self._read_batch()

    def _next_batch(self) -> Batch | None:
        if self._again:
            return heapq.heappop(self._again)[1]
        batch, self._ready = self._ready or self._read_batch(), None
        return batch

    def _read_batch(self) -> Batch | None:
        """The next batch of the source that has events, or None at its end or when enough is under way."""
        # One slow batch must not let those behind it pile up, read or answered, without end.
        while not self._is_source_empty and self._newest - min(self._open, default=self._newest) < self._options.window:
            batch = next(self._source, None)
            if batch is None:
                self._is_source_empty = True
                break
            self._newest = batch.number
            if batch.events:
                self._open.add(batch.number)
                return batch
            # Not a line of it can become an event.
            self._on_answer(batch, b"")
        return None

    def _kill_stuck(self) -> None:
        now = self._loop.time()
        for worker in self._workers:
            oldest = min((given for _, given in worker.held.values()), default=now)
            is_stuck = now - oldest > self._options.deadline_s + STUCK_AFTER_S
            if is_stuck or (not worker.is_ready and now - worker.started_at > START_TIMEOUT_S):
                worker.process.kill()

    async def _dismiss(self) -> None:
        """Close all streams, at which the workers end by themselves; see them gone."""
        for worker in self._workers:
            if worker.transport is None:
                worker.process.kill()
            else:
                worker.transport.abort()
        for worker in self._workers:
            try:
                await asyncio.to_thread(worker.process.wait, EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()
