"""Moving money: the checks of one transfer, in the order of CreateTransferResult, then the entry in the books.

A transfer is one of three kinds, each with its own sequence of checks: a movement between two accounts that it names
(ordinary, pending, balancing), the settlement of a pending transfer (post, void), and a reversal. batches.py calls
`create` event by event after its own checks of chains and imports; plain_transfers.py asks `check_accounts`.
"""

from collections.abc import Container
from typing import Final

from raftpay.ledger.accounts import CLOSED, FROZEN, LIMITS_CREDITS, LIMITS_DEBITS
from raftpay.ledger.books import CLOSING, IMPORTED, Books
from raftpay.ledger.forms import is_amount, is_code, is_id, is_reference
from raftpay.ledger.pendings import EXPIRED, NANOSECONDS, POSTED, VOIDED
from raftpay.ledger.results import Result, ResultClass
from raftpay.ledger.sealed import Movement
from raftpay.ledger.transfer_results import CreateTransferResult
from raftpay.ledger.transfers import PENDING, POST, REVERSAL, VOID, Target
from raftpay.ledger.types import AMOUNT_MAX, TIME_MAX, Transfer, TransferFlag

CREATED: Final = CreateTransferResult.CREATED
_KNOWN_FLAGS: Final = sum(TransferFlag)
_BALANCING_DEBIT: Final = int(TransferFlag.BALANCING_DEBIT)
_BALANCING_CREDIT: Final = int(TransferFlag.BALANCING_CREDIT)
_BALANCING: Final = _BALANCING_DEBIT | _BALANCING_CREDIT
_SETTLING: Final = POST | VOID
_TARGETED: Final = POST | VOID | REVERSAL
_KINDS: Final = PENDING | _TARGETED

# An id that is refused for having been refused is in the books already.
RECORDED: Final = tuple(
    result.result_class is ResultClass.STATE and result is not CreateTransferResult.ID_ALREADY_FAILED
    for result in CreateTransferResult
)


def check_form(event: Transfer, known: Container[str]) -> CreateTransferResult:
    """The checks that need nothing but the event itself. CREATED: nothing is wrong with its form.

    known: ids of accounts. They have been checked before, and looking one up takes a third of checking it again.
    """
    flags = event.flags
    kind = flags & _KINDS
    if kind & (kind - 1) or (kind & _TARGETED and flags & (_BALANCING | CLOSING)):
        return CreateTransferResult.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    debit_account, credit_account = event.debit_account, event.credit_account
    # An account that is known may be named by all but a reversal: most events are spared the two calls.
    is_known = not kind & REVERSAL and debit_account in known and credit_account in known
    if not is_known and not _may_name_account(debit_account, kind, known):
        return CreateTransferResult.DEBIT_ACCOUNT_ID_INVALID
    if not is_known and not _may_name_account(credit_account, kind, known):
        return CreateTransferResult.CREDIT_ACCOUNT_ID_INVALID
    if debit_account == credit_account and debit_account:
        return CreateTransferResult.ACCOUNTS_MUST_BE_DIFFERENT
    if kind & _TARGETED:
        result = _check_target_form(event)
        if result:
            return result
    elif event.target_id:
        return CreateTransferResult.TARGET_ID_MUST_BE_EMPTY
    if not kind & PENDING:
        if event.timeout_s:
            return CreateTransferResult.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if flags & CLOSING:
            return CreateTransferResult.CLOSING_TRANSFER_MUST_BE_PENDING
    amount, reference = event.amount, event.reference
    if not is_amount(amount) if amount is not None else not kind & _TARGETED:
        return CreateTransferResult.AMOUNT_INVALID
    if reference and not is_reference(reference):
        return CreateTransferResult.REFERENCE_INVALID
    return CREATED if is_code(event.code) else CreateTransferResult.CODE_INVALID


def _may_name_account(account_id: str, kind: int, known: Container[str]) -> bool:
    if kind & REVERSAL or not account_id:
        return not account_id and bool(kind & _TARGETED)
    return account_id in known or is_id(account_id)


def _check_target_form(event: Transfer) -> CreateTransferResult:
    if not event.target_id:
        return CreateTransferResult.TARGET_ID_MUST_NOT_BE_EMPTY
    if not is_id(event.target_id):
        return CreateTransferResult.TARGET_ID_INVALID
    return CreateTransferResult.TARGET_ID_MUST_BE_DIFFERENT if event.target_id == event.id else CREATED


class TransferCreator:
    """What batches.py asks of a kind of event, for transfers. Holds nothing but the books."""

    imported_flag: Final = IMPORTED

    def __init__(self, books: Books) -> None:
        self._books = books
        self._accounts = books.accounts
        self._transfers = books.transfers

    def mark(self) -> tuple[int, int]:
        """A point to come back to."""
        return len(self._transfers), self._transfers.last_timestamp

    def take_back_to(self, mark: tuple[int, int]) -> None:
        count, last_timestamp = mark
        self._books.take_back_to(count, last_timestamp)

    def record(self, event: Transfer, result: Result) -> None:
        """Spends the id of a transfer that was refused for the state of the moment."""
        if RECORDED[result]:
            self._books.record_failure(event.id)

    def create(self, event: Transfer, time: int) -> CreateTransferResult:
        """Enters the transfer, or says why not. time: that of the event, nanoseconds."""
        transfer_id, flags, transfers = event.id, event.flags, self._transfers
        if flags & ~_KNOWN_FLAGS:
            return CreateTransferResult.RESERVED_FLAG
        if transfer_id in transfers.rows or transfer_id in transfers.recalled:
            existing = self.find_existing(event)
            assert existing is not None
            return existing
        if not is_id(transfer_id):
            return CreateTransferResult.ID_INVALID
        if transfer_id in self._books.failed_ids:
            return CreateTransferResult.ID_ALREADY_FAILED
        result = check_form(event, self._accounts.rows)
        if result:
            return result
        if flags & _SETTLING:
            return self._settle(event, time)
        return self._reverse(event, time) if flags & REVERSAL else self._transfer(event, time)

    def find_existing(self, event: Transfer) -> CreateTransferResult | None:
        """How the event compares with the transfer of its id, or None when there is none."""
        found = self._transfers.find(event.id)
        if found is None:
            return None
        account_ids = self._accounts.ids
        if event.flags != found.flags:
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_FLAGS
        if event.target_id != found.target_id:
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_TARGET_ID
        if event.timeout_s != found.timeout_s:
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_TIMEOUT
        if not self._names(event.debit_account, account_ids[found.debit], event.flags):
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT
        if not self._names(event.credit_account, account_ids[found.credit], event.flags):
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT
        if not self._has_amount(event, found):
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_AMOUNT
        if event.reference != found.reference:
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_REFERENCE
        if event.currency and event.currency != self._accounts.currencies[found.debit]:
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_CURRENCY
        if event.code != found.code and (event.code or not event.flags & _SETTLING):
            return CreateTransferResult.EXISTS_WITH_DIFFERENT_CODE
        return CreateTransferResult.EXISTS

    @staticmethod
    def _names(named: str, account_id: str, flags: int) -> bool:
        return named == account_id or (not named and bool(flags & _TARGETED))

    @staticmethod
    def _has_amount(event: Transfer, found: Movement) -> bool:
        """Whether what moved is what the event asks for, also where the ledger chose the amount."""
        if event.amount is None:
            return bool(event.flags & _TARGETED) and found.amount == found.target_amount
        return found.amount <= event.amount if event.flags & _BALANCING else found.amount == event.amount

    # A movement between two accounts that the event names.

    def _transfer(self, event: Transfer, time: int) -> CreateTransferResult:
        accounts, flags = self._accounts, event.flags
        debit = accounts.rows.get(event.debit_account)
        if debit is None:
            return CreateTransferResult.DEBIT_ACCOUNT_NOT_FOUND
        credit = accounts.rows.get(event.credit_account)
        if credit is None:
            return CreateTransferResult.CREDIT_ACCOUNT_NOT_FOUND
        currency = accounts.currencies[debit]
        if currency != accounts.currencies[credit]:
            return CreateTransferResult.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY
        if event.currency and event.currency != currency:
            return CreateTransferResult.TRANSFER_MUST_HAVE_THE_SAME_CURRENCY_AS_ACCOUNTS
        if flags & IMPORTED:
            result = self._check_import(event, debit, credit)
            if result:
                return result
        if (accounts.guards[debit] | accounts.guards[credit]) & (FROZEN | CLOSED):
            return self._check_open(debit, credit)
        amount = event.amount
        assert amount is not None, "check_form refuses it"
        if flags & _BALANCING:
            amount = self._balance(amount, flags, debit, credit)
        result = self._check_room(debit, credit, amount, flags, time + event.timeout_s * NANOSECONDS)
        if result:
            return result
        # After this point the transfer must succeed.
        timestamp = event.timestamp if flags & IMPORTED else time
        self._books.enter(event, debit=debit, credit=credit, amount=amount, timestamp=timestamp, code=event.code)
        return CREATED

    def _check_import(self, event: Transfer, debit: int, credit: int) -> CreateTransferResult:
        created_at = self._accounts.created_at
        if event.timestamp <= self._transfers.last_timestamp:
            return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if event.timestamp <= created_at[debit]:
            return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT
        if event.timestamp <= created_at[credit]:
            return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT
        return CreateTransferResult.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO if event.timeout_s else CREATED

    def _balance(self, amount: int, flags: int, debit: int, credit: int) -> int:
        """As much of the amount as the balances leave room for, whatever limits the accounts are flagged with."""
        accounts = self._accounts
        if flags & _BALANCING_DEBIT:
            funds = accounts.credits_posted[debit] + accounts.limits[debit]
            amount = min(amount, max(0, funds - accounts.debits_posted[debit] - accounts.debits_pending[debit]))
        if flags & _BALANCING_CREDIT:
            used = accounts.credits_posted[credit] + accounts.credits_pending[credit]
            amount = min(amount, max(0, accounts.debits_posted[credit] - used))
        return amount

    # The settlement of a pending transfer.

    def _settle(self, event: Transfer, time: int) -> CreateTransferResult:
        transfers = self._transfers
        target = transfers.find_target(event.target_id)
        if target is None:
            return CreateTransferResult.PENDING_TRANSFER_NOT_FOUND
        result = self._check_matches_pending(event, target)
        if result:
            return result
        reserved = target.amount
        amount = reserved if event.amount is None else event.amount
        if amount > reserved:
            return CreateTransferResult.EXCEEDS_PENDING_TRANSFER_AMOUNT
        if event.flags & VOID and amount < reserved:
            return CreateTransferResult.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
        result = self._check_still_pending(target.link, time)
        if result:
            return result
        if event.flags & IMPORTED and event.timestamp <= transfers.last_timestamp:
            return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if event.flags & POST:
            result = self._check_open(target.debit, target.credit)
            if result:
                return result
        self._enter(event, time, debit=target.debit, credit=target.credit, amount=amount, target=target)
        return CREATED

    def _check_matches_pending(self, event: Transfer, target: Target | Movement) -> CreateTransferResult:
        accounts = self._accounts
        if not target.flags & PENDING:
            return CreateTransferResult.PENDING_TRANSFER_NOT_PENDING
        if event.debit_account and event.debit_account != accounts.ids[target.debit]:
            return CreateTransferResult.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT
        if event.credit_account and event.credit_account != accounts.ids[target.credit]:
            return CreateTransferResult.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT
        if event.currency and event.currency != accounts.currencies[target.debit]:
            return CreateTransferResult.PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY
        if event.code and event.code != target.code:
            return CreateTransferResult.PENDING_TRANSFER_HAS_DIFFERENT_CODE
        return CREATED

    def _check_still_pending(self, slot: int, time: int) -> CreateTransferResult:
        pendings = self._books.pendings
        status, expires_at = pendings.statuses[slot], pendings.expiry(slot)
        if status == POSTED:
            return CreateTransferResult.PENDING_TRANSFER_ALREADY_POSTED
        if status == VOIDED:
            return CreateTransferResult.PENDING_TRANSFER_ALREADY_VOIDED
        if status == EXPIRED or 0 < expires_at <= time:
            return CreateTransferResult.PENDING_TRANSFER_EXPIRED
        return CREATED

    # The reversal of a posted transfer.

    def _reverse(self, event: Transfer, time: int) -> CreateTransferResult:
        transfers = self._transfers
        target = transfers.find_target(event.target_id)
        if target is None:
            return CreateTransferResult.REVERSED_TRANSFER_NOT_FOUND
        # The money goes back: what was credited is debited.
        debit, credit = target.credit, target.debit
        if event.currency and event.currency != self._accounts.currencies[debit]:
            return CreateTransferResult.TRANSFER_MUST_HAVE_THE_SAME_CURRENCY_AS_ACCOUNTS
        if target.flags & (PENDING | VOID):
            return CreateTransferResult.REVERSED_TRANSFER_NOT_POSTED
        amount = target.amount if event.amount is None else event.amount
        if amount + transfers.reversed_amounts.of(target.row) > target.amount:
            return CreateTransferResult.EXCEEDS_REVERSIBLE_AMOUNT
        if event.flags & IMPORTED and event.timestamp <= transfers.last_timestamp:
            return CreateTransferResult.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        result = self._check_open(debit, credit)
        if result:
            return result
        result = self._check_room(debit, credit, amount, event.flags, 0)
        if result:
            return result
        self._enter(event, time, debit=debit, credit=credit, amount=amount, target=target)
        return CREATED

    # What the kinds share.

    def check_accounts(self, debit: int, credit: int, amount: int) -> CreateTransferResult:
        """Whether the two accounts can take an ordinary transfer at this moment."""
        return self._check_open(debit, credit) or self._check_room(debit, credit, amount, 0, 0)

    def _check_open(self, debit: int, credit: int) -> CreateTransferResult:
        of_debit, of_credit = self._accounts.guards[debit], self._accounts.guards[credit]
        if not (of_debit | of_credit) & (FROZEN | CLOSED):
            return CREATED
        if of_debit & FROZEN:
            return CreateTransferResult.DEBIT_ACCOUNT_FROZEN
        if of_credit & FROZEN:
            return CreateTransferResult.CREDIT_ACCOUNT_FROZEN
        if of_debit & CLOSED:
            return CreateTransferResult.DEBIT_ACCOUNT_ALREADY_CLOSED
        return CreateTransferResult.CREDIT_ACCOUNT_ALREADY_CLOSED

    def _check_room(self, debit: int, credit: int, amount: int, flags: int, expires_at: int) -> CreateTransferResult:
        """Whether the sums fit, and stay within the limits of the accounts."""
        accounts = self._accounts
        debits = accounts.debits_pending[debit] + accounts.debits_posted[debit] + amount
        credits = accounts.credits_pending[credit] + accounts.credits_posted[credit] + amount
        if debits > AMOUNT_MAX or credits > AMOUNT_MAX:
            return self._overflow(debit, credit, amount, flags)
        if expires_at > TIME_MAX:
            return CreateTransferResult.OVERFLOWS_TIMEOUT
        guards = accounts.guards
        if guards[debit] & LIMITS_DEBITS and debits > accounts.credits_posted[debit] + accounts.limits[debit]:
            return CreateTransferResult.EXCEEDS_CREDITS
        if guards[credit] & LIMITS_CREDITS and credits > accounts.debits_posted[credit]:
            return CreateTransferResult.EXCEEDS_DEBITS
        return CREATED

    def _overflow(self, debit: int, credit: int, amount: int, flags: int) -> CreateTransferResult:
        """Which of the sums does not fit; the last ones stand for pending and posted together."""
        accounts = self._accounts
        if flags & PENDING:
            if accounts.debits_pending[debit] + amount > AMOUNT_MAX:
                return CreateTransferResult.OVERFLOWS_DEBITS_PENDING
            if accounts.credits_pending[credit] + amount > AMOUNT_MAX:
                return CreateTransferResult.OVERFLOWS_CREDITS_PENDING
        if accounts.debits_posted[debit] + amount > AMOUNT_MAX:
            return CreateTransferResult.OVERFLOWS_DEBITS_POSTED
        if accounts.credits_posted[credit] + amount > AMOUNT_MAX:
            return CreateTransferResult.OVERFLOWS_CREDITS_POSTED
        if accounts.debits_pending[debit] + accounts.debits_posted[debit] + amount > AMOUNT_MAX:
            return CreateTransferResult.OVERFLOWS_DEBITS
        return CreateTransferResult.OVERFLOWS_CREDITS

    def _enter(
        self,
        event: Transfer,
        time: int,
        *,
        debit: int,
        credit: int,
        amount: int,
        target: Target | Movement,
    ) -> None:
        """After this point the settlement or reversal must succeed."""
        code = event.code
        if not code and event.flags & _SETTLING:
            code = target.code
        timestamp = event.timestamp if event.flags & IMPORTED else time
        self._books.enter(
            event, debit=debit, credit=credit, amount=amount, timestamp=timestamp, code=code, target=target
        )
