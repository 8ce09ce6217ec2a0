"""What the naive twin remembers, and what can be asked of it. No rule of the ledger is here: those are in twin.py.

Nothing is kept that can be found out: balances, what is reversed and what is closed are summed or searched over all
transfers each time they are asked for. Written from the contract alone, without a look at raftpay's own code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from raftpay.ledger import (
    Account,
    AccountFlag,
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    BalanceRecord,
    CurrencyTotals,
    Transfer,
    TransferFlag,
    TransferQuery,
    TransferRecord,
)

SECOND = 10**9
# Plain integers: an IntFlag costs a microsecond at each test of a bit.
PENDING = int(TransferFlag.PENDING)
VOID = int(TransferFlag.VOID_PENDING)
REVERSAL = int(TransferFlag.REVERSAL)
CLOSING_DEBIT = int(TransferFlag.CLOSING_DEBIT)
CLOSING_CREDIT = int(TransferFlag.CLOSING_CREDIT)
CLOSED = int(AccountFlag.CLOSED)
BALANCES = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def expires_at(transfer: Transfer, created_at: int) -> int:
    return created_at + transfer.timeout_s * SECOND


@dataclass
class Books:
    """Events are kept as they were asked for, with everything that they left open filled in."""

    accounts: dict[str, Account] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)  # pending transfer → posted, voided, expired
    failed: dict[str, bool] = field(default_factory=dict)  # ids of transfers refused by a result of class state
    frozen: dict[str, bool] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)  # as the operator set them
    history: list[tuple[str, BalanceRecord]] = field(default_factory=list)  # account → its balances since then

    def copy(self) -> "Books":
        return Books(*[type(part)(part) for part in vars(self).values()])

    # What follows from the transfers.

    def balances(self, account_id: str) -> dict[str, int]:
        sums = dict.fromkeys(BALANCES, 0)
        for transfer in self.transfers.values():
            if transfer.flags & VOID or transfer.id in self.ended:
                continue
            kind = "pending" if transfer.flags & PENDING else "posted"
            if transfer.debit_account == account_id:
                sums[f"debits_{kind}"] += transfer.amount
            if transfer.credit_account == account_id:
                sums[f"credits_{kind}"] += transfer.amount
        return sums

    def open_pendings(self) -> Iterator[Transfer]:
        return (t for t in self.transfers.values() if t.flags & PENDING and t.id not in self.ended)

    def next_expiry(self) -> int | None:
        return min((expires_at(t, t.timestamp) for t in self.open_pendings() if t.timeout_s), default=None)

    def counts(self) -> dict[str, int]:
        pendings = sum(1 for _ in self.open_pendings())
        return {"accounts": len(self.accounts), "transfers": len(self.transfers), "pendings": pendings}

    def reversed_amount(self, transfer_id: str) -> int:
        reversals = (t for t in self.transfers.values() if t.flags & REVERSAL)
        return sum(t.amount for t in reversals if t.target_id == transfer_id)

    def is_closed(self, account_id: str) -> bool:
        return bool(self.accounts[account_id].flags & CLOSED) or any(
            (t.flags & CLOSING_DEBIT and t.debit_account == account_id)
            or (t.flags & CLOSING_CREDIT and t.credit_account == account_id)
            for t in self.open_pendings()
        )

    def status(self, account_id: str) -> str:
        if self.is_closed(account_id):
            return "closed"
        return "frozen" if self.frozen.get(account_id) else "open"

    def limit(self, account_id: str) -> int:
        return self.limits.get(account_id, self.accounts[account_id].overdraft_limit)

    def remember(self, account_ids: Sequence[str], timestamp: int, transfer_id: str) -> None:
        for account_id in account_ids:
            record = BalanceRecord(timestamp, **self.balances(account_id), transfer_id=transfer_id)
            self.history.append((account_id, record))

    # What can be asked. Lists are whole: the twin knows no pages.

    def lookup_account(self, account_id: str) -> AccountRecord | None:
        account = self.accounts.get(account_id)
        return account and AccountRecord(
            id=account.id,
            currency=account.currency,
            code=account.code,
            reference=account.reference,
            flags=account.flags,
            overdraft_limit=self.limit(account_id),
            status=self.status(account_id),
            created_at=account.timestamp,
            **self.balances(account_id),
        )

    def lookup_transfer(self, transfer_id: str) -> TransferRecord | None:
        transfer = self.transfers.get(transfer_id)
        return transfer and TransferRecord(
            id=transfer.id,
            debit_account=transfer.debit_account,
            credit_account=transfer.credit_account,
            amount=transfer.amount,
            currency=transfer.currency,
            code=transfer.code,
            reference=transfer.reference,
            flags=transfer.flags,
            target_id=transfer.target_id,
            timeout_s=transfer.timeout_s,
            timestamp=transfer.timestamp,
            pending_status=self.ended.get(transfer_id, "pending") if transfer.flags & PENDING else "",
        )

    def account_transfers(self, query: AccountQuery) -> list[TransferRecord]:
        sides = {"debit": ["debit_account"], "credit": ["credit_account"], "": ["debit_account", "credit_account"]}
        found = [
            self.lookup_transfer(t.id)
            for t in self.transfers.values()
            if query.account_id in [getattr(t, side) for side in sides[query.direction]]
            and query.time_from <= t.timestamp <= query.time_to
            and query.code in (None, t.code)
        ]
        return found[::-1] if query.newest_first else found

    def account_balances(self, query: AccountQuery) -> list[BalanceRecord]:
        after = {record.transfer_id: record for account, record in self.history if account == query.account_id}
        return [after[transfer.id] for transfer in self.account_transfers(query)]

    def balance_at(self, account_id: str, time: int) -> BalanceRecord | None:
        past = [record for account, record in self.history if account == account_id and record.timestamp <= time]
        return past[-1] if past else None

    def query_transfers(self, query: TransferQuery) -> list[TransferRecord]:
        found = [
            self.lookup_transfer(t.id)
            for t in self.transfers.values()
            if query.reference in (None, t.reference)
            and query.code in (None, t.code)
            and query.currency in (None, t.currency)
            and query.time_from <= t.timestamp <= query.time_to
        ]
        return found[::-1] if query.newest_first else found

    def list_accounts(self, query: AccountsQuery) -> list[AccountRecord]:
        return [
            self.lookup_account(account.id)
            for account in self.accounts.values()
            if account.id.startswith(query.prefix)
            and query.currency in (None, account.currency)
            and query.status in (None, self.status(account.id))
        ]

    def trial_balance(self) -> list[CurrencyTotals]:
        totals = []
        for currency in sorted({account.currency for account in self.accounts.values()}):
            accounts = [account.id for account in self.accounts.values() if account.currency == currency]
            balances = [self.balances(account_id) for account_id in accounts]
            sums = {name: sum(balance[name] for balance in balances) for name in BALANCES}
            totals.append(CurrencyTotals(currency, len(accounts), **sums))
        return totals
