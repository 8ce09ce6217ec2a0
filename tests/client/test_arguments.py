"""What the wire cannot carry is refused before anything is sent, and the refusal names the field."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftpay import (
    Account,
    AccountQuery,
    AccountsQuery,
    AsyncClient,
    Client,
    Rejected,
    Transfer,
    TransferFlag,
    TransferQuery,
)
from raftpay.client.arguments import TRANSFER_EVENTS, encode_events, join_events, parse_address
from tests.client.peer import peers

GOOD = Transfer("t", "a", "b", 1)
Call = Callable[[AsyncClient], object]


def changed(**fields: object) -> Transfer:
    return msgspec.structs.replace(GOOD, **fields)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.create_transfers([GOOD, changed(amount=1.5)]), r"transfers\[1\]\.amount: .*found float"),
        (lambda c: c.create_transfers([changed(amount=Decimal(1))]), r"transfers\[0\]\.amount: .*found Decimal"),
        (lambda c: c.create_transfers([changed(amount=True)]), r"transfers\[0\]\.amount: .*found bool"),
        (lambda c: c.create_transfers([changed(amount="1")]), r"transfers\[0\]\.amount: .*found str"),
        (lambda c: c.create_transfers([changed(amount=2**64)]), r"transfers\[0\]\.amount: .*more than 64 bits"),
        (lambda c: c.create_transfers([changed(amount=-(2**63) - 1)]), r"\.amount: .*more than 64 bits"),
        (lambda c: c.create_transfers([changed(id=7)]), r"transfers\[0\]\.id: .*found int"),
        (lambda c: c.create_transfers([changed(id=None)]), r"transfers\[0\]\.id: .*found NoneType"),
        (lambda c: c.create_transfers([changed(id=b"t")]), r"transfers\[0\]\.id: .*found bytes"),
        (lambda c: c.create_transfers([changed(id="t\ud800")]), r"transfers\[0\]\.id: .*no valid Unicode"),
        (lambda c: c.create_transfers([changed(debit_account=object())]), r"\.debit_account: .*found object"),
        (lambda c: c.create_transfers([changed(flags=-1)]), r"transfers\[0\]\.flags: Expected `int` >= 0"),
        (lambda c: c.create_transfers([changed(flags=[1])]), r"transfers\[0\]\.flags: .*found list"),
        (lambda c: c.create_transfers([changed(timeout_s=0.5)]), r"transfers\[0\]\.timeout_s: .*found float"),
        (lambda c: c.create_transfers([changed(timestamp=-5)]), r"transfers\[0\]\.timestamp: "),
        (lambda c: c.create_transfers([Account("a", "EUR")]), r"transfers\[0\]: found Account, expected Transfer"),
        (lambda c: c.create_transfers([GOOD, None]), r"transfers\[1\]: found NoneType"),
        (lambda c: c.create_transfers(GOOD), "transfers: found Transfer, expected a list"),
        (lambda c: c.create_transfers("t"), "transfers: found str"),
        (lambda c: c.create_transfers([GOOD] * 9000 + [changed(amount=1.5)]), r"transfers\[9000\]\.amount"),
        (lambda c: c.create_transfers([changed(reference="x" * 9_000_000)]), r"transfers\[0\]: .*bytes long"),
        (lambda c: c.create_accounts([Account("a", 978)]), r"accounts\[0\]\.currency: .*found int"),
        (lambda c: c.create_accounts([Account("a", "EUR", overdraft_limit=0.1)]), r"accounts\[0\]\.overdraft_limit"),
        (lambda c: c.create_transfers([GOOD], deadline_s=0), "deadline_s: found 0"),
        (lambda c: c.create_transfers([GOOD], deadline_s=float("nan")), "deadline_s: found nan"),
        (lambda c: c.create_transfers([GOOD], deadline_s="1"), "deadline_s: found '1'"),
        (lambda c: c.operate("freeze", "a"), "action: .*found str"),
        (lambda c: c.operate(99, "a"), "action: .*99"),
        (lambda c: c.operate(1, 7), "account_id: .*found int"),
        (lambda c: c.operate(3, "a", 1.5), "overdraft_limit: .*found float"),
        (lambda c: c.lookup_accounts("abc"), "ids: found str, expected a list of str"),
        (lambda c: c.lookup_accounts(["a", 1]), r"ids\[1\]: "),
        (lambda c: c.lookup_transfers(["a"] * 8191), "ids: found 8191, at most 8190"),
        (lambda c: c.lookup_transfers(["a"], read="stale"), "read: found 'stale'"),
        (lambda c: c.lookup_transfers(["a"], address="nowhere"), "address: found 'nowhere'"),
        (lambda c: c.account_transfers(AccountQuery(7)), r"query\.account_id: .*found int"),
        (lambda c: c.account_transfers(AccountQuery("a", direction="up")), r"query\.direction: .*'up'"),
        (lambda c: c.account_balances(TransferQuery()), "query: found TransferQuery, expected AccountQuery"),
        (lambda c: c.query_transfers(TransferQuery(limit="9")), r"query\.limit: .*found str"),
        (lambda c: c.list_accounts(AccountsQuery(status="shut")), r"query\.status: "),
        (lambda c: c.balance_at("a", 1.5), "time: .*found float"),
        (lambda c: c.balance_at("a", -1), "time: Expected `int` >= 0"),
        (lambda c: c.state_digest(index=-1), "index: Expected `int` >= 0"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name_and_nothing_is_sent(call: Call, words: str) -> None:
    async def test() -> None:
        async with peers() as (node,), AsyncClient([node.address]) as client:
            with pytest.raises(Rejected, match=words):
                await call(client)

            assert node.connections_made == 0

    asyncio.run(test())


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ([], "addresses: found"),
        ("127.0.0.1:7201", "expected a list"),
        (["127.0.0.1"], "found '127.0.0.1', expected host:port"),
        (["127.0.0.1:"], "expected host:port"),
        (["127.0.0.1:0"], "expected host:port"),
        (["127.0.0.1:65536"], "expected host:port"),
        (["127.0.0.1:7²"], "expected host:port"),
        ([":7201"], "expected host:port"),
        ([None], "found None"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_needs_addresses(kind: type[Client], addresses: list[str], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        kind(addresses)


@pytest.mark.parametrize("deadline_s", [0, -1, float("inf"), None])
def test_a_client_needs_a_deadline_that_can_be_waited_for(deadline_s: float) -> None:
    with pytest.raises(Rejected, match="deadline_s"):
        AsyncClient(["127.0.0.1:7201"], deadline_s=deadline_s)


def test_an_address_may_be_of_ipv6() -> None:
    assert parse_address("[::1]:7201") == ("::1", 7201)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=5),
    st.binary(max_size=3),
    st.integers(-(2**70), 2**70),
    st.decimals(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(object),
)


@given(
    transfers=st.lists(
        st.builds(Transfer, *(st.one_of(st.sampled_from(["a", 1]), ANYTHING) for _ in Transfer.__struct_fields__)),
        max_size=4,
    )
)
def test_whatever_the_fields_hold_it_is_encoded_as_it_is_or_rejected(transfers: list[Transfer]) -> None:
    try:
        batches = encode_events(TRANSFER_EVENTS, transfers)
    except Rejected as error:
        sent, refusal = transfers, str(error)
    else:
        sent = [one for batch in batches for one in TRANSFER_EVENTS.decoder.decode(join_events([batch]))]
        refusal = "transfers["

    assert sent == transfers
    assert refusal.startswith("transfers[")


@pytest.mark.parametrize("counts", [[1], [15], [16], [8190], [1, 14], [1, 15], [8000, 190], [1] * 300])
def test_events_of_several_calls_are_joined_into_one_array(counts: list[int]) -> None:
    calls = [[changed(id=f"{call}-{n}") for n in range(count)] for call, count in enumerate(counts)]
    batches = [batch for call in calls for batch in encode_events(TRANSFER_EVENTS, call)]

    joined = join_events(batches)

    assert joined == msgspec.msgpack.encode([event for call in calls for event in call])


def test_flags_may_be_given_as_enum_or_number() -> None:
    as_enum = encode_events(TRANSFER_EVENTS, [changed(flags=TransferFlag.PENDING | TransferFlag.BALANCING_DEBIT)])
    as_number = encode_events(TRANSFER_EVENTS, [changed(flags=18)])

    assert as_enum == as_number


def test_amounts_the_ledger_will_refuse_are_its_business() -> None:
    events = [changed(amount=-1), changed(amount=2**63), changed(amount=None), changed(id="x" * 65)]

    assert encode_events(TRANSFER_EVENTS, events)[0].count == 4
