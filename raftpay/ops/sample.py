"""A town to try things with: accounts and payments as CSV files, from a seed, the same bytes for the same arguments.

Employers pay salaries, people pay rents and shops, shops give refunds; four currencies, each account in one of them;
account ids look like IBANs, with right check digits. Two promises hold for every seed. All payments are accepted in
whatever order they arrive: what a person spends stays within their overdraft limit, salaries not counted. And the files
are written line by line, in memory that grows with the accounts only. `raftpay sample`, the demo and the benches
call it.
"""

import csv
import filecmp
import os
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from raftpay.errors import ConfigError
from raftpay.ops import money

ACCOUNTS_MIN: Final = 40
ACCOUNT_COLUMNS: Final = ("id", "currency", "code", "reference", "flags", "overdraft_limit")
PAYMENT_COLUMNS: Final = ("id", "debit_account", "credit_account", "amount", "currency", "code", "reference")

# The code of an account says what it is, that of a payment what it is for.
EMPLOYER, LANDLORD, SHOP, PERSON = 10, 20, 30, 40
SALARY, RENT, CARD, REFUND = 1, 2, 3, 4

# Shares of the accounts and of the payments, in hundredths; people and card payments are the rest.
_ACCOUNT_SHARES: Final = ((EMPLOYER, 2), (LANDLORD, 3), (SHOP, 10))
_PAYMENT_SHARES: Final = ((SALARY, 12), (RENT, 10), (REFUND, 3))
_OVERDRAFT_FLAG: Final = "debits_must_not_exceed_credits"

# fmt: off
_SURNAMES: Final = (
    "Adler", "Bakker", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Horvat", "Ivanova", "Jansen", "Keller",
    "Lindqvist", "Moreau", "Nowak", "Okafor", "Petrov", "Quist", "Rossi", "Santos", "Tanaka", "Ueda", "Virtanen",
    "Weber", "Yilmaz", "Zeman",
)
_NAMES: Final = (
    "Ada", "Ben", "Clara", "Dilan", "Emil", "Freya", "Goran", "Hana", "Ines", "Jonas", "Kaya", "Leo", "Maja", "Nils",
    "Olga", "Pavel", "Rosa", "Sven", "Tara", "Ugo", "Vera", "Yusuf",
)
_TRADES: Final = (
    "Bakery", "Books", "Bikes", "Cafe", "Cinema", "Garden", "Grocery", "Pharmacy", "Records", "Shoes", "Tea", "Tools",
)
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)
# fmt: on


class Market(NamedTuple):
    """One currency of the town. share: hundredths of the accounts. unit: minor units of about one euro."""

    currency: str
    country: str
    share: int
    unit: int


_MARKETS: Final = (
    Market("EUR", "DE", 64, 100),
    Market("USD", "US", 16, 110),
    Market("GBP", "GB", 13, 85),
    Market("JPY", "JP", 7, 160),
)


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """accounts, payments: how many. seed: any integer. flawed: so many of the payments, evenly spread, are refused."""

    accounts: int = 10_000
    payments: int = 100_000
    seed: int = 1
    flawed: int = 0

    def check(self) -> None:
        """Raises ConfigError that names what is out of range."""
        if not ACCOUNTS_MIN <= self.accounts <= 10_000_000:
            raise ConfigError(f"accounts is {self.accounts}: expected {ACCOUNTS_MIN} to 10000000")
        if not 0 <= self.payments <= 1_000_000_000:
            raise ConfigError(f"payments is {self.payments}: expected 0 to 1000000000")
        if not 0 <= self.flawed <= self.payments:
            raise ConfigError(f"flawed is {self.flawed}: expected 0 to the number of payments, {self.payments}")


class Sample(NamedTuple):
    """Where the two files are."""

    accounts: Path
    payments: Path


def write_sample(folder: Path, options: SampleOptions | None = None) -> Sample:
    """Write accounts.csv and payments.csv into a folder, which is made if need be.

    A file of such a name that holds anything else is kept: it may be somebody's payments.
    Raises ConfigError for that, for options out of range, and for a folder that cannot be written.
    """
    options = options or SampleOptions()
    options.check()
    sample = Sample(folder / "accounts.csv", folder / "payments.csv")
    drafts = [path.with_suffix(".csv.part") for path in sample]
    town = Town(options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write(drafts[0], ACCOUNT_COLUMNS, town.account_rows())
            _write(drafts[1], PAYMENT_COLUMNS, town.payment_rows())
            for draft, path in zip(drafts, sample, strict=True):
                if path.exists() and not filecmp.cmp(draft, path, shallow=False):
                    raise ConfigError(f"{path} exists and holds something else: it is kept, name another folder")
            for draft, path in zip(drafts, sample, strict=True):
                os.replace(draft, path)
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"the sample cannot be written into {folder}: {error.strerror}") from error
    return sample


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


class _Quarter(NamedTuple):
    """The accounts of one market by their kind, as positions in the town's list."""

    market: Market
    members: dict[int, list[int]]


class Town:
    """The accounts in memory, and the two streams of rows made from them."""

    def __init__(self, options: SampleOptions) -> None:
        self._options = options
        # Of each account: its kind and its market; its id; for people what may still be spent, in minor units.
        self._kinds = bytearray()
        self._ids: list[str] = []
        self._left = array("q")
        self._quarters: list[_Quarter] = []
        self._settle()

    def _settle(self) -> None:
        dice = random.Random(f"{self._options.seed} accounts")
        first = 0
        for market, count in zip(_MARKETS, self._market_counts(), strict=True):
            members: dict[int, list[int]] = {EMPLOYER: [], LANDLORD: [], SHOP: [], PERSON: []}
            for number in range(first, first + count):
                kind = _kind_of(number - first)
                members[kind].append(number)
                self._kinds.append(kind)
                self._ids.append(_iban(market.country, dice.randrange(10**18)))
                self._left.append(self._limit(market) if kind == PERSON else 0)
            self._quarters.append(_Quarter(market, members))
            first += count

    def _market_counts(self) -> list[int]:
        """How many accounts each market has; each has at least one of every kind."""
        least = ACCOUNTS_MIN // len(_MARKETS)
        free = self._options.accounts - ACCOUNTS_MIN
        counts = [least + free * market.share // 100 for market in _MARKETS]
        counts[0] += self._options.accounts - sum(counts)
        return counts

    def _limit(self, market: Market) -> int:
        """An overdraft limit that leaves room for a person's share of the payments, in whole hundreds."""
        each = 1 + self._options.payments // self._options.accounts
        return 100 * market.unit * (20 + 3 * each)

    def account_rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each account."""
        dice = random.Random(f"{self._options.seed} names")
        for market, members in self._quarters:
            for number in sorted(number for kind in members.values() for number in kind):
                kind = self._kinds[number]
                limit = money.format(self._limit(market), market.currency) if kind == PERSON else ""
                flag = _OVERDRAFT_FLAG if kind == PERSON else ""
                yield self._ids[number], market.currency, str(kind), _name(dice, kind), flag, limit

    def payment_rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each payment. May be gone through once."""
        dice = random.Random(f"{self._options.seed} payments")
        weights = [quarter.market.share for quarter in self._quarters]
        options = self._options
        for number in range(options.payments):
            quarter = dice.choices(self._quarters, weights)[0]
            row = self._payment(dice, quarter, f"pay-{options.seed}-{number + 1:09d}")
            is_flawed = (number + 1) * options.flawed // options.payments > number * options.flawed // options.payments
            yield _flawed(row, number) if is_flawed else row

    def _payment(self, dice: random.Random, quarter: _Quarter, payment_id: str) -> tuple[str, ...]:
        market, members = quarter
        kind = _payment_kind(dice)
        person, shop = dice.choice(members[PERSON]), dice.choice(members[SHOP])
        amount = _amount(dice, kind, market)
        if kind in (RENT, CARD) and self._left[person] < amount:
            kind, amount = SALARY, _amount(dice, SALARY, market)
        month = dice.choice(_MONTHS)
        if kind == SALARY:
            debit, credit, reference = dice.choice(members[EMPLOYER]), person, f"Salary {month}"
        elif kind == RENT:
            debit, credit, reference = person, dice.choice(members[LANDLORD]), f"Rent, {month}"
        elif kind == REFUND:
            debit, credit, reference = shop, person, f"Refund of {dice.randrange(10**8):08d}"
        else:
            debit, credit, reference = person, shop, f"Card {dice.randrange(10**4):04d}"
        if kind in (RENT, CARD):
            self._left[person] -= amount
        text = money.format(amount, market.currency)
        return payment_id, self._ids[debit], self._ids[credit], text, market.currency, str(kind), reference


def _kind_of(place: int) -> int:
    """The kind of the n-th account of a market: in every hundred the shares, each kind among the first four."""
    first = (EMPLOYER, LANDLORD, SHOP, PERSON)
    if place < len(first):
        return first[place]
    hundredth = place % 100
    for kind, share in _ACCOUNT_SHARES:
        if hundredth < share:
            return kind
        hundredth -= share
    return PERSON


def _payment_kind(dice: random.Random) -> int:
    hundredth = dice.randrange(100)
    for kind, share in _PAYMENT_SHARES:
        if hundredth < share:
            return kind
        hundredth -= share
    return CARD


def _amount(dice: random.Random, kind: int, market: Market) -> int:
    """Minor units. Card payments are mostly small; rents and salaries are round."""
    unit = market.unit
    if kind == SALARY:
        return dice.randrange(1800, 6200) // 10 * 10 * unit
    if kind == RENT:
        return dice.randrange(400, 1600) // 5 * 5 * unit
    # The smaller of two throws, squared: half of all are below eight euros, one in a hundred above a hundred.
    throw = min(dice.randrange(1, 1400), dice.randrange(1, 1400))
    return 1 + throw * throw * unit // 10_000


def _name(dice: random.Random, kind: int) -> str:
    surname = dice.choice(_SURNAMES)
    if kind == EMPLOYER:
        return f"{surname} Works"
    if kind == LANDLORD:
        return f"{surname} Housing"
    if kind == SHOP:
        return f"{surname} {dice.choice(_TRADES)}"
    return f"{dice.choice(_NAMES)} {surname}"


def _iban(country: str, number: int) -> str:
    """An IBAN in the German form, 18 digits, with ISO 13616 check digits."""
    digits = f"{number:018d}"
    letters = "".join(str(ord(letter) - ord("A") + 10) for letter in country)
    return f"{country}{98 - int(f'{digits}{letters}00') % 97:02d}{digits}"


def _flawed(row: tuple[str, ...], number: int) -> tuple[str, ...]:
    """The row with one of four faults, two that show in the file and two that only the ledger knows."""
    payment_id, debit, credit, amount, *rest = row
    fault = number % 4
    if fault == 0:
        return payment_id, debit, credit, amount.replace(".", ",") if "." in amount else f"-{amount}", *rest
    if fault == 1:
        return payment_id, debit, f"{credit[:4]}NOSUCHACCOUNT", amount, *rest
    if fault == 2:
        return payment_id, debit, debit, amount, *rest
    return payment_id, f"{debit[:4]}NOSUCHACCOUNT", credit, amount, *rest
