"""A batch of events of one kind: chains, the all-or-none rule of imports, and the recording of failed ids.

Written once for accounts and transfers. It decides in which order events are tried and what is taken back; what an
event does is the business of a Creator (create_accounts.py, create_transfers.py). The results that are given here
have the same numbers in both enums, and so are written as those of transfers.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from raftpay.ledger.results import CreateAccountResult, Result
from raftpay.ledger.transfer_results import CreateTransferResult
from raftpay.ledger.types import TIME_MAX, AccountFlag, TransferFlag

CREATED = CreateTransferResult.CREATED
LINKED_EVENT_FAILED = CreateTransferResult.LINKED_EVENT_FAILED
LINKED_EVENT_CHAIN_OPEN = CreateTransferResult.LINKED_EVENT_CHAIN_OPEN

LINKED = int(TransferFlag.LINKED)
assert LINKED == AccountFlag.LINKED
for _number in range(CreateTransferResult.RESERVED_FLAG):
    assert CreateAccountResult(_number).name == CreateTransferResult(_number).name


class Event(Protocol):
    @property
    def flags(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


EventT = TypeVar("EventT", bound=Event)
EventIn = TypeVar("EventIn", bound=Event, contravariant=True)


class Creator(Protocol[EventIn]):
    """What a kind of event does."""

    @property
    def imported_flag(self) -> int: ...

    def create(self, event: EventIn, time: int) -> Result:
        """Does it, or says why not and does nothing."""

    def find_existing(self, event: EventIn) -> Result | None:
        """EXISTS or EXISTS_WITH_DIFFERENT_..., or None for a new id."""

    def mark(self) -> tuple[int, int]: ...

    def take_back_to(self, mark: tuple[int, int]) -> None:
        """Undoes every create since the mark."""

    def record(self, event: EventIn, result: Result) -> None:
        """Notes a refusal, if it is of a kind that must be remembered. Is not taken back."""


def create_batch(creator: Creator[EventT], events: Sequence[EventT], time: int) -> list[int]:
    """Tries all events in order; event i has time + i. Returns the number of a result for each."""
    results: list[int] = []
    is_import = bool(events) and bool(events[0].flags & creator.imported_flag)
    first, end = 0, len(events)
    while first < end:
        event = events[first]
        if event.flags & LINKED:
            chain = events[first : _chain_end(events, first)]
            results.extend(_create_chain(creator, chain, time + first, is_import=is_import))
            first += len(chain)
            continue
        result = _create(creator, event, time + first, is_import=is_import)
        if result:
            creator.record(event, result)
        results.append(int(result))
        first += 1
    return results


def _chain_end(events: Sequence[EventT], first: int) -> int:
    """Behind the last event of the chain that begins at first, or behind the batch when it is never closed."""
    for position in range(first, len(events)):
        if not events[position].flags & LINKED:
            return position + 1
    return len(events)


def _create(creator: Creator[EventT], event: EventT, time: int, *, is_import: bool) -> Result:
    if is_import or event.timestamp or event.flags & creator.imported_flag:
        refusal = _import_refusal(creator, event, time, is_import=is_import)
        if refusal is not None:
            return refusal
    return creator.create(event, time)


def _import_refusal(creator: Creator[EventT], event: EventT, time: int, *, is_import: bool) -> Result | None:
    timestamp = event.timestamp
    if not event.flags & creator.imported_flag:
        if is_import:
            return CreateTransferResult.IMPORTED_EVENT_EXPECTED
        return CreateTransferResult.TIMESTAMP_MUST_BE_ZERO if timestamp else None
    if not is_import:
        return CreateTransferResult.IMPORTED_EVENT_NOT_EXPECTED
    if not 0 < timestamp <= TIME_MAX:
        return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE
    if timestamp >= time:
        return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE
    return None


def _create_chain(creator: Creator[EventT], chain: Sequence[EventT], time: int, *, is_import: bool) -> list[int]:
    """All of the chain or nothing. It is open when its last event, which is then that of the batch, is LINKED."""
    is_open = bool(chain[-1].flags & LINKED)
    repeated = None if is_open else _repeated(creator, chain, time, is_import=is_import)
    if repeated is not None:
        return [int(repeated)] * len(chain)
    mark = creator.mark()
    for position, event in enumerate(chain):
        if is_open and position == len(chain) - 1:
            result: Result = LINKED_EVENT_CHAIN_OPEN
        else:
            result = _create(creator, event, time + position, is_import=is_import)
        if result:
            break
    else:
        return [int(CREATED)] * len(chain)
    creator.take_back_to(mark)
    creator.record(event, result)
    results = [int(LINKED_EVENT_FAILED)] * len(chain)
    if is_open:
        results[-1] = int(LINKED_EVENT_CHAIN_OPEN)
    results[position] = int(result)
    return results


def _repeated(creator: Creator[EventT], chain: Sequence[EventT], time: int, *, is_import: bool) -> Result | None:
    """EXISTS when that is the answer of every event of the chain: the retry of a chain whose answer was lost."""
    result = None
    for position, event in enumerate(chain):
        if _import_refusal(creator, event, time + position, is_import=is_import) is not None:
            return None
        result = creator.find_existing(event)
        if result is None or not result.is_ok:
            return None
    return result
