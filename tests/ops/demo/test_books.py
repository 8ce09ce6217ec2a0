"""The proof can fail: each way in which nodes and file may differ is found, and named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from raftpay.client.answers import TrialBalance
from raftpay.ledger import AccountRecord, CurrencyTotals, TransferRecord
from raftpay.ops.check import Check, NodeBooks
from raftpay.ops.demo.books import Line, Observed, Proof, Sheet, prove, read_refused, read_sheet

ACCOUNTS = ("alice", "bob", "shop")
SHEET = Sheet(
    lines=[
        Line("p1", "alice", "shop", 500, "EUR"),
        Line("p2", "bob", "shop", 250, "EUR"),
        Line("p3", "shop", "alice", 100, "EUR"),
    ],
    flawed={"p4": "amount"},
)
REFUSED = {"p4": "amount_invalid"}


def record(line: Line) -> TransferRecord:
    return TransferRecord(
        id=line.id,
        debit_account=line.debit_account,
        credit_account=line.credit_account,
        amount=line.amount,
        currency=line.currency,
        code=0,
        reference="",
        flags=0,
        target_id="",
        timeout_s=0,
        timestamp=1,
        pending_status="",
    )


def account(name: str, debits: int, credits: int, pending: int = 0) -> AccountRecord:
    return AccountRecord(
        id=name,
        currency="EUR",
        code=0,
        reference="",
        flags=0,
        overdraft_limit=0,
        status="open",
        created_at=1,
        debits_pending=pending,
        debits_posted=debits,
        credits_pending=0,
        credits_posted=credits,
    )


def node(name: str, *, debits: int = 850, credits: int = 850, problem: str | None = None) -> NodeBooks:
    totals = TrialBalance(9, [CurrencyTotals("EUR", 3, 0, debits, 0, credits), CurrencyTotals("JPY", 1, 0, 0, 0, 0)])
    return NodeBooks(name, "127.0.0.1:1", totals, {9: "d" * 64}, problem)


def books(*nodes: NodeBooks, digests: Sequence[str] = ("d" * 64,) * 3) -> Check:
    return Check(list(nodes), 9, dict(zip(("n1", "n2", "n3"), digests, strict=False)))


ALL_WELL = Observed(
    looked_up=[*(record(line) for line in SHEET.lines), None],
    walked=["p1", "p2", "p3"],
    accounts=[account("alice", 500, 100), account("bob", 250, 0), account("shop", 100, 750)],
    counts={"n1": 3, "n2": 3, "n3": 3},
    books=books(node("n1"), node("n2"), node("n3")),
)


def failed(proof: Proof) -> dict[str, str]:
    return {finding.claim: finding.found for finding in proof.findings if not finding.is_good}


def test_all_holds_when_the_nodes_have_what_the_file_says() -> None:
    proof = prove(SHEET, REFUSED, ALL_WELL, flawed=1)

    assert failed(proof) == {}
    assert proof.is_good
    assert (proof.lost, proof.altered, proof.doubled) == (0, 0, 0)
    assert len(proof.findings) == 8


def test_a_missing_transfer_is_lost() -> None:
    observed = replace(ALL_WELL, looked_up=[ALL_WELL.looked_up[0], None, ALL_WELL.looked_up[2], None])

    proof = prove(SHEET, REFUSED, observed, flawed=1)

    assert proof.lost == 1
    assert failed(proof) == {"every payment is there": "1 lost: p2"}


@pytest.mark.parametrize(
    "change",
    [{"amount": 501}, {"debit_account": "bob"}, {"credit_account": "bob"}, {"currency": "USD"}],
    ids=lambda change: next(iter(change)),
)
def test_a_transfer_with_something_changed_is_altered(change: dict[str, object]) -> None:
    changed = msgspec.structs.replace(record(SHEET.lines[0]), **change)

    proof = prove(SHEET, REFUSED, replace(ALL_WELL, looked_up=[changed, *ALL_WELL.looked_up[1:]]), flawed=1)

    assert proof.altered == 1
    assert failed(proof) == {"each as the file has it": "1 differ: p1"}


@pytest.mark.parametrize(
    ("walked", "said"),
    [
        (["p1", "p2", "p2", "p3"], "1 too many: p2"),
        (["p1", "p2", "p3", "another-id"], "1 too many: another-id"),
        (["p1", "p2", "p3", "p4"], "1 too many: p4"),
        (["p1", "p2", "p3", "x1", "x2", "x3", "x4"], "4 too many: x1, x2, x3 …"),
    ],
)
def test_a_transfer_too_many_is_doubled(walked: list[str], said: str) -> None:
    proof = prove(SHEET, REFUSED, replace(ALL_WELL, walked=walked), flawed=1)

    assert proof.doubled > 0
    assert failed(proof) == {"none is there twice": said}


def test_a_node_with_another_count_of_transfers_is_named() -> None:
    proof = prove(SHEET, REFUSED, replace(ALL_WELL, counts={"n1": 3, "n2": 4, "n3": 3}), flawed=1)

    assert failed(proof) == {"transfers = distinct payment ids": "n2 has 4; expected 3"}


@pytest.mark.parametrize(
    ("accounts", "said"),
    [
        ([account("alice", 500, 101), account("bob", 250, 0), account("shop", 100, 750)], "1 differ: alice"),
        ([account("alice", 500, 100), account("bob", 250, 0, 1), account("shop", 100, 750)], "1 differ: bob"),
        ([account("alice", 500, 100), account("bob", 250, 0)], "1 differ: shop"),
        ([*ALL_WELL.accounts, account("eve", 0, 7)], "1 differ: eve"),
    ],
)
def test_a_balance_that_is_not_the_sum_of_the_file_is_named(accounts: list[AccountRecord], said: str) -> None:
    proof = prove(SHEET, REFUSED, replace(ALL_WELL, accounts=accounts), flawed=1)

    assert failed(proof) == {"balances = sums of the file": said}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (node("n2", credits=849), "1 unbalanced: n2 EUR"),
        # Balanced in itself, but not what was paid.
        (node("n2", debits=849, credits=849), "1 unbalanced: n2 EUR"),
    ],
)
def test_a_trial_balance_that_is_off_is_named_with_its_node(wrong: NodeBooks, said: str) -> None:
    proof = prove(SHEET, REFUSED, replace(ALL_WELL, books=books(node("n1"), wrong, node("n3"))), flawed=1)

    assert failed(proof) == {"books balanced on every node": said}


def test_a_node_that_does_not_answer_proves_nothing() -> None:
    silent = NodeBooks("n3", "127.0.0.1:1", None, {}, "no answer")

    proof = prove(SHEET, REFUSED, replace(ALL_WELL, books=books(node("n1"), node("n2"), silent)), flawed=1)

    assert failed(proof).keys() == {"books balanced on every node", "digests equal on every node"}


def test_digests_that_differ_are_shown() -> None:
    found = books(node("n1"), node("n2"), node("n3"), digests=("d" * 64, "e" * 64, "d" * 64))

    proof = prove(SHEET, REFUSED, replace(ALL_WELL, books=found), flawed=1)

    assert failed(proof) == {"digests equal on every node": f"n1 {'d' * 12}, n2 {'e' * 12}, n3 {'d' * 12} at 9"}


@pytest.mark.parametrize(
    ("refused", "flawed", "part"),
    [
        ({}, 1, "0 of 1 expected; not refused: p4"),
        ({"p4": "amount_invalid", "p1": "exceeds_credits"}, 1, "refused without need: p1"),
        # The file has fewer flawed lines than it was made with.
        (REFUSED, 2, "1 of 2 expected: 1 amount_invalid"),
    ],
)
def test_refusals_other_than_those_of_the_flawed_lines_are_named(
    refused: dict[str, str], flawed: int, part: str
) -> None:
    proof = prove(SHEET, refused, ALL_WELL, flawed=flawed)

    assert part in failed(proof)["flawed lines are refused, no others"]


def test_a_flawed_line_that_is_in_the_ledger_all_the_same_is_named() -> None:
    smuggled = record(Line("p4", "alice", "bob", 1, "EUR"))

    proof = prove(SHEET, REFUSED, replace(ALL_WELL, looked_up=[*ALL_WELL.looked_up[:3], smuggled]), flawed=1)

    assert "in the ledger all the same: p4" in failed(proof)["flawed lines are refused, no others"]


def test_a_doctored_file_is_found_out() -> None:
    doctored = Sheet([Line("p1", "alice", "shop", 499, "EUR"), *SHEET.lines[1:]], SHEET.flawed)

    proof = prove(doctored, REFUSED, ALL_WELL, flawed=1)

    assert failed(proof).keys() == {
        "each as the file has it",
        "balances = sums of the file",
        "books balanced on every node",
    }


def test_the_file_is_read_without_the_payer_and_its_flaws_are_seen(tmp_path: Path) -> None:
    accounts, payments = tmp_path / "accounts.csv", tmp_path / "payments.csv"
    accounts.write_text("id,currency\nalice,EUR\nshop,EUR\nyuki,JPY\nmise,JPY\n")
    payments.write_text(
        "id,debit_account,credit_account,amount,currency,code,reference\n"
        'p1,alice,shop,12.34,EUR,1,"Tea, green"\n'
        "p2,yuki,mise,500,JPY,1,\n"
        "p3,alice,alice,1.00,EUR,1,\n"
        "p4,alice,nobody,1.00,EUR,1,\n"
        "p5,nobody,shop,1.00,EUR,1,\n"
        'p6,alice,shop,"1,00",EUR,1,\n'
    )

    sheet = read_sheet(accounts, payments)

    assert sheet.lines == [Line("p1", "alice", "shop", 1234, "EUR"), Line("p2", "yuki", "mise", 500, "JPY")]
    assert sheet.flawed == {"p3": "accounts", "p4": "accounts", "p5": "accounts", "p6": "amount"}
    assert sheet.ids == ["p1", "p2", "p3", "p4", "p5", "p6"]


def test_no_report_means_that_nothing_was_refused() -> None:
    assert read_refused(None) == {}
