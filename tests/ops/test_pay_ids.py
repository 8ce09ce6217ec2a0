"""Ids of lines that give none: the same line keeps its id whatever happens around it, and no two lines share one."""

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftpay.ops.pay.ids import Identity, Repetitions, TransferIds

RENT = Identity("alice", "bob", 80000, "EUR", 7, 0, "Rent", 0)
WAGE = Identity("acme", "alice", 250000, "EUR", 1, 0, "Wage", 0)


def ids(run: str, *lines: Identity) -> list[str]:
    made = TransferIds(run)
    return [made.id_of(line) for line in lines]


def test_the_ids_of_a_known_line_never_change() -> None:
    # These are in ledgers: a change here makes every file that is run again pay twice.
    assert ids("payments.csv", RENT, RENT, WAGE) == [
        "d3318bf9-0383-8126-8e2c-76f4b0958e53",
        "b3663df9-1a92-89a2-ae80-74ab39907d0a",
        "98bc8fdc-0dda-80c9-ac67-58de2b7c91cd",
    ]


def test_an_id_is_a_uuid_of_version_8() -> None:
    found = uuid.UUID(ids("r", RENT)[0])

    assert (found.version, found.variant) == (8, uuid.RFC_4122)


def test_a_longer_file_keeps_the_ids_of_its_earlier_lines() -> None:
    assert ids("r", RENT, WAGE, RENT, WAGE)[:2] == ids("r", RENT, WAGE)


def test_the_same_payment_on_two_lines_is_two_payments() -> None:
    assert len(set(ids("r", RENT, RENT, RENT))) == 3


def test_a_removed_or_moved_line_changes_no_other_id() -> None:
    other = WAGE._replace(amount_minor=1)

    assert ids("r", RENT, WAGE, other)[1:] == ids("r", WAGE, other)
    assert set(ids("r", RENT, WAGE, RENT)) == set(ids("r", WAGE, RENT, RENT))


def test_another_run_has_other_ids() -> None:
    assert ids("october.csv", RENT) != ids("november.csv", RENT)


@pytest.mark.parametrize(
    "changed",
    [
        {"debit_account": "carol"},
        {"credit_account": "carol"},
        {"amount_minor": 80001},
        {"currency": "USD"},
        {"code": 8},
        {"flags": 2},
        {"reference": "Rent "},
        {"timeout_s": 1},
    ],
)
def test_every_field_takes_part(changed: dict[str, str | int]) -> None:
    assert ids("r", RENT) != ids("r", RENT._replace(**changed))  # type: ignore[arg-type]  # each of its own type


def test_fields_do_not_run_into_each_other() -> None:
    assert ids("r", RENT._replace(debit_account="ab", credit_account="c")) != ids(
        "r", RENT._replace(debit_account="a", credit_account="bc")
    )


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.integers(0, 3).map(lambda n: n << 20)))
def test_repetitions_are_counted_as_a_dict_would(keys: list[int]) -> None:
    counted, naive = Repetitions(), dict[int, int]()

    for key in keys:
        # 0 marks an empty slot and is taken for 1.
        key = key or 1
        naive[key] = naive.get(key, -1) + 1
        assert counted.count(key) == naive[key]


def test_repetitions_are_counted_over_many_keys() -> None:
    random_keys = random.Random(1)
    keys = [random_keys.getrandbits(64) for _ in range(50_000)]
    counted = Repetitions()

    assert sum(counted.count(key) for key in keys) == 0
    assert sum(counted.count(key) for key in keys) == len(keys)
