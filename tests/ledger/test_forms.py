"""What may be an id, held against the definition: 1-64 characters, each of 0x21-0x7e."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftpay.ledger.forms import is_currency, is_id

DEFINITION = re.compile(r"[\x21-\x7e]{1,64}")


@pytest.mark.parametrize(
    "character", [chr(code) for code in range(0x100)], ids=lambda character: f"{ord(character):#x}"
)
def test_exactly_the_printable_ascii_characters_without_space_make_an_id(character: str) -> None:
    assert is_id(f"a{character}") == is_id(character) == (0x21 <= ord(character) <= 0x7E)


@given(st.text(max_size=70) | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F), max_size=70))
def test_an_id_is_what_the_definition_says(text: str) -> None:
    assert is_id(text) == (DEFINITION.fullmatch(text) is not None)


@pytest.mark.parametrize(("length", "expected"), [(0, False), (1, True), (64, True), (65, False)])
def test_an_id_has_1_to_64_characters(length: int, expected: bool) -> None:
    assert is_id("x" * length) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EUR", True),
        ("X.Y_Z-0", True),
        ("A" * 12, True),
        ("A" * 13, False),
        ("", False),
        ("eur", False),
        ("EUR\n", False),
    ],
)
def test_a_currency_is_1_to_12_of_its_alphabet(text: str, expected: bool) -> None:
    assert is_currency(text) is expected
