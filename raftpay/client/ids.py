"""New ids: UUIDv7, so that they sort by the time they were made. Any thread may ask for one."""

import os
import threading
import time
from typing import Final

# RFC 9562, 5.7 and 6.2 method 2: 48 bits of milliseconds, then 74 bits that count up from a random start.
_TAIL_BITS: Final = 74
_LOW_BITS: Final = 62
_LOW_MASK: Final = (1 << _LOW_BITS) - 1


class IdSource:
    """Makes ids that are unique over all processes and strictly increasing within this one. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of the last id made. The tail starts in its lower half, so that counting up does not run over.
        self._milliseconds = 0
        self._tail = 0
        # A fork copies the state above: the child starts a random tail of its own.
        self._process = os.getpid()

    def new(self) -> str:
        with self._lock:
            milliseconds = time.time_ns() // 1_000_000
            if milliseconds > self._milliseconds or self._process != os.getpid():
                # A clock that was set back does not take the ids back with it.
                self._milliseconds = max(milliseconds, self._milliseconds)
                self._tail = int.from_bytes(os.urandom(10), "big") >> (80 - _TAIL_BITS + 1)
                self._process = os.getpid()
            else:
                self._tail += 1 + int.from_bytes(os.urandom(4), "big")
                if self._tail >> _TAIL_BITS:
                    self._milliseconds += 1
                    self._tail = int.from_bytes(os.urandom(10), "big") >> (80 - _TAIL_BITS + 1)
            return _text(self._milliseconds, self._tail)


def _text(milliseconds: int, tail: int) -> str:
    version_and_high = 0x7000 | tail >> _LOW_BITS
    variant_and_low = 1 << 63 | tail & _LOW_MASK
    digits = f"{milliseconds << 80 | version_and_high << 64 | variant_and_low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_SOURCE: Final = IdSource()


def new_id() -> str:
    """Return a new id for a transfer or account, a UUIDv7 of 36 characters.

    Make it before the first attempt and keep it with the order it belongs to: sending the same transfer again under
    the same id can never move the money twice.
    """
    return _SOURCE.new()
