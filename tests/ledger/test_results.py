"""The results are a wire format and a help to callers: their numbers, names, classes and sentences are held here.

The lists are written out once more, from the contract and not from the code: a released number is never reused.
"""

import re

import pytest

from raftpay.ledger import CreateAccountResult, CreateTransferResult, OperatorResult, Result, ResultClass
from tests.ledger.twin import RECORDED

BATCH = """
created linked_event_failed linked_event_chain_open imported_event_expected imported_event_not_expected
timestamp_must_be_zero imported_event_timestamp_out_of_range imported_event_timestamp_must_not_advance
reserved_flag id_invalid
"""
ACCOUNT_NAMES = f"""
{BATCH} exists_with_different_flags exists_with_different_reference exists_with_different_currency
exists_with_different_code exists_with_different_overdraft_limit exists flags_are_mutually_exclusive currency_invalid
code_invalid reference_invalid overdraft_limit_invalid imported_event_timestamp_must_not_regress
""".split()
TRANSFER_NAMES = f"""
{BATCH} exists_with_different_flags exists_with_different_target_id exists_with_different_timeout
exists_with_different_debit_account exists_with_different_credit_account exists_with_different_amount
exists_with_different_reference exists_with_different_currency exists_with_different_code exists id_already_failed
flags_are_mutually_exclusive debit_account_id_invalid credit_account_id_invalid accounts_must_be_different
target_id_must_be_empty target_id_must_not_be_empty target_id_invalid target_id_must_be_different
timeout_reserved_for_pending_transfer closing_transfer_must_be_pending amount_invalid reference_invalid code_invalid
debit_account_not_found credit_account_not_found accounts_must_have_the_same_currency
transfer_must_have_the_same_currency_as_accounts pending_transfer_not_found pending_transfer_not_pending
pending_transfer_has_different_debit_account pending_transfer_has_different_credit_account
pending_transfer_has_different_currency pending_transfer_has_different_code exceeds_pending_transfer_amount
pending_transfer_has_different_amount pending_transfer_already_posted pending_transfer_already_voided
pending_transfer_expired reversed_transfer_not_found reversed_transfer_not_posted exceeds_reversible_amount
imported_event_timestamp_must_not_regress imported_event_timestamp_must_postdate_debit_account
imported_event_timestamp_must_postdate_credit_account imported_event_timeout_must_be_zero
debit_account_frozen credit_account_frozen debit_account_already_closed credit_account_already_closed
overflows_debits_pending overflows_credits_pending overflows_debits_posted overflows_credits_posted
overflows_debits overflows_credits overflows_timeout exceeds_credits exceeds_debits
""".split()
OPERATOR_NAMES = ["done", "account_not_found", "overdraft_limit_invalid", "overdraft_limit_below_use"]

ENUMS = [(CreateAccountResult, ACCOUNT_NAMES), (CreateTransferResult, TRANSFER_NAMES), (OperatorResult, OPERATOR_NAMES)]
ALL = [result for enum, _ in ENUMS for result in enum]
ISO_REASONS = {
    "exceeds_credits": "AM04",
    "debit_account_already_closed": "AC04",
    "credit_account_already_closed": "AC04",
    "debit_account_frozen": "AC06",
    "credit_account_frozen": "AC06",
    "id_already_failed": "AM05",
    "exists_with_different_amount": "AM05",
    "credit_account_not_found": "AC03",
    "accounts_must_have_the_same_currency": "AM03",
}


def full_name(result: Result) -> str:
    return f"{type(result).__name__}.{result.name}"


@pytest.mark.parametrize(("enum", "names"), ENUMS, ids=[enum.__name__ for enum, _ in ENUMS])
def test_numbers_are_contiguous_from_zero_in_the_order_of_the_checks(enum: type[Result], names: list[str]) -> None:
    assert [(int(result), result.name.lower()) for result in enum] == list(enumerate(names))
    assert [result.wire_name for result in enum] == names
    assert len(enum) <= 256, "a result travels as one byte"


def test_the_starred_results_of_transfers_and_no_others_are_of_class_state() -> None:
    state = [result.wire_name for result in CreateTransferResult if result.result_class is ResultClass.STATE]

    assert state == [name for name in TRANSFER_NAMES if name in RECORDED]
    assert len(state) == len(RECORDED)
    assert [result for result in CreateAccountResult if result.result_class is ResultClass.STATE] == []


def test_created_exists_and_done_and_no_others_are_ok() -> None:
    ok = [full_name(result) for result in ALL if result.result_class is ResultClass.OK]

    assert ok == [
        "CreateAccountResult.CREATED",
        "CreateAccountResult.EXISTS",
        "CreateTransferResult.CREATED",
        "CreateTransferResult.EXISTS",
        "OperatorResult.DONE",
    ]
    assert [full_name(result) for result in ALL if result.is_ok] == ok


@pytest.mark.parametrize("result", ALL, ids=full_name)
def test_each_result_has_a_sentence_that_says_what_to_do(result: Result) -> None:
    sentence = result.sentence

    assert isinstance(result.result_class, ResultClass)
    assert re.fullmatch(r"[A-Z].{20,}\.", sentence), "a whole sentence"
    assert "  " not in sentence
    assert len(sentence) <= 160, "one sentence, not a page"


@pytest.mark.parametrize("result", ALL, ids=full_name)
def test_a_reason_code_is_one_of_iso_20022_or_absent(result: Result) -> None:
    assert result.iso_reason is None or re.fullmatch(r"[A-Z]{2}[A-Z0-9]{2}", result.iso_reason)
    assert result.iso_reason is None or result.wire_name not in ("created", "exists", "done")


@pytest.mark.parametrize(("name", "reason"), ISO_REASONS.items())
def test_the_reasons_that_banks_know_best_are_given(name: str, reason: str) -> None:
    assert CreateTransferResult[name.upper()].iso_reason == reason


def test_a_sentence_of_class_state_points_to_a_new_id() -> None:
    silent = [
        result.wire_name
        for result in CreateTransferResult
        if result.result_class is ResultClass.STATE and "new" not in result.sentence
    ]

    assert silent == []


def test_no_two_results_of_an_enum_share_a_sentence() -> None:
    for enum, _ in ENUMS:
        sentences = [result.sentence for result in enum]
        assert sorted(set(sentences)) == sorted(sentences)
