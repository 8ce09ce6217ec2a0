"""Statements: lines that lead from one balance to the other, a page in hand at a time, and what does not add up."""

from typing import Any

import pytest
from msgspec import structs

from raftpay.ledger import (
    Account,
    AccountQuery,
    BalanceRecord,
    Command,
    CreateAccounts,
    CreateTransfers,
    Ledger,
    Page,
    Transfer,
    TransferFlag,
    TransferRecord,
)
from raftpay.ops.statement import PAGE_TRANSFERS, Period, Statement


def ledger_of(count: int) -> Ledger:
    ledger = Ledger()
    ledger.apply(Command(1, [CreateAccounts([Account(name, "EUR") for name in "ab"])]))
    pay(ledger, 0, count)
    return ledger


def pay(ledger: Ledger, first: int, count: int) -> None:
    for start in range(first, first + count, 1000):
        events = [Transfer(f"t{i}", "a", "b", 2) for i in range(start, min(start + 1000, first + count))]
        ledger.apply(Command(ledger.time + 1, [CreateTransfers(events)]))


class Counting:
    """A ledger that notes each page that it gives, and after which nothing of it may change."""

    def __init__(self, ledger: Ledger, *, lost: str = "") -> None:
        self.ledger, self.lost = ledger, lost
        self.given: list[int] = []

    def lookup_accounts(self, ids: Any, /) -> Any:
        return self.ledger.lookup_accounts(ids)

    def balance_at(self, account_id: str, time: int, /) -> BalanceRecord | None:
        return self.ledger.balance_at(account_id, time)

    def account_transfers(self, query: AccountQuery, /) -> Page[TransferRecord]:
        page = self.ledger.account_transfers(query)
        self.given.append(len(page.items))
        return structs.replace(page, items=[item for item in page.items if item.id != self.lost])


def statement(books: Counting, name: str, period: Period) -> Statement:
    account = books.lookup_accounts([name])[0]
    assert account is not None
    return Statement(books, account, period)


def test_a_page_is_asked_for_when_the_one_before_is_done_with() -> None:
    books = Counting(ledger_of(3 * PAGE_TRANSFERS + 1))
    found = statement(books, "a", Period())

    asked = [(len(page), len(books.given)) for page in found.pages()]

    assert asked == [(PAGE_TRANSFERS, 1), (PAGE_TRANSFERS, 2), (PAGE_TRANSFERS, 3), (1, 4)]
    assert found.difference() == (0, 0)
    assert (found.line_count, found.debits) == (3 * PAGE_TRANSFERS + 1, 6 * PAGE_TRANSFERS + 2)


def test_what_is_paid_while_it_is_read_is_not_in_it() -> None:
    ledger = ledger_of(2 * PAGE_TRANSFERS)
    found = statement(Counting(ledger), "b", Period())

    for number, _ in enumerate(found.pages()):
        if number < 2:
            pay(ledger, 10_000 * (number + 1), 700)

    assert found.line_count == 2 * PAGE_TRANSFERS
    assert found.difference() == (0, 0)


def test_a_period_to_come_has_no_lines_and_adds_up_though_payments_arrive() -> None:
    ledger = ledger_of(5)
    found = statement(Counting(ledger), "a", Period(first=10**18))

    pay(ledger, 10_000, 5)

    assert list(found.pages()) == []
    assert found.difference() == (0, 0)
    assert found.opening.debits_posted == found.closing.debits_posted == 10


def test_what_is_only_reserved_is_no_line() -> None:
    ledger = ledger_of(1)
    events = [
        Transfer("held", "a", "b", 5, flags=TransferFlag.PENDING),
        Transfer("gone", "a", "b", 5, flags=TransferFlag.PENDING),
        Transfer("void", "", "", None, flags=TransferFlag.VOID_PENDING, target_id="gone"),
        Transfer("post", "", "", 3, flags=TransferFlag.POST_PENDING, target_id="held"),
        Transfer("back", "", "", 1, flags=TransferFlag.REVERSAL, target_id="t0"),
    ]
    ledger.apply(Command(ledger.time + 1, [CreateTransfers(events)]))
    found = statement(Counting(ledger), "a", Period())

    lines = [line for page in found.pages() for line in page]

    assert [(line.transfer.id, line.is_debit, line.counterparty, line.balance) for line in lines] == [
        ("t0", True, "b", -2),
        ("post", True, "b", -5),
        ("back", False, "b", -4),
    ]
    assert found.difference() == (0, 0)


@pytest.mark.parametrize(("name", "difference"), [("a", (-2, 0)), ("b", (0, -2))])
def test_a_line_that_is_lost_is_noticed(name: str, difference: tuple[int, int]) -> None:
    found = statement(Counting(ledger_of(700), lost="t600"), name, Period())

    for _ in found.pages():
        continue

    assert found.difference() == difference
