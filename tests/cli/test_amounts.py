"""Amounts on the command line: what could pay a hundred times too much is refused."""

import pytest

from raftpay.ops.money import AmountError
from raftpay_cli.amounts import parse_amount, split_currency


@pytest.mark.parametrize(
    ("text", "currency", "is_minor", "minor_units"),
    [
        ("12.34", "EUR", False, 1234),
        ("12.3", "EUR", False, 1230),
        ("0.05", "EUR", False, 5),
        ("1234", "JPY", False, 1234),
        ("1.500", "KWD", False, 1500),
        ("1234", "POINTS", False, 1234),
        ("1234", "EUR", True, 1234),
        ("0", "EUR", True, 0),
        ("92233720368547758.07", "EUR", False, 2**63 - 1),
    ],
)
def test_an_amount_with_one_meaning_is_taken(text: str, currency: str, is_minor: bool, minor_units: int) -> None:
    assert parse_amount(text, currency, is_minor=is_minor) == minor_units


@pytest.mark.parametrize(
    ("text", "currency", "said"),
    [
        ("1234", "EUR", "write 1234.00 for the one, 12.34 (or 1234 with --minor) for the other"),
        ("5", "KWD", "write 5.000 for the one, 0.005 (or 5 with --minor) for the other"),
    ],
)
def test_a_whole_number_of_a_currency_with_decimals_is_refused(text: str, currency: str, said: str) -> None:
    with pytest.raises(AmountError) as refused:
        parse_amount(text, currency, is_minor=False)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text", ["12.345", "1,234.00", "1.234,00", "-1.00", "+1.00", "1e2", "", ".", "12.", "١٢.٣٤", "nan"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, "EUR", is_minor=False)


@pytest.mark.parametrize("text", ["12.34", "-1", "", "1_000", "92233720368547758070"])
def test_minor_units_are_digits_only(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, "EUR", is_minor=True)


@pytest.mark.parametrize(
    ("text", "parts"), [("12.34 EUR", ("12.34", "EUR")), ("12.34", ("12.34", "")), ("  5  JPY ", ("5", "JPY"))]
)
def test_the_currency_may_follow_the_amount(text: str, parts: tuple[str, str]) -> None:
    assert split_currency(text) == parts
