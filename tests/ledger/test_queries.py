"""Pages: cursors that stay valid while transfers arrive, bounded work, and refusals that name the field."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from raftpay.ledger import (
    QUERY_LIMIT_MAX,
    Account,
    AccountQuery,
    AccountsQuery,
    Command,
    CreateAccounts,
    CreateTransfers,
    Ledger,
    Page,
    Transfer,
    TransferFlag,
    TransferQuery,
)
from raftpay.ledger.histories import CHECKPOINT_ROWS
from raftpay.ledger.queries import ROWS_PER_PAGE_MAX

SECOND = 10**9


def busy_ledger(count: int = 100) -> Ledger:
    ledger = Ledger()
    ledger.apply(Command(1, [CreateAccounts([Account(name, "EUR") for name in "abc"])]))
    pay(ledger, 0, count)
    return ledger


def pay(ledger: Ledger, first: int, count: int) -> None:
    events = [
        Transfer(f"t{number}", *("ab" if number % 3 else "ca"), number, code=number % 2)
        for number in range(first, first + count)
    ]
    ledger.apply(Command(ledger.time + 10**6, [CreateTransfers(events)]))


QUESTIONS: dict[str, tuple[Callable[[Ledger], Callable[[Any], Page[Any]]], Any]] = {
    "account_transfers": (lambda ledger: ledger.account_transfers, AccountQuery("a")),
    "account_balances": (lambda ledger: ledger.account_balances, AccountQuery("a")),
    "account_transfers of a code": (lambda ledger: ledger.account_transfers, AccountQuery("a", code=1)),
    "account_balances of a side": (lambda ledger: ledger.account_balances, AccountQuery("a", direction="credit")),
    "query_transfers": (lambda ledger: ledger.query_transfers, TransferQuery(code=1)),
}


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_pages_join_up_while_transfers_arrive(question: str, newest_first: bool) -> None:
    ledger = busy_ledger()
    ask, query = QUESTIONS[question]
    query = structs.replace(query, newest_first=newest_first, limit=QUERY_LIMIT_MAX)
    before = ask(ledger)(query).items

    items: list[Any] = []
    cursor = ""
    for round_of_pages in range(1000):
        page = ask(ledger)(structs.replace(query, limit=7, cursor=cursor))
        items += page.items
        cursor = page.cursor
        if not cursor:
            break
        if round_of_pages < 5:
            pay(ledger, 100 + 10 * round_of_pages, 10)

    assert len(before) > 20
    assert items == (before if newest_first else ask(ledger)(query).items)
    assert cursor == ""


def test_a_page_looks_at_a_bounded_number_of_rows_and_says_where_to_go_on() -> None:
    ledger = busy_ledger(0)
    for first in range(0, ROWS_PER_PAGE_MAX + 8000, 8000):
        pay(ledger, first, 8000)
    ledger.apply(Command(ledger.time + 1, [CreateTransfers([Transfer("rare", "a", "b", 1, code=9)])]))

    first_page = ledger.query_transfers(TransferQuery(code=9))
    second_page = ledger.query_transfers(TransferQuery(code=9, cursor=first_page.cursor))

    assert (first_page.items, bool(first_page.cursor)) == ([], True)
    assert [record.id for record in second_page.items] == ["rare"]
    assert second_page.cursor == ""


def test_balances_after_each_transfer_are_those_that_a_lookup_would_have_shown() -> None:
    ledger = busy_ledger(0)
    shown = []
    for number in range(3 * CHECKPOINT_ROWS):
        pay(ledger, number, 1)
        account = ledger.lookup_accounts(["a"])[0]
        assert account is not None
        shown.append((ledger.time, account.debits_posted, account.credits_posted))

    page = ledger.account_balances(AccountQuery("a", limit=QUERY_LIMIT_MAX))
    at_each_time = [ledger.balance_at("a", time) for time, _, _ in shown]

    assert [(item.timestamp, item.debits_posted, item.credits_posted) for item in page.items] == shown
    assert at_each_time == page.items


def test_balance_at_sees_an_expiry_though_it_is_no_transfer() -> None:
    ledger = busy_ledger(0)
    pending = Transfer("held", "a", "b", 5, flags=TransferFlag.PENDING, timeout_s=1)
    ledger.apply(Command(SECOND, [CreateTransfers([pending])]))
    ledger.apply(Command(3 * SECOND, []))

    balances = [ledger.balance_at("a", time) for time in (1, SECOND - 1, SECOND, 3 * SECOND - 1, 3 * SECOND)]

    assert [balance and balance.debits_pending for balance in balances] == [0, 0, 5, 5, 0]
    assert [item.transfer_id for item in ledger.account_balances(AccountQuery("a")).items] == ["held"]


def test_balance_at_finds_its_way_past_an_import_dated_before_an_expiry() -> None:
    ledger = busy_ledger(0)
    pending = Transfer("held", "a", "b", 5, flags=TransferFlag.PENDING, timeout_s=1)
    ledger.apply(Command(SECOND, [CreateTransfers([pending])]))
    ledger.apply(Command(5 * SECOND, []))
    imported = Transfer("old", "c", "a", 1, flags=TransferFlag.IMPORTED, timestamp=3 * SECOND)
    assert ledger.apply(Command(6 * SECOND, [CreateTransfers([imported])]))[0].results == [0]

    balances = [ledger.balance_at("b", time) for time in (2 * SECOND, 4 * SECOND, 5 * SECOND)]
    of_a = [ledger.balance_at("a", time) for time in (2 * SECOND, 3 * SECOND)]

    assert [balance and balance.credits_pending for balance in balances] == [5, 5, 0]
    assert [balance and balance.credits_posted for balance in of_a] == [0, 1]
    assert [r.id for r in ledger.query_transfers(TransferQuery(time_from=3 * SECOND, time_to=4 * SECOND)).items] == [
        "old"
    ]
    assert [r.id for r in ledger.account_transfers(AccountQuery("a", time_from=2 * SECOND)).items] == ["old"]


def test_an_account_has_no_balance_before_it_was_opened() -> None:
    ledger = busy_ledger(0)

    assert ledger.balance_at("b", 1) is None
    assert ledger.balance_at("b", 2) is not None
    assert ledger.balance_at("nobody", 2) is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (AccountQuery("a", limit=0), "limit"),
        (AccountQuery("a", limit=QUERY_LIMIT_MAX + 1), "limit"),
        (AccountQuery("a", cursor="x"), "cursor"),
        (AccountQuery("a", cursor="to5"), "cursor"),
        (AccountQuery("a", cursor="hn5"), "cursor"),
        (AccountQuery("a", cursor="ho" + "9" * 50), "cursor"),
        (AccountQuery("nobody", cursor="x"), "cursor"),
        (AccountQuery("a", direction="both"), "direction"),  # type: ignore[arg-type]  # what a caller might send
    ],
)
def test_a_question_that_cannot_be_is_refused_with_the_name_of_its_field(query: AccountQuery, field: str) -> None:
    ledger = busy_ledger()

    for ask in (ledger.account_transfers, ledger.account_balances):
        with pytest.raises(ValueError, match=f"^{field}: found "):
            ask(query)


def test_the_other_questions_refuse_the_same() -> None:
    ledger = busy_ledger()

    with pytest.raises(ValueError, match=r"^limit: found 0"):
        ledger.query_transfers(TransferQuery(limit=0))
    with pytest.raises(ValueError, match=r"^cursor: found"):
        ledger.query_transfers(TransferQuery(cursor="ao1"))
    with pytest.raises(ValueError, match=r"^cursor: found"):
        ledger.list_accounts(AccountsQuery(cursor="to1"))
    with pytest.raises(ValueError, match=r"^status: found 'shut'"):
        ledger.list_accounts(AccountsQuery(status="shut"))  # type: ignore[arg-type]  # what a caller might send


def test_a_cursor_behind_the_end_is_the_end() -> None:
    ledger = busy_ledger()

    assert ledger.account_transfers(AccountQuery("a", cursor="ho999999")) == Page([], "")
    assert ledger.account_transfers(AccountQuery("nobody")) == Page([], "")
