"""The state digest: the same for the same past however it was asked for, another for each kind of difference."""

import pytest

from raftpay.ledger import (
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Ledger,
    Operate,
    OperatorAction,
    Request,
    Transfer,
    TransferFlag,
)
from raftpay.ledger.window import WindowSizes

PENDING, POST, VOID = TransferFlag.PENDING, TransferFlag.POST_PENDING, TransferFlag.VOID_PENDING
LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
ACCOUNTS = [Account("a", "EUR"), Account("b", "EUR"), Account("limited", "EUR", flags=LIMITED, overdraft_limit=5)]
HELD = [
    Transfer("held", "a", "b", 10, flags=PENDING, timeout_s=1),
    Transfer("held-too", "a", "b", 10, flags=PENDING, timeout_s=1),
]
SECOND = 10**9
BLOCK_ENTRIES = WindowSizes().block_entries


def after(*requests: Request, sweep_at: int = 0) -> Ledger:
    ledger = Ledger()
    ledger.apply(Command(10, [CreateAccounts(ACCOUNTS), CreateTransfers(HELD)]))
    ledger.apply(Command(1000, list(requests)))
    if sweep_at:
        ledger.apply(Command(sweep_at, []))
    return ledger


def transfer(*arguments: object, **fields: object) -> CreateTransfers:
    return CreateTransfers([Transfer(*arguments, **fields)])


DIFFERENCES = {
    "nothing more": after(),
    "an account": after(CreateAccounts([Account("c", "EUR")])),
    "an account of another id": after(CreateAccounts([Account("d", "EUR")])),
    "an account of another currency": after(CreateAccounts([Account("c", "USD")])),
    "an account of another code": after(CreateAccounts([Account("c", "EUR", code=1)])),
    "an account of another reference": after(CreateAccounts([Account("c", "EUR", reference="r")])),
    "an account of other flags": after(CreateAccounts([Account("c", "EUR", flags=AccountFlag.CLOSED)])),
    "an account with a limit flag": after(CreateAccounts([Account("c", "EUR", flags=LIMITED)])),
    "an account with an overdraft": after(CreateAccounts([Account("c", "EUR", flags=LIMITED, overdraft_limit=1)])),
    "a frozen account": after(Operate(OperatorAction.FREEZE, "a")),
    "another frozen account": after(Operate(OperatorAction.FREEZE, "b")),
    "a changed limit": after(Operate(OperatorAction.SET_OVERDRAFT_LIMIT, "limited", 6)),
    "a transfer": after(transfer("t", "a", "b", 1)),
    "a transfer of another id": after(transfer("u", "a", "b", 1)),
    "a transfer of another amount": after(transfer("t", "a", "b", 2)),
    "a transfer the other way": after(transfer("t", "b", "a", 1)),
    "a transfer of another code": after(transfer("t", "a", "b", 1, code=1)),
    "a transfer of another reference": after(transfer("t", "a", "b", 1, reference="r")),
    "a transfer of other flags": after(transfer("t", "a", "b", 1, flags=TransferFlag.BALANCING_DEBIT)),
    "a pending transfer": after(transfer("t", "a", "b", 1, flags=PENDING)),
    "a pending transfer of another timeout": after(transfer("t", "a", "b", 1, flags=PENDING, timeout_s=9)),
    "a closing transfer": after(transfer("t", "a", "b", 1, flags=PENDING | TransferFlag.CLOSING_DEBIT)),
    "a transfer at another time": after(CreateTransfers([]), transfer("", "a", "b", 1), transfer("t", "a", "b", 1)),
    "a post": after(transfer("t", "", "", None, flags=POST, target_id="held")),
    "a post of another pending": after(transfer("t", "", "", None, flags=POST, target_id="held-too")),
    "a post of a part": after(transfer("t", "", "", 9, flags=POST, target_id="held")),
    "a void": after(transfer("t", "", "", None, flags=VOID, target_id="held")),
    "a failed id": after(transfer("t", "a", "nobody", 1)),
    "another failed id": after(transfer("u", "a", "nobody", 1)),
    "expiries": after(sweep_at=2 * SECOND),
    "expiries at another time": after(sweep_at=3 * SECOND),
}


def test_every_kind_of_difference_gives_another_digest() -> None:
    kinds: dict[str, list[str]] = {}
    for kind, ledger in DIFFERENCES.items():
        kinds.setdefault(ledger.state_digest(), []).append(kind)

    assert [same for same in kinds.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    "request_without_effect",
    [
        CreateTransfers([HELD[0]]),
        CreateAccounts([ACCOUNTS[0]]),
        CreateTransfers([Transfer("t", "a", "b", -1)]),
        CreateTransfers([Transfer("t", "a", "b", 1, flags=TransferFlag.LINKED), Transfer("u", "a", "b", -1)]),
        Operate(OperatorAction.UNFREEZE, "a"),
    ],
    ids=["a retried transfer", "a retried account", "a malformed transfer", "a broken chain", "a release of nothing"],
)
def test_what_has_no_effect_does_not_change_the_digest(request_without_effect: Request) -> None:
    ledger = after(request_without_effect)

    assert ledger.state_digest() == after().state_digest()


def test_the_digest_does_not_depend_on_when_it_was_asked_for() -> None:
    asked_often, asked_once = after(), after()
    batches = [
        [Transfer(f"{batch}-{number}", "a", "b", number) for number in range(BLOCK_ENTRIES // 3)] for batch in range(5)
    ]
    batches.append([Transfer(f"failed-{number}", "nobody", "b", number) for number in range(BLOCK_ENTRIES + 1)])

    for number, events in enumerate(batches):
        asked_often.state_digest()
        for ledger in (asked_often, asked_once):
            ledger.apply(Command(10**5 * (number + 1), [CreateTransfers(events)]))

    assert asked_often.state_digest() == asked_once.state_digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Transfer("t", "a", "b", 1, reference="this"), Transfer("t", "a", "b", 1, reference="that")),
        (Transfer("t", "a", "nobody", 1), Transfer("u", "a", "nobody", 1)),
        (Transfer("t", "a", "b", 1, flags=PENDING, timeout_s=9), Transfer("t", "a", "b", 1, flags=PENDING)),
    ],
    ids=["references", "failed ids", "timeouts"],
)
def test_a_difference_in_a_folded_block_stays_visible(one: Transfer, other: Transfer) -> None:
    first, second = after(), after()
    for ledger, event in ((first, one), (second, other)):
        ledger.apply(Command(2000, [CreateTransfers([event])]))
        events = [Transfer(f"t-{number}", "a", "b", number) for number in range(2 * BLOCK_ENTRIES)]
        ledger.apply(Command(10**5, [CreateTransfers(events)]))

    assert first.state_digest() != second.state_digest()
