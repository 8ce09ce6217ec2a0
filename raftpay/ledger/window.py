"""The window: which blocks of rows are in memory, where the history is cut into segments, and how old blocks leave.

A block is closed, and a cut made, behind a command and by nothing but the count of what was entered: at the same place
on every node. Whether and when a segment is dropped is each node's own affair, and changes no answer: what a row said
is then read from the sealed history, what is still needed of it at once (open pending transfers) is kept.

Dropping is two steps. The base moves at once, over all rows of the segment: balances and histories begin behind them.
The blocks then leave with the commands that follow, for to forget a quarter of a million ids takes longer than a node
may stand still.
"""

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import chain, compress, pairwise
from typing import Final

from msgspec import Struct

from raftpay.ledger.accounts import Accounts
from raftpay.ledger.books import Books
from raftpay.ledger.digest import StateDigest
from raftpay.ledger.remains import Part
from raftpay.ledger.sealed import BalanceColumns, SegmentAccounts, SegmentRows
from raftpay.ledger.transfers import Block

# Of each command some accounts have their histories trimmed, while there is something to trim: so many, and one more
# for every few rows that were entered.
_TRIMMED_PER_COMMAND: Final = 256
_ROWS_PER_TRIMMED: Final = 4

# Makes 0 of 1 and 1 of 0.
_INVERTED: Final = bytes((1, 0)) + bytes(range(2, 256))


class WindowSizes(Struct, frozen=True):
    """How much a block and a segment hold at least: rows and failed ids together. The same on all nodes of a cluster,
    and over all its life: the digest and the borders of the segments follow from them.
    """

    block_entries: int = 4096
    segment_entries: int = 131_072


class Cut(Struct, frozen=True):
    """Where a segment ends and the next begins, always between two commands and two blocks.

    number: how many segments there are before it. block, row, failed, accounts: the same of blocks, rows, failed ids
        and accounts.
    time: the ledger's.
    balances: of all accounts. They are copies, and never change.
    """

    number: int
    block: int
    row: int
    failed: int
    accounts: int
    time: int
    balances: BalanceColumns


class Segment:
    """A part of the history that is complete. It stays what it is, whatever the ledger drops."""

    def __init__(self, begin: Cut, end: Cut, blocks: Sequence[Block], accounts: Accounts) -> None:
        self.number = begin.number
        self.first, self.last = begin.row, end.row
        self._begin, self._end = begin, end
        self._blocks = blocks
        self._accounts = accounts

    def rows(self) -> SegmentRows:
        """The content, ready to be written. May be called in any thread; some milliseconds."""
        blocks, accounts = self._blocks, self._accounts
        ids, references, target_ids = (
            list(chain(*column)) for column in zip(*(b.texts() for b in blocks), strict=True)
        )
        columns = [joined(column) for column in zip(*(block.columns() for block in blocks), strict=True)]
        debits, credits, amounts, timestamps, codes, flags, links, target_amounts, timeouts = columns
        return SegmentRows(
            number=self.number,
            first=self.first,
            last=self.last,
            time=self._end.time,
            ids=ids,
            debits=debits,
            credits=credits,
            amounts=amounts,
            timestamps=timestamps,
            codes=codes,
            flags=flags,
            references=references,
            links=links,
            target_ids=target_ids,
            target_amounts=target_amounts,
            timeouts=timeouts,
            first_failed=self._begin.failed,
            failed=list(chain(*(block.failed for block in blocks))),
            accounts=self._opened_accounts(),
            opening=self._begin.balances,
            closing=self._end.balances,
            account_ids=accounts.ids,
            account_currencies=accounts.currencies,
        )

    def _opened_accounts(self) -> SegmentAccounts:
        accounts, first, last = self._accounts, self._begin.accounts, self._end.accounts
        return SegmentAccounts(
            first=first,
            ids=accounts.ids[first:last],
            currencies=accounts.currencies[first:last],
            references=accounts.references[first:last],
            codes=accounts.codes[first:last],
            flags=accounts.flags[first:last],
            created_at=accounts.created_at[first:last],
            first_limits=accounts.first_limits_of(first, last),
        )


def joined(parts: Sequence["array[int]"]) -> "array[int]":
    """One column of the parts of several blocks."""
    column = parts[0][:]
    for part in parts[1:]:
        column.extend(part)
    return column


class Window:
    """cuts: the last one below which everything was dropped, or may leave now, and those behind it. Never empty."""

    def __init__(self, books: Books, digest: StateDigest, sizes: WindowSizes, cuts: Sequence[Cut] = ()) -> None:
        self._books = books
        self._digest = digest
        self.sizes = sizes
        # Where the balances of the next cut are copied to. To get it from the system takes far longer than to copy: at
        # a million accounts longer than a node may stand still. So it is had before, a column at a time.
        self._room: list[array[int]] = []
        self.cuts = list(cuts) or [self._cut(number=0, time=0)]

    def _cut(self, *, number: int, time: int) -> Cut:
        accounts, transfers = self._books.accounts, self._books.transfers
        debits_pending, debits_posted, credits_pending, credits_posted = map(self._copied, accounts.balance_columns())
        return Cut(
            number=number,
            block=transfers.dropped_blocks + len(transfers.blocks) - 1,
            row=len(transfers),
            failed=transfers.failed_count,
            accounts=len(accounts),
            time=time,
            balances=(debits_pending, debits_posted, credits_pending, credits_posted),
        )

    def _copied(self, column: "array[int]") -> "array[int]":
        copy = self._room.pop() if self._room else array("q")
        del copy[len(column) :]
        rows = len(copy)
        with memoryview(copy) as to, memoryview(column) as source:
            to[:] = source[:rows]
        copy.extend(column[rows:])
        return copy

    @property
    def has_dropped(self) -> bool:
        """Whether some rows can be found in the sealed history only."""
        return self._books.transfers.dropped_blocks > 0

    def advance(self, time: int, *, entered: int) -> None:
        """Called behind each command. time: the ledger's. entered: how many events the command had."""
        books, block = self._books, self._books.transfers.open
        if len(block.ids) + len(block.failed) >= self.sizes.block_entries:
            self._close_block(time)
        self._drop_blocks(entered)
        if books.transfers.ended:
            self._forget_ended()
        if books.histories.untrimmed:
            books.histories.trim(_TRIMMED_PER_COMMAND + entered // _ROWS_PER_TRIMMED)

    def _close_block(self, time: int) -> None:
        transfers, last = self._books.transfers, self.cuts[-1]
        self._digest.fold_block(transfers.open)
        transfers.add_block(transfers.open.next_block())
        entries = len(transfers) - last.row + transfers.failed_count - last.failed
        if entries >= self.sizes.segment_entries:
            self.cuts.append(self._cut(number=last.number + 1, time=time))
        elif entries >= self.sizes.segment_entries // 2 and len(self._room) < len(last.balances):
            self._room.append(array("q", [0]) * len(self._books.accounts))

    def segments(self) -> list[Segment]:
        """Those that are complete and not dropped, the oldest first."""
        return [
            Segment(begin, end, self._blocks_between(begin, end), self._books.accounts)
            for begin, end in pairwise(self.cuts)
        ]

    def _blocks_between(self, begin: Cut, end: Cut) -> list[Block]:
        transfers = self._books.transfers
        return transfers.blocks[begin.block - transfers.dropped_blocks : end.block - transfers.dropped_blocks]

    def drop_before(self, number: int) -> None:
        """Stops reading the rows of the segments before that one, which are sealed."""
        while self.cuts[0].number < number:
            assert len(self.cuts) > 1, f"segment {self.cuts[0].number} is not complete"
            del self.cuts[0]
        self._books.transfers.base = self.cuts[0].row
        self._books.transfers.base_segment = self.cuts[0].number
        self._books.histories.begin_with(self.cuts[0].balances)

    def _drop_blocks(self, entered: int) -> None:
        """Forgets blocks that are dropped, four times as fast as rows come: else the window would hardly ever be
        smaller than the segment that was sealed and the one behind it.
        """
        transfers, left = self._books.transfers, 4 * entered
        while transfers.dropped_blocks < self.cuts[0].block:
            left -= len(transfers.blocks[0].ids) + len(transfers.blocks[0].failed)
            self._drop_block()
            if left <= 0:
                break

    def _drop_block(self) -> None:
        """Forgets the oldest block, but for the pending transfers in it that are open."""
        transfers = self._books.transfers
        is_kept = self._open_rows(transfers.blocks[0])
        block = transfers.take_first_block()
        ids = block.ids if is_kept is None else compress(block.ids, is_kept.translate(_INVERTED))
        deque(map(transfers.rows.__delitem__, filter(None, ids)), maxlen=0)
        for transfer_id in block.failed:
            del self._books.failed_ids[transfer_id]
        if is_kept is not None:
            rows = array("i", range(block.first, block.end))
            transfers.remains.add(Part(rows, block).only(is_kept))

    def _open_rows(self, block: Block) -> bytearray | None:
        """A 1 for each row of the block that is an open pending transfer, else 0; None where there is no such row."""
        slots = self._books.pendings.open_slots(block.first_slot, block.first_slot + len(block.pending_rows))
        is_open = None
        for slot in slots:
            is_open = is_open or bytearray(len(block.ids))
            is_open[block.pending_rows[slot - block.first_slot] - block.first] = 1
        return is_open

    def _forget_ended(self) -> None:
        """Lets go of pending transfers that were kept and have ended: what became of them is known without them."""
        transfers, pendings = self._books.transfers, self._books.pendings
        ended = [
            slot
            for slot in dict.fromkeys(transfers.ended)
            if not pendings.is_open(slot) and transfers.remains.has(slot)
        ]
        for slot in ended:
            del transfers.rows[transfers.remains.end(slot)]
        transfers.remains.shrink(ended, pendings.is_open)
        transfers.ended.clear()
