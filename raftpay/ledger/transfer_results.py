"""What may become of a request to move money: the numbers, classes, ISO 20022 reasons and sentences.

See results.py for what a row means. No rule lives here; create_transfers.py decides, in the order of this list.
"""

from raftpay.ledger.results import DEFINITE, OK, STATE, Result


class CreateTransferResult(Result):
    """What became of a request to move money, descending precedence."""

    CREATED = 0, OK, None, "Done: the transfer is in the ledger and will stay there."
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
    RESERVED_FLAG = 8, DEFINITE, None, "Clear the bits of flags that have no meaning for a transfer in this release."
    ID_INVALID = (
        9,
        DEFINITE,
        "RF01",
        "Give an id of 1 to 64 printable ASCII characters without space; a UUIDv7 is a good one.",
    )
    EXISTS_WITH_DIFFERENT_FLAGS = (
        10,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with other flags: look it up, and choose a new id if another transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_TARGET_ID = (
        11,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another target_id: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_TIMEOUT = (
        12,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another timeout_s: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT = (
        13,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another debit account: look it up, and choose a new id if "
        "another transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT = (
        14,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another credit account: look it up, and choose a new id if "
        "another transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_AMOUNT = (
        15,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another amount: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_REFERENCE = (
        16,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another reference: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_CURRENCY = (
        17,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another currency: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS_WITH_DIFFERENT_CODE = (
        18,
        DEFINITE,
        "AM05",
        "The id is taken by a transfer with another code: look it up, and choose a new id if another "
        "transfer is meant.",
    )
    EXISTS = (
        19,
        OK,
        None,
        "Done before: the same transfer is in the ledger already, it took effect once and will not again.",
    )
    ID_ALREADY_FAILED = (
        20,
        STATE,
        "AM05",
        "A transfer of this id was refused before and stays refused: to try again, use a new id.",
    )
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = (
        21,
        DEFINITE,
        None,
        "Choose one of PENDING, POST_PENDING, VOID_PENDING and REVERSAL; balancing and closing flags do not "
        "go with the last three.",
    )
    DEBIT_ACCOUNT_ID_INVALID = (
        22,
        DEFINITE,
        "AC02",
        "Give a debit account of 1 to 64 printable ASCII characters without space; a reversal leaves it "
        "empty, for its target gives it.",
    )
    CREDIT_ACCOUNT_ID_INVALID = (
        23,
        DEFINITE,
        "AC03",
        "Give a credit account of 1 to 64 printable ASCII characters without space; a reversal leaves it "
        "empty, for its target gives it.",
    )
    ACCOUNTS_MUST_BE_DIFFERENT = (
        24,
        DEFINITE,
        "AC01",
        "Debit and credit account are the same: name two different accounts.",
    )
    TARGET_ID_MUST_BE_EMPTY = (
        25,
        DEFINITE,
        None,
        "Leave target_id empty: only a post, a void or a reversal has a target.",
    )
    TARGET_ID_MUST_NOT_BE_EMPTY = 26, DEFINITE, "NOOR", "Name in target_id the transfer to post, void or reverse."
    TARGET_ID_INVALID = 27, DEFINITE, "NOOR", "Give a target_id of 1 to 64 printable ASCII characters without space."
    TARGET_ID_MUST_BE_DIFFERENT = (
        28,
        DEFINITE,
        "NOOR",
        "The target_id is the transfer's own id: name an earlier transfer.",
    )
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = (
        29,
        DEFINITE,
        None,
        "Leave timeout_s 0: only a transfer flagged PENDING can expire.",
    )
    CLOSING_TRANSFER_MUST_BE_PENDING = (
        30,
        DEFINITE,
        None,
        "Add PENDING to CLOSING_DEBIT or CLOSING_CREDIT, so that a void can open the account again.",
    )
    AMOUNT_INVALID = (
        31,
        DEFINITE,
        "AM12",
        "Give an amount from 0 to 2^63-1 minor units; only a post, a void or a reversal may leave it out.",
    )
    REFERENCE_INVALID = 32, DEFINITE, None, "Shorten the reference to at most 140 characters."
    CODE_INVALID = 33, DEFINITE, None, "Give a code from 0 to 65535."
    DEBIT_ACCOUNT_NOT_FOUND = (
        34,
        STATE,
        "AC02",
        "The debit account does not exist: create it or correct it, then send the transfer under a new id.",
    )
    CREDIT_ACCOUNT_NOT_FOUND = (
        35,
        STATE,
        "AC03",
        "The credit account does not exist: create it or correct it, then send the transfer under a new id.",
    )
    ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY = (
        36,
        DEFINITE,
        "AM03",
        "The two accounts are of different currencies: exchange by two linked transfers over accounts of "
        "your own in each.",
    )
    TRANSFER_MUST_HAVE_THE_SAME_CURRENCY_AS_ACCOUNTS = (
        37,
        DEFINITE,
        "AM03",
        "The currency is not that of the accounts: correct it, or leave it empty.",
    )
    PENDING_TRANSFER_NOT_FOUND = (
        38,
        STATE,
        "NOOR",
        "The pending transfer does not exist: create it first or correct target_id, then use a new id.",
    )
    PENDING_TRANSFER_NOT_PENDING = (
        39,
        DEFINITE,
        "NOOR",
        "The target was not created with PENDING: only a pending transfer can be posted or voided; to send "
        "a posted one back, use REVERSAL.",
    )
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT = (
        40,
        DEFINITE,
        "AC02",
        "The pending transfer has another debit account: leave it empty, or correct it or target_id.",
    )
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT = (
        41,
        DEFINITE,
        "AC03",
        "The pending transfer has another credit account: leave it empty, or correct it or target_id.",
    )
    PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY = (
        42,
        DEFINITE,
        "AM03",
        "The pending transfer is in another currency: leave it empty, or correct it or target_id.",
    )
    PENDING_TRANSFER_HAS_DIFFERENT_CODE = (
        43,
        DEFINITE,
        None,
        "The pending transfer has another code: leave it 0, or correct it or target_id.",
    )
    EXCEEDS_PENDING_TRANSFER_AMOUNT = (
        44,
        DEFINITE,
        "AM02",
        "The amount is more than was reserved: post at most that, and make another transfer for the rest.",
    )
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = (
        45,
        DEFINITE,
        "AM09",
        "A void releases the whole reserved amount: leave amount out, or give exactly that.",
    )
    PENDING_TRANSFER_ALREADY_POSTED = (
        46,
        DEFINITE,
        "ARDT",
        "The pending transfer was posted before: nothing is left to post or void; to send it back, reverse its post.",
    )
    PENDING_TRANSFER_ALREADY_VOIDED = (
        47,
        DEFINITE,
        "ARDT",
        "The pending transfer was voided before, its reservation is released: make a new transfer to move the money.",
    )
    PENDING_TRANSFER_EXPIRED = (
        48,
        DEFINITE,
        "TM01",
        "The pending transfer ran out of time, its reservation is released: make a new transfer to move the money.",
    )
    REVERSED_TRANSFER_NOT_FOUND = (
        49,
        STATE,
        "NOOR",
        "The transfer to reverse does not exist: create it first or correct target_id, then use a new id.",
    )
    REVERSED_TRANSFER_NOT_POSTED = (
        50,
        DEFINITE,
        "NOOR",
        "The target moved nothing: void a pending transfer instead, or reverse the transfer that posted it.",
    )
    EXCEEDS_REVERSIBLE_AMOUNT = (
        51,
        STATE,
        "AM02",
        "All reversals together would exceed the transfer: reverse at most what is left of it, under a new id.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = (
        52,
        DEFINITE,
        "DT01",
        "Import transfers in the order of their timestamps, each later than the last transfer created.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT = (
        53,
        DEFINITE,
        "DT01",
        "The transfer is dated before its debit account was opened: correct one of the two timestamps.",
    )
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT = (
        54,
        DEFINITE,
        "DT01",
        "The transfer is dated before its credit account was opened: correct one of the two timestamps.",
    )
    IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO = (
        55,
        DEFINITE,
        "DT01",
        "Leave timeout_s 0: an imported pending transfer does not expire by itself, post or void it.",
    )
    DEBIT_ACCOUNT_FROZEN = (
        56,
        STATE,
        "AC06",
        "The debit account is frozen: ask the operator to release it, then use a new id.",
    )
    CREDIT_ACCOUNT_FROZEN = (
        57,
        STATE,
        "AC06",
        "The credit account is frozen: ask the operator to release it, then use a new id.",
    )
    DEBIT_ACCOUNT_ALREADY_CLOSED = (
        58,
        STATE,
        "AC04",
        "The debit account is closed: use another one, or void the transfer that closed it, then use a new id.",
    )
    CREDIT_ACCOUNT_ALREADY_CLOSED = (
        59,
        STATE,
        "AC04",
        "The credit account is closed: use another one, or void the transfer that closed it, then use a new id.",
    )
    OVERFLOWS_DEBITS_PENDING = (
        60,
        DEFINITE,
        "AM12",
        "The debit account's pending debits would pass 2^63-1: send less, or settle its pending transfers first.",
    )
    OVERFLOWS_CREDITS_PENDING = (
        61,
        DEFINITE,
        "AM12",
        "The credit account's pending credits would pass 2^63-1: send less, or settle its pending transfers first.",
    )
    OVERFLOWS_DEBITS_POSTED = (
        62,
        DEFINITE,
        "AM12",
        "The debit account's posted debits would pass 2^63-1: send less, or go on with a new account.",
    )
    OVERFLOWS_CREDITS_POSTED = (
        63,
        DEFINITE,
        "AM12",
        "The credit account's posted credits would pass 2^63-1: send less, or go on with a new account.",
    )
    OVERFLOWS_DEBITS = (
        64,
        DEFINITE,
        "AM12",
        "The debit account's debits, pending and posted together, would pass 2^63-1: send less.",
    )
    OVERFLOWS_CREDITS = (
        65,
        DEFINITE,
        "AM12",
        "The credit account's credits, pending and posted together, would pass 2^63-1: send less.",
    )
    OVERFLOWS_TIMEOUT = (
        66,
        DEFINITE,
        "DT01",
        "The pending transfer would expire after the end of time (2^63-1 ns): give a shorter timeout_s, or "
        "0 for never.",
    )
    EXCEEDS_CREDITS = (
        67,
        STATE,
        "AM04",
        "The debit account has not enough funds: fund it or send less, under a new id.",
    )
    EXCEEDS_DEBITS = (
        68,
        STATE,
        "AM14",
        "The credit account may not be credited beyond its debits: send less, under a new id.",
    )
