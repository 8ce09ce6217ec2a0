"""The content of a segment as columns, its digest, and how the balances after each row follow from those before.

What is here is final: what becomes of a pending transfer later, or how much of one is sent back later, is told by later
rows, never by a change of this one. The digest is over the values, not over the bytes of a file: two nodes whose column
stores compress differently still agree on it. No file is touched here.
"""

import hashlib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from raftpay.ledger.sealed import SegmentRows
from raftpay.ledger.transfers import EXPIRY, PENDING, POST, VOID

# Numbers are little-endian whatever the machine: they are hashed, and lie in files.
Numbers = NDArray[Any]  # Any: of unsigned and signed integers of several widths, as Table.numbers says
Ints = NDArray[np.int64]

# Texts are made and copied so many at a time: each piece holds the interpreter for less than a millisecond.
PIECE_ROWS: Final = 4096
DIGEST_BYTES: Final = 32
_VERSION: Final = 1
_PART: Final = struct.Struct("<QQ")
_HEAD: Final = struct.Struct("<IQQ")


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of rows that are sealed, each numbered from 0 over the whole history. numbers: column to numpy type."""

    name: str
    texts: tuple[str, ...]
    numbers: dict[str, str]


# The four balances of the account debited, then those of the account credited, as they were after the row.
BALANCES: Final = tuple(
    f"{side}_{balance}"
    for side in ("debit", "credit")
    for balance in ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
)
# Of the meaning that they have in raftpay.ledger.sealed.Movement. What follows from other rows (ids of accounts and of
# targets, currencies) is left to who reads them: six texts a row would cost three times as much as these two.
TRANSFERS: Final = Table(
    "transfers",
    ("id", "reference"),
    {
        "debit": "<u4",
        "credit": "<u4",
        "amount": "<i8",
        "timestamp": "<i8",
        "code": "<u2",
        "flags": "<u2",
        "link": "<i4",
        "target_amount": "<i8",
        "timeout_s": "<i8",
        **dict.fromkeys(BALANCES, "<i8"),
    },
)
# As they were opened.
ACCOUNTS: Final = Table(
    "accounts",
    ("id", "currency", "reference"),
    {"code": "<u2", "flags": "<u2", "created_at": "<i8", "overdraft_limit": "<i8"},
)
# The ids that were refused for the state of the moment, which have no other trace.
FAILED: Final = Table("failed", ("id",), {})
TABLES: Final = (TRANSFERS, ACCOUNTS, FAILED)


class Digest:
    """The running hash of a segment: of the segment before, of its cut, then of its tables in the order of TABLES."""

    def __init__(self, previous: bytes, number: int, time: int) -> None:
        self._hash = hashlib.sha256(previous + _HEAD.pack(_VERSION, number, time))

    def begin_table(self, first: int, count: int) -> None:
        self._hash.update(_PART.pack(first, count))

    def add_numbers(self, column: Numbers) -> None:
        self._hash.update(np.ascontiguousarray(column).data)

    def add_lengths(self, lengths: Numbers) -> None:
        """Of the texts of a column, in characters; then come the texts. So two different lists never give one hash."""
        self._hash.update(np.ascontiguousarray(lengths, "<u4").data)

    def add_text(self, joined: str) -> None:
        """The texts of a column, joined, or the next part of them."""
        self._hash.update(joined.encode())

    def digest(self) -> bytes:
        return self._hash.digest()


def genesis(cluster_id: str) -> bytes:
    """What stands for the segment before the first one: no two clusters have a chain in common."""
    return hashlib.sha256(f"raftpay archive of {cluster_id}".encode()).digest()


def lengths_of(texts: Sequence[str]) -> NDArray[np.uint32]:
    lengths = np.empty(len(texts), "<u4")
    for start in range(0, len(texts), PIECE_ROWS):
        piece = texts[start : start + PIECE_ROWS]
        lengths[start : start + len(piece)] = np.fromiter(map(len, piece), "<u4", len(piece))
    return lengths


@dataclass(frozen=True, slots=True)
class Columns:
    """Consecutive rows of a table. texts, numbers: what the table lists, each of the same length."""

    table: Table
    first: int
    texts: dict[str, list[str]]
    numbers: dict[str, Numbers]

    @classmethod
    def empty(cls, table: Table, first: int) -> "Columns":
        numbers = {name: np.empty(0, dtype) for name, dtype in table.numbers.items()}
        return cls(table, first, {name: [] for name in table.texts}, numbers)

    def __len__(self) -> int:
        return len(self.texts["id"])

    @property
    def last(self) -> int:
        """The number behind the last row."""
        return self.first + len(self)

    def add_to(self, digest: Digest) -> None:
        digest.begin_table(self.first, len(self))
        for number in self.table.numbers:
            digest.add_numbers(self.numbers[number])
        for name in self.table.texts:
            texts = self.texts[name]
            digest.add_lengths(lengths_of(texts))
            for start in range(0, len(texts), PIECE_ROWS):
                digest.add_text("".join(texts[start : start + PIECE_ROWS]))


@dataclass(frozen=True, slots=True)
class Moves:
    """What rows do to the balances, in the order of account and row: two entries a row, one for each side.

    accounts: of each entry. rows: of each entry, from 0. is_credit: of each entry.
    starts: where each account's entries begin; `accounts[starts]` is each account once, ascending.
    """

    accounts: Numbers
    rows: Numbers
    is_credit: NDArray[np.bool_]
    starts: Ints

    @property
    def counts(self) -> Ints:
        """Of the entries of each account."""
        return np.diff(np.append(self.starts, len(self.accounts)))


def moves_of(debits: Numbers, credits: Numbers) -> Moves:
    """The entries of both sides, sorted. The two accounts of a row differ."""
    count = len(debits)
    keys = np.empty(2 * count, np.uint64)
    keys[:count] = debits
    keys[count:] = credits
    keys <<= np.uint64(32)
    sides = np.arange(count, dtype=np.uint64) << np.uint64(1)
    keys[:count] |= sides
    keys[count:] |= sides | np.uint64(1)
    keys.sort()
    accounts = (keys >> np.uint64(32)).astype(np.uint32)
    starts = np.flatnonzero(np.diff(accounts.astype(np.int64), prepend=-1))
    rows = ((keys & np.uint64(0xFFFFFFFF)) >> np.uint64(1)).astype(np.uint32)
    return Moves(accounts, rows, (keys & np.uint64(1)).astype(np.bool_), starts)


def balances_after(moves: Moves, numbers: dict[str, Numbers], opening: Sequence[Ints]) -> dict[str, Numbers]:
    """The BALANCES columns of rows.

    numbers: of the rows, flags, amount and target_amount. opening: the four balances of each account before the first
    row, in the order debits pending and posted, credits pending and posted; accounts that are not there yet have 0.
    """
    pending, posted = _changes(numbers["flags"], numbers["amount"], numbers["target_amount"])
    accounts, counts = moves.accounts[moves.starts], moves.counts
    columns: dict[str, Numbers] = {}
    sides = ((pending, False), (posted, False), (pending, True), (posted, True))
    of_debit, of_credit = np.flatnonzero(~moves.is_credit), np.flatnonzero(moves.is_credit)
    rows_of_debit, rows_of_credit = moves.rows[of_debit], moves.rows[of_credit]
    for place, (change, is_of_credit) in enumerate(sides):
        after = np.repeat(_at(opening[place], accounts), counts)
        if change.any():
            deltas = np.zeros(len(moves.rows), np.int64)
            deltas[of_credit if is_of_credit else of_debit] = change[rows_of_credit if is_of_credit else rows_of_debit]
            # Sums over all accounts may wrap; what is left without the sum before an account's first does not.
            sums = np.cumsum(deltas)
            after += sums - np.repeat(sums[moves.starts] - deltas[moves.starts], counts)
        for side, entries, rows in ((0, of_debit, rows_of_debit), (4, of_credit, rows_of_credit)):
            column = np.empty(len(change), "<i8")
            column[rows] = after[entries]
            columns[BALANCES[side + place]] = column
    return columns


def _changes(flags: Numbers, amounts: Ints, target_amounts: Ints) -> tuple[Ints, Ints]:
    """What each row adds to (pending, posted), as `raftpay.ledger.transfers.balance_change` says of one."""
    bits = flags.astype(np.int64)
    is_pending, is_ending = (bits & PENDING) != 0, (bits & (POST | VOID | EXPIRY)) != 0
    pending = np.where(is_pending, amounts, 0) - np.where(is_ending, target_amounts, 0)
    posted = np.where((bits & (PENDING | VOID | EXPIRY)) != 0, 0, amounts)
    return pending, posted


def _at(column: Ints, accounts: Numbers) -> Ints:
    """The column's values of those accounts, 0 behind its end."""
    found = np.zeros(len(accounts), np.int64)
    known = accounts < len(column)
    found[known] = column[accounts[known]]
    return found


def is_closing(columns: Columns, moves: Moves, closing: Sequence[Ints]) -> bool:
    """Whether the balances after the last row of each account are those of closing."""
    accounts, last = moves.accounts[moves.starts], moves.starts + moves.counts - 1
    rows, is_credit = moves.rows[last], moves.is_credit[last]
    for place, column in enumerate(closing):
        of_debit, of_credit = columns.numbers[BALANCES[place]], columns.numbers[BALANCES[4 + place]]
        if not np.array_equal(np.where(is_credit, of_credit[rows], of_debit[rows]), column[accounts]):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as columns: its tables by name. number, time: as in SegmentRows."""

    number: int
    time: int
    tables: dict[str, Columns]
    moves: Moves

    @property
    def transfers(self) -> Columns:
        return self.tables[TRANSFERS.name]

    @property
    def failed(self) -> Columns:
        return self.tables[FAILED.name]

    def digest(self, previous: bytes) -> bytes:
        """SHA-256 over all values. previous: that of the segment before, or `genesis`."""
        digest = Digest(previous, self.number, self.time)
        for table in TABLES:
            self.tables[table.name].add_to(digest)
        return digest.digest()


def segment_of(rows: SegmentRows) -> Segment:
    """What the ledger has closed, as columns. May run beside the ledger."""
    numbers: dict[str, Numbers] = {
        "debit": _numbers(rows.debits, "<u4"),
        "credit": _numbers(rows.credits, "<u4"),
        "amount": _numbers(rows.amounts, "<i8"),
        "timestamp": _numbers(rows.timestamps, "<i8"),
        "code": _numbers(rows.codes, "<u2"),
        "flags": _numbers(rows.flags, "<u2"),
        "link": _numbers(rows.links, "<i4"),
        "target_amount": _numbers(rows.target_amounts, "<i8"),
        "timeout_s": _numbers(rows.timeouts, "<i8"),
    }
    moves = moves_of(numbers["debit"], numbers["credit"])
    numbers |= balances_after(moves, numbers, [_numbers(column, "<i8") for column in rows.opening])
    transfers = Columns(TRANSFERS, rows.first, {"id": rows.ids, "reference": rows.references}, numbers)
    closing = [_numbers(column, "<i8") for column in rows.closing]
    assert is_closing(transfers, moves, closing), "the rows of the segment do not lead from its opening to its closing"
    accounts = rows.accounts
    opened = Columns(
        ACCOUNTS,
        accounts.first,
        {"id": accounts.ids, "currency": accounts.currencies, "reference": accounts.references},
        {
            "code": _numbers(accounts.codes, "<u2"),
            "flags": _numbers(accounts.flags, "<u2"),
            "created_at": _numbers(accounts.created_at, "<i8"),
            "overdraft_limit": _numbers(accounts.first_limits, "<i8"),
        },
    )
    failed = Columns(FAILED, rows.first_failed, {"id": rows.failed}, {})
    tables = {columns.table.name: columns for columns in (transfers, opened, failed)}
    return Segment(rows.number, rows.time, tables, moves)


def _numbers(column: "array[int]", dtype: str) -> Numbers:
    """The column's own numbers where the machine has them in that form, else a copy."""
    return np.asarray(column).astype(dtype, copy=False)
