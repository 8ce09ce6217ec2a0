"""The undo of a chain: whatever its events did is taken back to the last cell."""

import pytest

from raftpay.ledger import (
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransferResult,
    CreateTransfers,
    Ledger,
    Transfer,
    TransferFlag,
)
from raftpay.ledger.histories import CHECKPOINT_ROWS
from tests.ledger.table_contents import contents

LINKED, PENDING, REVERSAL = TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.REVERSAL
POST, VOID = TransferFlag.POST_PENDING, TransferFlag.VOID_PENDING
BREAKER = Transfer("breaker", "a", "nobody", 1)
SECOND = 10**9


def ledger_with_some_past() -> Ledger:
    ledger = Ledger()
    accounts = [Account(name, "EUR") for name in ("a", "b", "c", "d")]
    limited = Account("limited", "EUR", flags=AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
    past = [
        Transfer("paid", "a", "b", 100),
        Transfer("held", "a", "b", 30, flags=PENDING, timeout_s=5),
        Transfer("held-for-ever", "a", "b", 40, flags=PENDING),
        Transfer("closing", "c", "d", 7, flags=PENDING | TransferFlag.CLOSING_DEBIT | TransferFlag.CLOSING_CREDIT),
        Transfer("sent back", "", "", 20, flags=REVERSAL, target_id="paid"),
    ]
    ledger.apply(Command(10, [CreateAccounts([*accounts, limited]), CreateTransfers(past)]))
    return ledger


def chained(event: Transfer) -> Transfer:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return Transfer(**{**fields, "flags": event.flags | LINKED})


@pytest.mark.parametrize(
    "event",
    [
        Transfer("new", "a", "b", 5, reference="rent"),
        Transfer("new", "a", "limited", 5, flags=TransferFlag.BALANCING_DEBIT),
        Transfer("new", "b", "a", 5, flags=PENDING, timeout_s=1),
        Transfer("new", "b", "a", 5, flags=PENDING | TransferFlag.CLOSING_CREDIT),
        Transfer("new", "", "", None, flags=POST, target_id="held"),
        Transfer("new", "", "", 3, flags=POST, target_id="held"),
        Transfer("new", "", "", None, flags=VOID, target_id="held"),
        Transfer("new", "", "", None, flags=VOID, target_id="closing"),
        Transfer("new", "", "", 15, flags=REVERSAL, target_id="paid"),
        Transfer("new", "", "", None, flags=REVERSAL, target_id="paid"),
    ],
    ids=lambda event: f"flags {event.flags} of {event.target_id or event.credit_account} amount {event.amount}",
)
def test_each_kind_of_event_is_taken_back_whole(event: Transfer) -> None:
    ledger = ledger_with_some_past()
    before = contents(ledger._books)

    answers = ledger.apply(Command(1000, [CreateTransfers([chained(event), BREAKER])]))

    after = contents(ledger._books)
    assert answers[0].results == [
        CreateTransferResult.LINKED_EVENT_FAILED,
        CreateTransferResult.CREDIT_ACCOUNT_NOT_FOUND,
    ]
    assert after.pop("block 0.failed") == after.pop("failed_ids") == ["breaker"]
    assert before.pop("block 0.failed") == before.pop("failed_ids") == []
    assert after == before


def test_a_long_chain_is_taken_back_over_the_checkpoints_of_a_history() -> None:
    ledger = ledger_with_some_past()
    before = contents(ledger._books)
    chain = [chained(Transfer(f"new-{number}", "a", "b", number)) for number in range(3 * CHECKPOINT_ROWS)]

    ledger.apply(Command(1000, [CreateTransfers([*chain, BREAKER])]))

    after = contents(ledger._books)
    assert len(chain) > CHECKPOINT_ROWS
    assert (after["histories.rows"], after["histories._checkpoints"]) == (before["histories.rows"], [])
    assert after["accounts.debits_posted"] == before["accounts.debits_posted"]


def test_a_pending_that_was_taken_back_never_falls_due() -> None:
    ledger = ledger_with_some_past()
    held_until = ledger.next_expiry
    gone = Transfer("gone", "a", "b", 1, flags=PENDING | LINKED, timeout_s=1)
    ledger.apply(Command(1000, [CreateTransfers([gone, BREAKER])]))
    # This one takes the slot of the one that is gone, and does not expire.
    ledger.apply(Command(2000, [CreateTransfers([Transfer("stays", "a", "b", 2, flags=PENDING)])]))

    ledger.apply(Command(3 * SECOND, []))

    stays = ledger.lookup_transfers(["stays"])[0]
    assert stays is not None
    assert stays.pending_status == "pending"
    assert ledger.next_expiry == held_until


def test_a_pending_whose_post_was_taken_back_still_expires() -> None:
    ledger = ledger_with_some_past()
    post = Transfer("post", "", "", None, flags=POST | LINKED, target_id="held")
    ledger.apply(Command(1000, [CreateTransfers([post, BREAKER])]))

    ledger.apply(Command(6 * SECOND, []))

    held = ledger.lookup_transfers(["held"])[0]
    assert held is not None
    assert held.pending_status == "expired"
    assert ledger.next_expiry is None


def test_a_broken_chain_of_accounts_leaves_nothing() -> None:
    ledger = ledger_with_some_past()
    before = contents(ledger._books)
    chain = [Account("new", "CHF", flags=AccountFlag.LINKED), Account("newer", "not a currency")]

    ledger.apply(Command(1000, [CreateAccounts(chain)]))

    assert contents(ledger._books) == before
    assert ledger.apply(Command(2000, [CreateAccounts([Account("new", "EUR")])]))[0].results == [0]


def test_the_expiry_queue_stays_in_proportion_to_what_is_open() -> None:
    ledger = ledger_with_some_past()

    for number in range(40):
        held = [Transfer(f"p{number}-{i}", "a", "b", 1, flags=PENDING, timeout_s=10**6) for i in range(100)]
        posts = [Transfer(f"q{number}-{i}", "", "", None, flags=POST, target_id=p.id) for i, p in enumerate(held)]
        ledger.apply(Command(1000 * (number + 1), [CreateTransfers([*held, *posts])]))

    assert ledger.pending_count == 3
    assert len(ledger._books.pendings._queue) < 1200
