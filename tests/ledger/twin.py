"""The naive twin: the rules of the ledger written a second time, as plainly as they can be, for tests to compare with.

A chain works on books that are put back when it breaks; what is due is found by looking at every pending transfer.
Results are the wire names. Written from the contract alone: it imports no rule of raftpay, only types and limits.
"""

import string
from collections.abc import Callable
from typing import Any

from msgspec import structs

from raftpay.ledger import (
    AMOUNT_MAX,
    CODE_MAX,
    CURRENCY_LENGTH_MAX,
    EXPIRIES_PER_COMMAND_MAX,
    ID_LENGTH_MAX,
    REFERENCE_LENGTH_MAX,
    TIME_MAX,
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    Transfer,
    TransferFlag,
)
from tests.ledger.twin_books import Books, expires_at

# Class state: recorded against the id, so that a later request under the same id can never become a payment.
RECORDED = (
    "id_already_failed",
    "debit_account_not_found",
    "credit_account_not_found",
    "pending_transfer_not_found",
    "reversed_transfer_not_found",
    "exceeds_reversible_amount",
    "debit_account_frozen",
    "credit_account_frozen",
    "debit_account_already_closed",
    "credit_account_already_closed",
    "exceeds_credits",
    "exceeds_debits",
)

# Plain integers: an IntFlag costs a microsecond at each test of a bit, and the twin tests many.
LINKED = int(TransferFlag.LINKED)
PENDING = int(TransferFlag.PENDING)
POST = int(TransferFlag.POST_PENDING)
VOID = int(TransferFlag.VOID_PENDING)
REVERSAL = int(TransferFlag.REVERSAL)
BALANCING = int(TransferFlag.BALANCING_DEBIT | TransferFlag.BALANCING_CREDIT)
CLOSING = int(TransferFlag.CLOSING_DEBIT | TransferFlag.CLOSING_CREDIT)
DEBITS_LIMITED = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
CREDITS_LIMITED = int(AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS)

VISIBLE_ASCII = {chr(code) for code in range(0x21, 0x7F)}
CURRENCY_CHARACTERS = {*string.ascii_uppercase, *string.digits, *"._-"}

Judge = Callable[[Any, int, bool], tuple[str, Any]]


def is_id(text: str) -> bool:
    return 1 <= len(text) <= ID_LENGTH_MAX and set(text) <= VISIBLE_ASCII


def is_currency(text: str) -> bool:
    return 1 <= len(text) <= CURRENCY_LENGTH_MAX and set(text) <= CURRENCY_CHARACTERS


def first(faults: dict[str, object]) -> str:
    """The first fault that is there, or nothing."""
    return next((name for name, is_there in faults.items() if is_there), "")


def batch_fault(event: Account | Transfer, time: int, *, is_imported: bool, is_import_batch: bool) -> str:
    return first(
        {
            "imported_event_expected": is_import_batch and not is_imported,
            "imported_event_not_expected": is_imported and not is_import_batch,
            "timestamp_must_be_zero": not is_imported and event.timestamp != 0,
            "imported_event_timestamp_out_of_range": is_imported and not 1 <= event.timestamp <= TIME_MAX,
            "imported_event_timestamp_must_not_advance": is_imported and event.timestamp >= time,
        }
    )


def account_form_fault(a: Account) -> str:
    is_limited = a.flags & DEBITS_LIMITED
    return first(
        {
            "flags_are_mutually_exclusive": a.flags & DEBITS_LIMITED and a.flags & CREDITS_LIMITED,
            "currency_invalid": not is_currency(a.currency),
            "code_invalid": not 0 <= a.code <= CODE_MAX,
            "reference_invalid": len(a.reference) > REFERENCE_LENGTH_MAX,
            "overdraft_limit_invalid": not 0 <= a.overdraft_limit <= (AMOUNT_MAX if is_limited else 0),
        }
    )


def transfer_form_fault(t: Transfer) -> str:
    kinds = sum(1 for kind in (PENDING, POST, VOID, REVERSAL) if t.flags & kind)
    has_target = bool(t.flags & (POST | VOID | REVERSAL))

    def is_account_wrong(account_id: str) -> bool:
        if t.flags & REVERSAL:
            return account_id != ""
        return not is_id(account_id) and not (account_id == "" and t.flags & (POST | VOID))

    return first(
        {
            "flags_are_mutually_exclusive": kinds > 1 or (has_target and t.flags & (BALANCING | CLOSING)),
            "debit_account_id_invalid": is_account_wrong(t.debit_account),
            "credit_account_id_invalid": is_account_wrong(t.credit_account),
            "accounts_must_be_different": t.debit_account == t.credit_account != "",
            "target_id_must_be_empty": not has_target and t.target_id,
            "target_id_must_not_be_empty": has_target and not t.target_id,
            "target_id_invalid": has_target and not is_id(t.target_id),
            "target_id_must_be_different": t.target_id == t.id,
            "timeout_reserved_for_pending_transfer": t.timeout_s and not t.flags & PENDING,
            "closing_transfer_must_be_pending": t.flags & CLOSING and not t.flags & PENDING,
            "amount_invalid": not has_target if t.amount is None else not 0 <= t.amount <= AMOUNT_MAX,
            "reference_invalid": len(t.reference) > REFERENCE_LENGTH_MAX,
            "code_invalid": not 0 <= t.code <= CODE_MAX,
        }
    )


class Twin:
    """Answers as raftpay.ledger.Ledger does, with names for numbers."""

    def __init__(self) -> None:
        self.books = Books()
        self.time = 0

    def apply(self, command: Command) -> list[tuple[int, list[str]]]:
        assert command.time > self.time
        self._expire(command.time)
        answers, now = [], command.time
        for request in command.requests:
            names = [self._operate(request)] if isinstance(request, Operate) else self._batch(request, now)
            answers.append((now, names))
            now += len(names)
        self.time = max(command.time, now - 1)
        return answers

    def _expire(self, now: int) -> None:
        pendings = self.books.open_pendings()
        due = [t for t in pendings if t.timeout_s and expires_at(t, t.timestamp) <= now]
        # A stable sort: of two that are due at the same instant, the one created first.
        due.sort(key=lambda t: expires_at(t, t.timestamp))
        for pending in due[:EXPIRIES_PER_COMMAND_MAX]:
            self.books.ended[pending.id] = "expired"
            self.books.remember((pending.debit_account, pending.credit_account), now, "")

    def _operate(self, act: Operate) -> str:
        books, account = self.books, self.books.accounts.get(act.account_id)
        if account is None:
            return "account_not_found"
        if act.action == OperatorAction.SET_OVERDRAFT_LIMIT:
            limited = account.flags & DEBITS_LIMITED
            if not limited or not 0 <= act.overdraft_limit <= AMOUNT_MAX:
                return "overdraft_limit_invalid"
            now = books.balances(account.id)
            if now["debits_pending"] + now["debits_posted"] > now["credits_posted"] + act.overdraft_limit:
                return "overdraft_limit_below_use"
            books.limits[account.id] = act.overdraft_limit
        else:
            books.frozen[account.id] = act.action == OperatorAction.FREEZE
        return "done"

    def _batch(self, request: CreateAccounts | CreateTransfers, time: int) -> list[str]:
        judge: Judge = self._account if isinstance(request, CreateAccounts) else self._transfer
        imported = AccountFlag.IMPORTED if isinstance(request, CreateAccounts) else TransferFlag.IMPORTED
        is_import_batch = bool(request.events and request.events[0].flags & imported)
        timed = [(event, time + i, is_import_batch) for i, event in enumerate(request.events)]
        names: list[str] = []
        while len(names) < len(timed):
            end = len(names)
            while end < len(timed) and timed[end][0].flags & LINKED:
                end += 1
            names += self._chain(timed[len(names) : end + 1], judge, is_open=end == len(timed))
        return names

    def _chain(self, chain: list[tuple[Any, int, bool]], judge: Judge, *, is_open: bool) -> list[str]:
        """A chain of one is an ordinary event. judge tells what to call an event and what to keep of it."""
        if len(chain) > 1 and not is_open and all(judge(*event)[0] == "exists" for event in chain):
            return ["exists"] * len(chain)
        before = self.books.copy()
        for i, event in enumerate(chain):
            is_last = i == len(chain) - 1
            name, stored = ("linked_event_chain_open", None) if is_open and is_last else judge(*event)
            if name != "created":
                self.books = before
                if name in RECORDED:
                    self.books.failed[event[0].id] = True
                names = ["linked_event_failed"] * len(chain)
                names[i] = name
                if is_open:
                    names[-1] = "linked_event_chain_open"
                return names
            self._keep(stored)
        return ["created"] * len(chain)

    def _keep(self, stored: Account | Transfer) -> None:
        books = self.books
        if isinstance(stored, Account):
            books.accounts[stored.id] = stored
            books.remember((stored.id,), stored.timestamp, "")
            return
        books.transfers[stored.id] = stored
        if stored.flags & (POST | VOID):
            books.ended[stored.target_id] = "posted" if stored.flags & POST else "voided"
        books.remember((stored.debit_account, stored.credit_account), stored.timestamp, stored.id)

    # What is asked of an account.

    def _account(self, a: Account, time: int, is_import_batch: bool) -> tuple[str, Account | None]:
        is_imported = bool(a.flags & AccountFlag.IMPORTED)
        fault = (
            batch_fault(a, time, is_imported=is_imported, is_import_batch=is_import_batch)
            or ("reserved_flag" if a.flags > sum(AccountFlag) else "")
            or ("" if is_id(a.id) else "id_invalid")
            or self._same_account(a)
            or account_form_fault(a)
        )
        last = max((known.timestamp for known in self.books.accounts.values()), default=0)
        if not fault and is_imported and a.timestamp <= last:
            fault = "imported_event_timestamp_must_not_regress"
        return (fault, None) if fault else ("created", structs.replace(a, timestamp=a.timestamp or time))

    def _same_account(self, a: Account) -> str:
        known = self.books.accounts.get(a.id)
        if known is None:
            return ""
        for name in ("flags", "reference", "currency", "code", "overdraft_limit"):
            if getattr(a, name) != getattr(known, name):
                return f"exists_with_different_{name}"
        return "exists"

    # What is asked of a transfer.

    def _transfer(self, t: Transfer, time: int, is_import_batch: bool) -> tuple[str, Transfer | None]:
        is_imported = bool(t.flags & TransferFlag.IMPORTED)
        fault = (
            batch_fault(t, time, is_imported=is_imported, is_import_batch=is_import_batch)
            or ("reserved_flag" if t.flags > sum(TransferFlag) else "")
            or ("" if is_id(t.id) else "id_invalid")
            or self._same_transfer(t)
            or ("id_already_failed" if t.id in self.books.failed else "")
            or transfer_form_fault(t)
            or self._names_fault(t, time)
        )
        if fault:
            return fault, None
        stored = self._filled_in(structs.replace(t, timestamp=t.timestamp or time))
        fault = self._import_fault(stored) or self._account_state_fault(stored) or self._room_fault(stored, time)
        return (fault, None) if fault else ("created", stored)

    def _same_transfer(self, t: Transfer) -> str:
        known = self.books.transfers.get(t.id)
        if known is None:
            return ""
        settles = t.flags & (POST | VOID)
        from_target = t.flags & (POST | VOID | REVERSAL)
        if t.flags & BALANCING:
            same_amount = t.amount is not None and known.amount <= t.amount
        elif from_target and t.amount is None and known.flags == t.flags and known.target_id == t.target_id:
            same_amount = known.amount == self.books.transfers[t.target_id].amount
        else:
            same_amount = known.amount == t.amount
        comparisons = {
            "flags": t.flags == known.flags,
            "target_id": t.target_id == known.target_id,
            "timeout": t.timeout_s == known.timeout_s,
            "debit_account": t.debit_account == known.debit_account or (from_target and not t.debit_account),
            "credit_account": t.credit_account == known.credit_account or (from_target and not t.credit_account),
            "amount": same_amount,
            "reference": t.reference == known.reference,
            "currency": t.currency in ("", known.currency),
            "code": t.code == known.code or (settles and t.code == 0),
        }
        return next((f"exists_with_different_{name}" for name, is_same in comparisons.items() if not is_same), "exists")

    def _names_fault(self, t: Transfer, time: int) -> str:
        """Whether the accounts and the target that the transfer names are there and fit."""
        if t.flags & (POST | VOID):
            return self._pending_fault(t, time)
        if t.flags & REVERSAL:
            return self._reversal_fault(t)
        debit, credit = self.books.accounts.get(t.debit_account), self.books.accounts.get(t.credit_account)
        if debit is None:
            return "debit_account_not_found"
        if credit is None:
            return "credit_account_not_found"
        if debit.currency != credit.currency:
            return "accounts_must_have_the_same_currency"
        return "" if t.currency in ("", debit.currency) else "transfer_must_have_the_same_currency_as_accounts"

    def _pending_fault(self, t: Transfer, time: int) -> str:
        target = self.books.transfers.get(t.target_id)
        if target is None:
            return "pending_transfer_not_found"
        if not target.flags & PENDING:
            return "pending_transfer_not_pending"
        for name in ("debit_account", "credit_account", "currency", "code"):
            if getattr(t, name) and getattr(t, name) != getattr(target, name):
                return f"pending_transfer_has_different_{name}"
        if t.amount is not None and t.amount > target.amount:
            return "exceeds_pending_transfer_amount"
        if t.flags & VOID and t.amount is not None and t.amount < target.amount:
            return "pending_transfer_has_different_amount"
        end = self.books.ended.get(target.id)
        if end in ("posted", "voided"):
            return f"pending_transfer_already_{end}"
        is_late = target.timeout_s and time >= expires_at(target, target.timestamp)
        return "pending_transfer_expired" if end == "expired" or is_late else ""

    def _reversal_fault(self, t: Transfer) -> str:
        target = self.books.transfers.get(t.target_id)
        if target is None:
            return "reversed_transfer_not_found"
        if t.currency not in ("", target.currency):
            return "transfer_must_have_the_same_currency_as_accounts"
        if target.flags & (PENDING | VOID):
            return "reversed_transfer_not_posted"
        amount = target.amount if t.amount is None else t.amount
        is_more = amount + self.books.reversed_amount(target.id) > target.amount
        return "exceeds_reversible_amount" if is_more else ""

    def _filled_in(self, t: Transfer) -> Transfer:
        """The transfer as it is stored: what it left to its target or accounts is filled in."""
        if t.flags & (POST | VOID | REVERSAL):
            target = self.books.transfers[t.target_id]
            debit, credit = target.debit_account, target.credit_account
            if t.flags & REVERSAL:
                debit, credit = credit, debit
            return structs.replace(
                t,
                debit_account=debit,
                credit_account=credit,
                amount=target.amount if t.amount is None else t.amount,
                currency=target.currency,
                code=t.code if t.flags & REVERSAL else target.code,
            )
        amount = t.amount
        if t.flags & TransferFlag.BALANCING_DEBIT:
            now = self.books.balances(t.debit_account)
            most_debits = now["credits_posted"] + self.books.limit(t.debit_account)
            room = most_debits - now["debits_posted"] - now["debits_pending"]
            amount = min(amount, max(0, room))
        if t.flags & TransferFlag.BALANCING_CREDIT:
            now = self.books.balances(t.credit_account)
            room = now["debits_posted"] - now["credits_posted"] - now["credits_pending"]
            amount = min(amount, max(0, room))
        return structs.replace(t, amount=amount, currency=self.books.accounts[t.debit_account].currency)

    def _import_fault(self, t: Transfer) -> str:
        if not t.flags & TransferFlag.IMPORTED:
            return ""
        if any(t.timestamp <= known.timestamp for known in self.books.transfers.values()):
            return "imported_event_timestamp_must_not_regress"
        if t.flags & (POST | VOID | REVERSAL):
            return ""
        if t.timestamp <= self.books.accounts[t.debit_account].timestamp:
            return "imported_event_timestamp_must_postdate_debit_account"
        if t.timestamp <= self.books.accounts[t.credit_account].timestamp:
            return "imported_event_timestamp_must_postdate_credit_account"
        return "imported_event_timeout_must_be_zero" if t.timeout_s else ""

    def _account_state_fault(self, t: Transfer) -> str:
        if t.flags & VOID:
            return ""
        if self.books.frozen.get(t.debit_account):
            return "debit_account_frozen"
        if self.books.frozen.get(t.credit_account):
            return "credit_account_frozen"
        if self.books.is_closed(t.debit_account):
            return "debit_account_already_closed"
        return "credit_account_already_closed" if self.books.is_closed(t.credit_account) else ""

    def _room_fault(self, t: Transfer, time: int) -> str:
        if t.flags & (POST | VOID):
            return ""
        dr, cr = self.books.balances(t.debit_account), self.books.balances(t.credit_account)
        debits_pending, credits_pending = dr["debits_pending"] + t.amount, cr["credits_pending"] + t.amount
        debits_posted, credits_posted = dr["debits_posted"] + t.amount, cr["credits_posted"] + t.amount
        debits, credits = dr["debits_pending"] + debits_posted, cr["credits_pending"] + credits_posted
        debits_most = dr["credits_posted"] + self.books.limit(t.debit_account)
        debit_flags = self.books.accounts[t.debit_account].flags
        credit_flags = self.books.accounts[t.credit_account].flags
        return first(
            {
                "overflows_debits_pending": t.flags & PENDING and debits_pending > AMOUNT_MAX,
                "overflows_credits_pending": t.flags & PENDING and credits_pending > AMOUNT_MAX,
                "overflows_debits_posted": debits_posted > AMOUNT_MAX,
                "overflows_credits_posted": credits_posted > AMOUNT_MAX,
                "overflows_debits": debits > AMOUNT_MAX,
                "overflows_credits": credits > AMOUNT_MAX,
                "overflows_timeout": expires_at(t, time) > TIME_MAX,
                "exceeds_credits": debit_flags & DEBITS_LIMITED and debits > debits_most,
                "exceeds_debits": credit_flags & CREDITS_LIMITED and credits > cr["debits_posted"],
            }
        )
