"""Amounts as people write them: each currency's decimals, nothing rounded, nothing guessed, and back again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftpay.ledger.types import AMOUNT_MAX
from raftpay.ops import money

GOOD = [
    ("12.34", "EUR", 1234),
    ("12.3", "EUR", 1230),
    ("12", "EUR", 1200),
    ("0.01", "EUR", 1),
    ("0", "EUR", 0),
    ("007.50", "EUR", 750),
    ("1234", "JPY", 1234),
    ("1.234", "BHD", 1234),
    ("0.0001", "CLF", 1),
    ("17", "GOLD.BARS", 17),
    ("92233720368547758.07", "EUR", AMOUNT_MAX),
    ("9223372036854775807", "JPY", AMOUNT_MAX),
]
BAD = [
    ("12.345", "EUR", "'12.345' has 3 decimal(s), EUR has at most 2: expected digits"),
    ("12.340", "EUR", "has 3 decimal(s)"),
    ("1.0", "JPY", "'1.0' has 1 decimal(s), JPY has none: expected whole units, like 1234"),
    ("1.5", "GOLD", "GOLD has none"),
    ("1,234.50", "EUR", "without thousands separators"),
    ("12,34", "EUR", "with a point before the decimals"),
    ("1 234.50", "EUR", "without thousands separators"),
    ("-5.00", "EUR", "amounts are not negative, to send money back swap the accounts"),
    ("+5.00", "EUR", "leave out the sign"),
    ("1e3", "EUR", "without an exponent"),
    (".50", "EUR", "like 1234.50"),
    ("5.", "EUR", "like 1234.50"),
    ("", "EUR", "it is empty"),
    ("  ", "EUR", "it is empty"),
    (" 5.00", "EUR", "spaces around it"),
    ("5.00\n", "EUR", "spaces around it"),
    ("١٢", "EUR", "is not an amount of EUR"),
    ("²", "EUR", "is not an amount of EUR"),
    ("NaN", "EUR", "'NaN' is not an amount of EUR: expected digits"),
    ("12.34 EUR", "EUR", "is not an amount of EUR"),
    ("92233720368547758.08", "EUR", "more than one amount can hold, at most 92233720368547758.07"),
    ("9" * 5000, "EUR", "longer than 40 characters"),
]


@pytest.mark.parametrize(("text", "currency", "minor"), GOOD)
def test_an_amount_is_read_in_the_minor_units_of_its_currency(text: str, currency: str, minor: int) -> None:
    assert money.parse(text, currency) == minor


@pytest.mark.parametrize(("text", "currency", "message"), BAD, ids=[repr(text[:20]) for text, _, _ in BAD])
def test_what_is_no_amount_is_refused_with_what_was_found_and_expected(text: str, currency: str, message: str) -> None:
    with pytest.raises(money.AmountError) as error:
        money.parse(text, currency)

    assert message in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "EUR", "0.00"),
        (5, "EUR", "0.05"),
        (-5, "EUR", "-0.05"),
        (123456, "EUR", "1234.56"),
        (1234, "JPY", "1234"),
        (-1234, "JPY", "-1234"),
        (1, "CLF", "0.0001"),
        (12, "POINTS", "12"),
    ],
)
def test_an_amount_is_written_with_all_decimals(minor: int, currency: str, text: str) -> None:
    assert money.format(minor, currency) == text


@pytest.mark.parametrize(
    ("currency", "exponent"), [("JPY", 0), ("EUR", 2), ("KWD", 3), ("UYW", 4), ("XAU", 0), ("eur", 0)]
)
def test_exponents_are_those_of_iso_4217_and_none_is_guessed(currency: str, exponent: int) -> None:
    assert money.exponent_of(currency) == exponent


def test_the_operator_may_give_an_exponent_of_their_own() -> None:
    assert money.parse("1.00000001", "BTC", exponent=8) == 100000001
    assert money.format(100000001, "BTC", exponent=8) == "1.00000001"


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(money.EXPONENTS)), st.sampled_from([None, 0, 5, 8, 18]))
def test_what_is_written_is_read_back(minor: int, currency: str, exponent: int | None) -> None:
    written = money.format(minor, currency, exponent=exponent)

    assert money.parse(written, currency, exponent=exponent) == minor


@given(st.text(max_size=50), st.sampled_from(["EUR", "JPY", "BHD", "TOKEN"]))
def test_any_text_is_an_amount_or_refused(text: str, currency: str) -> None:
    try:
        minor = money.parse(text, currency)
    except money.AmountError:
        return

    assert 0 <= minor <= AMOUNT_MAX
    assert text.isascii()
