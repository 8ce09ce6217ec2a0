"""The books: all tables of the ledger, and the only code that moves balances.

`enter` is what happens after every check has passed, `take_back_to` is its exact inverse, in reverse order: the
movements themselves are the undo log of a chain. Neither refuses anything. create_transfers.py, create_accounts.py
and the sweep decide and then call here; history.py, queries.py and digest.py read the tables.
"""

from typing import Final

from raftpay.ledger.accounts import CLOSED, Accounts
from raftpay.ledger.histories import Histories
from raftpay.ledger.movements import Movements
from raftpay.ledger.pendings import EXPIRED, EXPIRIES_PER_COMMAND_MAX, POSTED, VOIDED, Pendings, expiry_of
from raftpay.ledger.sealed import Movement
from raftpay.ledger.transfers import (
    EXPIRY,
    KINDS,
    NO_LINK,
    PENDING,
    POST,
    REVERSAL,
    VOID,
    Target,
    balance_change,
)
from raftpay.ledger.types import Account, Transfer, TransferFlag

CLOSING_DEBIT: Final = int(TransferFlag.CLOSING_DEBIT)
CLOSING_CREDIT: Final = int(TransferFlag.CLOSING_CREDIT)
IMPORTED: Final = int(TransferFlag.IMPORTED)
CLOSING: Final = CLOSING_DEBIT | CLOSING_CREDIT

# What a row of an expiry is entered from: it has neither id nor reference, and is nobody's request.
_EXPIRY_EVENT: Final = Transfer("", "", "", None, flags=EXPIRY)


class Books:
    """Every table. At rest, for each currency, debits equal credits, pending and posted alike.

    failed_ids: ids of transfers that were refused for the state of the moment: of the blocks that are in memory, and
        older ones that have been recalled for the command that is applied.
    volume: the sum of all amounts ever entered. No balance, and no sum of pending and posted of one side of an
        account, can be larger: while volume + amount fits, no overflow is possible.
    """

    __slots__ = ("accounts", "failed_ids", "histories", "pendings", "transfers", "volume")

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.transfers = Movements()
        self.histories = Histories(self.accounts, self.transfers)
        self.pendings = Pendings()
        self.failed_ids: dict[str, None] = {}
        self.volume = 0

    def open_account(self, event: Account, created_at: int) -> None:
        self.accounts.add(event, created_at)
        self.histories.open_account()

    def take_back_accounts_to(self, count: int) -> None:
        """Undoes the openings since there were `count` accounts."""
        while len(self.accounts) > count:
            self.accounts.take_back()
            self.histories.take_back_account()

    def record_failure(self, transfer_id: str) -> None:
        if transfer_id not in self.failed_ids:
            self.failed_ids[transfer_id] = None
            self.transfers.open.failed.append(transfer_id)

    def enter(
        self,
        event: Transfer,
        *,
        debit: int,
        credit: int,
        amount: int,
        timestamp: int,
        code: int,
        target: Target | Movement | None = None,
    ) -> None:
        """Enters a transfer that has passed all checks, or an expiry. Cannot fail.

        debit, credit: rows of the accounts. amount: what really moves. target: what is posted, voided, reversed or
        expired.
        """
        transfers, accounts, flags = self.transfers, self.accounts, event.flags
        block = transfers.open
        row = block.first + len(block.ids)
        link, target_id, target_amount = NO_LINK, "", 0
        if flags & KINDS:
            if target is not None:
                target_id, target_amount = target.id, target.amount
            link = self._note_kind(row, event, amount, timestamp, target)
            self._move(debit, credit, balance_change(flags, amount, target_amount))
        else:
            accounts.debits_posted[debit] += amount
            accounts.credits_posted[credit] += amount
        if flags == EXPIRY:
            transfers.expiries += 1
            transfers.last_expiry_at = timestamp
        else:
            assert timestamp > transfers.last_timestamp
            transfers.rows[event.id] = row
            transfers.last_timestamp = timestamp
            if flags & IMPORTED and timestamp < transfers.last_expiry_at:
                transfers.is_overtaken = True
        block.ids.append(event.id)
        block.references.append(event.reference)
        block.target_ids.append(target_id)
        block.debits.append(debit)
        block.credits.append(credit)
        block.amounts.append(amount)
        block.timestamps.append(timestamp)
        block.codes.append(code)
        block.flags.append(flags)
        block.links.append(link)
        block.target_amounts.append(target_amount)
        block.timeouts.append(event.timeout_s)
        self.volume += amount
        if flags & CLOSING:
            self._set_closed(flags, debit, credit, is_closed=True)
        elif target is not None and flags & (VOID | EXPIRY):
            self._set_closed(target.flags, debit, credit, is_closed=False)
        self.histories.add(row, debit=debit, credit=credit)

    def _note_kind(
        self, row: int, event: Transfer, amount: int, timestamp: int, target: Target | Movement | None
    ) -> int:
        """The effects on other transfers than this one. Returns the link of the row."""
        flags, transfers = event.flags, self.transfers
        if flags & PENDING:
            transfers.open.pending_rows.append(row)
            return self.pendings.open(timestamp, event.timeout_s)
        assert target is not None
        if flags & REVERSAL:
            transfers.reversed_amounts.add(target.row, amount)
        else:
            status = POSTED if flags & POST else VOIDED if flags & VOID else EXPIRED
            self.pendings.end(target.link, status)
            if transfers.remains:
                transfers.ended.append(target.link)
        return target.row

    def _move(self, debit: int, credit: int, change: tuple[int, int]) -> None:
        pending, posted = change
        accounts = self.accounts
        accounts.debits_pending[debit] += pending
        accounts.credits_pending[credit] += pending
        accounts.debits_posted[debit] += posted
        accounts.credits_posted[credit] += posted

    def _set_closed(self, flags: int, debit: int, credit: int, *, is_closed: bool) -> None:
        """Closes the accounts that a pending transfer of these flags closes, or opens them again."""
        guards = self.accounts.guards
        for flag, account in ((CLOSING_DEBIT, debit), (CLOSING_CREDIT, credit)):
            if flags & flag:
                guards[account] = guards[account] | CLOSED if is_closed else guards[account] & ~CLOSED

    def take_back_to(self, count: int, last_timestamp: int) -> None:
        """Undoes the transfers entered since there were `count` movements; last_timestamp is that of then."""
        while len(self.transfers) > count:
            self._take_back()
        self.transfers.last_timestamp = last_timestamp

    def _take_back(self) -> None:
        transfers = self.transfers
        row = len(transfers) - 1
        movement = transfers.movement(row)
        flags, debit, credit = movement.flags, movement.debit, movement.credit
        assert not flags & EXPIRY, "a sweep is not part of a chain"
        self.histories.take_back(credit)
        self.histories.take_back(debit)
        if flags & CLOSING:
            self._set_closed(flags, debit, credit, is_closed=False)
        pending, posted = balance_change(flags, movement.amount, movement.target_amount)
        self._move(debit, credit, (-pending, -posted))
        self.volume -= movement.amount
        if flags & PENDING:
            self.pendings.take_back_open()
        elif flags & REVERSAL:
            transfers.reversed_amounts.add(movement.link, -movement.amount)
        elif flags & (POST | VOID):
            self._take_back_settlement(movement)
        transfers.pop()

    def _take_back_settlement(self, settlement: Movement) -> None:
        target = self.transfers.find(settlement.target_id)
        assert target is not None, "its target was found in this command"
        self.pendings.take_back_end(target.link, expiry_of(target))
        if settlement.flags & VOID:
            self._set_closed(target.flags, target.debit, target.credit, is_closed=True)

    def release_due(self, time: int) -> None:
        """The sweep: expires what is due at that time, oldest expiry first, a bounded number."""
        for _ in range(EXPIRIES_PER_COMMAND_MAX):
            slot = self.pendings.next_due(time)
            if slot is None:
                return
            pending = self.transfers.open_pending(slot)
            self.enter(
                _EXPIRY_EVENT,
                debit=pending.debit,
                credit=pending.credit,
                amount=pending.amount,
                timestamp=time,
                code=0,
                target=pending,
            )
