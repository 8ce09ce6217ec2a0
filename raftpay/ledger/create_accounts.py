"""Opening accounts: the checks of one event, in the order of CreateAccountResult, then the opening.

batches.py calls it, event by event, after its own checks of chains and imports.
"""

from typing import Final

from raftpay.ledger.books import Books
from raftpay.ledger.forms import is_amount, is_code, is_currency, is_id, is_reference
from raftpay.ledger.results import CreateAccountResult, Result
from raftpay.ledger.types import Account, AccountFlag

_KNOWN_FLAGS: Final = sum(AccountFlag)
_LIMIT_FLAGS: Final = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS)


class AccountOpener:
    """What batches.py asks of a kind of event, for accounts. Holds nothing but the books."""

    imported_flag: Final = int(AccountFlag.IMPORTED)

    def __init__(self, books: Books) -> None:
        self._books = books

    def mark(self) -> tuple[int, int]:
        """A point to come back to."""
        return len(self._books.accounts), 0

    def take_back_to(self, mark: tuple[int, int]) -> None:
        self._books.take_back_accounts_to(mark[0])

    def record(self, event: Account, result: Result) -> None:
        """Account ids are not spent by a refusal: an account that is not there cannot have been paid from."""

    def find_existing(self, event: Account) -> CreateAccountResult | None:
        """How the event compares with the account of its id, or None when there is none."""
        accounts = self._books.accounts
        row = accounts.rows.get(event.id)
        if row is None:
            return None
        if event.flags != accounts.flags[row]:
            return CreateAccountResult.EXISTS_WITH_DIFFERENT_FLAGS
        if event.reference != accounts.references[row]:
            return CreateAccountResult.EXISTS_WITH_DIFFERENT_REFERENCE
        if event.currency != accounts.currencies[row]:
            return CreateAccountResult.EXISTS_WITH_DIFFERENT_CURRENCY
        if event.code != accounts.codes[row]:
            return CreateAccountResult.EXISTS_WITH_DIFFERENT_CODE
        if event.overdraft_limit != accounts.first_limit(row):
            return CreateAccountResult.EXISTS_WITH_DIFFERENT_OVERDRAFT_LIMIT
        return CreateAccountResult.EXISTS

    def create(self, event: Account, time: int) -> CreateAccountResult:
        """Opens the account, or says why not. time: that of the event, nanoseconds."""
        refusal = self._refusal(event)
        if refusal is not None:
            return refusal
        self._books.open_account(event, event.timestamp if event.flags & self.imported_flag else time)
        return CreateAccountResult.CREATED

    def _refusal(self, event: Account) -> CreateAccountResult | None:
        flags = event.flags
        if flags & ~_KNOWN_FLAGS:
            return CreateAccountResult.RESERVED_FLAG
        if not is_id(event.id):
            return CreateAccountResult.ID_INVALID
        existing = self.find_existing(event)
        if existing is not None:
            return existing
        if flags & _LIMIT_FLAGS == _LIMIT_FLAGS:
            return CreateAccountResult.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        if not is_currency(event.currency):
            return CreateAccountResult.CURRENCY_INVALID
        if not is_code(event.code):
            return CreateAccountResult.CODE_INVALID
        if not is_reference(event.reference):
            return CreateAccountResult.REFERENCE_INVALID
        if not is_amount(event.overdraft_limit):
            return CreateAccountResult.OVERDRAFT_LIMIT_INVALID
        if event.overdraft_limit and not flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
            return CreateAccountResult.OVERDRAFT_LIMIT_INVALID
        created_at = self._books.accounts.created_at
        if flags & self.imported_flag and created_at and event.timestamp <= created_at[-1]:
            return CreateAccountResult.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        return None
