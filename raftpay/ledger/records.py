"""What comes out of the ledger: the results of a command, the records that questions answer with, and the questions.

Records and questions are encoded as msgpack maps, so that a reader needs no table of positions; only Results, on
the hot path, is an array. Records are made on demand and are copies: nothing done to them changes the ledger.
"""

from typing import Final, Generic, Literal, TypeVar

from msgspec import Struct

from raftpay.ledger.types import TIME_MAX

QUERY_LIMIT_MAX: Final = 8190

Direction = Literal["", "debit", "credit"]
AccountStatus = Literal["open", "frozen", "closed"]
PendingStatus = Literal["", "pending", "posted", "voided", "expired"]

Item = TypeVar("Item")


class Results(Struct, frozen=True, array_like=True):
    """The results of one request.

    timestamp: the time of the request's first event; event i of the request has timestamp + i.
    results: numbers of CreateAccountResult, CreateTransferResult or OperatorResult, one for each event.
    """

    timestamp: int
    results: list[int]


class AccountRecord(Struct, frozen=True):
    """An account as it stands. Amounts in minor units, created_at in nanoseconds since the epoch.

    overdraft_limit is the one in force, which an operator may have changed since the account was opened.
    """

    id: str
    currency: str
    code: int
    reference: str
    flags: int
    overdraft_limit: int
    status: AccountStatus
    created_at: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


class TransferRecord(Struct, frozen=True):
    """A transfer as it is in the books: what a post, void or reversal leaves to its target is filled in.

    amount: what it moves: of a balancing transfer, what the limit allowed; of a void, what it released.
    pending_status: of a PENDING transfer, what became of it; empty for every other kind.
    """

    id: str
    debit_account: str
    credit_account: str
    amount: int
    currency: str
    code: int
    reference: str
    flags: int
    target_id: str
    timeout_s: int
    timestamp: int
    pending_status: PendingStatus


class BalanceRecord(Struct, frozen=True):
    """The balances of an account right after a moment.

    timestamp: of the change that led to them: a transfer, the sweep that released an expiry, or the opening.
    transfer_id: the transfer that changed them; empty for an expiry and where none did.
    """

    timestamp: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    transfer_id: str = ""


class CurrencyTotals(Struct, frozen=True):
    """One line of the trial balance: the sums over all accounts of a currency."""

    currency: str
    accounts: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


class Page(Struct, Generic[Item], frozen=True):
    """A part of an answer. cursor: pass it in the next question to go on; empty at the end.

    A page may hold fewer items than the limit, even none, and still have a cursor: the work for one page is bounded,
    to 256 items for one account and 2,048 transfers, and to some thousands or millions of rows looked through.
    """

    items: list[Item]
    cursor: str = ""


class AccountQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for the transfers of one account, or for its balances after each of them.

    time_from, time_to: nanoseconds since the epoch, both included.
    limit: items of a page, 1 to QUERY_LIMIT_MAX.
    """

    account_id: str
    time_from: int = 0
    time_to: int = TIME_MAX
    code: int | None = None
    direction: Direction = ""
    limit: int = 100
    newest_first: bool = False
    cursor: str = ""


class TransferQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for the transfers that match all that is given; None matches every transfer."""

    reference: str | None = None
    code: int | None = None
    currency: str | None = None
    time_from: int = 0
    time_to: int = TIME_MAX
    limit: int = 100
    newest_first: bool = False
    cursor: str = ""


class AccountsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for the accounts, in the order of their creation, whose id begins with prefix and that match the rest."""

    prefix: str = ""
    currency: str | None = None
    status: AccountStatus | None = None
    limit: int = 100
    cursor: str = ""
