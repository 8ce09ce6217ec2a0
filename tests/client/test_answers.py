"""Outcomes: a sequence that costs a byte an event."""

import pytest

from raftpay import CreateTransferResult, Outcome
from raftpay.client.answers import ACCOUNT_RESULTS, OPERATOR_RESULTS, TRANSFER_RESULTS, Outcomes

EXCEEDS = CreateTransferResult.EXCEEDS_CREDITS
PARTS = [(1_000, bytes([0, 0, EXCEEDS])), (5_000, bytes([19, 0]))]
WANTED = [
    Outcome(CreateTransferResult.CREATED, 1_000),
    Outcome(CreateTransferResult.CREATED, 1_001),
    Outcome(EXCEEDS, 1_002),
    Outcome(CreateTransferResult.EXISTS, 5_000),
    Outcome(CreateTransferResult.CREATED, 5_001),
]


def test_outcomes_are_a_sequence_over_all_parts() -> None:
    outcomes = Outcomes(TRANSFER_RESULTS, PARTS)

    assert list(outcomes) == WANTED
    assert outcomes == WANTED
    assert [outcomes[index] for index in range(-5, 5)] == [*WANTED, *WANTED]
    assert outcomes[1:4] == WANTED[1:4]
    assert outcomes[::-1] == WANTED[::-1]
    assert (len(outcomes), outcomes.index(WANTED[2]), WANTED[3] in outcomes) == (5, 2, True)
    assert outcomes.numbers == bytes([0, 0, EXCEEDS, 19, 0])
    assert "EXCEEDS_CREDITS" in repr(outcomes)
    with pytest.raises(IndexError):
        outcomes[5]


def test_outcomes_tell_what_was_refused() -> None:
    assert list(Outcomes(TRANSFER_RESULTS, PARTS).refused()) == [(2, WANTED[2])]
    assert not Outcomes(TRANSFER_RESULTS, PARTS).are_ok
    assert Outcomes(TRANSFER_RESULTS, PARTS[1:]).are_ok
    assert list(Outcomes(TRANSFER_RESULTS, PARTS[1:]).refused()) == []


def test_outcomes_of_nothing_are_fine() -> None:
    outcomes = Outcomes(TRANSFER_RESULTS, [])

    assert (list(outcomes), len(outcomes), outcomes.are_ok) == ([], 0, True)


@pytest.mark.parametrize("table", [ACCOUNT_RESULTS, TRANSFER_RESULTS, OPERATOR_RESULTS])
def test_every_result_number_has_its_member(table: object) -> None:
    numbers = bytes(range(len(table.members)))

    assert [int(outcome.result) for outcome in Outcomes(table, [(1, numbers)])] == list(numbers)
    assert [table.are_ok(bytes([n])) for n in numbers] == [member.is_ok for member in table.members]
    assert table.unknown_in(numbers + b"\xff") == b"\xff"
