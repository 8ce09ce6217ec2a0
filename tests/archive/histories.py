"""Makes histories as the ledger closes them, segment by segment: all kinds of rows, consistent balances, odd texts.

It knows no rule of the ledger but what a row does to balances: which rows a ledger would allow does not matter to those
who seal them. All its dice are one Random.
"""

from array import array
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from uuid import UUID

from raftpay.archive.parquet import ColumnStore
from raftpay.archive.plain_store import PlainStore
from raftpay.ledger.sealed import BalanceColumns, SegmentAccounts, SegmentRows
from raftpay.ledger.transfers import EXPIRY, NO_LINK, PENDING, POST, REVERSAL, VOID, balance_change
from raftpay.ledger.types import AMOUNT_MAX
from raftpay.storage.snapshots import Steps

SECOND = 10**9
# One for all tests: each takes a while to begin.
STORE = ColumnStore()
# For tests in which nothing depends on what the files are like.
PLAIN = PlainStore()
CURRENCIES = ("EUR", "USD", "X.1")
REFERENCES = ("", "", "", "rent", "invoice 7", "Grüße\n\0", "🪙" * 140, "a'b\"c")
CODES = (0, 0, 1, 65535)
TIMEOUTS = (0, 1, 86400, 2**40)


@dataclass(slots=True)
class Books:
    """What the maker remembers of all rows. balances: as BalanceColumns, of all accounts."""

    account_ids: list[str] = field(default_factory=list)
    currencies: list[str] = field(default_factory=list)
    balances: BalanceColumns = field(default_factory=lambda: (array("q"), array("q"), array("q"), array("q")))
    ids: list[str] = field(default_factory=list)
    sides: list[tuple[int, int]] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    open_pendings: list[int] = field(default_factory=list)
    pendings: int = 0
    failed: int = 0
    time: int = SECOND


class HistoryMaker:
    """Makes one segment after the other. uuids: in which share of the segments all ids are UUIDs."""

    def __init__(self, dice: Random, *, uuids: float = 0.5, amount_max: int = 10**6) -> None:
        self.dice = dice
        self.books = Books()
        self._uuids = uuids
        self._amount_max = amount_max
        self._made = 0
        self._has_uuids = False

    def segment(self, rows: int, *, failed: int = 0, accounts: int = 0, is_overtaken: bool = False) -> SegmentRows:
        """The next one. is_overtaken: some rows have earlier times than those before them."""
        books, dice = self.books, self.dice
        self._has_uuids = dice.random() < self._uuids
        opening = self._copied_balances()
        opened = self._open_accounts(max(accounts, 3 if not books.account_ids else 0))
        made = _Made(first=len(books.ids))
        for _ in range(rows):
            self._add_row(made, is_overtaken=is_overtaken)
        first_failed = books.failed
        books.failed += failed
        self._made += 1
        return SegmentRows(
            number=self._made - 1,
            first=made.first,
            last=len(books.ids),
            time=books.time,
            ids=books.ids[made.first :],
            debits=made.debits,
            credits=made.credits,
            amounts=made.amounts,
            timestamps=made.timestamps,
            codes=made.codes,
            flags=made.flags,
            references=made.references,
            links=made.links,
            target_ids=made.target_ids,
            target_amounts=made.target_amounts,
            timeouts=made.timeouts,
            first_failed=first_failed,
            failed=[self._new_id(f"failed{first_failed + number}") for number in range(failed)],
            accounts=opened,
            opening=opening,
            closing=self._copied_balances(),
            account_ids=books.account_ids,
            account_currencies=books.currencies,
        )

    def _copied_balances(self) -> BalanceColumns:
        debits_pending, debits_posted, credits_pending, credits_posted = self.books.balances
        return debits_pending[:], debits_posted[:], credits_pending[:], credits_posted[:]

    def _open_accounts(self, count: int) -> SegmentAccounts:
        books, dice = self.books, self.dice
        first = len(books.account_ids)
        # The first two of them share a currency, so that there is somebody to deal with.
        currencies = [CURRENCIES[0] if first + i < 2 else dice.choice(CURRENCIES) for i in range(count)]
        books.account_ids += [f"users:{first + i}" for i in range(count)]
        books.currencies += currencies
        for column in books.balances:
            column.extend([0] * count)
        return SegmentAccounts(
            first,
            books.account_ids[first:],
            currencies,
            [dice.choice(REFERENCES) for _ in range(count)],
            array("H", [dice.choice(CODES) for _ in range(count)]),
            array("H", [dice.choice((0, 2, 4, 8)) for _ in range(count)]),
            array("q", [books.time + i for i in range(count)]),
            array("q", [dice.choice((0, 100, AMOUNT_MAX)) for _ in range(count)]),
        )

    def _add_row(self, made: "_Made", *, is_overtaken: bool) -> None:
        books, dice = self.books, self.dice
        row, amount = len(books.ids), dice.randint(0, self._amount_max)
        flags, target = dice.choice((0, 0, 0, PENDING, PENDING, POST, VOID, EXPIRY, REVERSAL)), NO_LINK
        if flags & (POST | VOID | EXPIRY):
            if books.open_pendings:
                target = books.open_pendings.pop(dice.randrange(len(books.open_pendings)))
                amount = dice.randint(0, books.amounts[target]) if flags & POST else books.amounts[target]
            else:
                flags = 0
        elif flags == REVERSAL:
            named = [known for known in range(max(0, row - 40), row) if books.ids[known]]
            target = dice.choice(named) if named else NO_LINK
            flags = flags if named else 0
        debit, credit = self._sides(flags, target)
        if flags & PENDING:
            books.open_pendings.append(row)
            books.pendings += 1
        books.time += dice.choice((1, 1, 5, SECOND))
        id_ = "" if flags & EXPIRY else self._new_id(f"t{row}")
        made.target_ids.append(books.ids[target] if target >= 0 else "")
        made.target_amounts.append(books.amounts[target] if target >= 0 else 0)
        made.links.append(books.pendings - 1 if flags & PENDING else target)
        books.ids.append(id_)
        books.sides.append((debit, credit))
        books.amounts.append(amount)
        made.debits.append(debit)
        made.credits.append(credit)
        made.amounts.append(amount)
        made.timestamps.append(books.time - (dice.choice((0, 0, 3 * SECOND)) if is_overtaken else 0))
        made.codes.append(dice.choice(CODES))
        made.flags.append(flags)
        made.references.append("" if flags & EXPIRY else dice.choice(REFERENCES))
        made.timeouts.append(dice.choice(TIMEOUTS) if flags & PENDING else 0)
        reserved = made.target_amounts[-1] if flags & (POST | VOID | EXPIRY) else 0
        pending, posted = balance_change(flags, amount, reserved)
        debits_pending, debits_posted, credits_pending, credits_posted = books.balances
        debits_pending[debit] += pending
        debits_posted[debit] += posted
        credits_pending[credit] += pending
        credits_posted[credit] += posted

    def _sides(self, flags: int, target: int) -> tuple[int, int]:
        if target >= 0:
            debit, credit = self.books.sides[target]
            return (credit, debit) if flags & REVERSAL else (debit, credit)
        debit = self.dice.randrange(2)
        same = [
            account
            for account, currency in enumerate(self.books.currencies)
            if currency == CURRENCIES[0] and account != debit
        ]
        return debit, self.dice.choice(same)

    def _new_id(self, name: str) -> str:
        if self._has_uuids:
            # The first one is all zeros, which stand for no id where it is an expiry.
            return str(UUID(bytes=bytes(16) if name == "t0" else sha256(name.encode()).digest()[:16]))
        return self.dice.choice((name, name, f"{name}-{'x' * (63 - len(name))}"))


@dataclass(slots=True)
class _Made:
    first: int
    debits: "array[int]" = field(default_factory=lambda: array("i"))
    credits: "array[int]" = field(default_factory=lambda: array("i"))
    amounts: "array[int]" = field(default_factory=lambda: array("q"))
    timestamps: "array[int]" = field(default_factory=lambda: array("q"))
    codes: "array[int]" = field(default_factory=lambda: array("H"))
    flags: "array[int]" = field(default_factory=lambda: array("H"))
    links: "array[int]" = field(default_factory=lambda: array("i"))
    target_amounts: "array[int]" = field(default_factory=lambda: array("q"))
    timeouts: "array[int]" = field(default_factory=lambda: array("q"))
    references: list[str] = field(default_factory=list)
    target_ids: list[str] = field(default_factory=list)


def run(steps: Steps) -> None:
    """All of them, one after the other."""
    for _ in steps:
        continue
