"""A node as the client sees it: a real socket server that speaks the real protocol and does what a test tells it to.

It keeps ids the way the ledger does (`created` once, `exists` after), so that a test sees whether anything happened
twice. What it does with the next requests is its script; without one it answers everything.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from raftpay.ledger import Account, CreateAccountResult, CreateTransferResult, Transfer
from raftpay.wire.rpc import RpcDecoder, RpcRequest, encode_error, encode_response

LIMIT_S = 10.0
_EVENTS = {
    "create_accounts": (msgspec.msgpack.Decoder(list[Account]), CreateAccountResult.EXISTS),
    "create_transfers": (msgspec.msgpack.Decoder(list[Transfer]), CreateTransferResult.EXISTS),
}


@dataclass
class Arrival:
    """A request as it came in. params are decoded, events as structs."""

    method: str
    params: list
    message_id: int
    transport: asyncio.Transport
    peer: "Peer"

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def answer(self) -> None:
        self.send(encode_response(self.message_id, self.peer.carry_out(self)))

    def answer_with(self, result: object) -> None:
        self.send(encode_response(self.message_id, result))

    def refuse(self, code: str, message: str = "as scripted", leader: str | None = None) -> None:
        self.send(encode_error(self.message_id, code, message, leader=leader))

    def hang_up(self) -> None:
        self.transport.abort()


Action = Callable[[Arrival], None]


def answer(arrival: Arrival) -> None:
    arrival.answer()


def hang_up_before(arrival: Arrival) -> None:
    """The request is lost: nothing happened."""
    arrival.hang_up()


def hang_up_after(arrival: Arrival) -> None:
    """The answer is lost: it happened."""
    arrival.peer.carry_out(arrival)
    arrival.hang_up()


def stay_silent(arrival: Arrival) -> None:
    """Neither an answer nor a hang-up, as of a stopped process."""


def carry_out_in_silence(arrival: Arrival) -> None:
    arrival.peer.carry_out(arrival)


def refuse(code: str, *, leader: str | None = None, message: str = "as scripted") -> Action:
    return lambda arrival: arrival.refuse(code, message, leader)


def unknown_after(arrival: Arrival) -> None:
    """It happened, but the node lost its leadership before it could say so."""
    arrival.peer.carry_out(arrival)
    arrival.refuse("unknown")


def send_garbage(data: bytes) -> Action:
    return lambda arrival: arrival.send(data)


def answer_with(result: object) -> Action:
    return lambda arrival: arrival.answer_with(result)


class Peer:
    """One scripted node."""

    def __init__(self) -> None:
        self.address = ""
        # What to do with the next requests; `usual` when it is empty.
        self.script: deque[Action] = deque()
        self.usual: Action = answer
        self.arrivals: list[Arrival] = []
        self.connections: set[asyncio.Transport] = set()
        self.connections_made = 0
        # Ids in the order in which they took effect.
        self.created: list[str] = []
        self._known: set[str] = set()
        self.time = 1_000
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _PeerConnection(self), "127.0.0.1", port)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for transport in list(self.connections):
                transport.abort()
            await self._server.wait_closed()
            self._server = None
            await self.wait_until(lambda: not self.connections)

    def carry_out(self, arrival: Arrival) -> object:
        """Do what the request asks, and return its result."""
        if arrival.method not in _EVENTS:
            return self.time
        timestamp = self.time = self.time + 1_000_000
        exists = _EVENTS[arrival.method][1]
        numbers = bytearray()
        for event in arrival.params[0]:
            numbers.append(exists if event.id in self._known else 0)
            if event.id not in self._known:
                self._known.add(event.id)
                self.created.append(event.id)
        return timestamp, bytes(numbers)

    def batches(self, method: str = "create_transfers") -> list[list[str]]:
        """The ids of each request to create, in the order of arrival."""
        return [[event.id for event in one.params[0]] for one in self.arrivals if one.method == method]

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that requests, connections or their ends bring about."""
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_requests(self, count: int) -> None:
        await self.wait_until(lambda: len(self.arrivals) >= count)

    def take(self, request: RpcRequest, transport: asyncio.Transport) -> None:
        params = msgspec.msgpack.decode(request.params)
        if request.method in _EVENTS:
            params = [_EVENTS[request.method][0].decode(params[0])]
        arrival = Arrival(request.method, params, request.message_id, transport, self)
        self.arrivals.append(arrival)
        action = self.script.popleft() if self.script else self.usual
        action(arrival)
        self._changed.set()

    def connected(self, transport: asyncio.Transport) -> None:
        self.connections.add(transport)
        self.connections_made += 1
        self._changed.set()

    def disconnected(self, transport: asyncio.Transport) -> None:
        self.connections.discard(transport)
        self._changed.set()


@dataclass
class _PeerConnection(asyncio.Protocol):
    peer: Peer
    decoder: RpcDecoder = field(default_factory=RpcDecoder)
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.peer.connected(transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        for message in self.decoder.feed(data):
            assert isinstance(message, RpcRequest)
            self.peer.take(message, self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        assert self.transport is not None
        self.peer.disconnected(self.transport)


@asynccontextmanager
async def peers(count: int = 1) -> AsyncIterator[list[Peer]]:
    """So many nodes, each on a port of its own."""
    nodes = [Peer() for _ in range(count)]
    for node in nodes:
        await node.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


async def free_address() -> str:
    """An address where nobody listens."""
    node = Peer()
    await node.start()
    await node.stop()
    return node.address
