"""The answers of the ledger: for each event one number, with its name, its class and what the caller should do.

Results are data and never exceptions. The order of an enum is the order of the checks: an event gets the first
one that fails. The numbers are the wire format: a released number is never given another meaning, new results
take new numbers. No rule lives here; the ledger decides, clients and fronts read the sentences. The results of
transfers, which are many, are in transfer_results.py.
"""

from enum import Enum, IntEnum
from typing import Self


class ResultClass(Enum):
    """What a result says about sending the event again."""

    OK = "ok"
    """It took effect, now or before."""
    DEFINITE = "definite"
    """It will never succeed as sent: it is malformed, or in conflict with what exists."""
    STATE = "state"
    """It depended on the state at that moment. A transfer's id is spent: to try again, use a new one."""


OK, DEFINITE, STATE = ResultClass.OK, ResultClass.DEFINITE, ResultClass.STATE


class Result(IntEnum):
    """A result. Rows of the subclasses: number, class, ISO 20022 external status reason code, sentence."""

    _value_: int
    result_class: ResultClass
    iso_reason: str | None
    sentence: str

    # The defaults are for the type checker: Result(number), as everywhere in an enum, looks a member up.
    def __new__(
        cls, number: int, result_class: ResultClass = DEFINITE, iso_reason: str | None = None, sentence: str = ""
    ) -> Self:
        result = int.__new__(cls, number)
        result._value_ = number
        result.result_class = result_class
        result.iso_reason = iso_reason
        result.sentence = sentence
        return result

    @property
    def wire_name(self) -> str:
        """The name as fronts and the CLI show it."""
        return self.name.lower()

    @property
    def is_ok(self) -> bool:
        """Whether the event is in effect: created now, or by an earlier request."""
        return self.result_class is ResultClass.OK


class CreateAccountResult(Result):
    """What became of a request to open an account, descending precedence."""

    CREATED = 0, OK, None, "Done: the account is in the ledger and will stay there."
    LINKED_EVENT_FAILED = (
        1,
        DEFINITE,
        None,
        "Another event of its chain was refused, so nothing of the chain took effect: correct the one that "
        "broke it and send the whole chain again.",
    )
    LINKED_EVENT_CHAIN_OPEN = (
        2,
        DEFINITE,
        None,
        "The last event of the batch is flagged LINKED, so its chain never ends: take the flag off the last "
        "event of each chain.",
    )
    IMPORTED_EVENT_EXPECTED = (
        3,
        DEFINITE,
        None,
        "The batch began with an IMPORTED event: flag all events of a batch IMPORTED, or none.",
    )
    IMPORTED_EVENT_NOT_EXPECTED = (
        4,
        DEFINITE,
        None,
        "The batch began with an event that is not IMPORTED: send imported events in a batch of their own.",
    )
    TIMESTAMP_MUST_BE_ZERO = (
        5,
        DEFINITE,
        "DT01",
        "Leave the timestamp 0: the ledger gives it, except to events flagged IMPORTED.",
    )
    IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE = (
        6,
        DEFINITE,
        "DT01",
        "Give the imported event its own timestamp, from 1 to 2^63-1 nanoseconds since the epoch.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE = (
        7,
        DEFINITE,
        "DT01",
        "An imported event lies in the past: give it a timestamp before the ledger's time.",
    )
    RESERVED_FLAG = 8, DEFINITE, None, "Clear the bits of flags that have no meaning for an account in this release."
    ID_INVALID = 9, DEFINITE, "AC01", "Give an id of 1 to 64 printable ASCII characters without space."
    EXISTS_WITH_DIFFERENT_FLAGS = (
        10,
        DEFINITE,
        "AM05",
        "The account exists with other flags: look it up, and choose another id if a new account is meant.",
    )
    EXISTS_WITH_DIFFERENT_REFERENCE = (
        11,
        DEFINITE,
        "AM05",
        "The account exists with another reference: look it up, and choose another id if a new account is meant.",
    )
    EXISTS_WITH_DIFFERENT_CURRENCY = (
        12,
        DEFINITE,
        "AM05",
        "The account exists in another currency: look it up, and choose another id if a new account is meant.",
    )
    EXISTS_WITH_DIFFERENT_CODE = (
        13,
        DEFINITE,
        "AM05",
        "The account exists with another code: look it up, and choose another id if a new account is meant.",
    )
    EXISTS_WITH_DIFFERENT_OVERDRAFT_LIMIT = (
        14,
        DEFINITE,
        "AM05",
        "The account was opened with another overdraft_limit: an operator may change it by a command of its own.",
    )
    EXISTS = 15, OK, None, "Done before: the same account is in the ledger already, and nothing more is to be done."
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = (
        16,
        DEFINITE,
        None,
        "Choose one of DEBITS_MUST_NOT_EXCEED_CREDITS and CREDITS_MUST_NOT_EXCEED_DEBITS, or neither.",
    )
    CURRENCY_INVALID = 17, DEFINITE, "AC09", "Give a currency of 1 to 12 characters of A-Z 0-9 . _ and -, as in EUR."
    CODE_INVALID = 18, DEFINITE, None, "Give a code from 0 to 65535."
    REFERENCE_INVALID = 19, DEFINITE, None, "Shorten the reference to at most 140 characters."
    OVERDRAFT_LIMIT_INVALID = (
        20,
        DEFINITE,
        "AM12",
        "Give an overdraft_limit from 0 to 2^63-1, and one above 0 only with DEBITS_MUST_NOT_EXCEED_CREDITS.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = (
        21,
        DEFINITE,
        "DT01",
        "Import accounts in the order of their timestamps, each later than the last account created.",
    )


class OperatorResult(Result):
    """What became of an operator's act."""

    DONE = 0, OK, None, "Done: the account is as asked."
    ACCOUNT_NOT_FOUND = 1, STATE, "AC01", "The account does not exist: correct the id."
    OVERDRAFT_LIMIT_INVALID = (
        2,
        DEFINITE,
        "AM12",
        "Give an overdraft_limit from 0 to 2^63-1, to an account with DEBITS_MUST_NOT_EXCEED_CREDITS.",
    )
    OVERDRAFT_LIMIT_BELOW_USE = (
        3,
        STATE,
        "AM14",
        "The account has drawn more than that: give a higher overdraft_limit, or fund the account first.",
    )
