"""Simulated time: one schedule for all, and for each node an asyncio loop that runs on it.

RaftNode and GroupCommit run on a NodeLoop as they do on a real loop. What happens to a node from outside is delivered
to its loop and runs as one turn, with all the callbacks that it asks to be called soon. A turn takes time, so what
comes meanwhile is handled together afterwards; a paused node handles nothing until it goes on. No rule of Raft, no
message and no fault is known here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from heapq import heappop, heappush
from types import CoroutineType
from typing import Any, Final

# What a turn of a loop costs.
TURN_S: Final = 0.00005
# Those that are done are forgotten from this number on.
TASKS_KEPT: Final = 64
# Whether a run is over is asked every so many events: asked after each, it takes a twentieth of the run.
LOOK_EVERY: Final = 16

Act = Callable[..., object]


class Schedule:
    """Simulated seconds, and what happens when. Things of one moment happen in the order they were asked for.

    running: the loop whose turn it is, so that the engines' one clock can ask the right node. entered: the one that
    asyncio takes for the running one, that of the latest turn.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.running: NodeLoop | None = None
        self.entered: NodeLoop | None = None
        self._heap: list[tuple[float, int, Act, tuple[object, ...]]] = []
        self._count = 0

    def at(self, when_s: float, act: Act, *args: object) -> None:
        self._count += 1
        now_s = self.now_s
        heappush(self._heap, (when_s if when_s > now_s else now_s, self._count, act, args))

    def after(self, delay_s: float, act: Act, *args: object) -> None:
        self._count += 1
        heappush(self._heap, (self.now_s + delay_s if delay_s > 0.0 else self.now_s, self._count, act, args))

    def run_until(self, end_s: float, is_over: Callable[[], bool]) -> None:
        """Let things happen until then, or until it is over, which is asked before the first and every LOOK_EVERY."""
        heap, left = self._heap, 0
        while heap and heap[0][0] <= end_s:
            if left == 0:
                if is_over():
                    return
                left = LOOK_EVERY
            left -= 1
            self.now_s, _, act, args = heappop(heap)
            act(*args)
        if not is_over():
            self.now_s = max(self.now_s, end_s)

    def enter(self, loop: "NodeLoop | None") -> None:
        """Have asyncio take this loop for the running one, from now on. Asked rarely: it costs a system call."""
        if loop is not self.entered:
            self.entered = loop
            asyncio._set_running_loop(loop)

    def engine_clock(self) -> float:
        """What the engines' clock shows: that of the node whose turn it is."""
        loop = self.running
        if loop is None:
            return self.now_s
        if loop.stalls is not None:
            return loop.time()
        # loop.time(), without the call: the engines look at the clock twenty thousand times a run.
        return loop.offset_s + (self.now_s + loop.spent_s) * loop.rate


class SimHandle(asyncio.TimerHandle):
    """A callback that is due; the parts of asyncio's handle that anybody uses."""

    __slots__ = ()

    # Not asyncio's constructor: it copies a context for each handle, and nothing here has context variables.
    def __init__(self, when_s: float, callback: Act, args: tuple[Any, ...]) -> None:
        self._when = when_s
        self._callback: Act | None = callback
        self._args: tuple[Any, ...] = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled, self._callback, self._args = True, None, ()

    def run(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)


class NodeLoop(asyncio.AbstractEventLoop):  # the part of it that RaftNode and GroupCommit use
    """The loop of one life of one node.

    rate, offset_s: how its monotonic clock relates to simulated seconds. after_turn: called after each turn, for its
    owner to set. is_cut: the process has ended within the present turn.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        rate: float,
        offset_s: float,
    ) -> None:
        self._schedule = schedule
        self.rate, self.offset_s = rate, offset_s
        self.after_turn: Callable[[], None] = lambda: None
        self._ready: deque[SimHandle] = deque()
        # What came from outside and waits for its turn.
        self._inbox: deque[tuple[Act, tuple[object, ...]]] = deque()
        self._busy_until_s = 0.0
        self._is_wake_due = False
        # Time that has passed within the present turn.
        self.spent_s = 0.0
        # The clock's reading after which the node is held up, and for how long.
        self.stalls: tuple[int, float] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.is_paused = False
        self.is_dead = False
        self.is_cut = False

    # ---- from outside

    def deliver(self, act: Act, *args: object) -> None:
        """Have something happen on this loop, now or as soon as it has time."""
        schedule = self._schedule
        assert schedule.running is not self, "what runs on a loop calls itself by call_soon"
        if self.is_dead:
            return
        if self.is_paused or self._inbox or schedule.now_s < self._busy_until_s:
            self._inbox.append((act, args))
            self._arm()
        else:
            self._turn(act, args)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._arm()

    def die(self) -> None:
        self.is_dead = True
        self._inbox.clear()
        self._ready.clear()
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, CoroutineType) and not coroutine.cr_running:
                coroutine.close()
        self._tasks.clear()

    def stall(self, readings: int, seconds: float) -> None:
        """Hold the process up for a while, in the middle of whatever it does when it next reads the clock so often."""
        self.stalls = (readings, seconds)

    def spend(self, seconds: float) -> None:
        """The present turn takes so much longer."""
        self.spent_s += seconds

    def _arm(self) -> None:
        if self._inbox and not self._is_wake_due and not self.is_paused:
            self._is_wake_due = True
            self._schedule.at(self._busy_until_s, self._wake)

    def _wake(self) -> None:
        self._is_wake_due = False
        if self.is_dead or self.is_paused or not self._inbox:
            return
        if self._schedule.now_s < self._busy_until_s:
            self._arm()
            return
        acts = list(self._inbox)
        self._inbox.clear()
        self._turn(_do_all, (acts,))

    def _turn(self, act: Act, args: tuple[object, ...]) -> None:
        schedule, ready = self._schedule, self._ready
        schedule.running = self
        if schedule.entered is not self:
            schedule.enter(self)
        try:
            act(*args)
            while ready and not self.is_cut:
                handle = ready.popleft()
                if handle._callback is not None:
                    handle._callback(*handle._args)
        except Exception:
            # Where a write was cut, by the power or a kill, the rest of the turn never was; the owner ends this life.
            if not self.is_cut:
                raise
        finally:
            schedule.running = None
            self._busy_until_s = schedule.now_s + TURN_S + self.spent_s
            self.spent_s = 0.0
        self.after_turn()

    # ---- what asyncio and the node's own code ask of a loop

    def time(self) -> float:
        if self.stalls is not None:
            readings, seconds = self.stalls
            self.stalls = (readings - 1, seconds) if readings > 1 else None
            if readings <= 1:
                self.spent_s += seconds
        return self.offset_s + (self._schedule.now_s + self.spent_s) * self.rate

    def reading(self) -> float:
        """What the clock shows, without a stall being counted by it: for those who watch the node."""
        return self.offset_s + (self._schedule.now_s + self.spent_s) * self.rate

    # What asyncio declares is wider than what is used here, and abstract where nothing calls it.
    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> SimHandle:  # type: ignore[override]  # fewer type variables
        handle = SimHandle(0.0, callback, args)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> SimHandle:  # type: ignore[override]  # fewer type variables
        handle = SimHandle(when, callback, args)
        self._schedule.at((when - self.offset_s) / self.rate, self._due, handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> SimHandle:  # type: ignore[override]  # fewer type variables
        return self.call_at(self.time() + delay, callback, *args)

    def _due(self, handle: SimHandle) -> None:
        if handle._callback is not None:
            self.deliver(handle.run)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> "asyncio.Task[Any]":  # type: ignore[override]  # asyncio also takes generators
        task = asyncio.Task(coro, loop=self, name=kwargs.get("name"))
        if len(self._tasks) >= TASKS_KEPT:
            self._tasks = [kept for kept in self._tasks if not kept.done()]
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Futures that die with their node are no news; anything else is a mistake of ours."""
        if not self.is_dead and context.get("exception") is not None:
            raise AssertionError(f"unhandled on a simulated loop: {context}")


def _do_all(acts: Iterable[tuple[Act, tuple[object, ...]]]) -> None:
    for act, args in acts:
        act(*args)
