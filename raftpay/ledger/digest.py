"""The digest of the state: a hash of everything in the books that can differ between two nodes.

Rows that never change again are folded in blocks, each into the hash of the block before it: accounts as they were
opened in blocks of a fixed number, movements and failed ids in those blocks that the window closes. So the answer does
not depend on when it was asked for, nor on which blocks are still in memory. What changes (balances, guards, limits,
what became of pendings) is hashed whole when somebody asks. The hot path pays for a hash of what it has entered.
"""

import sys
from array import array
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from raftpay.ledger.books import Books
from raftpay.ledger.transfers import Block

# So many accounts are folded at a time.
ACCOUNTS_FOLDED: Final = 4096
DIGEST_BYTES: Final = 32


def packed(numbers: "array[int]") -> bytes:
    """The numbers as little-endian bytes, on every machine."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def unpacked(typecode: str, data: bytes) -> "array[int]":
    """The numbers that `packed` made these bytes of."""
    numbers: array[int] = array(typecode, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def packed_texts(texts: list[str]) -> bytes:
    """The lengths, then the characters: two different lists never give the same bytes."""
    lengths = array("I", map(len, texts))
    return packed(array("I", (len(texts),))) + packed(lengths) + "".join(texts).encode("utf-8", "surrogatepass")


class FoldState(Struct, frozen=True, array_like=True):
    """Where the digest is.

    accounts: hash of the accounts folded so far; folded: how many these are.
    history: hash of the blocks folded so far, that is of all but the open one.
    """

    accounts: bytes = bytes(DIGEST_BYTES)
    folded: int = 0
    history: bytes = bytes(DIGEST_BYTES)


class StateDigest:
    """state: where to go on from."""

    def __init__(self, books: Books, state: FoldState) -> None:
        self._books = books
        self._accounts, self._folded, self._history = state.accounts, state.folded, state.history

    @property
    def state(self) -> FoldState:
        return FoldState(self._accounts, self._folded, self._history)

    def fold_accounts(self) -> None:
        """Hashes the full blocks of accounts that are there. Between commands only: a chain may be taken back."""
        while len(self._books.accounts) - self._folded >= ACCOUNTS_FOLDED:
            end = self._folded + ACCOUNTS_FOLDED
            self._accounts = _folded(self._accounts, self._pack_accounts(self._folded, end))
            self._folded = end

    def fold_block(self, block: Block) -> None:
        """Hashes a block of movements that has become final."""
        self._history = _folded(self._history, _pack_block(block))

    def hexdigest(self) -> str:
        self.fold_accounts()
        accounts, transfers = self._books.accounts, self._books.transfers
        state = blake2b(digest_size=DIGEST_BYTES)
        state.update(self._accounts + self._history)
        state.update(packed(array("Q", (len(accounts), len(transfers), transfers.failed_count))))
        state.update(self._pack_accounts(self._folded, len(accounts)))
        state.update(_pack_block(transfers.open))
        for column in (accounts.guards, accounts.limits, *accounts.balance_columns(), self._books.pendings.statuses):
            state.update(packed(column))
        return state.hexdigest()

    def _pack_accounts(self, first: int, last: int) -> bytes:
        accounts = self._books.accounts
        return b"".join(
            (
                packed_texts(accounts.ids[first:last]),
                packed_texts(accounts.currencies[first:last]),
                packed_texts(accounts.references[first:last]),
                packed(accounts.codes[first:last]),
                packed(accounts.flags[first:last]),
                packed(accounts.created_at[first:last]),
                packed(accounts.first_limits_of(first, last)),
            )
        )


def _folded(state: bytes, block: bytes) -> bytes:
    return blake2b(state + block, digest_size=DIGEST_BYTES).digest()


def _pack_block(block: Block) -> bytes:
    """What tells the rows and failed ids of a block from any others; what their links lead to is told there."""
    numbers = (
        block.debits,
        block.credits,
        block.amounts,
        block.timestamps,
        block.codes,
        block.flags,
        block.links,
        block.timeouts,
    )
    texts = packed_texts(block.ids) + packed_texts(block.references) + packed_texts(block.failed)
    return texts + b"".join(map(packed, numbers))
