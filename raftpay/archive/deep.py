"""Whether sealed history is what it was, and hangs together: the part of `raftpay check --deep` for one archive.

Of each segment, in order: the link to the one before, the rows against the digest, and everything that follows from the
rows before it, computed again: the balances after each row, what a target had been, that accounts of one currency deal
with each other, that no id comes twice. Only reads; a node may run meanwhile.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from raftpay.archive.chain import Cut, lookup_name
from raftpay.archive.columns import ACCOUNTS, BALANCES, Columns, Ints, Numbers, Segment, balances_after
from raftpay.archive.files import read_parts
from raftpay.archive.ids import IdIndex, Key, merged, run_of
from raftpay.archive.parquet import Store
from raftpay.archive.shelf import Shelf
from raftpay.errors import CorruptionError
from raftpay.ledger.sealed import BalanceColumns
from raftpay.ledger.transfers import REVERSAL, TARGETED
from raftpay.storage.disk import Disk

# Of the fingerprints by which ids are compared; whoever made the archive does not choose them against it.
_KEY: Final = Key(0x5EED)
_KINDS: Final = ("debits pending", "debits posted", "credits pending", "credits posted")


@dataclass(frozen=True, slots=True)
class Finding:
    """One segment. problems: what is wrong with it; empty if nothing is."""

    cut: Cut
    problems: list[str]


@dataclass(slots=True)
class _History:
    """What is known of all rows before a segment. balances: of each account. currencies: of each account, by number."""

    balances: list[Ints] = field(default_factory=lambda: [np.zeros(0, np.int64)] * 4)
    currencies: list[str] = field(default_factory=list)
    debits: list[Numbers] = field(default_factory=list)
    credits: list[Numbers] = field(default_factory=list)
    amounts: list[Ints] = field(default_factory=list)
    index: IdIndex = field(default_factory=lambda: IdIndex(_KEY))


# What else is known of a segment: given its cut, and the balances of all accounts behind its rows; returns problems.
Witness = Callable[[Cut, Sequence[Ints]], Iterable[str]]


def knows_nothing(_cut: Cut, _closing: Sequence[Ints]) -> Iterable[str]:
    """The witness where there is none."""
    return ()


@dataclass(frozen=True, slots=True)
class BalanceDifference:
    """Balances of a kind that are not those that sealed rows come to. count: of how many accounts.

    account: the number of the first of them; found: its balance; expected: by the rows.
    """

    kind: str
    count: int
    account: int
    found: int
    expected: int


def balance_differences(found: BalanceColumns, closing: Sequence[Ints]) -> Iterator[BalanceDifference]:
    """How these balances differ from those behind a segment; of as many accounts."""
    for kind, column, right in zip(_KINDS, found, closing, strict=True):
        wrong = np.flatnonzero(np.frombuffer(column, np.int64) != right)
        if len(wrong):
            first = int(wrong[0])
            yield BalanceDifference(kind, len(wrong), first, column[first], int(right[first]))


def check_archive(disk: Disk, cluster_id: str, store: Store, witness: Witness = knows_nothing) -> Iterator[Finding]:
    """Each segment in turn, as soon as it was looked at. After one that cannot be read the rest is only compared with
    its digest. witness: asked of each segment whose balances are known.
    """
    shelf, history, is_whole = Shelf(disk, store), _History(), True
    for cut in shelf.cuts(cluster_id):
        problems = list(_file_problems(disk, shelf, cut))
        try:
            segment = shelf.segment(cut)
        except CorruptionError as error:
            problems.append(str(error))
            is_whole = False
        else:
            if is_whole:
                problems += _problems(history, segment)
                problems += witness(cut, history.balances)
        yield Finding(cut, problems)


def _file_problems(disk: Disk, shelf: Shelf, cut: Cut) -> Iterator[str]:
    """Whether the bytes of the files are still those that were read back when they were sealed here."""
    header = shelf.header(lookup_name(cut))
    for known in header.files if header is not None else ():
        digest = hashlib.sha256()
        for part in read_parts(disk, known.name):
            digest.update(part)
        if digest.digest() != known.sha256:
            yield f"{known.name}: its bytes are not those that were sealed"


def _problems(history: _History, segment: Segment) -> Iterator[str]:
    transfers, accounts = segment.transfers, segment.tables[ACCOUNTS.name]
    if accounts.first != len(history.currencies):
        yield f"the accounts begin with number {accounts.first}, {len(history.currencies)} is expected"
    history.currencies += accounts.texts["currency"]
    numbers = transfers.numbers
    history.debits.append(numbers["debit"])
    history.credits.append(numbers["credit"])
    history.amounts.append(numbers["amount"])
    count = len(history.currencies)
    if len(transfers) and max(numbers["debit"].max(), numbers["credit"].max()) >= count:
        yield f"a row names an account that was not opened; there are {count}"
        return
    yield from _currency_problems(history, numbers)
    yield from _target_problems(history, transfers)
    yield from _balance_problems(history, segment, count)
    yield from _id_problems(history, segment)


def _currency_problems(history: _History, numbers: dict[str, Numbers]) -> Iterator[str]:
    places = {name: place for place, name in enumerate(dict.fromkeys(history.currencies))}
    of_accounts = np.fromiter(map(places.__getitem__, history.currencies), np.int64, len(history.currencies))
    wrong = int((of_accounts[numbers["debit"]] != of_accounts[numbers["credit"]]).sum())
    if wrong:
        yield f"{wrong} rows are between accounts of two currencies"


def _target_problems(history: _History, transfers: Columns) -> Iterator[str]:
    """A row that settles or reverses another has its accounts, and says its amount."""
    flags = transfers.numbers["flags"].astype(np.int64)
    rows = np.flatnonzero(flags & TARGETED)
    targets = transfers.numbers["link"][rows].astype(np.int64)
    if (targets < 0).any() or (targets >= transfers.first + rows).any():
        yield "a row names a target that does not lie before it"
        return
    is_reversal = (flags[rows] & REVERSAL) != 0
    debits, credits = _picked(history.debits, targets), _picked(history.credits, targets)
    wrong = _picked(history.amounts, targets) != transfers.numbers["target_amount"][rows]
    wrong |= np.where(is_reversal, credits, debits) != transfers.numbers["debit"][rows]
    wrong |= np.where(is_reversal, debits, credits) != transfers.numbers["credit"][rows]
    if wrong.any():
        yield f"{int(wrong.sum())} rows do not fit the transfer that they settle or reverse"


def _picked(parts: Sequence[Numbers], rows: Ints) -> Ints:
    """The values of these rows of a column that is kept in parts."""
    ends = np.cumsum([len(part) for part in parts])
    of_part = np.searchsorted(ends, rows, side="right")
    found = np.zeros(len(rows), np.int64)
    for part in np.unique(of_part).tolist():
        chosen = of_part == part
        start = int(ends[part - 1]) if part else 0
        found[chosen] = parts[part][rows[chosen] - start]
    return found


def _balance_problems(history: _History, segment: Segment, count: int) -> Iterator[str]:
    numbers, moves = segment.transfers.numbers, segment.moves
    opening = [np.concatenate((column, np.zeros(count - len(column), np.int64))) for column in history.balances]
    right = balances_after(moves, numbers, opening)
    wrong: NDArray[np.bool_] = np.zeros(len(segment.transfers), np.bool_)
    for name in BALANCES:
        wrong |= right[name] != numbers[name]
        if (right[name] < 0).any():
            yield f"the balance {name} falls below zero"
    if wrong.any():
        row = segment.transfers.first + int(np.argmax(wrong))
        yield f"the balances after {int(wrong.sum())} rows do not follow from the rows, the first of them row {row}"
    accounts, last = moves.accounts[moves.starts], moves.starts + moves.counts - 1
    for place in range(4):
        of_debit, of_credit = right[BALANCES[place]], right[BALANCES[4 + place]]
        rows = moves.rows[last]
        opening[place][accounts] = np.where(moves.is_credit[last], of_credit[rows], of_debit[rows])
    history.balances = opening


def _id_problems(history: _History, segment: Segment) -> Iterator[str]:
    """Whether an id of this segment was there before, or comes twice in it."""
    ids = segment.transfers.texts["id"] + segment.failed.texts["id"]
    run = run_of(_KEY, ids, segment.number, 0)
    # Two different ids share a fingerprint once in some hundred thousand archives of ten million.
    twice = int((run.fingerprints[1:] == run.fingerprints[:-1]).sum())
    for known in history.index.runs:
        twice += sum(1 for _ in known.ordinals(run.fingerprints))
    history.index.add(run)
    while group := history.index.to_merge():
        history.index.add(merged(group))
    if twice:
        yield f"{twice} ids were there before"
