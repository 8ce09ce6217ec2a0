"""Brings the events of concurrent calls together: what waits while requests are in flight travels in the next one.

One lane for each method that creates. A call with LINKED or IMPORTED events travels alone. Each call has its own
deadline; a shared request goes on as long as one of its calls is waiting. If a node rejects a shared request, its
calls are sent again one by one, so that nobody is refused for what another sent.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from raftpay.client.answers import BATCH_ANSWER
from raftpay.client.arguments import EVENTS_BYTES_MAX, EventBatch, join_events
from raftpay.client.attempts import carry, try_send
from raftpay.client.connection import Connections, Ending
from raftpay.client.routing import Effort, Kind, Router
from raftpay.errors import ClientError, NotCommitted, ProtocolError, Rejected
from raftpay.ledger import BATCH_EVENTS_MAX
from raftpay.wire.rpc import RpcResponse, decode_value

# Result numbers of one call's events, and the time of the first of them.
Answer = tuple[int, bytes]


class Call:
    """One caller's wait for the results of its events."""

    __slots__ = ("batch", "deadline_s", "done", "is_alone", "shared", "timer")

    def __init__(self, batch: EventBatch, deadline_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.batch: Final = batch
        # It must not share a request: by its flags, or because a node rejected the request that it shared.
        self.is_alone = batch.is_alone
        self.deadline_s: Final = deadline_s
        self.done: Final[asyncio.Future[Answer]] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        # The request that carries it; None while it waits in the queue.
        self.shared: SharedRequest | None = None

    def fail(self, error: ClientError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class SharedRequest:
    """Calls that travel together, and the effort that carries them."""

    __slots__ = ("calls", "effort", "task")

    def __init__(self, calls: list[Call], effort: Effort) -> None:
        # All of them until the next attempt, which leaves out who gave up. The answer speaks of what was sent last.
        self.calls = calls
        self.effort = effort
        # Set once it is more than one attempt on a connection that was there.
        self.task: asyncio.Task[None] | None = None

    def params(self) -> Sequence[object]:
        self.calls = self.waited_for()
        return (join_events([call.batch for call in self.calls]),)

    def waited_for(self) -> list[Call]:
        return [call for call in self.calls if not call.done.done()]

    def fail(self, error: ClientError) -> None:
        """Each caller gets an exception of its own: a traceback belongs to one task."""
        for call in self.calls:
            call.fail(type(error)(*error.args))


def take_together(queue: deque[Call]) -> list[Call]:
    """Take from the front of the queue what may travel in one request: one call at least, none if the queue is empty.

    Calls that nobody waits for any more are dropped.
    """
    taken: list[Call] = []
    count = size_bytes = 0
    while queue:
        call = queue[0]
        if call.done.done():
            queue.popleft()
            continue
        count += call.batch.count
        size_bytes += len(call.batch.body)
        is_full = count > BATCH_EVENTS_MAX or size_bytes > EVENTS_BYTES_MAX
        if taken and (is_full or call.is_alone):
            break
        taken.append(queue.popleft())
        if call.is_alone:
            break
    return taken


class Lane:
    """The queue and the requests in flight of one method.

    in_flight_max: shared requests on their way at once; the others wait and grow together.
    waiting_events_max: events in the queue, beyond which a call is refused at once.
    """

    def __init__(
        self, method: str, connections: Connections, router: Router, *, in_flight_max: int, waiting_events_max: int
    ) -> None:
        self._method = method
        self._connections = connections
        self._router = router
        self._in_flight_max = in_flight_max
        self._waiting_events_max = waiting_events_max
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        # Events of the calls in the queue that are waited for.
        self._waiting_events = 0
        self._in_flight: set[SharedRequest] = set()
        self._is_flush_due = False
        # The last request carried one call and nothing waited: who comes alone is not made to wait for company.
        self._is_lone_caller = False

    async def send(self, batch: EventBatch, deadline_s: float) -> Answer:
        """Return the results of a call's events, once they are known. Raises ClientError."""
        if self._waiting_events + batch.count > self._waiting_events_max:
            raise NotCommitted(
                f"{self._method}: {self._waiting_events} events wait in this client already, at most "
                f"{self._waiting_events_max} may. It did not happen: send it again when others are done"
            )
        call = Call(batch, deadline_s, self._loop)
        call.timer = self._loop.call_later(deadline_s, self._expire, call)
        self._queue.append(call)
        self._waiting_events += batch.count
        self._flush_soon()
        try:
            return await call.done
        finally:
            call.timer.cancel()
            self._leave(call)

    async def close(self) -> None:
        """Fail every call that waits, with the truth about whether it may have happened."""
        tasks = [shared.task for shared in self._in_flight if shared.task is not None]
        for call in self._queue:
            call.fail(NotCommitted(f"{self._method}: the client was closed before it was sent. It did not happen"))
        for shared in list(self._in_flight):
            shared.fail(shared.effort.closed())
            self._abandon(shared)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _flush_soon(self) -> None:
        """Send once all that is ready to run has run: tasks that woke together then travel together."""
        if self._is_flush_due or not self._queue or len(self._in_flight) >= self._in_flight_max:
            return
        if self._is_lone_caller and not self._in_flight:
            self._flush()
        else:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        while len(self._in_flight) < self._in_flight_max:
            calls = take_together(self._queue)
            if not calls:
                return
            self._start(calls)

    def _start(self, calls: list[Call]) -> None:
        shared = SharedRequest(calls, self._effort())
        self._in_flight.add(shared)
        for call in calls:
            self._waiting_events -= call.batch.count
            call.shared = shared
        is_sent = try_send(
            self._connections, shared.effort, shared.params, lambda ending: self._first_attempt_ended(shared, ending)
        )
        if not is_sent:
            shared.task = self._loop.create_task(self._carry(shared, None))

    def _effort(self) -> Effort:
        return Effort(self._method, Kind.EVENTS, self._router, wants_leader=True)

    def _first_attempt_ended(self, shared: SharedRequest, ending: Ending) -> None:
        """The common case needs no task: one attempt on a connection that was there, and it succeeded."""
        if shared not in self._in_flight:
            return
        if isinstance(ending, RpcResponse) and ending.error is None:
            shared.effort.succeeded()
            self._settle(shared, ending)
            self._end(shared)
        else:
            shared.task = self._loop.create_task(self._carry(shared, ending))

    async def _carry(self, shared: SharedRequest, ending: Ending | None) -> None:
        try:
            response = await carry(self._connections, shared.effort, shared.params, ending)
            self._settle(shared, response)
        except Rejected as error:
            self._take_apart(shared, error)
        except ClientError as error:
            shared.fail(error)
        finally:
            self._end(shared)

    def _take_apart(self, shared: SharedRequest, error: Rejected) -> None:
        """A node rejected the request, so nothing of it happened: find out whose events it meant."""
        if len(shared.calls) == 1:
            shared.calls[0].fail(error)
            return
        for call in reversed(shared.waited_for()):
            call.is_alone = True
            call.shared = None
            self._waiting_events += call.batch.count
            self._queue.appendleft(call)

    def _settle(self, shared: SharedRequest, response: RpcResponse) -> None:
        """Deal the results out to the calls, in the order in which their events were sent."""
        try:
            timestamp, numbers = decode_value(BATCH_ANSWER, response.result)
            expected = sum(call.batch.count for call in shared.calls)
            if len(numbers) != expected:
                raise ProtocolError(f"{len(numbers)} results came for {expected} events")
        except ProtocolError as error:
            shared.fail(shared.effort.not_understood(f"the answer cannot be read: {error}"))
            return
        start = 0
        for call in shared.calls:
            end = start + call.batch.count
            if not call.done.done():
                call.done.set_result((timestamp + start, numbers[start:end]))
            start = end

    def _end(self, shared: SharedRequest) -> None:
        self._in_flight.discard(shared)
        self._is_lone_caller = len(shared.calls) == 1 and not self._queue
        self._flush_soon()

    def _expire(self, call: Call) -> None:
        if call.shared is not None:
            call.fail(call.shared.effort.out_of_time(call.deadline_s))
            return
        call.fail(
            NotCommitted(
                f"{self._method}: not sent within {call.deadline_s:g} s, for {self._waiting_events} events wait behind "
                f"{len(self._in_flight)} unanswered requests. It did not happen, and may be sent again"
            )
        )

    def _leave(self, call: Call) -> None:
        """The caller is gone, with its results or without. A queue entry is dropped when its turn comes."""
        if call.shared is None:
            self._waiting_events -= call.batch.count
        elif call.shared in self._in_flight and not call.shared.waited_for():
            self._abandon(call.shared)
        if not call.done.cancelled():
            # Counts as read: a caller cancelled at the moment of its deadline leaves an error behind.
            call.done.exception()

    def _abandon(self, shared: SharedRequest) -> None:
        if shared.task is not None:
            shared.task.cancel()
        self._end(shared)
