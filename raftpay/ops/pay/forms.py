"""What the columns of a payments or accounts file mean: header and fields to the ledger's events, each field checked.

A check here says no more than the ledger would, only sooner, without a cluster and with the line's own words; it bears
the name and the ISO 20022 code of the ledger's result where there is one. What depends on the books (does the account
exist, is there money) is for the ledger alone.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

from raftpay.errors import ConfigError
from raftpay.ledger import (
    CODE_MAX,
    CURRENCY_LENGTH_MAX,
    ID_LENGTH_MAX,
    REFERENCE_LENGTH_MAX,
    Account,
    AccountFlag,
    CreateAccountResult,
    CreateTransferResult,
    Result,
    Transfer,
    TransferFlag,
)
from raftpay.ops import money
from raftpay.ops.pay.ids import Identity, TransferIds

TIMEOUT_S_MAX: Final = 10 * 366 * 24 * 3600

_ID: Final = re.compile(rf"[!-~]{{1,{ID_LENGTH_MAX}}}")
_CURRENCY: Final = re.compile(rf"[A-Z0-9._-]{{1,{CURRENCY_LENGTH_MAX}}}")
_WORDS: Final = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}
# What a file may ask of an account; chains and imported times do not survive being cut into batches.
_ACCOUNT_FLAGS: Final = {
    flag.name.lower(): flag
    for flag in (
        AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS,
        AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS,
        AccountFlag.CLOSED,
    )
    if flag.name
}

# By number: the numbers are contiguous from 0.
_TRANSFER_RESULTS: Final = tuple(CreateTransferResult)
_ACCOUNT_RESULTS: Final = tuple(CreateAccountResult)


class LineError(Exception):
    """A line that cannot become an event. Caught in lines.py; nothing outside this package sees it."""

    def __init__(self, result: str, iso_reason: str | None, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.iso_reason = iso_reason
        self.reason = reason


def malformed(reason: str) -> LineError:
    """The line itself is broken, before any field of it means something. FF01 is ISO 20022's invalid file format."""
    return LineError("line_malformed", "FF01", reason)


def refuse(result: Result, reason: str) -> NoReturn:
    """Refuse a field as the ledger would."""
    raise LineError(result.wire_name, result.iso_reason, reason)


class Form(Protocol):
    """One kind of file.

    required, optional: its columns.
    created, exists: the numbers of the results that say that an event is in the ledger.
    """

    noun: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    created: int
    exists: int

    @property
    def made_ids(self) -> int:
        """Lines so far that had no id and got one."""
        ...

    def event(self, fields: Mapping[str, str]) -> Transfer | Account:
        """The ledger's event of a line, given by column name. Raises LineError. Called once a line, in order."""
        ...

    def result(self, number: int) -> Result:
        """The result of that number."""
        ...

    def worth(self, event: Transfer | Account) -> tuple[str, int]:
        """The currency of an event and the minor units that it moves."""
        ...


@dataclass(slots=True)
class PaymentForm:
    """A line is a transfer. Without an id column, or where its field is empty, the id is derived from the line.

    exponents: the operator's own, for currencies that ISO 4217 does not know.
    """

    run: str
    exponents: Mapping[str, int] = field(default_factory=dict)
    noun: str = "payments"
    required: tuple[str, ...] = ("debit_account", "credit_account", "amount", "currency")
    optional: tuple[str, ...] = ("id", "code", "reference", "pending", "timeout_s")
    created: int = CreateTransferResult.CREATED
    exists: int = CreateTransferResult.EXISTS
    _ids: TransferIds = field(init=False)

    def __post_init__(self) -> None:
        self._ids = TransferIds(self.run)

    @property
    def made_ids(self) -> int:
        return self._ids.count

    def event(self, fields: Mapping[str, str]) -> Transfer:
        invalid = CreateTransferResult
        debit_account, credit_account = fields["debit_account"].strip(), fields["credit_account"].strip()
        given_id = fields.get("id", "").strip()
        if given_id:
            check_id("id", given_id, invalid.ID_INVALID)
        check_id("debit_account", debit_account, invalid.DEBIT_ACCOUNT_ID_INVALID)
        check_id("credit_account", credit_account, invalid.CREDIT_ACCOUNT_ID_INVALID)
        if debit_account == credit_account:
            refuse(invalid.ACCOUNTS_MUST_BE_DIFFERENT, f"debit_account and credit_account are both {debit_account!r}")
        currency = read_currency(fields["currency"])
        amount = read_amount(fields["amount"], currency, self.exponents.get(currency), invalid.AMOUNT_INVALID)
        flags, timeout_s = _pending(fields)
        code = read_code(fields.get("code", ""), invalid.CODE_INVALID)
        reference = check_reference(fields.get("reference", ""), invalid.REFERENCE_INVALID)
        return Transfer(
            id=given_id
            or self._ids.id_of(
                Identity(debit_account, credit_account, amount, currency, code, flags, reference, timeout_s)
            ),
            debit_account=debit_account,
            credit_account=credit_account,
            amount=amount,
            code=code,
            flags=flags,
            reference=reference,
            currency=currency,
            timeout_s=timeout_s,
        )

    def result(self, number: int) -> CreateTransferResult:
        return _TRANSFER_RESULTS[number]

    def worth(self, event: Transfer | Account) -> tuple[str, int]:
        assert isinstance(event, Transfer)
        return event.currency, event.amount or 0


@dataclass(slots=True)
class AccountForm:
    """A line is an account. Its id is its own, so running the file again opens nothing twice."""

    exponents: Mapping[str, int] = field(default_factory=dict)
    noun: str = "accounts"
    required: tuple[str, ...] = ("id", "currency")
    optional: tuple[str, ...] = ("code", "reference", "flags", "overdraft_limit")
    created: int = CreateAccountResult.CREATED
    exists: int = CreateAccountResult.EXISTS
    made_ids: int = 0

    def event(self, fields: Mapping[str, str]) -> Account:
        invalid = CreateAccountResult
        account_id = fields["id"].strip()
        check_id("id", account_id, invalid.ID_INVALID)
        currency = read_currency(fields["currency"])
        limit = fields.get("overdraft_limit", "").strip()
        exponent, result = self.exponents.get(currency), invalid.OVERDRAFT_LIMIT_INVALID
        return Account(
            id=account_id,
            currency=currency,
            code=read_code(fields.get("code", ""), invalid.CODE_INVALID),
            flags=_account_flags(fields.get("flags", "")),
            reference=check_reference(fields.get("reference", ""), invalid.REFERENCE_INVALID),
            overdraft_limit=read_amount(limit, currency, exponent, result, column="overdraft_limit") if limit else 0,
        )

    def result(self, number: int) -> CreateAccountResult:
        return _ACCOUNT_RESULTS[number]

    def worth(self, event: Transfer | Account) -> tuple[str, int]:
        return event.currency, 0


def check_id(column: str, found: str, result: Result) -> None:
    if _ID.fullmatch(found) is None:
        why = f"is {found!r}" if len(found) <= ID_LENGTH_MAX else f"has {len(found)} characters"
        why = why if found else "is empty"
        refuse(result, f"{column} {why}: expected 1-{ID_LENGTH_MAX} printable ASCII characters without space")


def read_currency(text: str) -> str:
    currency = text.strip()
    if _CURRENCY.fullmatch(currency) is None:
        known = currency.upper() if currency.upper() in money.EXPONENTS else "EUR"
        found = repr(currency[:40]) if currency else "empty"
        expected = f"1-{CURRENCY_LENGTH_MAX} of A-Z 0-9 . _ -, like {known}"
        refuse(CreateAccountResult.CURRENCY_INVALID, f"currency is {found}: expected {expected}")
    return currency


def read_amount(text: str, currency: str, exponent: int | None, result: Result, *, column: str = "amount") -> int:
    try:
        return money.parse(text.strip(), currency, exponent=exponent)
    except money.AmountError as error:
        refuse(result, f"{column}: {error}")


def read_code(text: str, result: Result) -> int:
    found = text.strip() or "0"
    if not (found.isascii() and found.isdigit() and len(found) <= 5 and int(found) <= CODE_MAX):
        refuse(result, f"code is {found[:40]!r}: expected a whole number from 0 to {CODE_MAX}")
    return int(found)


def check_reference(text: str, result: Result) -> str:
    if len(text) > REFERENCE_LENGTH_MAX:
        refuse(result, f"reference has {len(text)} characters, at most {REFERENCE_LENGTH_MAX} are accepted")
    return text


def _pending(fields: Mapping[str, str]) -> tuple[int, int]:
    """The flags and the timeout of a transfer."""
    word = fields.get("pending", "").strip().lower()
    if word not in _WORDS:
        raise malformed(f"pending is {word[:40]!r}: expected true or false, or nothing for false")
    timeout = fields.get("timeout_s", "").strip() or "0"
    if not (timeout.isascii() and timeout.isdigit() and len(timeout) <= 9 and int(timeout) <= TIMEOUT_S_MAX):
        raise malformed(f"timeout_s is {timeout[:40]!r}: expected whole seconds from 0 (never) to {TIMEOUT_S_MAX}")
    if int(timeout) and not _WORDS[word]:
        result = CreateTransferResult.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        refuse(result, f"timeout_s is {timeout}, but pending is not true: only a pending transfer times out")
    return (TransferFlag.PENDING.value if _WORDS[word] else 0), int(timeout)


def _account_flags(text: str) -> int:
    flags = 0
    for word in text.replace("|", " ").split():
        flag = _ACCOUNT_FLAGS.get(word.lower())
        if flag is None:
            raise malformed(f"flags has {word[:40]!r}: expected {', '.join(_ACCOUNT_FLAGS)}, separated by |")
        flags |= flag.value
    return flags


def read_header(form: Form, fields: Sequence[str], name: str, *, may_ignore_columns: bool) -> list[str | None]:
    """The column name of each position, None for one that is ignored. Raises ConfigError that says what is wrong."""
    known = (*form.required, *form.optional)
    found = [text.strip().lower() for text in fields]
    expected = f"expected {', '.join(form.required)}, and as you like {', '.join(form.optional)}"
    missing = [column for column in form.required if column not in found]
    if missing:
        separator = next((mark for mark in (";", "\t", "|") if mark in "".join(fields)), None)
        hint = f" It seems to be separated by {separator!r}: separate by commas." if separator else ""
        shown = ", ".join(text[:40] for text in found[:20])
        message = f"{name}, line 1: the header lacks {', '.join(missing)}; it has {shown}; {expected}.{hint}"
        raise ConfigError(message)
    repeated = sorted({column for column in found if column in known and found.count(column) > 1})
    if repeated:
        raise ConfigError(f"{name}, line 1: the header has {', '.join(repeated)} more than once")
    strange = [column for column in found if column not in known]
    if strange and not may_ignore_columns:
        close = difflib.get_close_matches(strange[0], known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        message = f"the header has a column {strange[0][:40]!r} that means nothing here: {hint}{expected}"
        raise ConfigError(f"{name}, line 1: {message}. To pass over such columns: --ignore-columns")
    return [column if column in known else None for column in found]
