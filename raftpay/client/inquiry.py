"""Asks around when a node falls silent while an answer is due: has the cluster a new leader meanwhile?

A killed node's connections break at once. A stopped or unreachable one's stay open and say nothing; to wait until that
counts as lost would cost seconds. So the other nodes are asked. Only if one that is another node than the silent one
says itself that it leads now, the silent connection is given up: a leader that is merely slow keeps its clients.
"""

import asyncio
from typing import Final

from raftpay.client.answers import STATUS, NodeStatus
from raftpay.client.connection import Connection, Connections
from raftpay.client.routing import Router
from raftpay.errors import ProtocolError
from raftpay.wire.rpc import RpcResponse, decode_value

ANSWER_S_MAX: Final = 0.5


class Inquiry:
    """The questions under way, one at a time for each silent connection."""

    def __init__(self, connections: Connections, router: Router) -> None:
        self._connections = connections
        self._router = router
        self._under_way: dict[Connection, asyncio.Task[None]] = {}

    def begin(self, silent: Connection) -> None:
        if silent not in self._under_way:
            task = self._under_way[silent] = asyncio.create_task(self._ask_around(silent))
            task.add_done_callback(lambda _: self._under_way.pop(silent, None))

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_around(self, silent: Connection) -> None:
        for address in self._router.others(silent.address):
            status = await self._status(address, silent)
            named = status.leader_address if status is not None else None
            if named is None or named == silent.address:
                continue
            leader = status if named == address else await self._status(named, silent)
            if leader is not None and leader.is_ready:
                self._router.name_leader(named, by=silent.address)
                silent.abort(f"it is silent, and {leader.name} leads now")
                return

    async def _status(self, address: str, silent: Connection) -> NodeStatus | None:
        """What the node at this address says of itself; None if that is nothing, or if it is the silent node itself."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                connection = await self._connections.connect(address)
                if connection.peer == silent.peer:
                    return None
                ending = await connection.ask("status", ())
        except OSError:
            return None
        if not isinstance(ending, RpcResponse) or ending.error is not None:
            return None
        try:
            return decode_value(STATUS, ending.result)
        except ProtocolError:
            return None
