"""Clusters of three real nodes on one loop: real sockets on loopback, real journals in tmp_path, short time-outs."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

import msgspec

from raftpay.config import ClusterConfig, render_local
from raftpay.ledger import Account, Transfer
from raftpay.node import Node
from raftpay.wire.rpc import RpcDecoder, RpcResponse, encode_request

DEADLINE_S = 20.0


def run_scenario(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test's coroutine on a loop of its own; one that hangs fails."""

    async def with_deadline() -> None:
        async with asyncio.timeout(3 * DEADLINE_S):
            await scenario()

    asyncio.run(with_deadline())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other tasks of this loop bring about, and tell no one of."""
    loop = asyncio.get_running_loop()
    came_true: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        if came_true.done():
            return
        if condition():
            came_true.set_result(None)
        else:
            loop.call_later(0.002, look)

    look()
    async with asyncio.timeout(DEADLINE_S):
        await came_true


class Client:
    """A client that sends what it is told, and keeps responses by number."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = RpcDecoder(64 * 1024 * 1024)
        self._responses: dict[int, RpcResponse] = {}
        self._last_id = 0
        self._held: list[bytes] | None = None

    def send(self, method: str, *params: object) -> int:
        """Send a request; returns its number."""
        self._last_id += 1
        request = encode_request(self._last_id, method, params)
        if self._held is None:
            self.writer.write(request)
        else:
            self._held.append(request)
        return self._last_id

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """What is sent inside goes out in one write at the end."""
        self._held = []
        yield
        self.writer.write(b"".join(self._held))
        self._held = None

    def send_transfers(self, *transfers: Transfer) -> int:
        return self.send("create_transfers", msgspec.msgpack.encode(transfers))

    async def response(self, number: int) -> RpcResponse:
        async with asyncio.timeout(DEADLINE_S):
            while number not in self._responses:
                data = await self.reader.read(1 << 20)
                assert data, f"the node closed the connection before response {number}"
                for message in self._decoder.feed(data):
                    assert isinstance(message, RpcResponse)
                    assert message.message_id not in self._responses, "answered twice"
                    self._responses[message.message_id] = message
        return self._responses.pop(number)

    async def result(self, number: int) -> Any:  # Any: what msgpack decodes
        response = await self.response(number)
        assert response.error is None, response.error
        return msgspec.msgpack.decode(response.result)

    async def call(self, method: str, *params: object) -> Any:  # Any: what msgpack decodes
        return await self.result(self.send(method, *params))

    async def refusal(self, method: str, *params: object) -> tuple[str, str]:
        """Code and message of a request that is refused."""
        return await self.refusal_of(self.send(method, *params))

    async def refusal_of(self, number: int) -> tuple[str, str]:
        response = await self.response(number)
        assert response.error is not None
        return response.error.code, response.error.message

    async def rest(self) -> bytes:
        """All that still comes until the node closes the connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(-1)

    async def create_accounts(self, *ids: str) -> None:
        _, results = await self.call("create_accounts", msgspec.msgpack.encode([Account(id, "EUR") for id in ids]))
        assert results == bytes(len(ids))


class Cluster:
    """Three nodes, some of them running."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.nodes: dict[str, Node] = {}
        self._clients: list[Client] = []

    async def start(self, *names: str, **options: Any) -> None:  # Any: Node.start's own
        for name in names or tuple(self.config.nodes):
            self.nodes[name] = await Node.start(self.config, name, **options)

    async def leader(self) -> Node:
        """The node that leads and is ready."""
        await until(lambda: any(node.raft.is_ready for node in self.nodes.values()))
        return next(node for node in self.nodes.values() if node.raft.is_ready)

    async def followers(self) -> list[Node]:
        """The nodes that follow the leader and know it."""
        leader = await self.leader()
        others = [node for node in self.nodes.values() if node is not leader]
        await until(lambda: all(node.raft.leader == leader.name for node in others))
        return others

    async def client(self, node: Node) -> Client:
        host, _, port = node.node_config.client.rpartition(":")
        client = Client(*await asyncio.open_connection(host, int(port)))
        self._clients.append(client)
        return client

    async def close_node(self, node: Node) -> None:
        """As a crash would, but for what the process itself cleans up."""
        del self.nodes[node.name]
        await node.close()

    async def close(self) -> None:
        for client in self._clients:
            # Not a close, which would wait for a node that has stopped reading.
            client.writer.transport.abort()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        for node in list(self.nodes.values()):
            await self.close_node(node)


# For a test whose node must lead from beginning to end, also while three nodes share one slow core.
STEADY = "[raft]\nelection_timeout_min_s = 1.5\nelection_timeout_max_s = 2.0\n"


def cluster_text(ports: Iterable[int], settings: str = "") -> str:
    numbers = list(ports)
    return render_local(cluster_id="test", ports=list(zip(numbers[::2], numbers[1::2], strict=True))) + settings
