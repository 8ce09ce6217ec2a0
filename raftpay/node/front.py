"""The client front: connections of clients, their bytes in and out, and what one of them may take.

Protocols rather than streams: a request is handled in the turn of the loop in which its bytes arrive, and all responses
of a turn leave in one write. Nothing here knows a method. Whatever bytes arrive, the worst that follows is that their
connection is closed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from raftpay.config import LimitsConfig, split_address
from raftpay.errors import ConfigError, ProtocolError
from raftpay.node.calls import OVERLOADED, PROTOCOL, Call
from raftpay.node.log import log_line
from raftpay.wire.rpc import RpcDecoder, RpcMessage, RpcRequest, encode_error

logger = logging.getLogger("raftpay.node")

# What the kernel and the client have not taken yet; beyond it we begin no more requests of that client.
WRITE_BUFFER_BYTES_MAX: Final = 1024 * 1024
# Requests that were begun before that may still be answered, up to so many of the longest messages.
UNSENT_MESSAGES_MAX: Final = 8
# How long a closing connection may take to hand over its last responses.
CLOSE_TIMEOUT_S: Final = 1.0

Dispatch = Callable[[Call, str, msgspec.Raw], None]


class _Connection(asyncio.Protocol):
    """One client. Reads while it may have more in flight and takes its responses; otherwise leaves it waiting."""

    def __init__(self, front: "ClientFront") -> None:
        self._front = front
        self._loop = front.loop
        self._decoder = RpcDecoder(front.limits.message_bytes_max)
        self._transport: asyncio.Transport | None = None
        # Decoded and not yet begun: what one read brought beyond the limit in flight.
        self._backlog: deque[RpcMessage] = deque()
        # Begun and not yet answered.
        self._in_flight = 0
        # Responses of this turn of the loop, written together at its end.
        self._responses: list[bytes] = []
        self._responses_bytes = 0
        self._is_reading = True
        self._is_write_paused = False
        # True once nothing more is to be read: the connection is going, or its bytes made no sense.
        self._is_closing = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_held_back(self) -> bool:
        """Whether the client has to take or await responses before more is read of it."""
        return not self._is_reading

    @property
    def unsent_bytes(self) -> int:
        """Bytes of responses that the client has not taken yet."""
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return unsent + self._responses_bytes

    @property
    def is_full(self) -> bool:
        """Whether answers of this client take so much memory that questions are better refused than answered."""
        return self.unsent_bytes > UNSENT_MESSAGES_MAX * self._front.limits.message_bytes_max

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are of no class of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        limit = self._front.limits.connections_max
        if not self._front.admit(self):
            self._hang_up(OVERLOADED, f"{limit} clients are connected already (connections_max); try another node")

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._break_off(error)
            return
        if self._backlog:
            self._backlog.extend(messages)
        else:
            self._handle(messages)
        self._set_reading()

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._set_reading()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._work_off()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._backlog.clear()
        self._drop_responses()
        self._front.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)

    # ---- requests in, responses out ---------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more request may be begun.

        What was answered in this turn of the loop counts like what is in flight, so that one client's flood of quick
        questions leaves the others their turn.
        """
        return (
            self._in_flight + len(self._responses) < self._front.limits.requests_in_flight_max
            and self._responses_bytes < WRITE_BUFFER_BYTES_MAX
            and not self._is_write_paused
        )

    def _handle(self, messages: list[RpcMessage]) -> None:
        for position, message in enumerate(messages):
            if not self._has_room():
                self._backlog.extend(messages[position:])
                return
            self._begin(message)

    def _work_off(self) -> None:
        """Begin what has waited for room, then read on if there is still some."""
        while self._backlog and self._has_room() and not self._is_closing:
            self._begin(self._backlog.popleft())
        self._set_reading()

    def _begin(self, message: RpcMessage) -> None:
        if self._is_closing:
            return
        if not isinstance(message, RpcRequest):
            self._break_off(ProtocolError("a response to nothing: clients send requests, [0, id, method, params]"))
            return
        self._in_flight += 1
        self._front.dispatch(Call(self, message.message_id), message.method, message.params)

    def send(self, response: bytes) -> None:
        """Send the response to a request that was begun here; drop it if the client has gone."""
        self._in_flight -= 1
        if self._transport is None or self._transport.is_closing():
            return
        if not self._responses:
            self._loop.call_soon(self._flush)
        self._responses.append(response)
        self._responses_bytes += len(response)

    def _flush(self) -> None:
        if self._responses and self._transport is not None:
            responses, self._responses, self._responses_bytes = self._responses, [], 0
            self._transport.write(responses[0] if len(responses) == 1 else b"".join(responses))
        if self._backlog:
            self._work_off()
        else:
            self._set_reading()

    def _set_reading(self) -> None:
        """Read exactly while there is room for another request."""
        may_read = not self._backlog and self._has_room()
        if may_read is self._is_reading or self._is_closing or self._transport is None:
            return
        self._is_reading = may_read
        self._transport.resume_reading() if may_read else self._transport.pause_reading()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _break_off(self, error: ProtocolError) -> None:
        """Bytes that are no requests: say so once, then hang up. Their borders are lost, so nothing more is read."""
        address = "unknown"
        if self._transport is not None and (peer := self._transport.get_extra_info("peername")):
            address = f"{peer[0]}:{peer[1]}"
        log_line(logger, logging.WARNING, "client broke the protocol", address=address, error=str(error))
        self._hang_up(PROTOCOL, str(error))

    def _hang_up(self, code: str, message: str) -> None:
        self._is_closing = True
        self._backlog.clear()
        assert self._transport is not None
        self._transport.write(b"".join(self._responses) + encode_error(0, code, message))
        self._drop_responses()
        self._transport.close()

    def close(self) -> None:
        """Write what is answered and close."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.write(b"".join(self._responses))
            self._drop_responses()
            self._transport.close()

    def _drop_responses(self) -> None:
        self._responses.clear()
        self._responses_bytes = 0

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class FrontStatus:
    """connections: of clients, now. refused_count: connections over the limit, since the start."""

    connections: int
    refused_count: int


class ClientFront:
    """Listens for clients. dispatch: begins a request; its call must be answered once."""

    def __init__(self, limits: LimitsConfig, dispatch: Dispatch) -> None:
        self.limits = limits
        self.dispatch = dispatch
        self.loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._refused_count = 0
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> None:
        """Listen on "host:port". Raises ConfigError when the port cannot be had."""
        host, port = split_address(address)
        try:
            self._server = await self.loop.create_server(lambda: _Connection(self), host, port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen for clients on {address}: {error.strerror or error}. "
                "Stop what uses the port, or change `client` of this node in every node's cluster file"
            ) from error

    def stop_listening(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Close every connection, its last responses sent."""
        self.stop_listening()
        connections = list(self._connections)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=CLOSE_TIMEOUT_S)
        for connection in self._connections:
            connection.abort()

    @property
    def status(self) -> FrontStatus:
        return FrontStatus(len(self._connections), self._refused_count)

    @property
    def connections(self) -> frozenset[_Connection]:
        """Those of clients, now."""
        return frozenset(self._connections)

    # ---- for its connections ----------------------------------------------------------------------------------------

    def admit(self, connection: _Connection) -> bool:
        """Count a new connection in; False when there are too many."""
        if len(self._connections) >= self.limits.connections_max:
            if self._refused_count == 0:
                log_line(logger, logging.WARNING, "too many clients", connections_max=self.limits.connections_max)
            self._refused_count += 1
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)
