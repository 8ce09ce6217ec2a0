"""The town of the demo: the same from the same seed, sound, and payable in any order."""

import csv
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from raftpay.errors import ConfigError
from raftpay.ledger import CreateAccounts, CreateTransferResult, CreateTransfers, Ledger
from raftpay.ledger.types import Command
from raftpay.ops.pay import Noun, PayOptions, check_file
from raftpay.ops.pay.forms import AccountForm, PaymentForm
from raftpay.ops.sample import CARD, REFUND, RENT, SALARY, Sample, SampleOptions, write_sample

SMALL = SampleOptions(accounts=200, payments=3000, seed=7)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "1", SMALL)
    again = write_sample(tmp_path / "2", SMALL)
    other = write_sample(tmp_path / "3", SampleOptions(accounts=200, payments=3000, seed=8))

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first.payments.read_bytes() != other.payments.read_bytes()


def test_every_line_can_be_sent(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, SMALL)

    accounts = check_file(PayOptions(sample.accounts, noun=Noun.ACCOUNTS))
    payments = check_file(PayOptions(sample.payments))

    assert (accounts.created, accounts.rejected) == (200, 0)
    assert (payments.created, payments.rejected) == (3000, 0)
    assert set(payments.totals) == {"EUR", "USD", "GBP", "JPY"}
    assert len({row["id"] for row in rows(sample.payments)}) == 3000
    assert len({row["id"] for row in rows(sample.accounts)}) == 200


def test_there_are_salaries_rents_card_payments_and_refunds(tmp_path: Path) -> None:
    kinds = Counter(int(row["code"]) for row in rows(write_sample(tmp_path, SMALL).payments))

    assert kinds[CARD] > kinds[SALARY] > kinds[RENT] > kinds[REFUND] > 0


@pytest.mark.parametrize("options", [SMALL, SampleOptions(accounts=40, payments=4000), SampleOptions(payments=0)])
def test_every_payment_is_accepted_in_whatever_order(options: SampleOptions, tmp_path: Path) -> None:
    sample = write_sample(tmp_path, options)
    account_form, payment_form = AccountForm(), PaymentForm("test")
    accounts = [account_form.event(row) for row in rows(sample.accounts)]
    transfers = [payment_form.event(row) for row in rows(sample.payments)]
    random.Random(3).shuffle(transfers)
    ledger = Ledger()

    ledger.apply(Command(1, [CreateAccounts(accounts)]))
    (answer,) = ledger.apply(Command(10**9, [CreateTransfers(transfers)]))

    assert set(answer.results) <= {CreateTransferResult.CREATED}


def test_limits_hold_even_if_no_salary_has_arrived(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, SMALL)
    form = PaymentForm("test")
    spent: dict[str, int] = defaultdict(int)

    for row in rows(sample.payments):
        if int(row["code"]) in (RENT, CARD):
            spent[row["debit_account"]] += form.event(row).amount or 0

    limits = {account.id: account.overdraft_limit for account in map(AccountForm().event, rows(sample.accounts))}
    assert all(spent[person] <= limits[person] for person in spent)


def test_flawed_lines_are_so_many_and_evenly_spread(tmp_path: Path) -> None:
    clean = write_sample(tmp_path / "clean", SMALL)
    flawed = write_sample(tmp_path / "flawed", SampleOptions(accounts=200, payments=3000, seed=7, flawed=30))

    pairs = zip(clean.payments.read_text().splitlines(), flawed.payments.read_text().splitlines(), strict=True)
    lines = [line for line, (a, b) in enumerate(pairs, start=1) if a != b]

    assert lines == list(range(101, 3002, 100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SampleOptions(accounts=39), "accounts is 39: expected 40 to 10000000"),
        (SampleOptions(payments=-1), "payments is -1"),
        (SampleOptions(payments=5, flawed=6), "flawed is 6: expected 0 to the number of payments, 5"),
    ],
)
def test_sizes_out_of_range_are_named(options: SampleOptions, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        write_sample(tmp_path, options)

    assert message in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError) as error:
        write_sample(tmp_path / "file", SMALL)

    assert "cannot be written into" in str(error.value)


def test_account_ids_have_right_check_digits(tmp_path: Path) -> None:
    def value(text: str) -> int:
        return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4]))

    assert all(value(row["id"]) % 97 == 1 for row in rows(write_sample(tmp_path, SMALL).accounts))


def test_a_sample_names_its_files(tmp_path: Path) -> None:
    assert write_sample(tmp_path, SMALL) == Sample(tmp_path / "accounts.csv", tmp_path / "payments.csv")


def test_the_same_sample_may_be_written_again_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    first = write_sample(tmp_path, SMALL).payments.read_bytes()

    again = write_sample(tmp_path, SMALL)

    assert again.payments.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accounts.csv", "payments.csv"]


@pytest.mark.parametrize("name", ["accounts.csv", "payments.csv"])
def test_a_file_that_is_no_such_sample_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("my own\n")

    with pytest.raises(ConfigError) as error:
        write_sample(tmp_path, SMALL)

    assert f"{name} exists and holds something else" in str(error.value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "my own\n")]
