"""The accounts, as a struct of arrays: column[row] is a property of the account that was opened as number `row`.

No rule lives here. create_accounts.py adds rows, books.py moves the balances, operate.py freezes and sets limits,
queries.py reads. Columns are never replaced, only changed in place: others keep references to them for speed.
"""

from array import array
from typing import Final

from raftpay.ledger.records import AccountRecord, AccountStatus
from raftpay.ledger.types import Account, AccountFlag

# Bits of the guards column. The limits have the bits that they have in the flags.
LIMITS_DEBITS: Final = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
LIMITS_CREDITS: Final = int(AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS)
FROZEN: Final = 32
CLOSED: Final = 64


class Accounts:
    """All accounts in the order of their creation. Accounts leave only when the chain that opened them rolls back.

    rows: id -> row; the inverse of ids.
    guards: what a movement has to ask about before it touches the account: bits of LIMITS_DEBITS, LIMITS_CREDITS,
        FROZEN, CLOSED. 0 means that nothing but an overflow can refuse it.
    limits: the overdraft limit in force, minor units.
    first_limits: row -> the limit given at creation, only where an operator has set another since.
    debits_pending ... credits_posted: minor units, 0 ... 2^63-1, and so is each sum of pending and posted.
    """

    __slots__ = (
        "codes",
        "created_at",
        "credits_pending",
        "credits_posted",
        "currencies",
        "debits_pending",
        "debits_posted",
        "first_limits",
        "flags",
        "guards",
        "ids",
        "limits",
        "references",
        "rows",
        "shared_currencies",
    )

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.ids: list[str] = []
        self.currencies: list[str] = []
        self.references: list[str] = []
        self.codes = array("H")
        self.flags = array("H")
        self.guards = array("B")
        self.limits = array("q")
        self.first_limits: dict[int, int] = {}
        self.created_at = array("q")
        self.debits_pending = array("q")
        self.debits_posted = array("q")
        self.credits_pending = array("q")
        self.credits_posted = array("q")
        # One string object a currency: saves memory, and equality is then mostly identity.
        self.shared_currencies: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, event: Account, created_at: int) -> int:
        """Opens an account that has passed all checks; returns its row. Cannot fail."""
        row = len(self.ids)
        self.rows[event.id] = row
        self.ids.append(event.id)
        self.currencies.append(self.shared_currencies.setdefault(event.currency, event.currency))
        self.references.append(event.reference)
        self.codes.append(event.code)
        self.flags.append(event.flags)
        closed = CLOSED if event.flags & AccountFlag.CLOSED else 0
        self.guards.append(event.flags & (LIMITS_DEBITS | LIMITS_CREDITS) | closed)
        self.limits.append(event.overdraft_limit)
        self.created_at.append(created_at)
        for balances in self.balance_columns():
            balances.append(0)
        return row

    def take_back(self) -> None:
        """Undoes the last add. Nothing has moved on that account: chains of accounts hold accounts only."""
        assert not any(balances[-1] for balances in self.balance_columns())
        del self.rows[self.ids.pop()]
        for column in (self.currencies, self.references):
            column.pop()
        for numbers in (self.codes, self.flags, self.guards, self.limits, self.created_at, *self.balance_columns()):
            numbers.pop()

    def balance_columns(self) -> tuple["array[int]", "array[int]", "array[int]", "array[int]"]:
        """In the order in which balances are always written: debits pending and posted, credits pending and posted."""
        return self.debits_pending, self.debits_posted, self.credits_pending, self.credits_posted

    def first_limit(self, row: int) -> int:
        return self.first_limits.get(row, self.limits[row])

    def first_limits_of(self, first: int, last: int) -> "array[int]":
        """The limits given at creation to the accounts from row first to before last."""
        return array("q", map(self.first_limit, range(first, last)))

    def status(self, row: int) -> AccountStatus:
        guards = self.guards[row]
        if guards & CLOSED:
            return "closed"
        return "frozen" if guards & FROZEN else "open"

    def record(self, row: int) -> AccountRecord:
        return AccountRecord(
            id=self.ids[row],
            currency=self.currencies[row],
            code=self.codes[row],
            reference=self.references[row],
            flags=self.flags[row],
            overdraft_limit=self.limits[row],
            status=self.status(row),
            created_at=self.created_at[row],
            debits_pending=self.debits_pending[row],
            debits_posted=self.debits_posted[row],
            credits_pending=self.credits_pending[row],
            credits_posted=self.credits_posted[row],
        )
