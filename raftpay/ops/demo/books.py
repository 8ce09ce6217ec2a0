"""The proof: what the nodes hold, compared with the file of payments and nothing else.

`read_sheet` reads the file by itself (the csv module, not the reader of `raftpay pay`) and tells the lines that must be
paid from those that must be refused; `observe` asks single nodes for what they hold (without the client library);
`prove` compares the two, and is pure. Nothing that the paying said about itself is believed. The drill is the caller.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from raftpay.errors import NotCommitted
from raftpay.ledger import AccountRecord, AccountsQuery, CurrencyTotals, TransferQuery, TransferRecord
from raftpay.ops import money
from raftpay.ops.check import Check, check_books, is_balanced
from raftpay.ops.probe import ask, probe

# Ids in one question and transfers in one page: some 700 KiB of answer.
_ASKED_AT_A_TIME: Final = 2_000
_ANSWER_TIMEOUT_S: Final = 10.0
_SHOWN_MAX: Final = 3

_TRANSFERS: Final = msgspec.msgpack.Decoder(list[TransferRecord | None])


class _TransferPage(Struct, frozen=True):
    items: list[TransferRecord]
    cursor: str


class _AccountPage(Struct, frozen=True):
    items: list[AccountRecord]
    cursor: str


_TRANSFER_PAGE: Final = msgspec.msgpack.Decoder(_TransferPage)
_ACCOUNT_PAGE: Final = msgspec.msgpack.Decoder(_AccountPage)

T = TypeVar("T")
_PageT = TypeVar("_PageT", _TransferPage, _AccountPage)


class Line(NamedTuple):
    """A payment as the file has it. amount: minor units."""

    id: str
    debit_account: str
    credit_account: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What the nodes hold.

    looked_up: the answer to each line's id, in the order of the lines, from one node.
    walked: the id of every transfer in that node's ledger, found by going through all of it.
    accounts: every account there. counts: how many transfers each node says it has, by name.
    books: the trial balance of each node, and their digests at one applied index.
    """

    looked_up: Sequence[TransferRecord | None]
    walked: Sequence[str]
    accounts: Sequence[AccountRecord]
    counts: Mapping[str, int]
    books: Check


class Finding(Struct, frozen=True):
    """One claim and whether it holds. found: what was seen, in words."""

    claim: str
    is_good: bool
    found: str


@dataclass(frozen=True, slots=True)
class Proof:
    """lost, altered, doubled: how many payments. findings: all that was checked, in the order of the table."""

    lost: int
    altered: int
    doubled: int
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return all(finding.is_good for finding in self.findings)


# --- the file


@dataclass(frozen=True, slots=True)
class Sheet:
    """The file as an auditor reads it. lines: to be paid. flawed: id to fault, of those that must be refused."""

    lines: list[Line]
    flawed: dict[str, str]

    @property
    def ids(self) -> list[str]:
        return [*(line.id for line in self.lines), *self.flawed]


def read_sheet(accounts: Path, payments: Path) -> Sheet:
    """Read both files of a sample, in which every payment has an id."""
    with accounts.open(encoding="utf-8", newline="") as file:
        known = {row["id"] for row in csv.DictReader(file, strict=True)}
    sheet = Sheet([], {})
    with payments.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            debit, credit, currency = row["debit_account"], row["credit_account"], row["currency"]
            try:
                line = Line(row["id"], debit, credit, money.parse(row["amount"], currency), currency)
            except money.AmountError:
                sheet.flawed[row["id"]] = "amount"
                continue
            if debit == credit or not {debit, credit} <= known:
                sheet.flawed[line.id] = "accounts"
            else:
                sheet.lines.append(line)
    return sheet


def read_refused(report: Path | None) -> dict[str, str]:
    """The report of refused lines that paying left behind: payment id to result. None: there is no report."""
    if report is None:
        return {}
    with report.open(encoding="utf-8", newline="") as file:
        return {row["id"]: row["result"] for row in csv.DictReader(file, strict=True)}


# --- the nodes


def observe(addresses: Mapping[str, str], ids: Sequence[str], *, asked: str, deadline_s: float) -> Observed:
    """Ask the nodes what they hold. addresses: client addresses by name. asked: the node that is gone through.

    Raises NotCommitted when a node does not answer.
    """
    address = addresses[asked]
    looked_up: list[TransferRecord | None] = []
    for some in _portions(ids):
        found = _answer(address, "lookup_transfers", [some, "local"], _TRANSFERS)
        looked_up += found
    walked = [transfer.id for page in _transfer_pages(address) for transfer in page.items]
    accounts = [account for page in _account_pages(address) for account in page.items]
    counts = {}
    for name, place in addresses.items():
        status = probe(place, timeout_s=_ANSWER_TIMEOUT_S)
        if status is None:
            raise NotCommitted(f"{name} ({place}) does not say how many transfers it has")
        counts[name] = status.transfers
    return Observed(looked_up, walked, accounts, counts, check_books(addresses, deadline_s=deadline_s))


def _portions(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _ASKED_AT_A_TIME)):
        yield some


def _transfer_pages(address: str) -> Iterator[_TransferPage]:
    cursor: str | None = ""
    while cursor is not None:
        query = TransferQuery(limit=_ASKED_AT_A_TIME, cursor=cursor)
        page = _answer(address, "query_transfers", [query, "local"], _TRANSFER_PAGE)
        yield page
        cursor = page.cursor or None


def _account_pages(address: str) -> Iterator[_AccountPage]:
    cursor: str | None = ""
    while cursor is not None:
        query = AccountsQuery(limit=_ASKED_AT_A_TIME, cursor=cursor)
        page = _answer(address, "list_accounts", [query, "local"], _ACCOUNT_PAGE)
        yield page
        cursor = page.cursor or None


def _answer(address: str, method: str, params: list[object], decoder: msgspec.msgpack.Decoder[T]) -> T:
    answer = ask(address, method, params, decoder, timeout_s=_ANSWER_TIMEOUT_S)
    if answer is None:
        raise NotCommitted(f"the node at {address} gave no answer to {method} within {_ANSWER_TIMEOUT_S:g} s")
    return answer


# --- the comparison


def prove(sheet: Sheet, refused: Mapping[str, str], observed: Observed, *, flawed: int) -> Proof:
    """Compare what the nodes hold with the file.

    refused: payment id to result, of the lines that are said to have been refused.
    flawed: how many lines the file was made to have refused.
    """
    lines = sheet.lines
    held = dict(zip(sheet.ids, observed.looked_up, strict=True))
    lost = [line.id for line in lines if held[line.id] is None]
    altered = [line.id for line in lines if (found := held[line.id]) is not None and not _is_same(line, found)]
    known = {line.id for line in lines}
    # A second copy under the same id, or under an id that the file does not have, or of a line to be refused.
    doubled = [name for name, times in Counter(observed.walked).items() if times > 1 or name not in known]
    findings = [
        _finding("every payment is there", lost, f"{len(lines):,} of {len(lines):,} looked up and found", "lost"),
        _finding("each as the file has it", altered, "accounts, amounts and currencies equal", "differ"),
        _finding("none is there twice", doubled, f"{len(observed.walked):,} transfers walked, all known", "too many"),
        _counts(observed.counts, len(known)),
        _refusals(sheet.flawed, refused, held, flawed=flawed),
        _balances(lines, observed.accounts),
        *_books(lines, observed),
    ]
    return Proof(len(lost), len(altered), len(doubled), findings)


def _is_same(line: Line, found: TransferRecord) -> bool:
    return line == (found.id, found.debit_account, found.credit_account, found.amount, found.currency)


def _finding(claim: str, wrong: Sequence[str], said: str, fault: str) -> Finding:
    """A claim that nothing is wrong. wrong: what is, by name."""
    return Finding(claim, not wrong, said if not wrong else f"{len(wrong):,} {fault}: {_some(wrong)}")


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_SHOWN_MAX]) + (" …" if len(shown) > _SHOWN_MAX else "")


def _counts(counts: Mapping[str, int], distinct: int) -> Finding:
    wrong = [f"{name} has {count:,}" for name, count in counts.items() if count != distinct]
    said = f"{distinct:,} on each of {len(counts)} nodes" if not wrong else f"{_some(wrong)}; expected {distinct:,}"
    return Finding("transfers = distinct payment ids", not wrong, said)


def _refusals(
    expected: Mapping[str, str], refused: Mapping[str, str], held: Mapping[str, TransferRecord | None], *, flawed: int
) -> Finding:
    faults = {
        "not refused": [name for name in expected if name not in refused],
        "refused without need": [name for name in refused if name not in expected],
        "in the ledger all the same": [name for name in expected if held[name] is not None],
    }
    reasons = ", ".join(f"{count} {result}" for result, count in sorted(Counter(refused.values()).items()))
    said = f"{len(refused):,} of {flawed:,} expected" + (f": {reasons}" if reasons else "")
    said += "".join(f"; {fault}: {_some(names)}" for fault, names in faults.items() if names)
    is_good = len(refused) == flawed and not any(faults.values())
    return Finding("flawed lines are refused, no others", is_good, said)


def _balances(paid: Sequence[Line], accounts: Sequence[AccountRecord]) -> Finding:
    """Each account's sums, worked out anew from the file."""
    debits: defaultdict[str, int] = defaultdict(int)
    credits: defaultdict[str, int] = defaultdict(int)
    for line in paid:
        debits[line.debit_account] += line.amount
        credits[line.credit_account] += line.amount
    found = {
        account.id: (account.debits_posted, account.credits_posted, account.debits_pending, account.credits_pending)
        for account in accounts
    }
    names = dict.fromkeys([*found, *debits, *credits])
    wrong = [name for name in names if found.get(name) != (debits[name], credits[name], 0, 0)]
    return _finding("balances = sums of the file", wrong, f"{len(names):,} accounts recomputed, all equal", "differ")


def _books(paid: Sequence[Line], observed: Observed) -> Iterator[Finding]:
    """The trial balance on every node, against the file, and the digests."""
    books = observed.books
    sums: Counter[str] = Counter()
    for line in paid:
        sums[line.currency] += line.amount
    wrong = [f"{name} (no answer)" for name in books.unreachable]
    for node in books.nodes:
        totals = [] if node.totals is None else node.totals.totals
        found = {
            line.currency: line for line in totals if line.debits_posted or line.credits_posted or sums[line.currency]
        }
        for currency in sorted({*found, *sums}):
            if not _is_balanced_at(found.get(currency), sums[currency]):
                wrong.append(f"{node.name} {currency}")
    yield _finding(
        "books balanced on every node", wrong, f"{len(books.nodes)} nodes, {len(sums)} currencies", "unbalanced"
    )
    equal = books.has_equal_digests and not books.unreachable
    shown = ", ".join(f"{name} {digest[:12]}" for name, digest in books.digests.items())
    said = (
        f"{next(iter(books.digests.values()))[:16]} at index {books.index:,}"
        if equal
        else f"{shown} at {books.index:,}"
    )
    yield Finding("digests equal on every node", equal, said)


def _is_balanced_at(line: CurrencyTotals | None, expected: int) -> bool:
    return line is not None and is_balanced(line) and line.debits_posted == expected
