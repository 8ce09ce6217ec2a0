"""The kinds of transfers, and the block: a struct of arrays, where column[offset] is a property of one movement.

A row is a change of balances: a transfer, or the expiry of a pending one (which has no id of its own). Rows are
numbered over the whole life of the ledger and never changed. movements.py holds the blocks. No rule lives here.
"""

from array import array
from typing import Final

from msgspec import Struct

from raftpay.ledger.sealed import Movement
from raftpay.ledger.types import TransferFlag

PENDING: Final = int(TransferFlag.PENDING)
POST: Final = int(TransferFlag.POST_PENDING)
VOID: Final = int(TransferFlag.VOID_PENDING)
REVERSAL: Final = int(TransferFlag.REVERSAL)
# Not a flag that anybody may send: the mark of a row that is the expiry of a pending transfer.
EXPIRY: Final = 1 << 15
KINDS: Final = PENDING | POST | VOID | REVERSAL | EXPIRY
TARGETED: Final = POST | VOID | REVERSAL | EXPIRY

NO_LINK: Final = -1


def balance_change(flags: int, amount: int, reserved: int) -> tuple[int, int]:
    """What a row adds to (pending, posted): to the debits of its debit account and the credits of its credit account.

    That both sides change by the same is what keeps the trial balance even.
    reserved: the amount of the pending transfer that a post, void or expiry ends.
    """
    if flags & PENDING:
        return amount, 0
    if flags & POST:
        return -reserved, amount
    if flags & (VOID | EXPIRY):
        return -reserved, 0
    return 0, amount


class Target(Struct, frozen=True, gc=False):
    """What has to be known of a transfer in order to post, void, reverse or release it: a part of its Movement."""

    row: int
    id: str
    debit: int
    credit: int
    amount: int
    code: int
    flags: int
    link: int


class Block:
    """Some thousand rows that follow each other, and the ids that failed while they were entered.

    first, first_slot, first_failed: how many rows, pending transfers and failed ids there are before it, ever.
    ids ... timeouts: of the meaning that they have in a Movement.
    pending_rows: the rows of its pending transfers, by slot.
    failed: ids refused for the state of the moment, in order.

    Once another block is open nothing in it changes: images and segments keep it for as long as they need it.
    """

    __slots__ = (
        "amounts",
        "codes",
        "credits",
        "debits",
        "failed",
        "first",
        "first_failed",
        "first_slot",
        "flags",
        "ids",
        "links",
        "pending_rows",
        "references",
        "target_amounts",
        "target_ids",
        "timeouts",
        "timestamps",
    )

    def __init__(self, first: int, first_slot: int, first_failed: int) -> None:
        self.first = first
        self.first_slot = first_slot
        self.first_failed = first_failed
        self.ids: list[str] = []
        self.references: list[str] = []
        self.target_ids: list[str] = []
        self.debits = array("i")
        self.credits = array("i")
        self.amounts = array("q")
        self.timestamps = array("q")
        self.codes = array("H")
        self.flags = array("H")
        self.links = array("i")
        self.target_amounts = array("q")
        self.timeouts = array("q")
        self.pending_rows = array("i")
        self.failed: list[str] = []

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.first + len(self.ids)

    def next_block(self) -> "Block":
        """An empty one that goes on where this one ends."""
        return Block(self.end, self.first_slot + len(self.pending_rows), self.first_failed + len(self.failed))

    def change(self, offset: int) -> tuple[int, int]:
        """What the row added to (pending, posted) of its two accounts."""
        return balance_change(self.flags[offset], self.amounts[offset], self.target_amounts[offset])

    def movement(self, offset: int) -> Movement:
        return Movement(
            self.first + offset,
            self.ids[offset],
            self.debits[offset],
            self.credits[offset],
            self.amounts[offset],
            self.timestamps[offset],
            self.codes[offset],
            self.flags[offset],
            self.references[offset],
            self.links[offset],
            self.target_ids[offset],
            self.target_amounts[offset],
            self.timeouts[offset],
        )

    def append(self, movement: Movement) -> None:
        """Adds a cell to each column. The row of a block's first cell is the block's first, and so on."""
        self.ids.append(movement.id)
        self.references.append(movement.reference)
        self.target_ids.append(movement.target_id)
        self.debits.append(movement.debit)
        self.credits.append(movement.credit)
        self.amounts.append(movement.amount)
        self.timestamps.append(movement.timestamp)
        self.codes.append(movement.code)
        self.flags.append(movement.flags)
        self.links.append(movement.link)
        self.target_amounts.append(movement.target_amount)
        self.timeouts.append(movement.timeout_s)

    def target(self, offset: int) -> Target:
        return Target(
            self.first + offset,
            self.ids[offset],
            self.debits[offset],
            self.credits[offset],
            self.amounts[offset],
            self.codes[offset],
            self.flags[offset],
            self.links[offset],
        )

    def columns(self) -> tuple["array[int]", ...]:
        """The columns of numbers, in the order in which images have them."""
        return (
            self.debits,
            self.credits,
            self.amounts,
            self.timestamps,
            self.codes,
            self.flags,
            self.links,
            self.target_amounts,
            self.timeouts,
        )

    def texts(self) -> tuple[list[str], list[str], list[str]]:
        """The columns of texts, in the order in which images have them."""
        return self.ids, self.references, self.target_ids
