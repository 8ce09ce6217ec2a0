"""The history of each account: which movements in memory touched it, and what its balances were after any of them.

Only the numbers of the rows are kept, and the four balances after every CHECKPOINT_ROWS-th of them; balances in
between are counted again from the checkpoint below. That is 10 bytes a transfer where the balances themselves
would be 64. Rows that are not read here any more (below Transfers.base) are trimmed away: of an account that moves,
when it comes to a checkpoint; of those that rest by and by, for there may be a million to look through. books.py adds
and takes back, window.py moves the base, recent.py reads.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from raftpay.ledger.accounts import Accounts
from raftpay.ledger.movements import Movements
from raftpay.ledger.sealed import BalanceColumns, Balances
from raftpay.ledger.transfers import EXPIRY, KINDS, Block, balance_change

CHECKPOINT_ROWS: Final = 32
# To look through all histories costs more than what a few segments leave in those of accounts that rest.
_MOVES_PER_TRIM: Final = 8
# A mask asks "is this a multiple?" at half the price of a division; the hot path asks twice a transfer.
CHECKPOINT_MASK: Final = CHECKPOINT_ROWS - 1

_NO_BALANCES: Final[Balances] = (0, 0, 0, 0)


class Histories:
    """rows[account]: the rows of its movements, ascending. They begin with what is left of those below the base.

    opening: the balances of the accounts before the first row that is not below the base. Accounts behind its end were
        opened later. It is replaced, never changed.
    _checkpoints[account]: its four balances after entry 32, 64, ... of rows[account], one after the other.
    untrimmed: how many accounts are still to be looked at, _next_trimmed the first of them; behind the last account
        follows the first. _moves: how often the base has moved since they were all to be.
    """

    __slots__ = ("_accounts", "_checkpoints", "_moves", "_next_trimmed", "_transfers", "opening", "rows", "untrimmed")

    def __init__(self, accounts: Accounts, transfers: Movements) -> None:
        self._accounts = accounts
        self._transfers = transfers
        self.rows: list[array[int]] = []
        self.opening: BalanceColumns = (array("q"), array("q"), array("q"), array("q"))
        self._checkpoints: dict[int, array[int]] = {}
        self.untrimmed = 0
        self._moves = 0
        self._next_trimmed = 0

    def open_account(self) -> None:
        self.rows.append(array("i"))

    def take_back_account(self) -> None:
        assert not self.rows.pop()

    def add(self, row: int, *, debit: int, credit: int) -> None:
        """Notes a movement between two accounts, after their balances have been changed."""
        rows = self.rows[debit]
        rows.append(row)
        if not len(rows) & CHECKPOINT_MASK:
            self.checkpoint(debit)
        rows = self.rows[credit]
        rows.append(row)
        if not len(rows) & CHECKPOINT_MASK:
            self.checkpoint(credit)

    def checkpoint(self, account: int) -> None:
        """Called when the number of rows has reached a multiple: cuts off dead ones, and keeps the balances as they are
        now where it still is one.
        """
        dead = self.first_live(account)
        if dead and len(self.rows[account]) == CHECKPOINT_ROWS:
            # Without them it is no multiple, and there is no checkpoint yet whose place would change.
            del self.rows[account][:dead]
            return
        self._trim_account(account, dead)
        balances = [column[account] for column in self._accounts.balance_columns()]
        self._checkpoints.setdefault(account, array("q")).extend(balances)

    def take_back(self, account: int) -> None:
        """Undoes the last add, for one of its two accounts."""
        rows = self.rows[account]
        if not len(rows) & CHECKPOINT_MASK:
            kept = self._checkpoints.pop(account)[:-4]
            if kept:
                self._checkpoints[account] = kept
        rows.pop()

    def replay(self, block: Block) -> None:
        """Does to the balances and histories what the rows of the block did."""
        debits_pending, debits_posted, credits_pending, credits_posted = self._accounts.balance_columns()
        columns = (block.debits, block.credits, block.flags, block.amounts, block.target_amounts)
        for row, (debit, credit, flags, amount, reserved) in enumerate(zip(*columns, strict=True), block.first):
            if flags & KINDS:
                pending, posted = balance_change(flags, amount, reserved)
                debits_pending[debit] += pending
                credits_pending[credit] += pending
            else:
                posted = amount
            debits_posted[debit] += posted
            credits_posted[credit] += posted
            self.add(row, debit=debit, credit=credit)

    # The base moves.

    def begin_with(self, opening: BalanceColumns) -> None:
        """Goes on from these balances: the base has been moved to where they were those of the accounts."""
        self.opening = opening
        self._moves += 1
        if self._moves == _MOVES_PER_TRIM:
            self.untrimmed, self._moves = len(self.rows), 0

    def trim(self, count: int) -> None:
        """Trims the histories of so many more accounts. Between commands only."""
        first = self._next_trimmed if self._next_trimmed < len(self.rows) else 0
        end = min(first + min(count, self.untrimmed), len(self.rows))
        base = self._transfers.base
        for account in range(first, end):
            rows = self.rows[account]
            if rows and rows[0] < base:
                self._trim_account(account, len(rows) if rows[-1] < base else self.first_live(account))
        self.untrimmed -= end - first
        self._next_trimmed = end

    def _trim_account(self, account: int, dead: int) -> None:
        """Cuts off as many of the dead rows, the first ones, as the places of the checkpoints permit: all where none is
        alive.
        """
        rows = self.rows[account]
        cut = dead if dead == len(rows) else dead & ~CHECKPOINT_MASK
        if cut:
            del rows[:cut]
            if cut >= CHECKPOINT_ROWS:
                self._trim_checkpoints(account, cut // CHECKPOINT_ROWS)

    def _trim_checkpoints(self, account: int, count: int) -> None:
        kept = self._checkpoints.pop(account)[4 * count :]
        if kept:
            self._checkpoints[account] = kept

    # What is read.

    def first_live(self, account: int) -> int:
        """The position of the first entry that is not below the base."""
        rows, base = self.rows[account], self._transfers.base
        return bisect_left(rows, base) if rows and rows[0] < base else 0

    def last_not_after(self, account: int, time: int) -> int | None:
        """The position of the last live entry with a timestamp that is not after the time."""
        positions, first = range(len(self.rows[account])), self.first_live(account)
        end = bisect_right(positions, time, first, key=lambda position: self._sort_time(account, position))
        return end - 1 if end > first else None

    def _sort_time(self, account: int, position: int) -> int:
        """The smallest timestamp at or behind the position, which is what a search can rely on to ascend.

        It differs from the entry's own only where a transfer was imported with a timestamp before that of an expiry
        which the ledger had entered already.
        """
        transfers, rows = self._transfers, self.rows[account]
        block = transfers.block_of(rows[position])
        timestamp = block.timestamps[rows[position] - block.first]
        if transfers.is_overtaken:
            for block, offset in transfers.places(rows[behind] for behind in range(position, len(rows))):
                timestamp = min(timestamp, block.timestamps[offset])
                if block.flags[offset] != EXPIRY:
                    break
        return timestamp

    def balances_at(self, account: int, positions: Sequence[int]) -> list[Balances]:
        """The balances after each of these live entries. positions ascend."""
        rows, checkpoints = self.rows[account], self._checkpoints.get(account)
        answers: list[Balances] = []
        balances, done = self._opening_of(account), self.first_live(account)
        for position in positions:
            count = position + 1
            kept = count // CHECKPOINT_ROWS
            if kept * CHECKPOINT_ROWS > done:
                assert checkpoints is not None
                dp, d, cp, c = checkpoints[4 * kept - 4 : 4 * kept]
                balances, done = (dp, d, cp, c), kept * CHECKPOINT_ROWS
            for block, offset in self._transfers.places(rows[done:count]):
                balances = _after(balances, account, block, offset)
            done = count
            answers.append(balances)
        return answers

    def _opening_of(self, account: int) -> Balances:
        if account >= len(self.opening[0]):
            return _NO_BALANCES
        debits_pending, debits_posted, credits_pending, credits_posted = (column[account] for column in self.opening)
        return debits_pending, debits_posted, credits_pending, credits_posted


def _after(balances: Balances, account: int, block: Block, offset: int) -> Balances:
    debits_pending, debits_posted, credits_pending, credits_posted = balances
    pending, posted = block.change(offset)
    if block.debits[offset] == account:
        return debits_pending + pending, debits_posted + posted, credits_pending, credits_posted
    return debits_pending, debits_posted, credits_pending + pending, credits_posted + posted
