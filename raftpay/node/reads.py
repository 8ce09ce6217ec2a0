"""Linearizable reads, on any node: those that wait share one read barrier of the engine. Called by the methods.

A read that arrives while a round is under way waits for the next one, because a round vouches only for what was asked
before it began. So any number of readers costs two rounds in flight at most, and each waits for at most two.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from raftpay.errors import RaftError
from raftpay.node.calls import OVERLOADED, UNAVAILABLE, Call, Refusals
from raftpay.raft.node import RaftNode

Read = Callable[[Call], None]

# How long questions may keep the loop from messages and heartbeats, in one go.
SLICE_S: Final = 0.005


class LinearizableReads:
    """Reads waiting for a barrier.

    waiting_max: more are refused as overloaded. timeout_s: of one round; without a majority it would never end.
    """

    def __init__(self, raft: RaftNode, refusals: Refusals, *, waiting_max: int, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._raft = raft
        self._refusals = refusals
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        # In order of arrival; none of them is vouched for by the round under way.
        self._waiting: list[tuple[Call, Read]] = []
        # The round under way, and the reads that it will vouch for.
        self._round: asyncio.Task[None] | None = None
        self._served: list[tuple[Call, Read]] = []
        # Vouched for, and not yet answered. Whatever is applied meanwhile only makes their answers newer.
        self._due: deque[tuple[Call, Read]] = deque()
        # Rounds begun since the start: against the number of reads, it shows how well they share.
        self.round_count = 0

    def submit(self, call: Call, read: Read) -> None:
        """Answer the call through `read` once the state is known to be as new as any answer given before."""
        count = len(self._waiting) + len(self._due)
        if count >= self._waiting_max:
            call.refuse(OVERLOADED, f"{count} reads wait already (queue_requests_max); try again later")
            return
        self._waiting.append((call, read))
        if self._round is None:
            self._start_round()

    async def close(self) -> None:
        """End the round under way and refuse what waits."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)
        for call, _ in [*self._due, *self._waiting]:
            call.refuse(UNAVAILABLE, "this node is stopping, ask another one")
        self._due.clear()
        self._waiting.clear()

    def _start_round(self) -> None:
        self._served, self._waiting = self._waiting, []
        self.round_count += 1
        self._round = asyncio.create_task(self._confirm(), name="read barrier")
        self._round.add_done_callback(self._confirmed)

    async def _confirm(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._raft.read_barrier()

    def _confirmed(self, task: "asyncio.Task[None]") -> None:
        """Serve the reads of the round, or refuse them; then begin the next one."""
        served, self._served, self._round = self._served, [], None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        match error:
            case None:
                if not self._due:
                    self._loop.call_soon(self._answer_some)
                self._due.extend(served)
            case RaftError():
                # A read changes nothing, so whatever was lost is no unknown outcome: it has to be asked elsewhere.
                for call, _ in served:
                    self._refusals.refuse_not_leader(call, self._raft.leader)
            case TimeoutError():
                for call, _ in served:
                    call.refuse(UNAVAILABLE, f"no majority confirmed within {self._timeout_s} s who leads; try again")
            case asyncio.CancelledError():
                self._waiting = served + self._waiting
                return
            case _:
                raise error
        if self._waiting:
            self._start_round()

    def _answer_some(self) -> None:
        """Answer what is vouched for, in slices: a page of thousands of transfers takes milliseconds."""
        end = self._loop.time() + SLICE_S
        while self._due:
            call, read = self._due.popleft()
            read(call)
            if self._loop.time() >= end:
                break
        if self._due:
            self._loop.call_soon(self._answer_some)
