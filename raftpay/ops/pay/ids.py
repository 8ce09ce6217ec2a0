"""Ids for payments whose file gives none: derived from what the line says, so that the same line keeps its id for ever.

    id = UUIDv8 of BLAKE2b-128, person "raftpay pay id 1", over msgpack(run) + msgpack(identity),
         and, for the k-th repetition of the same line in the file (k = 1, 2, …), + msgpack(k)
    identity = [debit_account, credit_account, amount_minor, currency, code, flags, reference, timeout_s]

The line number takes no part: who deletes a wrong line and runs the file again must not pay every line behind it a
second time. Equal lines are told apart by how many stood before them, so a payment on two lines is two payments, and
which of the two is called the first makes no difference. `run` keeps two files with equal lines apart; it is the
file's name unless the caller says otherwise.
"""

from array import array
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

_ID_BYTES: Final = 16
_PERSON: Final = b"raftpay pay id 1"
_SLOTS_AT_FIRST: Final = 4096

_encode: Final = msgspec.msgpack.Encoder().encode


class Identity(NamedTuple):
    """What makes a line the payment that it is, in the order of the definition above."""

    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str
    code: int
    flags: int
    reference: str
    timeout_s: int


class TransferIds:
    """Gives ids to the payments of one run, in the order of the file. count: how many it gave."""

    def __init__(self, run: str) -> None:
        self._of_run = blake2b(_encode(run), digest_size=_ID_BYTES, person=_PERSON)
        self._seen = Repetitions()
        self.count = 0

    def id_of(self, identity: Identity) -> str:
        """The id of the next line of the file that gives none."""
        self.count += 1
        of_line = self._of_run.copy()
        of_line.update(_encode(identity))
        digest = of_line.digest()
        repetition = self._seen.count(int.from_bytes(digest[:8], "big"))
        if repetition:
            of_line.update(_encode(repetition))
            digest = of_line.digest()
        return _uuid8(digest)


def _uuid8(digest: bytes) -> str:
    """RFC 9562: version 8 is for ids made from a hash of one's own choice."""
    number = int.from_bytes(digest, "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
    return str(UUID(int=number))


class Repetitions:
    """Counts how often each 64-bit key was seen, in 12 to 24 bytes a key.

    A set of Python ints takes five times that, and a file may have tens of millions of lines. That two different lines
    of so large a file share a key happens once in 300,000 files; their ids differ all the same.
    """

    def __init__(self) -> None:
        # Open addressing; 0 is an empty slot, and never more than two thirds are taken.
        self._slots = array("Q", bytes(8 * _SLOTS_AT_FIRST))
        self._taken = 0
        # Keys seen more than once, which are few: how often beyond the first.
        self._again: dict[int, int] = {}

    def count(self, key: int) -> int:
        """How often the key was given before this time."""
        key = key or 1
        slot = self._slot_of(key)
        if self._slots[slot]:
            self._again[key] = repetition = self._again.get(key, 0) + 1
            return repetition
        self._slots[slot] = key
        self._taken += 1
        if self._taken * 3 > len(self._slots) * 2:
            self._grow()
        return 0

    def _slot_of(self, key: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        slot = key & mask
        while slots[slot] and slots[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        for key in old:
            if key:
                self._slots[self._slot_of(key)] = key
