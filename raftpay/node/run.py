"""A node as a process: log, signals, the event loop, and how it ends. Called by `raftpay node run`.

The first SIGTERM or SIGINT stops the node in good order, the second at once. What a node must not survive is raised to
the caller, who prints its message and chooses the exit code.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from raftpay.config import ClusterConfig
from raftpay.errors import ConfigError, EngineStoppedError, RaftpayError
from raftpay.node.log import log_line, log_to
from raftpay.node.node import Node

logger = logging.getLogger("raftpay.node")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# What a shell shows for a process ended by a signal is 128 and its number; a second signal ends us like that.
_SIGNALLED: Final = 128
# mallopt(3): pieces from this size on are had from the system by themselves, and the size does not grow by itself.
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 256 << 10


async def run_node(config: ClusterConfig, name: str) -> None:
    """Run a node until it is told to stop. Returns after an orderly stop.

    Raises ConfigError (configuration, ports, python -O), StorageError (the data directory or the disk) and
    EngineStoppedError (the node must not go on); by then everything is closed.
    """
    if not __debug__:
        raise ConfigError(
            "this Python runs without asserts (-O or PYTHONOPTIMIZE): a ledger does not run without its checks. "
            "Start it without the option"
        )
    config.node(name)
    handler = log_to(sys.stderr)
    try:
        await _run(config, name)
    finally:
        logging.getLogger("raftpay").removeHandler(handler)


def run_node_process(config: ClusterConfig, name: str) -> None:
    """Run a node as this process's whole work, on uvloop where it is installed. Raises as `run_node` does."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_node(config, name))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  absent on some platforms; asyncio's own loop is used there
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(config: ClusterConfig, name: str) -> None:
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[Exception] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _note_bug(broken, context))
    stop = _listen_to_signals(loop)
    # What lives from here on is mostly data of the ledger, which holds no cycles: looking through all of it for some,
    # every few thousand new objects, would stop the loop for longer the more there is.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    _return_memory()
    node = await Node.start(config, name)
    failed = asyncio.create_task(node.wait_failed(), name="wait for a failure")
    ends: list[asyncio.Future[Any]] = [stop, broken, failed]  # Any: each has a result of its own type
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if stop.done() and not broken.done() and not failed.done():
        failed.cancel()
        await node.stop()
        return
    error = broken.result() if broken.done() else failed.result()
    failed.cancel()
    log_line(logger, logging.CRITICAL, "the node stops: it must not go on", node=name, error=str(error))
    await node.close()
    if isinstance(error, RaftpayError):
        raise error
    raise EngineStoppedError(f"node {name} stopped itself: {type(error).__name__}: {error}") from error


def _return_memory() -> None:
    """Have large pieces of memory given back to the system when they are freed: glibc would keep those of a sealed
    segment, some 60 MB, for the next one, and put what stays between those of large entries of the log.
    """
    # Absent where the C library is another one; then nothing is lost but memory.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _listen_to_signals(loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    """A future that is done at the first signal; the second ends the process on the spot, which a node survives."""
    stop: asyncio.Future[None] = loop.create_future()

    def received(number: signal.Signals) -> None:
        if stop.done():
            log_line(logger, logging.WARNING, "stopping at once", signal=number.name)
            os._exit(_SIGNALLED + number)
        log_line(logger, logging.INFO, "stopping", signal=number.name)
        stop.set_result(None)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, received, number)
    return stop


# Any: asyncio's own description of what went wrong.
def _note_bug(broken: "asyncio.Future[Exception]", context: dict[str, Any]) -> None:
    """An exception that nobody handled is a mistake of ours: the node stops rather than go on beside it.

    Errors of single connections are no such thing; asyncio reports some of them here. What one of our own callbacks
    let through comes with its handle, and is a mistake whatever its type.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and "handle" not in context:
        log_line(logger, logging.WARNING, "connection error", error=str(error))
        return
    if not isinstance(error, Exception):
        error = EngineStoppedError(str(context.get("message")))
    logger.critical("unhandled error: %s", context.get("message"), exc_info=error)
    if not broken.done():
        broken.set_result(error)
