"""What stops a node's process, and what does not."""

import asyncio

from raftpay.node.run import _note_bug
from tests.node.cluster import run_scenario, until


def test_an_error_of_the_system_stops_the_node_if_it_came_through_our_own_code() -> None:
    """One of a connection, or of accepting one, concerns that connection alone."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[Exception] = loop.create_future()
        loop.set_exception_handler(lambda _, context: _note_bug(broken, context))
        loop.call_exception_handler({"message": "accept() out of resources", "exception": OSError(24, "too many")})
        assert not broken.done()

        def half_of_a_write() -> None:
            raise OSError("the disk")

        loop.call_soon(half_of_a_write)
        await until(broken.done)

        assert str(broken.result()) == "the disk"

    run_scenario(scenario)
