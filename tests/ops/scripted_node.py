"""A node that keeps to the client protocol and to a script: real books, one process, failures on demand.

The script says for each request, by its number, what shall befall it. Everything that happens can be waited for.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Self

import msgspec

from raftpay.ledger import Account, Command, CreateAccounts, CreateTransfers, Ledger, Transfer
from raftpay.wire.rpc import RpcDecoder, RpcRequest, array_length, encode_error, encode_response

WAIT_S = 20.0

_PARAMS = msgspec.msgpack.Decoder(list[bytes])
_ACCOUNTS = msgspec.msgpack.Decoder(list[Account])
_TRANSFERS = msgspec.msgpack.Decoder(list[Transfer])


class Fate(Enum):
    """What befalls a request."""

    ANSWER = auto()
    # The connection is closed, before or after the request took effect.
    DROP_BEFORE = auto()
    DROP_AFTER = auto()
    # Nothing happens until `release`; then it takes effect and is answered. Or it takes effect, and the answer waits.
    HOLD_BEFORE = auto()
    HOLD_AFTER = auto()
    # It is answered with an error of the protocol.
    UNAVAILABLE = auto()
    UNKNOWN = auto()
    INVALID = auto()


Script = Callable[[int], Fate]


class ScriptedNode:
    """with ScriptedNode(lambda number: Fate.ANSWER) as node: … node.address … The first request has the number 1."""

    def __init__(self, script: Script = lambda _: Fate.ANSWER) -> None:
        self.script = script
        self.ledger = Ledger()
        self.address = ""
        self.requests = 0
        self.connections = 0
        # Events of requests that were held, ever.
        self.held_events = 0
        # Ids of transfers in the order in which the ledger took them in.
        self.created: list[str] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._released: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(lambda: self.address != "", "the node listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so; it is asked anew whenever something happened here."""
        with self._changed:
            assert self._changed.wait_for(is_so, WAIT_S), f"{what}: not within {WAIT_S} s"

    def release(self) -> None:
        """Let go of the requests that are held, and of all to come."""
        assert self._released is not None
        self._loop.call_soon_threadsafe(self._released.set)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop, self._released = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self._note(address=f"{host}:{port}")
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _note(self, *, address: str = "", requests: int = 0, connections: int = 0, held_events: int = 0) -> None:
        with self._changed:
            self.address = address or self.address
            self.requests += requests
            self.connections += connections
            self.held_events += held_events
            self._changed.notify_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._note(connections=1)
        decoder = RpcDecoder()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while data := await reader.read(1 << 16):
                for message in decoder.feed(data):
                    assert isinstance(message, RpcRequest)
                    self._note(requests=1)
                    tasks.add(asyncio.create_task(self._meet(message, self.script(self.requests), writer)))
        except ConnectionError:
            pass
        finally:
            writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._note(connections=-1)

    async def _meet(self, request: RpcRequest, fate: Fate, writer: asyncio.StreamWriter) -> None:
        assert self._released is not None
        if fate in (Fate.UNAVAILABLE, Fate.UNKNOWN, Fate.INVALID):
            writer.write(encode_error(request.message_id, fate.name.lower(), "as the script says"))
            return
        if fate is Fate.DROP_BEFORE:
            writer.close()
            return
        if fate is Fate.HOLD_BEFORE:
            (events,) = _PARAMS.decode(request.params)
            self._note(held_events=array_length(events))
            await self._released.wait()
        timestamp, numbers = self._apply(request)
        if fate is Fate.HOLD_AFTER:
            self._note(held_events=len(numbers))
            await self._released.wait()
        if fate is Fate.DROP_AFTER:
            writer.close()
            return
        writer.write(encode_response(request.message_id, (timestamp, numbers)))

    def _apply(self, request: RpcRequest) -> tuple[int, bytes]:
        (data,) = _PARAMS.decode(request.params)
        body: CreateAccounts | CreateTransfers
        if request.method == "create_accounts":
            body = CreateAccounts(_ACCOUNTS.decode(data))
        else:
            assert request.method == "create_transfers", request.method
            body = CreateTransfers(_TRANSFERS.decode(data))
        (answer,) = self.ledger.apply(Command(max(self.ledger.time + 1, time.time_ns()), [body]))
        if isinstance(body, CreateTransfers):
            self.created += [event.id for event, number in zip(body.events, answer.results, strict=True) if number == 0]
        return answer.timestamp, bytes(answer.results)
