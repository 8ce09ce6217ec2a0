"""What goes into the ledger: the events of a command, as typed structs with a fixed msgpack layout.

The structs are encoded as msgpack arrays, fields in the order written here. New fields are only ever added
at the end with a default, so that entries of an older release stay readable. No rule lives here: a struct says
that an amount is an integer, the ledger says whether it is a good one.
"""

from enum import IntEnum, IntFlag
from typing import Annotated, Final

from msgspec import Meta, Struct

AMOUNT_MAX: Final = 2**63 - 1
TIME_MAX: Final = 2**63 - 1
ID_LENGTH_MAX: Final = 64
CURRENCY_LENGTH_MAX: Final = 12
REFERENCE_LENGTH_MAX: Final = 140
CODE_MAX: Final = 65535
BATCH_EVENTS_MAX: Final = 8190

# The only checks made at the door rather than by a result: a negative number has no meaning in these fields.
Unsigned = Annotated[int, Meta(ge=0)]


class AccountFlag(IntFlag):
    LINKED = 1
    DEBITS_MUST_NOT_EXCEED_CREDITS = 2
    CREDITS_MUST_NOT_EXCEED_DEBITS = 4
    IMPORTED = 8
    CLOSED = 16


class TransferFlag(IntFlag):
    LINKED = 1
    PENDING = 2
    POST_PENDING = 4
    VOID_PENDING = 8
    BALANCING_DEBIT = 16
    BALANCING_CREDIT = 32
    CLOSING_DEBIT = 64
    CLOSING_CREDIT = 128
    IMPORTED = 256
    REVERSAL = 512


class Account(Struct, frozen=True, array_like=True, gc=False):
    """A request to open an account.

    id: 1-64 printable ASCII characters without space.
    currency: 1-12 of A-Z 0-9 . _ -
    code: the user's category, 0-65535.
    flags: bits of AccountFlag.
    reference: up to 140 characters.
    overdraft_limit: minor units, how far below zero a DEBITS_MUST_NOT_EXCEED_CREDITS account may go.
    timestamp: 0, or with IMPORTED the account's own time in nanoseconds since the epoch.
    """

    id: str
    currency: str
    code: int = 0
    flags: Unsigned = 0
    reference: str = ""
    overdraft_limit: int = 0
    timestamp: Unsigned = 0


class Transfer(Struct, frozen=True, array_like=True, gc=False):
    """A request to move money from one account to another.

    debit_account, credit_account: may be empty where the target gives them (post, void); are empty on a reversal.
    amount: minor units; None where the target gives it (post, void, reversal).
    currency: empty means that of the accounts.
    target_id: the transfer that is posted, voided or reversed.
    timeout_s: with PENDING, seconds until it expires; 0 means never.
    timestamp: 0, or with IMPORTED the transfer's own time in nanoseconds since the epoch.
    """

    id: str
    debit_account: str
    credit_account: str
    amount: int | None
    code: int = 0
    flags: Unsigned = 0
    reference: str = ""
    currency: str = ""
    target_id: str = ""
    timeout_s: Unsigned = 0
    timestamp: Unsigned = 0


class OperatorAction(IntEnum):
    FREEZE = 1
    UNFREEZE = 2
    SET_OVERDRAFT_LIMIT = 3


class CreateAccounts(Struct, frozen=True, array_like=True, tag=1):
    events: list[Account]


class CreateTransfers(Struct, frozen=True, array_like=True, tag=2):
    events: list[Transfer]


class Operate(Struct, frozen=True, array_like=True, tag=3):
    """An operator's act on one account. overdraft_limit is read by SET_OVERDRAFT_LIMIT only."""

    action: OperatorAction
    account_id: str
    overdraft_limit: int = 0


Request = CreateAccounts | CreateTransfers | Operate


class Command(Struct, frozen=True, array_like=True):
    """What one log entry asks of the ledger.

    time: nanoseconds since the epoch, given by the leader, strictly above every time in the log before it.
    requests: in order; event i over all requests of the command (an operator's act counts as one) gets time + i.
        Chains and the all-or-none rule of IMPORTED do not reach over the border of a request. None at all: a sweep.
    """

    time: Unsigned
    requests: list[Request]
