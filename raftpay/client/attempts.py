"""Carries one request through its attempts: send, wait, do what the effort decides. The only place that pauses.

The client's calls and lanes come here; what an answer or a failure means is decided in routing.py.
"""

import asyncio
from collections.abc import Callable, Sequence

from raftpay.client.connection import Connections, Ending, OnEnding
from raftpay.client.routing import Decision, Effort, GiveUp
from raftpay.wire.rpc import RpcResponse

# Params are made anew for each attempt: a shared request no longer carries what its callers gave up.
MakeParams = Callable[[], Sequence[object]]


def try_send(connections: Connections, effort: Effort, make_params: MakeParams, on_ending: OnEnding) -> bool:
    """Send at once if the connection is there; else do nothing and return False."""
    connection = connections.ready(effort.address)
    if connection is None:
        return False
    try:
        connection.request(effort.method, make_params(), on_ending)
    except ConnectionError:
        return False
    effort.sent()
    return True


async def carry(
    connections: Connections, effort: Effort, make_params: MakeParams, ending: Ending | None = None
) -> RpcResponse:
    """Return the successful response, over as many attempts as it takes; the caller sets the time limit.

    ending: what became of the first attempt, if there was one already.
    Raises NotCommitted, OutcomeUnknown or Rejected where trying on would be wrong.
    """
    while True:
        step = await _attempt(connections, effort, make_params) if ending is None else judge(effort, ending)
        ending = None
        if isinstance(step, RpcResponse):
            return step
        if isinstance(step, GiveUp):
            raise step.error
        if step.pause_s > 0:
            await asyncio.sleep(step.pause_s)


def judge(effort: Effort, ending: Ending) -> RpcResponse | Decision:
    """Tell the effort what became of its attempt, and return what to do."""
    if isinstance(ending, ConnectionError):
        return effort.lost(str(ending))
    if ending.error is not None:
        return effort.refused(ending.error)
    effort.succeeded()
    return ending


async def _attempt(connections: Connections, effort: Effort, make_params: MakeParams) -> RpcResponse | Decision:
    if connections.is_closed:
        return GiveUp(effort.closed())
    try:
        connection = await connections.connect(effort.address)
        sent = connection.ask(effort.method, make_params())
    except OSError as error:
        return effort.unreachable(str(error) or type(error).__name__)
    effort.sent()
    return judge(effort, await sent)
