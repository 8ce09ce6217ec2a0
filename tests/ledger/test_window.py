"""What leaves the memory, and what the ledger says and refuses afterwards. The twin's runs drop rows at random."""

from collections.abc import Callable
from typing import Any

import pytest

from raftpay.ledger import (
    Account,
    AccountQuery,
    Command,
    CreateAccounts,
    CreateTransferResult,
    CreateTransfers,
    Ledger,
    Transfer,
    TransferFlag,
    TransferQuery,
    queries,
)
from raftpay.ledger.histories import CHECKPOINT_ROWS
from raftpay.ledger.window import WindowSizes
from tests.ledger.real import pages
from tests.ledger.sealed_in_memory import SealedInMemory, movements

LINKED, PENDING, REVERSAL = TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.REVERSAL
POST, VOID = TransferFlag.POST_PENDING, TransferFlag.VOID_PENDING
SECOND = 10**9
SIZES = WindowSizes(block_entries=10, segment_entries=30)


class Pair:
    """A ledger that drops what it can after each command, and one that keeps everything."""

    def __init__(self) -> None:
        self.sealed = SealedInMemory()
        self.dropping = Ledger(self.sealed, sizes=SIZES)
        self.keeping = Ledger(sizes=SIZES)
        self.apply(Command(1, [CreateAccounts([Account(name, "EUR") for name in ("a", "b", "c", "closing")])]))

    def apply(self, command: Command) -> list[int]:
        """The results of its last request, which are the same from both ledgers."""
        answers = self.keeping.apply(command)
        assert self.dropping.apply(command) == answers
        for segment in self.dropping.segments():
            self.sealed.seal(segment.rows())
        self.dropping.drop_before(self.sealed.segments)
        assert self.dropping.state_digest() == self.keeping.state_digest()
        return answers[-1].results if answers else []

    def send(self, *events: Transfer, after_s: float = 0.001) -> list[int]:
        return self.apply(Command(self.keeping.time + int(after_s * SECOND), [CreateTransfers(list(events))]))

    def fill(self, name: str, count: int = 100) -> None:
        """So many ordinary transfers, ten in a command: what was before them is dropped."""
        for first in range(0, count, 10):
            self.send(*(Transfer(f"{name}{number}", "a", "b", 1) for number in range(first, first + 10)))

    def is_forgotten(self, transfer_id: str) -> bool:
        return self.dropping._books.transfers.find(transfer_id) is None


def result(name: str) -> int:
    return int(CreateTransferResult[name.upper()])


def test_cuts_fall_between_commands_where_blocks_and_segments_are_full() -> None:
    pair = Pair()

    for number in range(13):
        pair.send(*(Transfer(f"t{number}-{i}", "a", "b", 1) for i in range(7)))

    # A block is closed by the command that brings it to 10 rows: at 14, 28, 42 and so on; a segment has 30 of them.
    segments = pair.keeping.segments()
    assert [(segment.first, segment.last) for segment in segments] == [(0, 42), (42, 84)]
    assert pair.sealed.segments == 2
    assert pair.dropping.segments() == []


def test_failed_ids_fill_a_segment_as_well() -> None:
    pair = Pair()

    for number in range(31):
        pair.send(Transfer(f"f{number}", "a", "nobody", 1))

    (segment,) = pair.keeping.segments()
    assert (segment.first, segment.last) == (0, 0)
    assert segment.rows().failed == [f"f{number}" for number in range(30)]
    assert pair.send(Transfer("f0", "a", "b", 1)) == [result("id_already_failed")]


def test_a_segment_has_the_rows_accounts_and_balances_of_its_time_also_after_they_are_dropped() -> None:
    pair = Pair()
    pending = Transfer("held", "a", "b", 7, code=3, flags=PENDING, reference="r", timeout_s=60)
    pair.send(pending, Transfer("post", "", "", 5, flags=POST, target_id="held"))
    pair.fill("x", 20)
    pair.apply(Command(pair.keeping.time + 10, [CreateAccounts([Account("late", "EUR")])]))
    pair.fill("y", 20)
    (segment,) = pair.keeping.segments()

    rows = segment.rows()

    transfers = [movement for movement in movements(rows) if movement.id]
    shown = pair.keeping.lookup_transfers([movement.id for movement in transfers])
    assert [(m.timestamp, m.amount, m.code, m.flags, m.reference, m.target_id, m.timeout_s) for m in transfers] == [
        (r.timestamp, r.amount, r.code, r.flags, r.reference, r.target_id, r.timeout_s) for r in shown if r
    ]
    assert [rows.account_ids[m.debit] for m in transfers] == [r.debit_account for r in shown if r]
    assert rows.accounts.ids == ["a", "b", "c", "closing", "late"]
    assert [transfers[1].target_amount, transfers[1].link] == [7, 0]
    assert [list(column) for column in rows.opening] == [[], [], [], []]
    assert [column[0] for column in rows.closing] == [0, 5 + rows.last - 2, 0, 0]
    assert list(movements(rows)) == pair.sealed.movements


@pytest.mark.parametrize("number", [0, 55, 109], ids=["the first", "a middle", "the last dropped"])
@pytest.mark.parametrize("company", [0, 20], ids=["alone", "in a batch of plain transfers"])
def test_an_id_of_any_segment_is_refused_as_if_it_were_in_memory(number: int, company: int) -> None:
    pair = Pair()
    pair.fill("t", 110)
    for i in range(0, 110, 10):
        pair.send(*(Transfer(f"failed{i + j}", "a", "nobody", 1) for j in range(10)))
    pair.fill("u", 60)
    others = [Transfer(f"new{i}", "a", "b", 1) for i in range(company)]
    assert pair.is_forgotten(f"t{number}")

    events = [
        Transfer(f"t{number}", "a", "b", 1),
        Transfer(f"t{number}", "a", "b", 2),
        Transfer(f"t{number}", "b", "a", 1),
        Transfer(f"t{number}", "a", "b", 1, code=1),
        Transfer(f"t{number}", "a", "b", 1, reference="r"),
        Transfer(f"t{number}", "a", "b", 1, flags=PENDING),
        Transfer(f"failed{number}", "a", "b", 1),
    ]
    found = pair.send(*others, *events)[company:]

    assert found == [
        result("exists"),
        result("exists_with_different_amount"),
        result("exists_with_different_debit_account"),
        result("exists_with_different_code"),
        result("exists_with_different_reference"),
        result("exists_with_different_flags"),
        result("id_already_failed"),
    ]


@pytest.mark.parametrize("known", ["t0", "failed", "open"])
def test_a_batch_of_plain_transfers_is_searched_for_old_ids(known: str) -> None:
    pair = Pair()
    pair.send(Transfer("t0", "a", "b", 1), Transfer("failed", "a", "nobody", 1))
    pair.send(Transfer("open", "a", "b", 1, flags=PENDING))
    pair.fill("x")
    batch = [Transfer(f"new{i}", "a", "b", 1) for i in range(20)]

    found = pair.send(*batch, Transfer(known, "a", "b", 1))

    expected = {"t0": "exists", "failed": "id_already_failed", "open": "exists_with_different_flags"}
    assert found == [0] * 20 + [result(expected[known])]


def test_a_chain_sent_again_exists_as_a_whole_after_it_was_dropped() -> None:
    pair = Pair()
    chain = [Transfer("c1", "a", "b", 1, flags=LINKED), Transfer("c2", "b", "a", 2, flags=LINKED)]
    chain.append(Transfer("c3", "a", "b", 3))
    pair.send(*chain)
    pair.fill("x")
    assert pair.is_forgotten("c2")

    assert pair.send(*chain) == [result("exists")] * 3
    assert pair.send(*chain[:2], Transfer("other", "a", "b", 3))[1] == result("linked_event_failed")


def test_an_open_pending_transfer_is_settled_from_memory_long_after_its_row_has_left() -> None:
    pair = Pair()
    closing = PENDING | TransferFlag.CLOSING_CREDIT
    pair.send(
        Transfer("posted", "a", "b", 10, code=4, flags=PENDING, timeout_s=10**6),
        Transfer("voided", "c", "closing", 10, flags=closing),
        Transfer("expired", "a", "b", 10, flags=PENDING, timeout_s=60),
        Transfer("chained", "a", "b", 10, flags=PENDING, timeout_s=10**6),
    )
    pair.fill("x")
    searched = len(pair.sealed.searched)
    assert pair.dropping._books.transfers.dropped_blocks > 0

    post = Transfer("p", "", "", 4, flags=POST, target_id="posted")
    void = Transfer("v", "", "", None, flags=VOID, target_id="voided")
    broken = Transfer("broken", "", "", None, flags=POST | LINKED, target_id="chained")
    assert pair.send(post, void, broken, Transfer("breaker", "a", "nobody", 1))[:2] == [0, 0]
    pair.apply(Command(pair.keeping.time + 61 * SECOND, []))

    statuses = ["posted", "voided", "expired", "chained"]
    shown = pair.dropping.lookup_transfers(statuses)
    assert [record and record.pending_status for record in shown] == ["posted", "voided", "expired", "pending"]
    assert shown == pair.keeping.lookup_transfers(statuses)
    assert len(pair.sealed.searched) == searched + 1, "only the lookup had to search"
    assert pair.dropping.lookup_accounts(["closing"])[0] == pair.keeping.lookup_accounts(["closing"])[0]
    assert pair.dropping.next_expiry == pair.keeping.next_expiry is not None


def test_what_is_kept_of_dropped_blocks_shrinks_as_it_ends() -> None:
    pair = Pair()
    for first in range(0, 120, 10):
        pair.send(*(Transfer(f"p{i}", "a", "b", 1, flags=PENDING, timeout_s=10**6) for i in range(first, first + 10)))
    pair.fill("x")
    remains = pair.dropping._books.transfers.remains
    assert sum(map(len, remains.parts())) == 120
    order = [(7 * i) % 120 for i in range(120)]

    for done, number in enumerate(order, start=1):
        settlement = Transfer(f"q{number}", "", "", None, flags=(POST, VOID)[number % 2], target_id=f"p{number}")
        assert pair.send(settlement) == [0]
        image = pair.dropping.image()
        restored = Ledger(pair.sealed, sizes=SIZES)
        restored.load(image.chunks())()

        assert restored.state_digest() == pair.keeping.state_digest()
        assert restored.next_expiry == pair.keeping.next_expiry
        for books in (restored._books, pair.dropping._books):
            kept = [slot for part in books.transfers.remains.parts() for slot in part.cells.links]
            assert set(order[done:]) <= set(kept)
            assert len(kept) <= 2 * (120 - done) + 1
            assert len([id_ for id_ in books.transfers.rows if id_[0] == "p"]) == 120 - done

    assert not remains


def test_a_kept_transfer_that_ends_again_after_its_chain_was_taken_back_is_let_go_of_once() -> None:
    pair = Pair()
    pair.send(*(Transfer(f"p{i}", "a", "b", 1, flags=PENDING) for i in range(10)))
    pair.fill("x")
    broken = Transfer("broken", "", "", None, flags=POST | LINKED, target_id="p0")

    pair.send(broken, Transfer("breaker", "a", "nobody", 1), Transfer("q0", "", "", None, flags=POST, target_id="p0"))

    others = [Transfer(f"q{i}", "", "", None, flags=VOID, target_id=f"p{i}") for i in range(1, 10)]
    assert [result for event in others for result in pair.send(event)] == [0] * 9
    assert not pair.dropping._books.transfers.remains


def test_a_pending_transfer_that_ended_long_ago_ends_only_once() -> None:
    pair = Pair()
    ends = {"posted": POST, "voided": VOID}
    names = [*ends, "expired"]
    pair.send(*(Transfer(name, "a", "b", 10, flags=PENDING, timeout_s=60) for name in names))
    pair.fill("x")
    pair.send(
        *(Transfer(f"end of {name}".replace(" ", "-"), "", "", None, flags=ends[name], target_id=name) for name in ends)
    )
    pair.apply(Command(pair.keeping.time + 61 * SECOND, []))
    pair.fill("y")
    assert all(pair.is_forgotten(name) for name in names)

    again = [Transfer(f"again-{name}", "", "", None, flags=POST, target_id=name) for name in names]

    assert pair.send(*again) == [
        result("pending_transfer_already_posted"),
        result("pending_transfer_already_voided"),
        result("pending_transfer_expired"),
    ]


def test_all_reversals_together_never_exceed_a_transfer_that_was_dropped() -> None:
    pair = Pair()
    pair.send(Transfer("t", "a", "b", 10))
    pair.fill("x")

    def back(name: str, amount: int | None) -> Transfer:
        return Transfer(name, "", "", amount, flags=REVERSAL, target_id="t")

    assert pair.send(back("r1", 4)) == [0]
    pair.fill("y")
    assert pair.send(back("r2", 7), back("r3", 6), back("r4", 1)) == [
        result("exceeds_reversible_amount"),
        0,
        result("exceeds_reversible_amount"),
    ]
    assert pair.send(back("r1", 4), back("r1", None)) == [result("exists"), result("exists_with_different_amount")]


def test_new_ids_cost_one_question_a_command_and_no_search() -> None:
    pair = Pair()
    pair.fill("x")
    pair.sealed.asked.clear()
    pair.sealed.searched.clear()
    requests = [CreateTransfers([Transfer(f"new-{i}-{j}", "a", "b", 1) for j in range(5)]) for i in range(4)]

    pair.apply(Command(pair.keeping.time + SECOND, requests))

    assert pair.sealed.asked == [20]
    assert pair.sealed.searched == []


def test_nothing_of_a_dropped_block_stays_in_memory_but_what_is_open() -> None:
    pair = Pair()
    pair.send(Transfer("open", "a", "b", 1, flags=PENDING), Transfer("gone", "a", "b", 1, flags=PENDING))
    pair.send(Transfer("failed", "a", "nobody", 1), Transfer("end", "", "", None, flags=VOID, target_id="gone"))
    pair.send(*(Transfer(f"only{i}", "c", "closing", 1) for i in range(3)))
    pair.fill("x", 200)
    pair.send(
        Transfer("open", "a", "b", 1, flags=PENDING),
        Transfer("failed", "a", "b", 1),
        Transfer("only1", "c", "closing", 1),
    )
    pair.fill("y", 60)

    books = pair.dropping._books
    # An open segment, and for each of the last commands a block that may not have left yet.
    window = 30 + 2 * 10
    assert len(books.transfers.rows) <= window + len(["open"])
    assert sum(len(block.ids) for block in books.transfers.blocks) <= window
    assert [part.cells.ids for part in books.transfers.remains.parts()] == [["open"]]
    assert books.transfers.recalled == {}
    assert books.failed_ids == {}
    assert len(books.histories.rows[0]) <= window + CHECKPOINT_ROWS
    assert [len(rows) for rows in books.histories.rows[2:4]] == [0, 0]
    assert len(books.histories._checkpoints.get(0, ())) <= 4 * (window // CHECKPOINT_ROWS + 1)
    assert set(books.histories._checkpoints) <= {0, 1}


def test_the_histories_of_all_accounts_are_trimmed_however_often_the_base_moves() -> None:
    pair = Pair()
    names = [f"once{number}" for number in range(3000)]
    pair.apply(Command(pair.keeping.time + 1, [CreateAccounts([Account(name, "EUR") for name in names])]))
    pair.send(*(Transfer(f"to-{name}", "a", name, 1) for name in names))

    pair.fill("x", 200)

    rows = pair.dropping._books.accounts.rows
    assert sum(len(pair.dropping._books.histories.rows[rows[name]]) for name in names) == 0


def test_balances_of_a_busy_account_go_on_over_every_border() -> None:
    pair = Pair()
    pair.fill("x", 10 * CHECKPOINT_ROWS)

    found = list(pages(pair.dropping.account_balances, AccountQuery("a"), 1000))

    records = [record for page in found for record in page.items]
    assert [record.debits_posted for record in records] == list(range(1, 10 * CHECKPOINT_ROWS + 1))
    assert found == list(pages(pair.keeping.account_balances, AccountQuery("a"), 1000))
    times = [record.timestamp + i for record in records for i in (-1, 0)]
    assert [pair.dropping.balance_at("a", t) for t in times] == [pair.keeping.balance_at("a", t) for t in times]


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("rows_per_page", [1, 4, 7, 1000])
def test_a_page_looks_at_as_many_rows_on_both_sides_of_the_border(
    rows_per_page: int, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "ROWS_PER_PAGE_MAX", rows_per_page)
    monkeypatch.setattr(queries, "ACCOUNT_ROWS_PER_PAGE_MAX", rows_per_page)
    pair = Pair()
    for first in range(0, 70, 10):
        pair.send(*(Transfer(f"t{i}", "ab"[i % 2], "c", 1, code=i % 3) for i in range(first, first + 10)))
    asked: list[tuple[Callable[[Ledger], Callable[..., object]], object]] = [
        (lambda ledger: ledger.query_transfers, TransferQuery(code=1, newest_first=newest_first)),
        (lambda ledger: ledger.account_transfers, AccountQuery("c", code=2, newest_first=newest_first)),
        (lambda ledger: ledger.account_balances, AccountQuery("a", newest_first=newest_first)),
    ]
    assert pair.dropping._books.transfers.base > 30

    for ask, query in asked:
        for limit in (1, 3, 100):
            of_dropping = list(pages(ask(pair.dropping), query, limit))
            assert of_dropping == list(pages(ask(pair.keeping), query, limit))


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("span", [1, 6, 64])
def test_a_page_of_an_account_walks_a_bounded_span_on_both_sides_of_the_border(
    span: int, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair()
    for first in range(0, 70, 10):
        pair.send(*(Transfer(f"t{i}", "a" if i in (3, 4, 60) else "b", "c", 1) for i in range(first, first + 10)))
    assert pair.dropping._books.transfers.base > 30
    query = AccountQuery("a", newest_first=newest_first)
    (whole,) = pages(pair.keeping.account_transfers, query, 100)

    monkeypatch.setattr(queries, "SPAN_PER_PAGE_MAX", span)
    for limit in (1, 100):
        of_dropping = list(pages(pair.dropping.account_transfers, query, limit))

        assert [item for page in of_dropping for item in page.items] == whole.items
        assert len(of_dropping) >= 70 // span
        assert of_dropping == list(pages(pair.keeping.account_transfers, query, limit))


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
def test_a_page_shows_a_bounded_number_of_items_whatever_its_limit(
    newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "TRANSFERS_PER_PAGE_MAX", 7)
    monkeypatch.setattr(queries, "ACCOUNT_ITEMS_PER_PAGE_MAX", 4)
    pair = Pair()
    pair.fill("x", 70)
    asked: list[tuple[int, Callable[[Ledger], Callable[..., Any]], object]] = [
        (7, lambda ledger: ledger.query_transfers, TransferQuery(newest_first=newest_first)),
        (4, lambda ledger: ledger.account_transfers, AccountQuery("a", newest_first=newest_first)),
        (4, lambda ledger: ledger.account_balances, AccountQuery("a", newest_first=newest_first)),
    ]

    for items_max, ask, query in asked:
        of_dropping = list(pages(ask(pair.dropping), query, 100))

        assert max(len(page.items) for page in of_dropping) == items_max
        assert sum(len(page.items) for page in of_dropping) == 70
        assert of_dropping == list(pages(ask(pair.keeping), query, 100))


def test_an_image_is_the_same_bytes_after_its_blocks_were_dropped() -> None:
    pair = Pair()
    pair.fill("x", 20)
    image = pair.dropping.image()
    at_once = b"".join(image.chunks())

    pair.fill("y", 100)

    assert pair.is_forgotten("x0")
    assert b"".join(image.chunks()) == at_once


def test_an_image_that_needs_more_sealed_history_than_there_is_is_refused() -> None:
    pair = Pair()
    pair.fill("x", 70)
    chunks = list(pair.dropping.image().chunks())
    elsewhere = Ledger(SealedInMemory(), sizes=SIZES)
    digest = elsewhere.state_digest()

    with pytest.raises(ValueError, match="needs the first 2 segments of history, 0 are sealed here"):
        elsewhere.load(chunks)()

    assert elsewhere.state_digest() == digest


def test_an_image_without_an_open_pending_transfer_of_dropped_blocks_is_refused() -> None:
    pair = Pair()
    pair.send(Transfer("held", "a", "b", 1, flags=PENDING))
    pair.fill("x")
    image = pair.dropping.image()
    image._remains.clear()

    with pytest.raises(ValueError, match="keeps other pending transfers than those that are open"):
        Ledger(pair.sealed, sizes=SIZES).load(image.chunks())()


def test_an_image_of_other_sizes_is_refused() -> None:
    pair = Pair()

    with pytest.raises(ValueError, match=r"segments of \(10, 30\) entries, expected"):
        Ledger().load(pair.keeping.image().chunks())()


def test_what_is_not_sealed_is_never_dropped() -> None:
    pair = Pair()
    pair.fill("x", 70)

    with pytest.raises(AssertionError, match="segment 0 is not sealed"):
        pair.keeping.drop_before(1)
