"""The machine: what is let into the log, how a command is spliced, and what apply makes of it."""

import msgspec
import pytest

from raftpay.errors import CorruptionError, FormatVersionError, ProtocolError
from raftpay.ledger import (
    Account,
    Command,
    CreateAccountResult,
    CreateAccounts,
    CreateTransferResult,
    CreateTransfers,
    Ledger,
    Operate,
    OperatorAction,
    OperatorResult,
    Results,
    Transfer,
)
from raftpay.machine import (
    COMMAND_VERSION,
    CheckedRequest,
    Machine,
    build_command,
    check_create_accounts,
    check_create_transfers,
    check_operate,
)

ACCOUNTS = [Account("alice", "EUR"), Account("bob", "EUR")]
PAYMENT = Transfer("t1", "alice", "bob", 100)


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def refusal_of(events: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        check_create_transfers(events)
    return str(caught.value)


# ---- splicing --------------------------------------------------------------------------------------------------------


def test_a_spliced_command_is_the_command_that_encoding_would_give() -> None:
    checked = [
        check_create_accounts(packed(ACCOUNTS)),
        check_create_transfers(packed([PAYMENT])),
        check_operate(3, "alice", 500),
    ]

    payload = build_command(77, checked)

    command = Command(
        77,
        [
            CreateAccounts(ACCOUNTS),
            CreateTransfers([PAYMENT]),
            Operate(OperatorAction.SET_OVERDRAFT_LIMIT, "alice", 500),
        ],
    )
    assert payload[0] == COMMAND_VERSION
    assert payload[1:] == packed(command)
    assert msgspec.msgpack.decode(payload[1:], type=Command) == command


def test_a_sweep_is_a_command_without_requests() -> None:
    payload = build_command(5, [])

    assert msgspec.msgpack.decode(payload[1:], type=Command) == Command(5, [])


def test_the_bytes_of_events_go_into_the_log_as_they_came() -> None:
    # The amount 1 as a 64-bit integer, which no encoder of ours would write.
    events = b"\x91\x94\xa1t\xa1a\xa1b\xcf" + (1).to_bytes(8, "big")

    payload = build_command(5, [check_create_transfers(memoryview(events))])

    assert payload.endswith(events)


def test_a_checked_request_knows_its_size_and_its_events() -> None:
    events = packed([PAYMENT, PAYMENT, PAYMENT])

    checked = check_create_transfers(events)

    assert checked == CheckedRequest(checked.encoded, size_bytes=len(events) + 2, event_count=3)


# ---- the door --------------------------------------------------------------------------------------------------------

BAD_TRANSFERS = {
    "float_amount": (
        packed([PAYMENT, PAYMENT, PAYMENT, ["t", "a", "b", 1.5]]),
        "events[3].amount: expected int or null, found float",
    ),
    "id_is_a_number": (packed([[7, "a", "b", 1]]), "events[0].id: expected str, found int"),
    "id_is_a_bin": (packed([[b"t", "a", "b", 1]]), "events[0].id: expected str, found bytes"),
    "negative_flags": (packed([["t", "a", "b", 1, 0, -1]]), "events[0].flags: expected int >= 0"),
    "true_is_no_code": (packed([["t", "a", "b", 1, True]]), "events[0].code: expected int, found bool"),
    "too_few_fields": (packed([PAYMENT, ["t", "a"]]), "events[1]: expected array of at least length 4, found 2"),
    "too_many_fields": (
        packed([["t", "a", "b", 1, 0, 0, "", "", "", 0, 0, 9]]),
        "events[0]: expected array of at most length 11, found 12",
    ),
    "event_is_no_array": (packed([PAYMENT, "t"]), "events[1]: expected array, found str"),
    "event_is_a_map": (packed([{"id": "t"}]), "events[0]: expected array, found object"),
    "no_array": (packed("events"), "events: expected array, found str"),
    "empty": (packed([]), "events: found none, expected at least one"),
    "nothing": (b"", "events: not msgpack (Input data was truncated)"),
    "cut_short": (packed([PAYMENT])[:-1], "events: not msgpack (Input data was truncated)"),
    "more_behind_it": (
        packed([["t", "a", "b", 1]]) + b"\x00",
        "events: not msgpack (MessagePack data is malformed: trailing characters (byte 9))",
    ),
    "not_utf8": (
        packed([PAYMENT, ["t", "a", "b", 1, 0, 0, "XY"]]).replace(b"XY", b"X\xff"),
        "events[1].reference: the text is not UTF-8",
    ),
    "deep": (b"\x91" * 5000, "events[0]: expected array of at least length 4, found 1"),
}


@pytest.mark.parametrize("name", BAD_TRANSFERS)
def test_a_malformed_batch_is_refused_with_its_event_and_field(name: str) -> None:
    events, expected = BAD_TRANSFERS[name]

    assert refusal_of(events) == expected


def test_a_malformed_account_is_named_by_its_own_fields() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_create_accounts(packed([ACCOUNTS[0], ["bob", "EUR", 0, 0, "", "500"]]))

    assert str(caught.value) == "events[1].overdraft_limit: expected int, found str"


def test_an_unknown_operators_act_is_refused_with_those_there_are() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_operate(9, "alice", 0)

    assert str(caught.value) == "action: expected one of 1 (freeze), 2 (unfreeze), 3 (set_overdraft_limit), found 9"


def test_an_account_with_a_field_too_many_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_create_accounts(packed([["alice", "EUR", 0, 0, "", 0, 0, "a later release's field"]]))

    assert str(caught.value) == "events[0]: expected array of at most length 7, found 8"


# ---- apply -----------------------------------------------------------------------------------------------------------


def test_apply_gives_the_results_of_each_request_in_order() -> None:
    machine = Machine(Ledger())
    payload = build_command(
        1000,
        [
            check_create_accounts(packed(ACCOUNTS)),
            check_create_transfers(packed([PAYMENT, PAYMENT, Transfer("t2", "alice", "carol", 1)])),
            check_operate(OperatorAction.FREEZE, "bob", 0),
        ],
    )

    results = machine.apply(1, payload)

    assert results == [
        Results(1000, [CreateAccountResult.CREATED, CreateAccountResult.CREATED]),
        Results(
            1002,
            [
                CreateTransferResult.CREATED,
                CreateTransferResult.EXISTS,
                CreateTransferResult.CREDIT_ACCOUNT_NOT_FOUND,
            ],
        ),
        Results(1005, [OperatorResult.DONE]),
    ]


def test_apply_on_two_nodes_gives_equal_ledgers() -> None:
    ledgers = [Ledger(), Ledger()]
    payloads = [
        build_command(10, [check_create_accounts(packed(ACCOUNTS))]),
        build_command(20, [check_create_transfers(packed([PAYMENT]))]),
    ]

    for ledger in ledgers:
        machine = Machine(ledger)
        for index, payload in enumerate(payloads, start=1):
            machine.apply(index, payload)

    assert ledgers[0].state_digest() == ledgers[1].state_digest()
    assert ledgers[0].lookup_transfers(["t1"])[0] is not None


@pytest.mark.parametrize(
    ("payload", "found"),
    [(b"", "no version (it is empty)"), (b"\x02\x92\x01\x90", "version 2"), (b"\x00", "version 0")],
)
def test_a_command_of_an_unknown_version_names_the_entry_and_the_version(payload: bytes, found: str) -> None:
    machine = Machine(Ledger())

    with pytest.raises(FormatVersionError) as caught:
        machine.apply(8812, payload)

    assert str(caught.value) == (
        f"log entry 8812: the command has {found}, this release knows version 1; "
        "the node stops rather than pass over it. Run the release that wrote it on this node"
    )


@pytest.mark.parametrize("rest", [b"", b"\xc1", b"\x92\x01", b"\x92\x01\x91\x92\x09\x90", b"\x92\xa1x\x90"])
def test_a_command_that_cannot_be_decoded_names_the_entry_and_stops(rest: bytes) -> None:
    ledger = Ledger()
    before = ledger.state_digest()

    with pytest.raises(CorruptionError, match=r"log entry 5: the command of version 1 \(\d+ bytes\) cannot be decoded"):
        Machine(ledger).apply(5, b"\x01" + rest)

    assert ledger.state_digest() == before


def test_a_snapshot_carries_the_state_to_another_machine() -> None:
    ledger, other = Ledger(), Ledger()
    machine = Machine(ledger)
    machine.apply(2, build_command(5, [check_create_accounts(packed([Account("a", "EUR"), Account("b", "EUR")]))]))

    Machine(other).load(machine.image().chunks())()

    assert other.state_digest() == ledger.state_digest()


def test_a_snapshot_that_is_damaged_or_of_another_release_is_refused_and_changes_nothing() -> None:
    ledger = Ledger()
    machine = Machine(ledger)
    machine.apply(2, build_command(5, [check_create_accounts(packed([Account("a", "EUR")]))]))
    digest, whole = ledger.state_digest(), b"".join(machine.image().chunks())
    newer = whole[:5] + b"\x03" + whole[6:]

    with pytest.raises(CorruptionError, match="ends within a message"):
        machine.load([whole[:-1]])()
    with pytest.raises(CorruptionError, match="snapshot"):
        machine.load([whole[:4] + b"\xc1" * (len(whole) - 4)])()
    with pytest.raises(FormatVersionError, match="version 3, this release knows 2"):
        machine.load([newer])()

    assert ledger.state_digest() == digest
