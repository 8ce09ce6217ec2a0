"""Peers over TCP: who is connected, whole messages in and out. Knows no rule of Raft and nothing of PySyncObj.

Each node dials every other and speaks on the connection it dialled; what it hears comes on those that others dialled.
So a connection has one speaker, the order of its messages is the order they were sent in, and nothing of an older
connection is delivered after a newer one has opened (stock drains both, and reorders: S6 in docs/engine.md).
Protocols rather than streams: a message is handled in the same loop turn in which its bytes arrive.
"""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Final, cast

from raftpay.errors import ConfigError, ProtocolError, WireError
from raftpay.raft import messages
from raftpay.raft.messages import Hello, HelloReply, Message
from raftpay.raft.options import RaftOptions
from raftpay.wire.frames import FrameDecoder, encode_frame

logger = logging.getLogger("raftpay.raft")

HELLO_TIMEOUT_S: Final = 3.0
# Connections that have not said who they are; a scanner must not use up the descriptors.
UNKNOWN_CONNECTIONS_MAX: Final = 64
# The kernel gives up on a peer that acknowledges nothing: an unplugged machine sends no FIN.
UNACKNOWLEDGED_MS_MAX: Final = 5000


@dataclass(frozen=True, slots=True)
class PeerEvents:
    """What the transport tells and asks its owner, always on the loop's thread.

    hello: what to say to a peer that is dialled. introduced: a peer's way to us is open, with its hello.
    received: raises WireError to have the connection closed. connected, disconnected: of our way to the peer.
    hung_up: the peer's way to us has closed.
    """

    hello: Callable[[str], Hello]
    introduced: Callable[[Hello], None]
    received: Callable[[str, Message], None]
    connected: Callable[[str], None]
    disconnected: Callable[[str], None]
    hung_up: Callable[[str], None]


def refusal(own: Hello, hello: Hello, known: Container[str]) -> str:
    """Why a caller is not heard, "" if it is. own: what this node would say of itself. known: the peers that it dials.

    A caller that is not known is heard if it goes by a later configuration than this node, which may have been away
    when the caller became a member. One that was removed goes by an earlier one, and must not disturb (thesis 4.2.3).
    """
    if hello.version != own.version:
        return f"{own.sender} speaks version {own.version} of the peer protocol, the caller {hello.version}"
    if hello.cluster_id != own.cluster_id:
        return (
            f"{own.sender} belongs to cluster {own.cluster_id}, the caller to {hello.cluster_id}: "
            "give each cluster its own ports"
        )
    if hello.receiver != own.sender:
        return f"this address is {own.sender}'s, the caller takes it for {hello.receiver}'s: compare the files"
    if hello.sender == own.sender:
        return f"the caller says that it is {own.sender} itself: two nodes run under one name"
    if hello.sender not in known and hello.members_index <= own.members_index:
        return (
            f"{hello.sender} is not a member of the cluster as {own.sender} knows it: it was never added "
            f"(`raftpay member add {hello.sender}`), or it has been removed"
        )
    return ""


class _Connection(asyncio.Protocol):
    """Bytes of one connection to messages; what they mean is decided by the owner."""

    def __init__(
        self,
        frame_bytes_max: int,
        on_message: Callable[["_Connection", Message], None],
        on_lost: Callable[["_Connection"], None],
    ) -> None:
        self._decoder = FrameDecoder(frame_bytes_max)
        self._on_message, self._on_lost = on_message, on_lost
        self.transport: asyncio.Transport | None = None
        # Who is on the other side, once the hello has been accepted.
        self.peer: str | None = None
        # True once the connection is to be ignored: closed by us, or replaced by a newer one.
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are not asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._decoder.feed(data):
                if self.is_closed:
                    return
                self._on_message(self, messages.decode(payload))
        except WireError as error:
            logger.warning("peer connection closed peer=%s error=%s", self.describe(), error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._on_lost(self)

    def send(self, message: Message) -> None:
        assert self.transport is not None
        self.transport.write(encode_frame(messages.encode(message)))

    def close(self) -> None:
        self.is_closed = True
        if self.transport is not None:
            self.transport.abort()

    def describe(self) -> str:
        if self.peer is not None:
            return self.peer
        address = None if self.transport is None else self.transport.get_extra_info("peername")
        return "unknown" if not address else f"{address[0]}:{address[1]}"


class _Dialler:
    """Keeps one connection to one peer: dials, says hello, waits for its end, dials again with growing jitter."""

    def __init__(self, options: RaftOptions, peer: str, address: str, events: PeerEvents) -> None:
        self._options, self._peer, self.address = options, peer, address
        self._events = events
        # Accepted by the peer: messages go out here.
        self.connection: _Connection | None = None
        # Set when the peer has just called us: it is alive, so dial it now.
        self.wake = asyncio.Event()
        self._accepted: asyncio.Future[HelloReply] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._last_refusal = ""

    async def run(self) -> None:
        pause_s = self._options.reconnect_min_s
        while True:
            self.wake.clear()
            if await self._serve_one_connection():
                pause_s = self._options.reconnect_min_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(0.5, 1.0)):
                    await self.wake.wait()
            pause_s = min(pause_s * 2, self._options.reconnect_max_s)

    async def _serve_one_connection(self) -> bool:
        """Dial once and stay until the connection ends. Returns whether the peer accepted us."""
        loop = asyncio.get_running_loop()
        self._accepted, self._ended = loop.create_future(), loop.create_future()
        connection = _Connection(4096, self._on_message, self._on_lost)
        host, _, port = self.address.rpartition(":")
        own_host, _, _ = self._options.peers[self._options.name].rpartition(":")
        # From our own peer address, where both are plain ones: firewalls and operators know us by it.
        local_address = (own_host, 0) if _is_ipv4(own_host) and _is_ipv4(host) else None
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await loop.create_connection(lambda: connection, host, int(port), local_addr=local_address)
                connection.send(self._events.hello(self._peer))
                reply = await self._accepted
        except (OSError, TimeoutError):
            connection.close()
            return False
        if reply.refusal:
            self._note_refusal(reply.refusal)
            connection.close()
            return False
        self._last_refusal = ""
        connection.peer, self.connection = self._peer, connection
        self._events.connected(self._peer)
        try:
            await self._ended
        finally:
            self.connection = None
            connection.close()
        self._events.disconnected(self._peer)
        return True

    def _on_message(self, connection: _Connection, message: Message) -> None:
        if not isinstance(message, HelloReply) or self._accepted is None or self._accepted.done():
            raise ProtocolError(f"expected one hello reply, found {type(message).__name__}")
        self._accepted.set_result(message)

    def _on_lost(self, connection: _Connection) -> None:
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_exception(ConnectionResetError("closed during the hello"))
            # Retrieved here too: the dial may have been given up already.
            self._accepted.exception()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _note_refusal(self, refusal: str) -> None:
        if refusal != self._last_refusal:
            self._last_refusal = refusal
            logger.error("peer refuses this node peer=%s reason=%s", self._peer, refusal)


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True


class PeerTransport:
    """All connections of one node to its peers."""

    def __init__(self, options: RaftOptions, events: PeerEvents) -> None:
        self._options, self._events = options, events
        self._server: asyncio.Server | None = None
        # With the task that runs it. Empty until start.
        self._diallers: dict[str, tuple[_Dialler, asyncio.Task[None]]] = {}
        self._peers: dict[str, str] = {}
        # Callers that only they know to be members; dialled to answer them.
        self._guests: dict[str, str] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        # The newest connection on which each peer speaks.
        self._speakers: dict[str, _Connection] = {}
        self._unknown: set[_Connection] = set()
        self._refused: dict[str, str] = {}
        # The message encoded last: with both followers at the same place, one encoding serves both.
        self._encoded: tuple[Message, bytes] | None = None

    async def start(self) -> None:
        """Listen on our own peer address and dial the peers. Raises ConfigError when the port cannot be had."""
        address = self._options.peers[self._options.name]
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.get_running_loop().create_server(self._accept, host, int(port))
        except OSError as error:
            raise ConfigError(
                f"node {self._options.name} cannot listen for its peers on {address}: {error.strerror or error}. "
                "Stop what uses the port, or change `peer` of this node in every node's cluster file"
            ) from error
        self._dial()

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Whom to dial from now on, name to address; others are hung up on."""
        self._peers = dict(peers)
        self._guests.clear()
        if self._server is not None:
            self._dial()

    def _dial(self) -> None:
        wanted = self._guests | self._peers
        for peer, (dialler, task) in list(self._diallers.items()):
            if wanted.get(peer) != dialler.address:
                del self._diallers[peer]
                if dialler.connection is not None:
                    self._events.disconnected(peer)
                task.cancel()
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
                if peer not in wanted and peer in self._speakers:
                    self._speakers[peer].close()
        for peer in sorted(wanted.keys() - self._diallers.keys()):
            dialler = _Dialler(self._options, peer, wanted[peer], self._events)
            self._diallers[peer] = dialler, asyncio.create_task(dialler.run(), name=f"dial {peer}")

    async def stop(self) -> None:
        tasks = [*(task for _, task in self._diallers.values()), *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in [*self._speakers.values(), *self._unknown]:
            connection.close()

    def send(self, peer: str, message: Message) -> None:
        """Send to a peer if it is connected; drop the message otherwise. A peer that does not read is cut off."""
        entry = self._diallers.get(peer)
        connection = None if entry is None else entry[0].connection
        if connection is None or connection.is_closed or connection.transport is None:
            return
        if self._encoded is None or self._encoded[0] is not message:
            self._encoded = (message, encode_frame(messages.encode(message)))
        connection.transport.write(self._encoded[1])
        limit = self._options.window_bytes_max + 2 * self._options.frame_bytes_max
        if connection.transport.get_write_buffer_size() > limit:
            logger.warning("peer does not read, connection closed peer=%s unsent_bytes_max=%d", peer, limit)
            connection.close()

    def _accept(self) -> _Connection:
        connection = _Connection(self._options.frame_bytes_max, self._on_message, self._on_lost)
        if len(self._unknown) >= UNKNOWN_CONNECTIONS_MAX:
            self._unknown.pop().close()
        self._unknown.add(connection)
        asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._expect_hello, connection)
        return connection

    def _expect_hello(self, connection: _Connection) -> None:
        if connection in self._unknown:
            connection.close()

    def _on_message(self, connection: _Connection, message: Message) -> None:
        if connection.peer is not None:
            if isinstance(message, Hello | HelloReply):
                raise ProtocolError("a second hello on one connection")
            self._events.received(connection.peer, message)
            return
        if not isinstance(message, Hello):
            raise ProtocolError(f"expected a hello, found {type(message).__name__}")
        reason = refusal(self._events.hello(message.sender), message, self._diallers)
        connection.send(HelloReply(reason))
        if reason:
            self._note_refusal(connection, message, reason)
            connection.is_closed = True
            assert connection.transport is not None
            connection.transport.close()
            return
        connection.peer = message.sender
        self._unknown.discard(connection)
        older = self._speakers.get(message.sender)
        self._speakers[message.sender] = connection
        if older is not None:
            older.close()
        if message.sender not in self._diallers:
            self._guests[message.sender] = message.address
            self._dial()
        self._diallers[message.sender][0].wake.set()
        self._events.introduced(message)

    def _note_refusal(self, connection: _Connection, hello: Hello, reason: str) -> None:
        """Once for each caller and reason: a node that was removed goes on calling."""
        if self._refused.get(hello.sender) != reason:
            self._refused[hello.sender] = reason
            logger.error("caller refused address=%s reason=%s", connection.describe(), reason)

    def _on_lost(self, connection: _Connection) -> None:
        self._unknown.discard(connection)
        peer = connection.peer
        if peer is not None and self._speakers.get(peer) is connection:
            del self._speakers[peer]
            self._events.hung_up(peer)
