"""Where the rows go that the ledger no longer holds in memory, and how it asks for them.

The history is cut into *segments*: [first, last) of the rows, numbered over the whole life of the ledger, together with
the accounts opened and the ids that failed in that time. The ledger makes the cuts itself, between two commands and by
counting what they entered, so that all nodes cut alike; a segment never changes again, and may have failed ids but no
rows. `SegmentRows` is its content, ready to be written. What became of a pending transfer afterwards, and how much of a
transfer was sent back, is not in it: that changes later, and stays in the ledger for as long as the ledger lives.

Once a segment is safe on disk, its rows may be dropped from memory, and the ledger asks a `SealedHistory` for them. It
may have sealed more than the ledger has dropped, even more than the ledger has applied (a node that starts again from a
snapshot applies entries whose rows were sealed in its life before): the ledger asks about rows below a limit of its
own, and passes over answers about an id that lie at or above it.

Accounts are named by their rows, which never change. The archive room implements the protocol; the tests of the ledger
hold the plainest possible version of it.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from raftpay.ledger.records import Direction
from raftpay.ledger.types import TIME_MAX

# The four balances of an account in the order in which they are always written: debits pending and posted, credits
# pending and posted.
Balances = tuple[int, int, int, int]
BalanceColumns = tuple["array[int]", "array[int]", "array[int]", "array[int]"]


class Movement(Struct, frozen=True, array_like=True, gc=False):
    """One row of the books: a transfer, or the expiry of a pending one. Nothing in it changes later.

    row: its number.
    id: "" for an expiry.
    debit, credit: rows of the accounts.
    amount: minor units; of a void or an expiry what was released.
    timestamp: nanoseconds; ascending from row to row but for imports (see Transfers.is_overtaken).
    flags: as sent (bits of TransferFlag), or EXPIRY and nothing else.
    link: of a PENDING row its slot, a number that the ledger knows it by; of a row with a target the target's row; else
        NO_LINK.
    target_id, target_amount: id and amount of the transfer that is posted, voided, reversed or has expired; "" and 0
        where there is none. What a post, void or expiry takes from the pending balances is the target's amount.
    timeout_s: of a PENDING row, 0 means never; 0 for all others.
    """

    row: int
    id: str
    debit: int
    credit: int
    amount: int
    timestamp: int
    code: int
    flags: int
    reference: str
    link: int
    target_id: str
    target_amount: int
    timeout_s: int


class FailedId(Struct, frozen=True, gc=False):
    """An id of a transfer that was refused for the state of the moment. number: how many failed before it, ever."""

    number: int


class RowQuery(Struct, frozen=True):
    """Which rows are wanted of those from first to before last, in ascending or descending order.

    limit: find so many and stop; may be 0.
    code, reference, currency: None matches all. The currency of a row is that of its debit account.
    direction: of an account's rows those that debit or credit it; "" for both. It has no meaning for all rows.
    time_from, time_to: nanoseconds, both included.
    with_balances: whether AccountRow.balances are asked for; where not they may be anything.

    The expiry of a pending transfer (flags == EXPIRY) is never wanted.
    """

    first: int
    last: int
    limit: int
    newest_first: bool = False
    code: int | None = None
    reference: str | None = None
    currency: str | None = None
    direction: Direction = ""
    time_from: int = 0
    time_to: int = TIME_MAX
    with_balances: bool = False


class AccountRow(Struct, frozen=True, gc=False):
    """A row that touched an account, and the account's balances right after it."""

    movement: Movement
    balances: Balances


class AccountRows(Struct, frozen=True):
    """An answer about one account.

    rows: those that are wanted, in the order asked for.
    looked_at: how many of the account's rows, wanted or not, expiries included, were looked at to find them: all up to
        the last one found where that made the limit full, else as many as there are or as may be looked at.
    next_row: the row of the account behind those looked at, in the order asked for; None when none is left.
    """

    rows: Sequence[AccountRow]
    looked_at: int
    next_row: int | None


class SealedHistory(Protocol):
    """What the ledger asks of the rows that it has dropped. All answers are exact, and the same on every node."""

    @property
    def segments(self) -> int:
        """How many segments are sealed: number 0 to before this one, without a gap. The ledger drops no others."""

    def may_contain(self, ids: Sequence[str], *, segments: int) -> list[str]:
        """Those ids that may be in the first so many segments, of transfers or failed ones; never leaves one out that
        is. No id is empty.

        Called once for each command, with all ids in it, and nearly always for nothing: it looks into memory only, and
        costs half a microsecond an id in batches. That holds as well for a ledger that applies once more what is in
        later segments, after a start from a snapshot: all its ids are sealed, and none is to be searched for.
        """

    def find(self, ids: Sequence[str]) -> Mapping[str, Movement | FailedId]:
        """What is sealed under these ids; those of which nothing is are left out. May read files."""

    def count_before(self, time: int) -> int:
        """How many sealed rows have a timestamp before that time. Asked only while timestamps ascend with the rows."""

    def rows(self, query: RowQuery) -> Sequence[Movement]:
        """The rows that are wanted. The ledger never lets more than some ten thousand be looked at, first to last."""

    def account_rows(self, account: int, query: RowQuery, *, looked_at_max: int) -> AccountRows:
        """The rows of one account that are wanted; at most looked_at_max of its rows between first and last are looked
        at. looked_at_max and the limit may be 0: then only next_row is asked for.
        """

    def last_account_row(self, account: int, *, last: int, time: int) -> AccountRow | None:
        """The last row of the account, expiries included, that lies before row `last` and not after the time."""


class SegmentAccounts(Struct, frozen=True):
    """The accounts that were opened in a segment, as they were opened.

    first: the row of the first of them.
    first_limits: the overdraft limits given at the opening.
    """

    first: int
    ids: list[str]
    currencies: list[str]
    references: list[str]
    codes: "array[int]"
    flags: "array[int]"
    created_at: "array[int]"
    first_limits: "array[int]"


class SegmentRows(Struct, frozen=True):
    """The content of a segment. Each column has last - first cells, of the meaning that it has in a Movement.

    number: how many segments there are before it.
    time: that of the ledger at the cut behind the segment: no later row has a command time at or below it.
    failed: the ids that failed, in order. first_failed: how many failed before them.
    accounts: those opened in this segment, also where none of its rows touches them.
    opening, closing: the balances of all accounts before the first and after the last row, column[account row]. An
        account that lies behind the end of the opening columns was not there yet: it opens with 0.
    account_ids, account_currencies: of all accounts that the rows name, by account row. They are the ledger's own and
        may grow at the end; nobody else writes to them.
    """

    number: int
    first: int
    last: int
    time: int
    ids: list[str]
    debits: "array[int]"
    credits: "array[int]"
    amounts: "array[int]"
    timestamps: "array[int]"
    codes: "array[int]"
    flags: "array[int]"
    references: list[str]
    links: "array[int]"
    target_ids: list[str]
    target_amounts: "array[int]"
    timeouts: "array[int]"
    first_failed: int
    failed: list[str]
    accounts: SegmentAccounts
    opening: BalanceColumns
    closing: BalanceColumns
    account_ids: list[str]
    account_currencies: list[str]
