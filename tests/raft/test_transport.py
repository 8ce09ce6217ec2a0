"""Peers over real sockets on loopback: who is let in, what is delivered, what garbage does."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from raftpay.errors import ConfigError
from raftpay.ops.ports import free_ports
from raftpay.raft.messages import PROTOCOL_VERSION, Hello, HelloReply, Message, TimeoutNow, Vote, decode, encode
from raftpay.raft.options import RaftOptions
from raftpay.raft.transport import PeerEvents, PeerTransport
from raftpay.wire.frames import FrameDecoder, encode_frame

DEADLINE_S = 10


def free_addresses(count: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def hello_from(
    sender: str,
    receiver: str,
    *,
    version: int = PROTOCOL_VERSION,
    cluster: str = "one",
    address: str = "127.0.0.1:1",
    members_index: int = 5,
) -> Hello:
    return Hello(version, cluster, sender, receiver, address, 77, False, members_index, 1)


@dataclass
class Peer:
    """A transport, and all that it told its owner."""

    options: RaftOptions
    events: asyncio.Queue[tuple[str, str, Message | None]] = field(default_factory=asyncio.Queue)
    members_index: int = 5

    def __post_init__(self) -> None:
        self.transport = PeerTransport(
            self.options,
            PeerEvents(
                hello=lambda peer: hello_from(
                    self.options.name,
                    peer,
                    address=self.options.peers[self.options.name],
                    members_index=self.members_index,
                ),
                introduced=lambda hello: self.events.put_nowait(("introduced", hello.sender, hello)),
                received=lambda peer, message: self.events.put_nowait(("received", peer, message)),
                connected=lambda peer: self.events.put_nowait(("connected", peer, None)),
                disconnected=lambda peer: self.events.put_nowait(("disconnected", peer, None)),
                hung_up=lambda peer: self.events.put_nowait(("hung up", peer, None)),
            ),
        )
        others = {name: address for name, address in self.options.peers.items() if name != self.options.name}
        self.transport.set_peers(others)

    async def wait_event(self, kind: str, peer: str) -> Message | None:
        while True:
            found_kind, found_peer, message = await self.events.get()
            if (found_kind, found_peer) == (kind, peer):
                return message


def with_peers(test: Callable[[list[Peer]], Awaitable[None]], *, started: int = 3) -> None:
    async def run() -> None:
        addresses = free_addresses(3)
        members = {f"n{number}": address for number, address in enumerate(addresses, 1)}
        peers = [Peer(RaftOptions(name, "one", members)) for name in members]
        try:
            async with asyncio.timeout(DEADLINE_S):
                for peer in peers[:started]:
                    await peer.transport.start()
                await test(peers)
        finally:
            for peer in peers[:started]:
                await peer.transport.stop()

    asyncio.run(run())


async def dial(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = peer.options.peers[peer.options.name].rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def receive(reader: asyncio.StreamReader) -> Message:
    decoder = FrameDecoder(4096)
    while True:
        data = await reader.read(4096)
        assert data, "closed before a message came"
        for payload in decoder.feed(data):
            return decode(payload)


def test_messages_arrive_in_the_order_they_were_sent() -> None:
    async def test(peers: list[Peer]) -> None:
        await peers[0].wait_event("connected", "n2")

        for term in range(100):
            peers[0].transport.send("n2", Vote(term))

        assert [await peers[1].wait_event("received", "n1") for _ in range(100)] == [Vote(term) for term in range(100)]

    with_peers(test)


def test_a_peer_that_stops_is_noticed_and_found_again() -> None:
    async def test(peers: list[Peer]) -> None:
        await peers[0].wait_event("connected", "n2")
        await peers[1].wait_event("connected", "n1")

        await peers[1].transport.stop()
        await peers[0].wait_event("hung up", "n2")
        await peers[0].wait_event("disconnected", "n2")
        again = Peer(peers[1].options)
        await again.transport.start()

        try:
            await peers[0].wait_event("connected", "n2")
            peers[0].transport.send("n2", Vote(5))
            assert await again.wait_event("received", "n1") == Vote(5)
        finally:
            await again.transport.stop()

    with_peers(test, started=2)


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (hello_from("n2", "n1", cluster="two"), "n1 belongs to cluster one, the caller to two"),
        (hello_from("n2", "n1", version=99), "n1 speaks version 2 of the peer protocol, the caller 99"),
        (hello_from("n2", "n3"), "this address is n1's, the caller takes it for n3's"),
        (hello_from("n9", "n1"), "n9 is not a member of the cluster as n1 knows it"),
        (hello_from("n1", "n1", members_index=9), "two nodes run under one name"),
    ],
)
def test_a_caller_who_does_not_belong_here_is_told_why(hello: Hello, reason: str) -> None:
    async def test(peers: list[Peer]) -> None:
        reader, writer = await dial(peers[0])

        writer.write(encode_frame(encode(hello)))
        reply = await receive(reader)

        assert isinstance(reply, HelloReply)
        assert reason in reply.refusal
        assert await reader.read() == b""
        writer.close()

    with_peers(test, started=1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        encode_frame(b"no msgpack"),
        encode_frame(encode(TimeoutNow(3))),
        encode_frame(b"\x97\x07\x01\xff\x01\x01\x01\x90"),
    ],
    ids=["http", "zeros", "ones", "framed text", "no hello first", "negative index"],
)
def test_garbage_on_the_peer_port_closes_that_connection_only(garbage: bytes) -> None:
    async def test(peers: list[Peer]) -> None:
        await peers[0].wait_event("connected", "n2")
        reader, writer = await dial(peers[1])

        writer.write(garbage)
        assert await reader.read() == b""
        writer.close()

        peers[0].transport.send("n2", Vote(1))
        assert await peers[1].wait_event("received", "n1") == Vote(1)

    with_peers(test)


def test_the_newest_connection_of_a_peer_silences_the_older_one() -> None:
    """S6: stock goes on reading the old socket after the new one."""

    async def test(peers: list[Peer]) -> None:
        older_reader, older = await dial(peers[0])
        older.write(encode_frame(encode(hello_from("n2", "n1"))))
        assert await receive(older_reader) == HelloReply("")
        newer_reader, newer = await dial(peers[0])
        newer.write(encode_frame(encode(hello_from("n2", "n1"))))
        assert await receive(newer_reader) == HelloReply("")

        assert await older_reader.read() == b""
        newer.write(encode_frame(encode(Vote(2))))

        assert await peers[0].wait_event("received", "n2") == Vote(2)
        for writer in (older, newer):
            writer.close()

    with_peers(test, started=1)


def test_a_caller_with_a_later_configuration_is_heard_and_answered_though_unknown() -> None:
    async def test(peers: list[Peer]) -> None:
        stranger = Peer(
            replace(peers[1].options, name="n9", peers={**peers[1].options.peers, "n9": free_addresses(1)[0]})
        )
        stranger.transport.set_peers({"n1": peers[0].options.peers["n1"]})
        stranger.members_index = 6
        await stranger.transport.start()
        try:
            await stranger.wait_event("connected", "n1")
            await peers[0].wait_event("introduced", "n9")
            await peers[0].wait_event("connected", "n9")
            peers[0].transport.send("n9", Vote(3))
            assert await stranger.wait_event("received", "n1") == Vote(3)
        finally:
            await stranger.transport.stop()

    with_peers(test, started=1)


def test_peers_that_are_no_longer_wanted_are_hung_up_on_and_others_dialled() -> None:
    async def test(peers: list[Peer]) -> None:
        await peers[0].wait_event("connected", "n2")
        await peers[0].wait_event("connected", "n3")

        peers[0].transport.set_peers({"n3": peers[0].options.peers["n3"]})

        await peers[0].wait_event("disconnected", "n2")
        await peers[1].wait_event("hung up", "n1")
        peers[0].transport.send("n2", Vote(1))
        peers[0].transport.send("n3", Vote(2))
        assert await peers[2].wait_event("received", "n1") == Vote(2)

        peers[0].transport.set_peers({name: peers[0].options.peers[name] for name in ("n2", "n3")})
        await peers[0].wait_event("connected", "n2")

    with_peers(test)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            members = dict(zip(("n1", "n2", "n3"), [address, *free_addresses(2)], strict=True))
            peer = Peer(RaftOptions("n1", "one", members))

            with pytest.raises(ConfigError, match=rf"node n1 cannot listen for its peers on {address}: .*in use.*Stop"):
                await peer.transport.start()
            await peer.transport.stop()

    asyncio.run(run())


def test_options_refuse_a_heartbeat_that_is_too_slow_for_the_election_timeout() -> None:
    options = RaftOptions("n1", "one", {"n1": "a:1", "n2": "b:1", "n3": "c:1"})

    with pytest.raises(ConfigError, match="3 x heartbeat_s < election_timeout_min_s"):
        replace(options, heartbeat_s=0.2)


def test_a_node_calls_from_its_own_peer_address() -> None:
    async def run() -> None:
        called: asyncio.Queue[str] = asyncio.Queue()

        async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            called.put_nowait(writer.get_extra_info("peername")[0])
            writer.close()

        listener = await asyncio.start_server(take, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        own, third = free_addresses(2)
        own = own.replace("127.0.0.1", "127.0.0.9")
        peer = Peer(RaftOptions("n1", "one", {"n1": own, "n2": f"127.0.0.1:{port}", "n3": third}))
        await peer.transport.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                assert await called.get() == "127.0.0.9"
        finally:
            await peer.transport.stop()
            listener.close()
            await listener.wait_closed()

    asyncio.run(run())
