"""The blocking client: the same methods, from any thread, with a thread of its own that comes late and goes cleanly."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from raftpay import (
    AsyncClient,
    Client,
    ClientError,
    CreateTransferResult,
    NotCommitted,
    OutcomeUnknown,
    Rejected,
    Transfer,
)
from tests.client.peer import Peer, answer_with, hang_up_after, peers, stay_silent

LIMIT_S = 20.0


class Background:
    """A scripted node on a loop of its own, so that the test's thread may block."""

    def __init__(self, node: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self._loop = loop

    def wait_for_requests(self, count: int) -> None:
        asyncio.run_coroutine_threadsafe(self.node.wait_for_requests(count), self._loop).result(LIMIT_S)

    def do(self, act: Callable[[], object]) -> None:
        async def acting() -> None:
            act()

        asyncio.run_coroutine_threadsafe(acting(), self._loop).result(LIMIT_S)


@contextmanager
def background() -> Iterator[Background]:
    started: list[Background] = []
    is_ready = threading.Event()
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        async with peers() as (node,):
            started.append(Background(node, loop))
            ends.append(lambda: loop.call_soon_threadsafe(over.set))
            is_ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert is_ready.wait(LIMIT_S)
    try:
        yield started[0]
    finally:
        ends[0]()
        thread.join(LIMIT_S)


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "raftpay-client"]


def transfer(id_: str) -> Transfer:
    return Transfer(id_, "a", "b", 100)


def test_a_call_blocks_until_its_results_are_there() -> None:
    with background() as peer, Client([peer.node.address]) as client:
        peer.node.script.append(hang_up_after)

        outcomes = client.create_transfers([transfer("t1"), transfer("t2")])

        assert [outcome.result for outcome in outcomes] == [CreateTransferResult.EXISTS] * 2
        assert client.create_transfer(transfer("t3")).is_ok


def test_the_twins_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(method))
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert signatures(Client) == signatures(AsyncClient)


@pytest.mark.parametrize(
    "name", [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_" and name != "close"]
)
def test_each_method_passes_its_arguments_on(name: str) -> None:
    given: dict[str, object] = {}

    class Recorder:
        def __getattr__(self, called: str) -> Callable[..., object]:
            async def record(*args: object, **kwargs: object) -> str:
                bound = inspect.signature(getattr(AsyncClient, called)).bind(None, *args, **kwargs)
                given.update(bound.arguments, method=called)
                return "the answer"

            return record

        async def close(self) -> None:
            given["closed"] = True

    parameters = [one for one in inspect.signature(getattr(Client, name)).parameters if one != "self"]
    with Client(["127.0.0.1:7201"]) as client:
        client._client = Recorder()

        answer = getattr(client, name)(**{one: f"<{one}>" for one in parameters})

    assert answer == "the answer"
    assert given.pop("self") is None
    assert given == {**{one: f"<{one}>" for one in parameters}, "method": name, "closed": True}


def test_calls_of_many_threads_share_requests() -> None:
    with background() as peer, Client([peer.node.address]) as client:
        refused: list[str] = []

        def pay(thread: int) -> None:
            for turn in range(50):
                if not client.create_transfer(transfer(f"{thread}-{turn}")).is_ok:
                    refused.append(f"{thread}-{turn}")

        threads = [threading.Thread(target=pay, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)

        assert refused == []
        assert len(peer.node.created) == 400
        assert len(peer.node.arrivals) < 400
        assert len(client_threads()) == 1


def test_the_thread_starts_with_the_first_call_and_ends_with_the_client() -> None:
    with background() as peer:
        with Client([peer.node.address]) as client:
            before = client_threads()
            client.create_transfer(transfer("t1"))
            between = client_threads()
        after = client_threads()

    assert (before, len(between), after) == ([], 1, [])
    assert between[0].daemon


def test_closing_ends_the_calls_of_other_threads_with_the_truth() -> None:
    with background() as peer:
        peer.node.usual = stay_silent
        client = Client([peer.node.address])
        errors: list[object] = []

        def ask(call: Callable[[], object]) -> None:
            try:
                errors.append(call())
            except ClientError as error:
                errors.append(error)

        threads = [
            threading.Thread(target=ask, args=(call,))
            for call in (lambda: client.create_transfer(transfer("t1")), lambda: client.lookup_accounts(["a"]))
        ]
        for thread in threads:
            thread.start()
        peer.wait_for_requests(2)

        client.close()
        for thread in threads:
            thread.join(LIMIT_S)

        assert {type(error) for error in errors} == {OutcomeUnknown, NotCommitted}
        assert client_threads() == []


def test_a_closed_client_refuses_calls_and_may_be_closed_again() -> None:
    client = Client(["127.0.0.1:7201"])

    client.close()
    client.close()

    with pytest.raises(Rejected, match="closed: make a new one"):
        client.status()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is what it is about
def test_a_fork_is_told_to_make_its_own_client() -> None:
    with background() as peer, Client([peer.node.address]) as client:
        client.create_transfer(transfer("t1"))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                client.create_transfer(transfer("t2"))
            except Rejected as error:
                os.write(writing, str(error).encode())
            client.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        message = os.read(reading, 1000).decode()
        os.close(reading)
        os.close(writing)

        assert "make a client after the fork" in message
        assert status == 0
        assert client.create_transfer(transfer("t3")).is_ok
        assert peer.node.created == ["t1", "t3"]


def test_ctrl_c_ends_the_wait_and_leaves_the_client_usable() -> None:
    with background() as peer, Client([peer.node.address]) as client:
        peer.node.script.append(stay_silent)

        def interrupt() -> None:
            peer.wait_for_requests(1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.create_transfer(transfer("t1"))
        thread.join(LIMIT_S)

        assert client.create_transfer(transfer("t2")).is_ok


def test_errors_reach_the_thread_that_called() -> None:
    with background() as peer, Client([peer.node.address]) as client:
        peer.node.usual = answer_with("rubbish")

        with pytest.raises(OutcomeUnknown, match="cannot be read"):
            client.create_transfer(transfer("t1"))
        with pytest.raises(NotCommitted, match="cannot be read"):
            client.lookup_accounts(["a"])
        with pytest.raises(Rejected, match="amount"):
            client.create_transfers([Transfer("t", "a", "b", 1.5)])
