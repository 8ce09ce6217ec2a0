"""The two ways of doing a batch, by column and one by one, lead to the same answers and the same books."""

from hypothesis import given
from hypothesis import strategies as st

from raftpay.ledger import (
    AMOUNT_MAX,
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Ledger,
    Operate,
    OperatorAction,
    Transfer,
    TransferFlag,
)
from raftpay.ledger.batches import create_batch
from raftpay.ledger.plain_transfers import EVENTS_MIN
from tests.ledger.table_contents import contents

ACCOUNTS = [
    Account("a", "EUR"),
    Account("b", "EUR"),
    Account("overdrawn", "EUR", flags=AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS, overdraft_limit=20),
    Account("capped", "EUR", flags=AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS),
    Account("frozen", "EUR"),
    Account("closed", "EUR", flags=AccountFlag.CLOSED),
]
DOLLARS = [Account("dollars", "USD"), Account("more-dollars", "USD")]
NAMES = [account.id for account in ACCOUNTS]


def opened(accounts: list[Account]) -> Ledger:
    ledger = Ledger()
    ledger.apply(Command(1, [CreateAccounts(accounts), Operate(OperatorAction.FREEZE, "frozen")]))
    ledger.apply(Command(100, [CreateTransfers([Transfer("known", "a", "b", 1), Transfer("spent", "a", "nobody", 1)])]))
    return ledger


def assert_both_ways_agree(accounts: list[Account], batches: list[list[Transfer]]) -> int:
    """Returns how many of the batches were plain."""
    by_column, one_by_one = opened(accounts), opened(accounts)
    plain = 0
    for number, events in enumerate(batches, start=1):
        time = 1000 * number
        results = by_column._plain_transfers.try_create(events, time)
        plain += results is not None
        if results is None:
            results = create_batch(by_column._transfers, events, time)
        assert results == create_batch(one_by_one._transfers, events, time)
        assert contents(by_column._books) == contents(one_by_one._books)
    return plain


def assert_one_agrees(accounts: list[Account], events: list[Transfer]) -> int:
    """Each event alone. Returns how many were done in the short way."""
    short, long = opened(accounts), opened(accounts)
    plain = 0
    for time, event in enumerate(events, start=1000):
        is_plain = short._plain_transfers.try_create_one(event, time)
        plain += is_plain
        results = [0] if is_plain else create_batch(short._transfers, [event], time)
        assert results == create_batch(long._transfers, [event], time)
        assert contents(short._books) == contents(long._books)
    return plain


names = st.sampled_from(NAMES)
numbers = st.integers(0, 10**6)
ordinary = st.builds(
    Transfer,
    id=numbers.map("t{}".format),
    debit_account=names,
    credit_account=names,
    amount=st.integers(0, 30),
    code=st.integers(0, 3),
    reference=st.sampled_from(["", "rent", "\n"]),
    currency=st.sampled_from(["", "EUR"]),
).filter(lambda event: event.debit_account != event.credit_account)
odd = st.sampled_from(
    [
        Transfer("known", "a", "b", 1),
        Transfer("spent", "a", "b", 1),
        Transfer("", "a", "b", 1),
        Transfer("two words", "a", "b", 1),
        Transfer("x" * 65, "a", "b", 1),
        Transfer("né", "a", "b", 1),
        Transfer("odd", "a", "a", 1),
        Transfer("odd", "a", "nobody", 1),
        Transfer("odd", "nobody", "a", 1),
        Transfer("odd", "a", "dollars", 1),
        Transfer("odd", "more-dollars", "dollars", 1),
        Transfer("odd", "more-dollars", "dollars", 1, currency="EUR"),
        Transfer("odd", "a", "b", 1, currency="USD"),
        Transfer("odd", "a", "b", None),
        Transfer("odd", "a", "b", -1),
        Transfer("odd", "a", "b", AMOUNT_MAX),
        Transfer("odd", "a", "b", AMOUNT_MAX + 1),
        Transfer("odd", "a", "b", 1, code=-1),
        Transfer("odd", "a", "b", 1, code=65536),
        Transfer("odd", "a", "b", 1, reference="r" * 141),
        Transfer("odd", "a", "b", 1, target_id="known"),
        Transfer("odd", "a", "b", 1, timeout_s=1),
        Transfer("odd", "a", "b", 1, timestamp=1),
        Transfer("odd", "a", "b", 1, flags=TransferFlag.LINKED),
        Transfer("odd", "a", "b", 1, flags=TransferFlag.PENDING),
        Transfer("odd", "a", "b", 1, flags=TransferFlag.IMPORTED, timestamp=900),
        Transfer("odd", "a", "b", 1, flags=1 << 10),
    ]
)
plain_batches = st.lists(ordinary, min_size=EVENTS_MIN, max_size=40, unique_by=lambda event: event.id)


@given(st.sampled_from([ACCOUNTS, [*ACCOUNTS, *DOLLARS]]), st.lists(plain_batches, max_size=2))
def test_plain_batches_go_by_column_and_agree(accounts: list[Account], batches: list[list[Transfer]]) -> None:
    fresh = [
        [Transfer(f"{number}-{event.id}", *fields_behind_id(event)) for event in events]
        for number, events in enumerate(batches)
    ]

    plain = assert_both_ways_agree(accounts, fresh)

    assert plain == len(fresh)


@given(st.sampled_from([ACCOUNTS, [*ACCOUNTS, *DOLLARS]]), st.lists(ordinary | odd, max_size=20))
def test_transfers_that_come_alone_agree(accounts: list[Account], events: list[Transfer]) -> None:
    assert_one_agrees(accounts, events)


def test_a_plain_transfer_that_comes_alone_goes_the_short_way() -> None:
    events = [Transfer("first", "a", "b", 1), Transfer("second", "overdrawn", "a", 20), Transfer("third", "b", "a", 0)]

    assert assert_one_agrees(ACCOUNTS, events) == len(events)


@given(
    st.sampled_from([ACCOUNTS, [*ACCOUNTS, *DOLLARS]]),
    st.lists(st.lists(ordinary | odd, min_size=EVENTS_MIN, max_size=20), max_size=3),
)
def test_batches_with_anything_odd_agree(accounts: list[Account], batches: list[list[Transfer]]) -> None:
    assert_both_ways_agree(accounts, batches)


@given(plain_batches, odd, st.integers(0, 40))
def test_a_plain_batch_with_one_odd_event_agrees(events: list[Transfer], odd_one: Transfer, position: int) -> None:
    events.insert(min(position, len(events)), odd_one)

    assert_both_ways_agree([*ACCOUNTS, *DOLLARS], [events])


def test_many_small_requests_are_answered_as_each_would_be() -> None:
    events = [Transfer(f"t{number}", "overdrawn", "a", 3) for number in range(20)]
    together, alone = opened(ACCOUNTS), opened(ACCOUNTS)

    answers = together.apply(Command(1000, [CreateTransfers([event]) for event in events]))

    expected = [alone.apply(Command(1000 + i, [CreateTransfers([event])]))[0] for i, event in enumerate(events)]
    assert answers == expected
    assert together.time == alone.time
    assert together.state_digest() == alone.state_digest()


def fields_behind_id(event: Transfer) -> list[object]:
    return [getattr(event, name) for name in event.__struct_fields__[1:]]
