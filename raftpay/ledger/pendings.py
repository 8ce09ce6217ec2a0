"""The pending transfers: what became of each, and which is due next. books.py opens and ends them, the sweep asks
what is due. No balance is known here.
"""

from array import array
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from raftpay.ledger.records import PendingStatus
from raftpay.ledger.sealed import Movement

EXPIRIES_PER_COMMAND_MAX: Final = 1000
NANOSECONDS: Final = 10**9

PENDING_OPEN: Final = 0
POSTED: Final = 1
VOIDED: Final = 2
EXPIRED: Final = 3
STATUS_NAMES: Final[tuple[PendingStatus, ...]] = ("pending", "posted", "voided", "expired")

_SLOT_BITS: Final = 32
_SLOT_MASK: Final = 2**_SLOT_BITS - 1
# Entries of ended pendings stay in the queue until they surface; beyond this many more than half it is rebuilt.
_STALE_SLACK: Final = 1024


def expiry_of(pending: Movement) -> int:
    """When the pending transfer expires, in nanoseconds; 0 means never."""
    return pending.timestamp + pending.timeout_s * NANOSECONDS if pending.timeout_s else 0


class Pendings:
    """Every transfer that was ever pending, one slot each, in the order of creation.

    A byte for each of them stays for as long as the ledger lives: what is said of it, and what a second post or void of
    it gets, never needs a look at old rows, and an expiry has no id by which it could be found there.

    statuses: PENDING_OPEN, POSTED, VOIDED or EXPIRED. It changes once, from PENDING_OPEN.
    open_count: how many are PENDING_OPEN.
    _expiries: slot -> when it expires, nanoseconds; the open slots that can expire.
    _queue: a heap of expires_at << 32 | slot. Holds each open slot that can expire, and may hold entries that no
        longer mean anything (ended, or taken back with their chain): see _is_due_entry.
    """

    __slots__ = ("_expiries", "_queue", "open_count", "statuses")

    def __init__(self) -> None:
        self.statuses = array("B")
        self.open_count = 0
        self._expiries: dict[int, int] = {}
        self._queue: list[int] = []

    def open(self, timestamp: int, timeout_s: int) -> int:
        """Notes that another transfer is pending; returns its slot."""
        slot = len(self.statuses)
        self.statuses.append(PENDING_OPEN)
        self.open_count += 1
        if timeout_s:
            expires_at = self._expiries[slot] = timestamp + timeout_s * NANOSECONDS
            heappush(self._queue, expires_at << _SLOT_BITS | slot)
        return slot

    def take_back_open(self) -> None:
        """Undoes the last open."""
        assert self.statuses.pop() == PENDING_OPEN
        self._expiries.pop(len(self.statuses), None)
        self.open_count -= 1

    def end(self, slot: int, status: int) -> None:
        assert self.statuses[slot] == PENDING_OPEN
        self.statuses[slot] = status
        self._expiries.pop(slot, None)
        self.open_count -= 1

    def take_back_end(self, slot: int, expires_at: int) -> None:
        """Undoes an end by post or void. The queue still has the slot: nothing surfaces while a chain is open."""
        assert self.statuses[slot] in (POSTED, VOIDED)
        self.statuses[slot] = PENDING_OPEN
        if expires_at:
            self._expiries[slot] = expires_at
        self.open_count += 1

    def expiry(self, slot: int) -> int:
        """When the open slot expires, in nanoseconds; 0 means never, or that it has ended."""
        return self._expiries.get(slot, 0)

    def is_open(self, slot: int) -> bool:
        return self.statuses[slot] == PENDING_OPEN

    def open_slots(self, first: int, last: int) -> Iterator[int]:
        """The open ones of the slots from first to before last."""
        statuses = self.statuses[first:last].tobytes()
        place = statuses.find(PENDING_OPEN)
        while place >= 0:
            yield first + place
            place = statuses.find(PENDING_OPEN, place + 1)

    def status_name(self, slot: int) -> PendingStatus:
        return STATUS_NAMES[self.statuses[slot]]

    def next_due(self, time: int) -> int | None:
        """The slot to expire next if one is due at that time; by expiry, then by creation."""
        expires_at = self.next_expiry()
        return None if expires_at is None or expires_at > time else self._queue[0] & _SLOT_MASK

    def next_expiry(self) -> int | None:
        """When the earliest open pending is due, in nanoseconds."""
        queue = self._queue
        while queue and not self._is_due_entry(queue[0]):
            heappop(queue)
        return queue[0] >> _SLOT_BITS if queue else None

    def tidy(self) -> None:
        """Keeps the queue in proportion to what is open. Called between commands, never while a chain is open."""
        if len(self._queue) > 2 * self.open_count + _STALE_SLACK:
            self._queue = [entry for entry in self._queue if self._is_due_entry(entry)]
            heapify(self._queue)

    def requeue(self, expiries: Iterable[tuple[int, int]]) -> None:
        """Makes count and queue anew from the statuses; expiries: open slots that can expire, and when."""
        self.open_count = self.statuses.count(PENDING_OPEN)
        self._expiries = dict(expiries)
        self._queue = [expires_at << _SLOT_BITS | slot for slot, expires_at in self._expiries.items()]
        heapify(self._queue)

    def _is_due_entry(self, entry: int) -> bool:
        # A slot number is used again after a chain rolled back: the time tells the two apart, and where even that is
        # the same the second entry finds the slot ended.
        return self._expiries.get(entry & _SLOT_MASK) == entry >> _SLOT_BITS
