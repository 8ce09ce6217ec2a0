"""The way back from an image to books.

What can be derived (ids to rows, histories, balances at cuts, the queue of expiries) is derived again rather than
believed, and what hangs together is checked to do so. Only ledger.py calls this.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct

from raftpay.ledger.accounts import Accounts
from raftpay.ledger.books import Books
from raftpay.ledger.digest import FoldState, unpacked
from raftpay.ledger.image_format import (
    PART_ROWS,
    AccountsPart,
    BlockHead,
    FailedPart,
    FirstLimitsPart,
    Head,
    MovementsPart,
    OpeningPart,
    Part,
    RemainsPart,
    ReversedPart,
    StatusesPart,
    read_image,
    spans,
)
from raftpay.ledger.pendings import EXPIRED, expiry_of
from raftpay.ledger.sealed import BalanceColumns, Movement
from raftpay.ledger.transfers import PENDING, Block
from raftpay.ledger.window import Cut, WindowSizes


class Restored(Struct, frozen=True):
    """What an image holds. cuts: empty for books that are new."""

    books: Books
    fold: FoldState
    cuts: list[Cut]
    time: int


def load(chunks: Iterable[bytes], sizes: WindowSizes) -> Restored:
    """The state that an image holds. sizes: those that it must have been made with.

    Raises ImageVersionError, and ValueError for bytes that are no image or whose parts contradict each other.
    """
    head, parts = read_image(chunks)
    if head.sizes != (sizes.block_entries, sizes.segment_entries):
        raise ValueError(f"the image of the ledger has blocks and segments of {head.sizes} entries, expected {sizes}")
    loading = _Loading(head)
    for part in parts:
        loading.add(part)
    try:
        return loading.finish()
    except IndexError as error:
        raise ValueError("a link of the image leads to a row that is not in it") from error
    except OverflowError as error:
        raise ValueError("a balance of the image goes past what an account can hold") from error


class _Loading:
    """Books in the making: the parts are added as they come, and then everything is derived and checked."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._books = Books()
        self._blocks: list[Block] = []
        self._remains: list[Movement] = []
        self._opening: BalanceColumns = (array("q"), array("q"), array("q"), array("q"))

    def add(self, part: Part) -> None:
        books = self._books
        if isinstance(part, AccountsPart):
            _add_accounts(books.accounts, part)
        elif isinstance(part, OpeningPart):
            _extend(self._opening, part.balances, rows=len(part.balances[0]) // 8 if part.balances else 0)
        elif isinstance(part, StatusesPart):
            books.pendings.statuses.frombytes(part.statuses)
        elif isinstance(part, FirstLimitsPart):
            books.accounts.first_limits.update(part.pairs)
        elif isinstance(part, ReversedPart):
            books.transfers.reversed_amounts.update(part.pairs)
        elif isinstance(part, RemainsPart):
            self._remains.extend(part.movements)
        elif isinstance(part, BlockHead):
            self._blocks.append(Block(part.first, part.first_slot, part.first_failed))
        else:
            self._add_to_block(part)

    def _add_to_block(self, part: MovementsPart | FailedPart) -> None:
        if not self._blocks:
            raise ValueError("rows stand before the first block of the image")
        block = self._blocks[-1]
        if isinstance(part, FailedPart):
            block.failed.extend(part.ids)
            return
        rows = len(part.texts[0])
        for column, texts in zip(block.texts(), part.texts, strict=True):
            if len(texts) != rows:
                raise ValueError(f"a column of the image has {len(texts)} texts, expected {rows}")
            column.extend(texts)
        _extend(block.columns(), part.columns, rows=rows)

    def finish(self) -> Restored:
        """The books, once all parts are there."""
        head, books = self._head, self._books
        books.transfers.last_timestamp, books.transfers.last_expiry_at = head.last_timestamp, head.last_expiry_at
        books.transfers.is_overtaken, books.transfers.expiries = head.is_overtaken, head.expiries
        books.volume = int(head.volume)
        self._number_accounts()
        self._join_blocks()
        self._number_transfers()
        self._check_accounts_of_transfers()
        self._check_pendings()
        self._check_cuts()
        return Restored(books, head.fold, self._replay(), head.time)

    def _number_accounts(self) -> None:
        accounts, head = self._books.accounts, self._head
        accounts.rows.update((id_, row) for row, id_ in enumerate(accounts.ids))
        if not len(accounts.rows) == len(accounts.ids) == head.accounts:
            raise ValueError(
                f"the image has {len(accounts.ids)} accounts of {len(accounts.rows)} ids, its head says {head.accounts}"
            )
        if head.fold.folded > head.accounts:
            raise ValueError("the digest's part of the image does not fit its tables")

    def _join_blocks(self) -> None:
        """Puts the blocks into the books, each where the one before ends, with the rows of their pending transfers."""
        transfers, head = self._books.transfers, self._head
        for block in self._blocks:
            for offset, flags in enumerate(block.flags):
                if flags & PENDING:
                    if block.links[offset] != block.first_slot + len(block.pending_rows):
                        raise ValueError(f"the row {block.first + offset} of the image has the slot of another one")
                    block.pending_rows.append(block.first + offset)
        for block, following in pairwise(self._blocks):
            behind = block.next_block()
            expected = (behind.first, behind.first_slot, behind.first_failed)
            if (following.first, following.first_slot, following.first_failed) != expected:
                raise ValueError(f"a block of the image begins with row {following.first}, expected {behind.first}")
        if not self._blocks:
            raise ValueError("there is no block in the image")
        transfers.begin_with(self._blocks, dropped_blocks=head.dropped_blocks)
        slots = transfers.open.first_slot + len(transfers.open.pending_rows)
        found = (len(transfers), transfers.failed_count, slots, len(self._books.pendings.statuses))
        expected_counts = (head.movements, head.failed, head.pendings, head.pendings)
        if found != expected_counts:
            raise ValueError(f"the image of the ledger has {found} rows in its tables, its head says {expected_counts}")

    def _number_transfers(self) -> None:
        books, transfers = self._books, self._books.transfers
        count = len(self._remains)
        transfers.rows.update((pending.id, pending.row) for pending in self._remains)
        for block in self._blocks:
            transfers.rows.update((id_, row) for row, id_ in enumerate(block.ids, start=block.first) if id_)
            count += len(block.ids) - block.ids.count("")
            books.failed_ids.update(dict.fromkeys(block.failed))
        failed_count = transfers.failed_count - self._blocks[0].first_failed
        if len(transfers.rows) != count or len(books.failed_ids) != failed_count:
            raise ValueError("a transfer id stands twice in the image")

    def _check_accounts_of_transfers(self) -> None:
        size = len(self._books.accounts)
        columns: list[Sequence[int]] = [column for block in self._blocks for column in (block.debits, block.credits)]
        columns += [[pending.debit for pending in self._remains], [pending.credit for pending in self._remains]]
        if any(column and not (min(column) >= 0 and max(column) < size) for column in columns):
            raise ValueError("a transfer of the image names an account that is not in it")

    def _check_pendings(self) -> None:
        """The open ones of before the first block are there, no others; all that can expire are queued up."""
        pendings, transfers = self._books.pendings, self._books.transfers
        # Not max(): that would hold the interpreter for a tenth of a second at ten million.
        known = bytes(range(EXPIRED + 1))
        parts = (pendings.statuses[first:last].tobytes() for first, last in spans(len(pendings.statuses)))
        if any(part.translate(None, known) for part in parts):
            raise ValueError("a pending transfer of the image is in no state that there is")
        first = self._blocks[0]
        rows = [pending.row for pending in self._remains]
        if (
            [pending.link for pending in self._remains] != list(pendings.open_slots(0, first.first_slot))
            or not all(pending.flags & PENDING for pending in self._remains)
            or not all(row < following for row, following in pairwise([*rows, first.first]))
        ):
            raise ValueError("the image keeps other pending transfers than those that are open")
        transfers.remains.restore(self._remains, PART_ROWS)
        in_memory = map(transfers.open_pending, pendings.open_slots(0, len(pendings.statuses)))
        pendings.requeue((pending.link, expires_at) for pending in in_memory if (expires_at := expiry_of(pending)))

    def _check_cuts(self) -> None:
        head = self._head
        for number, cut in enumerate(head.cuts, start=head.cuts[0].number if head.cuts else 0):
            place = cut.block - head.dropped_blocks
            block = self._blocks[place] if 0 <= place < len(self._blocks) else None
            if (
                block is None
                or (cut.number, cut.row, cut.failed) != (number, block.first, block.first_failed)
                or cut.accounts > head.accounts
            ):
                raise ValueError(f"a cut of the image, at row {cut.row}, is not where a block begins")
        if not head.cuts or len(self._opening[0]) != head.cuts[0].accounts:
            raise ValueError("the opening balances of the image are not those of its first cut")

    def _replay(self) -> list[Cut]:
        """Goes from the opening balances over all rows to those of now, which must be those of the image.

        Makes the histories, and finds the balances at each cut, on the way.
        """
        head, histories = self._head, self._books.histories
        columns = self._books.accounts.balance_columns()
        self._books.transfers.base = head.cuts[0].row
        self._books.transfers.base_segment = head.cuts[0].number
        histories.begin_with(self._opening)
        # As bytes they are compared at once, as numbers one by one.
        final = [column.tobytes() for column in columns]
        for column, opening in zip(columns, self._opening, strict=True):
            column[:] = opening
            column.frombytes(bytes(8 * (head.accounts - len(opening))))
        for _ in range(head.accounts):
            histories.open_account()
        cuts: list[Cut] = []
        waiting = head.cuts[::-1]
        for number, block in enumerate(self._blocks, start=head.dropped_blocks):
            if waiting and waiting[-1].block == number:
                at = waiting.pop()
                debits_pending, debits_posted, credits_pending, credits_posted = (c[: at.accounts] for c in columns)
                balances = debits_pending, debits_posted, credits_pending, credits_posted
                cuts.append(Cut(at.number, at.block, at.row, at.failed, at.accounts, at.time, balances))
            if cuts:
                histories.replay(block)
        if any(column.tobytes() != known for column, known in zip(columns, final, strict=True)):
            raise ValueError("the balances of the accounts do not follow from the transfers")
        return cuts


def _add_accounts(accounts: Accounts, part: AccountsPart) -> None:
    accounts.ids.extend(part.ids)
    shared = accounts.shared_currencies
    accounts.currencies.extend(shared.setdefault(currency, currency) for currency in part.currencies)
    accounts.references.extend(part.references)
    columns = (accounts.codes, accounts.flags, accounts.guards, accounts.limits, accounts.created_at)
    data = (part.codes, part.flags, part.guards, part.limits, part.created_at)
    _extend((*columns, *accounts.balance_columns()), (*data, *part.balances), rows=len(part.ids))


def _extend(columns: Sequence["array[int]"], data: Sequence[bytes], *, rows: int) -> None:
    """Appends to each column its bytes, which must be those of so many rows."""
    if len(columns) != len(data):
        raise ValueError(f"a table of the image has {len(data)} columns, expected {len(columns)}")
    for column, cells in zip(columns, data, strict=True):
        if len(cells) != rows * column.itemsize:
            raise ValueError(f"a column of the image has {len(cells)} bytes, expected {rows} of {column.itemsize}")
        column.extend(unpacked(column.typecode, cells))
