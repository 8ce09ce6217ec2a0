"""Amounts on the command line: "12.34", with the currency's decimals; never a number that could mean two things.

1234 of a currency with cents may be meant as 1234.00 or as 12.34, and one of the two pays a hundred times too much. So
an amount without a point is refused there, unless --minor says that minor units are meant. Where a currency has no
decimals (JPY) both readings are the same, and whole numbers are right.
"""

import re
from typing import Final

from raftpay.ops import money

MINOR_HELP: Final = "The amount is in minor units (cents): 1234 is 12.34 EUR."


def parse_amount(text: str, currency: str, *, is_minor: bool) -> int:
    """The minor units of an amount as typed. Raises AmountError that says what to write instead."""
    if is_minor:
        if not re.fullmatch(r"[0-9]+", text, re.ASCII):
            raise money.AmountError(f"{text!r} is no number of minor units: with --minor write digits only")
        return money.parse(text, currency, exponent=0)
    if money.exponent_of(currency) > 0 and re.fullmatch(r"[0-9]+", text, re.ASCII):
        as_minor = money.format(int(text), currency)
        zeros = "0" * money.exponent_of(currency)
        raise money.AmountError(
            f"{text} could mean {text}.{zeros} {currency} or {as_minor} {currency}: "
            f"write {text}.{zeros} for the one, {as_minor} (or {text} with --minor) for the other"
        )
    return money.parse(text, currency)


def split_currency(text: str) -> tuple[str, str]:
    """("12.34", "EUR") of "12.34 EUR"; the currency is empty where none is given."""
    amount, _, currency = text.strip().partition(" ")
    return amount, currency.strip()


def show(amount: int, currency: str) -> str:
    """12.34 EUR."""
    return f"{money.format(amount, currency)} {currency}"
