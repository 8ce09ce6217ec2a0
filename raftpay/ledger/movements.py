"""The movements in memory: the blocks of the window, and what is left of those that were dropped.

Rows are entered in the last block, the open one; they leave when the chain that entered them rolls back, or with their
block, once they are sealed. No rule lives here: create_transfers.py decides, books.py enters and takes back, window.py
closes and drops blocks, recent.py reads.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from raftpay.ledger.remains import Remains
from raftpay.ledger.reversed_amounts import ReversedAmounts
from raftpay.ledger.sealed import Movement
from raftpay.ledger.transfers import PENDING, Block, Target


class Movements:
    """All movements that are in memory, in the order in which they were entered, and what is known of older ones.

    blocks: at least one; blocks[0] is the oldest.
    open: the last of them, which grows.
    dropped_blocks: how many there were before blocks[0].
    base: the rows below are not read here any more, though their block may still be there. Not below it are the rows of
        all balances and histories in memory. base_segment: how many segments lie below it.
    rows: id -> row, transfers of the blocks and remains only.
    remains: the open pending transfers of dropped blocks. ended: the slots of pending transfers that ended since they
        were last looked through, where there are remains; a few may have been taken back.
    recalled: transfers of dropped blocks that the command which is applied names, by id.
    reversed_amounts: how much of each row all its reversals together have sent back. For all rows, also those of
        dropped blocks.
    expiries: how many rows are not transfers, ever.
    last_timestamp: that of the last transfer, 0 at first; imported ones must lie after it.
    last_expiry_at: the timestamp of the last expiry, 0 at first.
    is_overtaken: whether a transfer was ever imported with a timestamp before that of an expiry entered earlier. Else
        timestamps ascend from row to row.
    """

    __slots__ = (
        "_first_slots",
        "_firsts",
        "base",
        "base_segment",
        "blocks",
        "dropped_blocks",
        "ended",
        "expiries",
        "is_overtaken",
        "last_expiry_at",
        "last_timestamp",
        "open",
        "recalled",
        "remains",
        "reversed_amounts",
        "rows",
    )

    def __init__(self) -> None:
        self.begin_with([Block(0, 0, 0)], dropped_blocks=0)
        self.base = 0
        self.base_segment = 0
        self.rows: dict[str, int] = {}
        self.remains = Remains()
        self.recalled: dict[str, Movement] = {}
        self.ended: list[int] = []
        self.reversed_amounts = ReversedAmounts()
        self.expiries = 0
        self.last_timestamp = 0
        self.last_expiry_at = 0
        self.is_overtaken = False

    def begin_with(self, blocks: Iterable[Block], *, dropped_blocks: int) -> None:
        """Takes these in place of the blocks that are there."""
        self.blocks: list[Block] = []
        self._firsts: list[int] = []
        self._first_slots: list[int] = []
        self.dropped_blocks = dropped_blocks
        for block in blocks:
            self.add_block(block)

    def __len__(self) -> int:
        """How many rows were entered, ever."""
        return self.open.first + len(self.open.ids)

    @property
    def failed_count(self) -> int:
        """How many ids failed, ever."""
        return self.open.first_failed + len(self.open.failed)

    def add_block(self, block: Block) -> None:
        self.blocks.append(block)
        self._firsts.append(block.first)
        self._first_slots.append(block.first_slot)
        self.open = block

    def take_first_block(self) -> Block:
        """Removes the oldest block, and nothing that is known of its rows."""
        assert len(self.blocks) > 1, "the open block stays"
        self.dropped_blocks += 1
        del self._firsts[0], self._first_slots[0]
        return self.blocks.pop(0)

    def block_of(self, row: int) -> Block:
        """The block of a row that is not below the first one."""
        if row >= self.open.first:
            return self.open
        return self.blocks[bisect_right(self._firsts, row) - 1]

    def movement(self, row: int) -> Movement:
        """The row, which must be in memory."""
        if row < self._firsts[0]:
            return self.remains.of_row(row)
        block = self.block_of(row)
        return block.movement(row - block.first)

    def find(self, transfer_id: str) -> Movement | None:
        """The transfer of that id, if it is in memory."""
        row = self.rows.get(transfer_id)
        return self.recalled.get(transfer_id) if row is None else self.movement(row)

    def find_target(self, transfer_id: str) -> Target | Movement | None:
        """The same, as far as it is needed of a target."""
        row = self.rows.get(transfer_id)
        if row is None:
            return self.recalled.get(transfer_id)
        if row < self._firsts[0]:
            return self.remains.of_row(row)
        block = self.open if row >= self.open.first else self.block_of(row)
        return block.target(row - block.first)

    def open_pending(self, slot: int) -> Movement:
        """The open pending transfer of that slot."""
        if slot < self._first_slots[0]:
            return self.remains.of_slot(slot)
        block = self.blocks[bisect_right(self._first_slots, slot) - 1]
        return self.movement(block.pending_rows[slot - block.first_slot])

    def places(self, rows: Iterable[int]) -> Iterator[tuple[Block, int]]:
        """Block and offset of each of the rows, which must be in memory; fast where neighbours share a block."""
        first = end = 0
        for row in rows:
            if not first <= row < end:
                block = self.block_of(row)
                first, end = block.first, block.end
            yield block, row - first

    def pop(self) -> None:
        """Forgets the last row; what it did to other tables has been undone by the caller."""
        block = self.open
        if transfer_id := block.ids.pop():
            del self.rows[transfer_id]
        if block.flags[-1] & PENDING:
            block.pending_rows.pop()
        block.references.pop()
        block.target_ids.pop()
        for column in block.columns():
            column.pop()
