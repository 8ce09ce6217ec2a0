"""Plays every scenario of the tables to the real ledger and to its twin; the tables must name every result."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raftpay.ledger import CreateAccountResult, CreateTransferResult, OperatorResult, Result
from tests.ledger.real import Real
from tests.ledger.tables import Scenario, ScenarioFailure, Side, play, read_file, read_scenarios
from tests.ledger.twin import Twin

SCENARIOS = read_scenarios()
SIDES: dict[str, Callable[[], Side]] = {"ledger": Real, "twin": Twin}
RESULTS: dict[str, type[Result]] = {
    "account": CreateAccountResult,
    "transfer": CreateTransferResult,
    "operator": OperatorResult,
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_scenario(scenario: Scenario, side: str) -> None:
    try:
        play(scenario, SIDES[side]())
    except ScenarioFailure as failure:
        pytest.fail(str(failure), pytrace=False)


@pytest.mark.parametrize("kind", RESULTS)
def test_the_tables_have_a_row_for_every_result(kind: str) -> None:
    names = {row.expected for scenario in SCENARIOS for row in scenario.rows if row.kind == kind}

    assert names == {result.name.lower() for result in RESULTS[kind]}


def test_no_two_scenarios_have_the_same_name() -> None:
    names = [scenario.name for scenario in SCENARIOS]

    assert sorted(set(names)) == sorted(names)


TABLE = """
## Given

Two accounts.

| when | step | result |
| - | - | - |
| | account alice | created |
| | account bob | created |

## One transfer

A sentence.

| when | step | result |
| - | - | - |
| 5s | transfer t1 alice -> bob 7 | created |
"""


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("row", "got"),
    [
        ("| | transfer t2 alice -> bob 7 | exists |", "created"),
        ("| | transfer t1 alice -> bob 8 | exists |", "exists_with_different_amount"),
        ("| | account alice USD | exists |", "exists_with_different_currency"),
        ("| | freeze nobody | done |", "account_not_found"),
        ("| | balances of alice | debits_posted=8 |", "debits_posted=7"),
        ("| | balances of alice | debits_posted=7 credits_posted=1 |", "debits_posted=7"),
        ("| | balances of alice | zero |", "debits_posted=7"),
        ("| | balances of alice at 4s | debits_posted=7 |", "zero"),
        ("| | see account alice | status=closed |", "open"),
        ("| | see account alice | none |", "alice"),
        ("| | see transfer t1 | at=6s |", "5000000000"),
        ("| | see transfer t2 | amount=7 |", "none"),
        ("| | transfers of alice | none |", "t1"),
        ("| | transfers of alice direction=credit | t1 |", "none"),
        ("| | history of alice | t1: debits_posted=8 |", "t1: debits_posted=7"),
        ("| | transfers ref=x | t1 |", "none"),
        ("| | accounts | bob alice |", "alice bob"),
        ("| | trial EUR | accounts=2 debits_posted=7 credits_posted=8 |", "credits_posted=7"),
        ("| | next expiry | 5s |", "none"),
        ("| | counts | accounts=2 transfers=0 pendings=0 |", "transfers=1"),
        ("| | no such step | none |", "no such step"),
        ("| | transfer t2 alice -> bob seven | created |", "not a number"),
        ("| | transfer t2 alice -> bob 7 colour=1 | created |", "colour"),
        ("| 5s | transfer t2 alice -> bob 7 | created |", "AssertionError"),
    ],
)
def test_a_row_that_is_not_true_fails_with_its_place(row: str, got: str, side: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.md"
    path.write_text(TABLE + row)
    (scenario,) = read_file(path)

    with pytest.raises(ScenarioFailure) as failure:
        play(scenario, SIDES[side]())

    assert str(failure.value).startswith(f"wrong.md:{len((TABLE + row).splitlines())}: ")
    assert got in str(failure.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("## Title\n\n| when | step | result |\n| - | - | - |\n| | sweep | |\n", "needs a sentence"),
        ("## Title\n\nA sentence.\n", "needs a sentence and a table"),
        ("## Title\n\nA sentence.\n\n| | sweep |\n", "columns"),
    ],
)
def test_a_table_that_cannot_be_read_fails_with_its_place(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "unreadable.md"
    path.write_text(text)

    with pytest.raises(ValueError, match=rf"unreadable\.md:\d+: .*{complaint}"):
        list(read_file(path))
