"""What would differ from run to run, made explicit: the clock, the dice and the order of the peers.

The engine takes all three from here, so that the simulator (raftpay/sim) can replay a run from its seed, whatever
PYTHONHASHSEED is. Nothing here knows a rule of Raft.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from zlib import crc32

import pysyncobj.syncobj as stock
from pysyncobj.node import Node


def now() -> float:
    """The engine's clock, in seconds: PySyncObj's own, so that a simulation replaces both at once."""
    return float(stock.monotonicTime())


@contextmanager
def clock_replaced(clock: Callable[[], float]) -> Iterator[None]:
    """Have every engine of this process, and PySyncObj in it, read another clock for a while."""
    real, stock.monotonicTime = stock.monotonicTime, clock
    try:
        yield
    finally:
        stock.monotonicTime = real


class PlacedNode(Node):  # type: ignore[misc]  # PySyncObj ships no types
    """A peer whose hash comes from its name alone.

    PySyncObj keeps nodes in sets and asks for votes in a set's order. Strings hash differently in every process; these
    do not, so that the order is the same in all of them.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._place = crc32(name.encode())

    def __hash__(self) -> int:
        return self._place
