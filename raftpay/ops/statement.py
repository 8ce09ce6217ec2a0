"""An account statement: what was booked in a period, between an opening and a closing balance, read page by page.

A line is a transfer that moved money: pending transfers and voids only reserve and release. The first answer of the
books fixes what belongs to the statement: what is entered while it is read lies behind its end. Nothing is held but
the page in hand, however many lines there are. That the lines lead from the opening to the closing balance is checked
here: the books keep balances and amounts apart, and give both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import structs

from raftpay.ledger import TIME_MAX, AccountQuery, AccountRecord, BalanceRecord, Page, TransferFlag, TransferRecord

# Transfers that are asked for at once: what the reader holds, and a few milliseconds of a node's loop.
PAGE_TRANSFERS: Final = 250
_MOVES_NOTHING: Final = int(TransferFlag.PENDING | TransferFlag.VOID_PENDING)
_NOTHING_YET: Final = BalanceRecord(0, 0, 0, 0, 0)


class Books(Protocol):
    """Whom a statement asks: a client, or a ledger itself."""

    def lookup_accounts(self, ids: Sequence[str], /) -> list[AccountRecord | None]: ...

    def balance_at(self, account_id: str, time: int, /) -> BalanceRecord | None: ...

    def account_transfers(self, query: AccountQuery, /) -> Page[TransferRecord]: ...


@dataclass(frozen=True, slots=True)
class Period:
    """first, last: nanoseconds since the epoch, both included. last is before first in a period without an instant."""

    first: int = 0
    last: int = TIME_MAX


@dataclass(frozen=True, slots=True)
class Line:
    """balance: credits less debits, posted, after the transfer."""

    transfer: TransferRecord
    is_debit: bool
    balance: int

    @property
    def counterparty(self) -> str:
        return self.transfer.credit_account if self.is_debit else self.transfer.debit_account


class Statement:
    """One statement, to be read once.

    opening, closing: as the books give them. debits, credits, line_count: of the lines read so far.
    """

    def __init__(self, books: Books, account: AccountRecord, period: Period) -> None:
        self._books = books
        self.account = account
        self.closing = books.balance_at(account.id, period.last) or _NOTHING_YET
        self.opening = self._opening(period.first)
        # Behind the last change that the closing balance knows nothing belongs to it, whatever is entered meanwhile.
        self._query = AccountQuery(
            account.id, time_from=period.first, time_to=self.closing.timestamp, limit=PAGE_TRANSFERS
        )
        self.debits = self.credits = self.line_count = 0

    def _opening(self, first: int) -> BalanceRecord:
        if self.closing.timestamp < first:
            # Nothing was booked in the period. To ask anew might show what came after the closing balance.
            return self.closing
        return (self._books.balance_at(self.account.id, first - 1) if first else None) or _NOTHING_YET

    def pages(self) -> Iterator[list[Line]]:
        """The lines, oldest first, as they come. A page is asked for when the one before is done with."""
        cursor = ""
        while True:
            page = self._books.account_transfers(structs.replace(self._query, cursor=cursor))
            if lines := [self._line(transfer) for transfer in page.items if not transfer.flags & _MOVES_NOTHING]:
                yield lines
            cursor = page.cursor
            if not cursor:
                return

    def _line(self, transfer: TransferRecord) -> Line:
        is_debit = transfer.debit_account == self.account.id
        if is_debit:
            self.debits += transfer.amount
        else:
            self.credits += transfer.amount
        self.line_count += 1
        return Line(transfer, is_debit, posted(self.opening) + self.credits - self.debits)

    def difference(self) -> tuple[int, int]:
        """By how much debits and credits of opening balance and lines exceed those of the closing balance. Once all
        pages are read that is (0, 0), or the books are wrong, or transfers were imported into the period meanwhile.
        """
        debits = self.opening.debits_posted + self.debits - self.closing.debits_posted
        credits_ = self.opening.credits_posted + self.credits - self.closing.credits_posted
        return debits, credits_


def posted(balances: BalanceRecord) -> int:
    """What is posted in the account's favour."""
    return balances.credits_posted - balances.debits_posted
