"""One connection to one node, and the set of them that a client keeps. Moves bytes; decides nothing about retries.

An answer is found by its message id, so answers may come in any order. A connection on which nothing arrives for
`silence_s_max` while answers are due counts as lost: a stopped node keeps its sockets open for ever. Before that the
silence is reported, for it may be known elsewhere what it means (inquiry.py).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from raftpay.client.arguments import parse_address
from raftpay.errors import ProtocolError
from raftpay.wire.rpc import MESSAGE_ID_MAX, RpcDecoder, RpcRequest, RpcResponse, encode_request

CONNECT_TIMEOUT_S: Final = 1.0
# Of an answer: a page of thousands of records is longer than any request may be.
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
UNANSWERED_MAX: Final = 1024

# What becomes of a request that was sent: its response, or the loss of the connection. Called once, at once.
Ending = RpcResponse | ConnectionError
OnEnding = Callable[[Ending], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a node may be silent while an answer is due.

    silence_s_max: then the connection counts as lost.
    suspicion_s: then, and each time so much later, on_silence is called with the connection.
    """

    silence_s_max: float
    suspicion_s: float
    on_silence: Callable[["Connection"], None]


class Connection(asyncio.Protocol):
    """The protocol of one TCP connection. Made by Connections, used from its event loop only."""

    def __init__(self, address: str, patience: Patience) -> None:
        self.address: Final = address
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._decoder = RpcDecoder(ANSWER_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._last_id = 0
        # Sent and not answered. Those whose callers gave up stay until their answer comes or the connection goes.
        self._unanswered: dict[int, OnEnding] = {}
        # When the oldest of the answers that are due began to be awaited, or bytes came last, by the loop's clock.
        self._heard_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        # What the node said about the connection itself (message id 0) before it closed it.
        self._farewell = ""
        self.is_open = False
        self.closed: Final[asyncio.Future[None]] = self._loop.create_future()

    def request(self, method: str, params: Sequence[object], on_ending: OnEnding) -> None:
        """Send a request; on_ending is told what becomes of it. Raises ConnectionError if nothing was sent."""
        if not self.is_open or self._transport is None:
            raise ConnectionError("the connection is closed")
        if len(self._unanswered) >= UNANSWERED_MAX:
            raise ConnectionError(f"{UNANSWERED_MAX} requests are unanswered on this connection")
        self._last_id = self._last_id % MESSAGE_ID_MAX + 1
        data = encode_request(self._last_id, method, params)
        if not self._unanswered:
            self._heard_at = self._loop.time()
            if self._watchdog is None:
                self._watchdog = self._loop.call_later(self._patience.suspicion_s, self._watch)
        self._unanswered[self._last_id] = on_ending
        self._transport.write(data)

    def ask(self, method: str, params: Sequence[object]) -> asyncio.Future[Ending]:
        """As `request`, for those who await what becomes of it."""
        future: asyncio.Future[Ending] = self._loop.create_future()

        def on_ending(ending: Ending) -> None:
            # Who gave up has cancelled it.
            if not future.done():
                future.set_result(ending)

        self.request(method, params, on_ending)
        return future

    @property
    def peer(self) -> object:
        """The node's IP address and port, whatever name it was called by."""
        return self._transport.get_extra_info("peername") if self._transport is not None else None

    def abort(self, why: str = "") -> None:
        """Close at once; what is unanswered is lost."""
        self.is_open = False
        self._farewell = self._farewell or why
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            for message in self._decoder.feed(data):
                self._take(message)
        except ProtocolError as error:
            self.abort(f"its answer broke the protocol: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        why = self._farewell or (str(error) if error else "the node closed the connection")
        unanswered, self._unanswered = self._unanswered, {}
        for on_ending in unanswered.values():
            on_ending(ConnectionError(why))
        if not self.closed.done():
            self.closed.set_result(None)

    def _take(self, message: RpcRequest | RpcResponse) -> None:
        if isinstance(message, RpcRequest):
            raise ProtocolError("a node sent a request")
        on_ending = self._unanswered.pop(message.message_id, None)
        if on_ending is None:
            if message.message_id == 0 and message.error is not None:
                self._farewell = f"{message.error.code}: {message.error.message}"
                return
            raise ProtocolError(f"a node answered request {message.message_id}, which is not open")
        on_ending(message)

    def _watch(self) -> None:
        """Look whether the silence has become too long, and when to look again."""
        self._watchdog = None
        if not self._unanswered:
            return
        patience = self._patience
        silent_s = self._loop.time() - self._heard_at
        if silent_s >= patience.silence_s_max:
            self.abort(f"no byte came for {patience.silence_s_max:g} s")
            return
        next_s = patience.suspicion_s
        if silent_s >= patience.suspicion_s:
            patience.on_silence(self)
        else:
            next_s -= silent_s
        self._watchdog = self._loop.call_later(min(next_s, patience.silence_s_max - silent_s), self._watch)


class Connections:
    """One connection for each address, opened when it is first needed and again when it was lost."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._open: dict[str, Connection] = {}
        self._opening: dict[str, asyncio.Task[Connection | OSError]] = {}
        self.is_closed = False

    def ready(self, address: str) -> Connection | None:
        """The connection to this address if it is open now."""
        connection = self._open.get(address)
        return connection if connection is not None and connection.is_open else None

    async def connect(self, address: str) -> Connection:
        """Return an open connection to this address. Raises OSError if there is none to be had."""
        connection = self.ready(address)
        if connection is not None:
            return connection
        task = self._opening.get(address)
        if task is None:
            task = asyncio.create_task(self._dial(address))
            self._opening[address] = task
            task.add_done_callback(lambda _: self._opening.pop(address, None))
        # Many efforts wait for one dialling; one that is cancelled leaves it to the others.
        await asyncio.wait({task})
        if task.cancelled():
            raise ConnectionError("the client was closed")
        dialled = task.result()
        if isinstance(dialled, OSError):
            raise dialled
        return dialled

    async def _dial(self, address: str) -> Connection | OSError:
        host, port = parse_address(address)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(address, self._patience), host, port
                )
        except TimeoutError:
            return ConnectionError(f"no connection within {CONNECT_TIMEOUT_S:g} s")
        except OSError as error:
            return error
        except UnicodeError as error:
            return ConnectionError(f"{host!r} cannot be the name of a host: {error}")
        self._open[address] = connection
        return connection

    async def close(self) -> None:
        """Close all connections, and wait until their sockets are gone."""
        self.is_closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        open_ones = list(self._open.values())
        for connection in open_ones:
            connection.abort()
        for connection in open_ones:
            await connection.closed
        self._open.clear()
