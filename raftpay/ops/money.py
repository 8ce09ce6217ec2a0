"""Amounts as people write them: decimal text to minor units and back, by the exponent of the currency. Never a float.

The exponents are those of ISO 4217 (list one of 2026, and codes withdrawn since 2019 that ledgers still carry). A code
without an exponent (a token, a fund, gold) is counted in whole units unless the operator gives one. Payment files and
the command line both read amounts here, so that "12.34" means the same everywhere; the ledger knows minor units only.
"""

import re
from collections.abc import Iterator
from typing import Final

from raftpay.errors import ConfigError
from raftpay.ledger.types import AMOUNT_MAX

# Longer text than this is refused unread: the largest amount has 19 digits.
TEXT_LENGTH_MAX: Final = 40
EXPONENT_MAX: Final = 18

_CODES_BY_EXPONENT: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK "
    "MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG "
    "YER ZAR ZMW ZWG "
    # Withdrawn.
    "ANG BGN CUC HRK SLL ZWL",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


def _pairs() -> Iterator[tuple[str, int]]:
    for exponent, codes in _CODES_BY_EXPONENT.items():
        for code in codes.split():
            yield code, exponent


EXPONENTS: Final[dict[str, int]] = dict(_pairs())

_PLAIN: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class AmountError(ConfigError):
    """Text that is no amount of its currency. The message says what was found and what is expected."""


def exponent_of(currency: str) -> int:
    """How many decimals an amount of this currency has; 0 for a code that ISO 4217 gives none."""
    return EXPONENTS.get(currency, 0)


def parse(text: str, currency: str, *, exponent: int | None = None) -> int:
    """Return the minor units of an amount: parse("12.34", "EUR") is 1234, and so is what "1234" of JPY gives.

    text: digits, and behind a point at most as many decimals as the currency has ("12", "12.3", "12.34").
    exponent: the operator's own, for a code that ISO 4217 does not know.
    Raises AmountError for everything else: signs, separators, rounding, spaces, or past 2^63-1 minor units.
    """
    places = exponent_of(currency) if exponent is None else exponent
    match = _PLAIN.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is None:
        raise AmountError(f"{_shown(text)} is not an amount of {currency}: {_hint(text)}{_expected(places)}")
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > places:
        allowed = "none" if places == 0 else f"at most {places}"
        raise AmountError(f"{text!r} has {len(decimals)} decimal(s), {currency} has {allowed}: {_expected(places)}")
    amount = int(whole + decimals.ljust(places, "0"))
    if amount > AMOUNT_MAX:
        most = format(AMOUNT_MAX, currency, exponent=places)
        raise AmountError(f"{text!r} {currency} is more than one amount can hold, at most {most}")
    return amount


def format(amount: int, currency: str, *, exponent: int | None = None) -> str:
    """Return minor units as text with all decimals of the currency, "12.34"; differences may be negative, "-0.05"."""
    places = exponent_of(currency) if exponent is None else exponent
    digits = str(abs(amount)).rjust(places + 1, "0")
    sign = "-" if amount < 0 else ""
    if places == 0:
        return sign + digits
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _expected(places: int) -> str:
    if places == 0:
        return "expected whole units, like 1234"
    return f"expected digits with a point and up to {places} decimals, like 1234.{'50'.ljust(places, '0')[:places]}"


def _hint(text: str) -> str:
    """What most likely went wrong, as the start of a sentence; empty when nothing in particular did."""
    if len(text) > TEXT_LENGTH_MAX:
        return f"it is longer than {TEXT_LENGTH_MAX} characters; "
    if not text.strip():
        return "it is empty; "
    if text != text.strip():
        return "it has spaces around it; "
    if text.startswith("-"):
        return "amounts are not negative, to send money back swap the accounts; "
    if text.startswith("+"):
        return "leave out the sign; "
    if re.fullmatch(r"[0-9.,' ]+", text):
        return "write it without thousands separators, and with a point before the decimals; "
    if re.fullmatch(r"[0-9]*\.?[0-9]+[eE][+-]?[0-9]+", text):
        return "write it without an exponent; "
    return ""


def _shown(text: str) -> str:
    return repr(text) if len(text) <= TEXT_LENGTH_MAX else repr(text[:TEXT_LENGTH_MAX]) + "…"
