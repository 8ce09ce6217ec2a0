"""The ledger as bytes: a picture of the whole state at one moment.

Taking one (`LedgerImage`) is cheap and happens between two commands: it copies what is changed in place (balances,
guards, limits, what became of pendings), keeps the blocks of rows that are in memory, and only notes how long the
columns are that grow at the end. `LedgerImage.chunks` turns it into bytes later, beside the ledger and in another
thread if the caller wishes: the noted parts do not change any more, and blocks that the ledger drops stay for the
image. Rows that are dropped already are not in it: they are found where this ledger finds them, in the sealed history.

Only ledger.py calls this. restoring.py is the way back.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from raftpay.ledger.books import Books
from raftpay.ledger.digest import FoldState, packed
from raftpay.ledger.image_format import (
    IMAGE_VERSION,
    AccountsPart,
    BlockHead,
    CutHead,
    FailedPart,
    FirstLimitsPart,
    Head,
    MovementsPart,
    OpeningPart,
    RemainsPart,
    ReversedPart,
    StatusesPart,
    in_parts,
    packed_message,
    spans,
)
from raftpay.ledger.pendings import PENDING_OPEN
from raftpay.ledger.remains import open_movements
from raftpay.ledger.reversed_amounts import pairs_of
from raftpay.ledger.transfers import Block
from raftpay.ledger.window import Window

# The limits and the four balances.
_COPIED: Final = 5


class Buffers:
    """Room for the copies of one image at a time, kept from one to the next.

    Most of the time that copying 8 MB takes goes into memory that the system hands out anew: so the room is had with
    the accounts, a little with each command that opens some.
    """

    def __init__(self) -> None:
        self._arrays = [array("q") for _ in range(_COPIED)]
        self._is_lent = False

    def make_room(self, rows: int) -> None:
        """Let there be room for columns of so many rows."""
        lacking = rows - len(self._arrays[0])
        if lacking > 0:
            for buffer in self._arrays:
                buffer.frombytes(bytes(lacking * buffer.itemsize))

    def lend(self, columns: Sequence["array[int]"]) -> list["array[int]"]:
        """Copies of the columns, which may be followed by anything. The caller's until `take_back`."""
        if self._is_lent:
            return [column[:] for column in columns]
        self._is_lent = True
        self.make_room(len(columns[0]))
        for buffer, column in zip(self._arrays, columns, strict=True):
            memoryview(buffer)[: len(column)] = memoryview(column)
        return self._arrays

    def take_back(self, arrays: list["array[int]"]) -> None:
        if arrays is self._arrays:
            self._is_lent = False


class LedgerImage:
    """The ledger as it was when this was taken, between two commands."""

    def __init__(self, books: Books, fold: FoldState, window: Window, buffers: Buffers, *, time: int) -> None:
        accounts, transfers, pendings = books.accounts, books.transfers, books.pendings
        self._columns = accounts
        self._head = Head(
            version=IMAGE_VERSION,
            sizes=(window.sizes.block_entries, window.sizes.segment_entries),
            time=time,
            volume=str(books.volume),
            last_timestamp=transfers.last_timestamp,
            last_expiry_at=transfers.last_expiry_at,
            is_overtaken=transfers.is_overtaken,
            expiries=transfers.expiries,
            accounts=len(accounts),
            movements=len(transfers),
            failed=transfers.failed_count,
            dropped_blocks=transfers.dropped_blocks,
            pendings=len(pendings.statuses),
            cuts=[CutHead(c.number, c.block, c.row, c.failed, c.accounts, c.time) for c in window.cuts],
            fold=fold,
        )
        # These change in place; everything else only grows, or is replaced or copied before it changes.
        self._guards = accounts.guards[:]
        self._statuses = pendings.statuses[:]
        self._first_limits = accounts.first_limits.copy()
        self._reversed_amounts = transfers.reversed_amounts.shared_parts()
        self._remains = transfers.remains.parts()
        self._blocks = transfers.blocks[:]
        self._opening = window.cuts[0].balances
        self._buffers = buffers
        self._limits_and_balances = buffers.lend((accounts.limits, *accounts.balance_columns()))

    def release(self) -> None:
        """Give the room of the copies back; no chunks can be had any more. An image that is not released costs memory
        only.
        """
        self._buffers.take_back(self._limits_and_balances)
        self._limits_and_balances = []
        self._blocks, self._remains = [], []

    def chunks(self) -> Iterator[bytes]:
        """The image as bytes, some hundred kilobytes at a time. May run in another thread, once or several times."""
        return map(packed_message, self._messages())

    def _messages(self) -> Iterator[Struct]:
        yield self._head
        for first, last in spans(self._head.accounts):
            yield self._accounts(first, last)
        for first, last in spans(len(self._opening[0])):
            yield OpeningPart([packed(column[first:last]) for column in self._opening])
        for first, last in spans(len(self._statuses)):
            yield StatusesPart(packed(self._statuses[first:last]))
        for pairs in in_parts(self._first_limits.items()):
            yield FirstLimitsPart(pairs)
        for pairs in in_parts(pairs_of(self._reversed_amounts)):
            yield ReversedPart(pairs)
        for movements in in_parts(open_movements(self._remains, self._statuses, PENDING_OPEN)):
            yield RemainsPart(movements)
        for block in self._blocks:
            yield from self._block(block)

    def _block(self, block: Block) -> Iterator[Struct]:
        """The part of it that was there then: the open one goes on growing."""
        yield BlockHead(block.first, block.first_slot, block.first_failed)
        for first, last in spans(min(len(block.ids), self._head.movements - block.first)):
            ids, references, target_ids = (column[first:last] for column in block.texts())
            yield MovementsPart(
                (ids, references, target_ids), [packed(column[first:last]) for column in block.columns()]
            )
        for first, last in spans(min(len(block.failed), self._head.failed - block.first_failed)):
            yield FailedPart(block.failed[first:last])

    def _accounts(self, first: int, last: int) -> AccountsPart:
        accounts = self._columns
        limits, *balances = self._limits_and_balances
        return AccountsPart(
            ids=accounts.ids[first:last],
            currencies=accounts.currencies[first:last],
            references=accounts.references[first:last],
            codes=packed(accounts.codes[first:last]),
            flags=packed(accounts.flags[first:last]),
            guards=packed(self._guards[first:last]),
            limits=packed(limits[first:last]),
            created_at=packed(accounts.created_at[first:last]),
            balances=[packed(column[first:last]) for column in balances],
        )
