"""What a well-formed field looks like. Questions about single values; which result follows is decided elsewhere."""

import re
from typing import Final

from raftpay.ledger.types import AMOUNT_MAX, CODE_MAX, CURRENCY_LENGTH_MAX, ID_LENGTH_MAX, REFERENCE_LENGTH_MAX

_CURRENCY: Final = re.compile(rf"[A-Z0-9._-]{{1,{CURRENCY_LENGTH_MAX}}}")


def is_id(text: str) -> bool:
    """Whether text may name an account or a transfer: 1-64 characters, each of 0x21-0x7e."""
    # Printable ASCII is 0x20-0x7e. Three questions answered in C take half the time of a regular expression.
    return 0 < len(text) <= ID_LENGTH_MAX and text.isascii() and text.isprintable() and " " not in text


def is_currency(text: str) -> bool:
    return _CURRENCY.fullmatch(text) is not None


def is_code(number: int) -> bool:
    return 0 <= number <= CODE_MAX


def is_reference(text: str) -> bool:
    return len(text) <= REFERENCE_LENGTH_MAX


def is_amount(number: int) -> bool:
    return 0 <= number <= AMOUNT_MAX
