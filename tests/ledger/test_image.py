"""Images of the ledger: what they hold, and what happens with one that is none. The twin's tests restore at random."""

from array import array
from collections.abc import Callable
from random import Random

import pytest
from msgspec import structs

from raftpay.ledger import Ledger
from raftpay.ledger.digest import FoldState
from raftpay.ledger.image import LedgerImage
from raftpay.ledger.image_format import PART_ROWS, ImageVersionError
from raftpay.ledger.remains import Part
from raftpay.ledger.transfers import Block
from raftpay.ledger.types import (
    BATCH_EVENTS_MAX,
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    Transfer,
    TransferFlag,
)

ACCOUNTS = PART_ROWS + 10


def with_head(image: LedgerImage, **fields: object) -> None:
    image._head = structs.replace(image._head, **fields)


def pendings_of(block: Block) -> Part:
    """What would be left of the block if it were dropped."""
    return Part(array("i", range(block.first, block.end)), block).only([int(flags == 2) for flags in block.flags])


def a_ledger() -> Ledger:
    """More accounts and transfers than one block holds, pendings and refused ids among them."""
    ledger, dice = Ledger(), Random(7)
    ledger.apply(Command(1, [CreateAccounts([Account(f"a{number}", "EUR") for number in range(ACCOUNTS)])]))
    transfers = [
        Transfer(f"t{number}", f"a{dice.randrange(ACCOUNTS - 1)}", f"a{ACCOUNTS - 1}", dice.randrange(1000))
        for number in range(2 * PART_ROWS + 3)
    ]
    ledger.apply(Command(10**9, [CreateTransfers(transfers)]))
    pending = int(TransferFlag.PENDING)
    others = [
        Transfer("p0", "a1", "a2", 50, flags=pending, timeout_s=5),
        Transfer("p1", "a1", "a2", 60, flags=pending),
        Transfer("", "a1", "a2", 60),
        Transfer("lost", "a1", "nobody", 60),
    ]
    ledger.apply(Command(2 * 10**9, [CreateTransfers(others)]))
    return ledger


def test_a_restored_ledger_has_digest_time_and_expiries_of_the_original() -> None:
    ledger, restored = a_ledger(), Ledger()

    restored.load(ledger.image().chunks())()

    assert restored.state_digest() == ledger.state_digest()
    assert restored.time == ledger.time
    assert restored.next_expiry == ledger.next_expiry is not None
    assert restored.pending_count == 2


def test_an_image_is_the_same_bytes_however_late_it_is_written() -> None:
    ledger = a_ledger()
    image = ledger.image()
    at_once = b"".join(image.chunks())

    void = Transfer("v", "", "", None, flags=int(TransferFlag.VOID_PENDING), target_id="p1")
    ledger.apply(Command(ledger.time + 1, [CreateTransfers([void]), CreateAccounts([Account("new", "USD")])]))

    assert b"".join(image.chunks()) == at_once


def test_a_cut_image_is_refused_and_the_ledger_stays_what_it_was() -> None:
    chunks, ledger = list(a_ledger().image().chunks()), a_ledger()
    digest = ledger.state_digest()
    whole = b"".join(chunks)

    for cut in ([], chunks[:1], chunks[:-1], [whole[:-1]], [whole[:3]], [whole, b"x"], [*chunks, chunks[-1]]):
        with pytest.raises(ValueError, match="image"):
            ledger.load(cut)()

    assert ledger.state_digest() == digest


def test_balances_that_do_not_follow_from_the_transfers_are_refused() -> None:
    ledger = a_ledger()
    image = ledger.image()
    image._limits_and_balances[2][5] += 1

    with pytest.raises(ValueError, match="do not follow"):
        Ledger().load(image.chunks())()


@pytest.mark.parametrize(
    ("contradict", "complaint"),
    [
        (lambda image: with_head(image, fold=FoldState(folded=ACCOUNTS + 1)), "digest's part"),
        (lambda image: with_head(image, pendings=7), "its head says"),
        (lambda image: with_head(image, accounts=ACCOUNTS + 1), f"its head says {ACCOUNTS + 1}"),
        (lambda image: with_head(image, cuts=[]), "first cut"),
        (lambda image: with_head(image, cuts=[structs.replace(image._head.cuts[0], row=1)]), "at row 1, is not where"),
        (lambda image: image._blocks.pop(0), "begins with row|keeps other pending|its head says|is not where"),
        (lambda image: image._blocks.clear(), "no block"),
        (lambda image: image._statuses.__setitem__(0, 9), "no state"),
        (lambda image: image._remains.append(pendings_of(image._blocks[-1])), "stands twice"),
        (lambda image: image._blocks[-1].links.__setitem__(-2, 77), "has the slot of another one"),
        (lambda image: image._blocks[-1].debits.__setitem__(0, ACCOUNTS), "names an account"),
        (lambda image: image._blocks[-1].ids.__setitem__(0, "t0"), "stands twice"),
        (lambda image: image._blocks[0].amounts.__setitem__(slice(0, 2), array("q", [2**63 - 1] * 2)), "past"),
    ],
)
def test_parts_that_contradict_each_other_are_refused_and_change_nothing(
    contradict: Callable[[LedgerImage], object], complaint: str
) -> None:
    source, ledger = a_ledger(), Ledger()
    image = source.image()
    contradict(image)

    with pytest.raises(ValueError, match=complaint):
        ledger.load(image.chunks())()

    assert ledger.state_digest() == Ledger().state_digest()
    assert ledger.time == 0


def test_many_reversals_and_changed_limits_are_carried_in_blocks() -> None:
    ledger = Ledger()
    flags = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
    ledger.apply(
        Command(1, [CreateAccounts([Account("in", "EUR"), Account("out", "EUR"), Account("l", "EUR", flags=flags)])])
    )
    count, reversal = PART_ROWS + 5, int(TransferFlag.REVERSAL)
    for first in range(0, count, BATCH_EVENTS_MAX):
        numbers = range(first, min(count, first + BATCH_EVENTS_MAX))
        ledger.apply(Command(ledger.time + 1, [CreateTransfers([Transfer(f"t{n}", "in", "out", 9) for n in numbers])]))
        back = [Transfer(f"r{n}", "", "", 4, flags=reversal, target_id=f"t{n}") for n in numbers]
        ledger.apply(Command(ledger.time + 1, [CreateTransfers(back)]))
    ledger.apply(Command(ledger.time + 1, [Operate(OperatorAction.SET_OVERDRAFT_LIMIT, "l", 70)]))
    restored = Ledger()

    restored.load(ledger.image().chunks())()

    assert restored.state_digest() == ledger.state_digest()
    again = Command(ledger.time + 1, [CreateTransfers([Transfer("x", "", "", 6, flags=reversal, target_id="t3")])])
    assert restored.apply(again) == ledger.apply(again)
    assert restored.lookup_accounts(["l"]) == ledger.lookup_accounts(["l"])


def test_the_room_of_an_image_is_had_with_the_accounts() -> None:
    """To have it from the system takes longer than to copy: not within the image, for which all wait."""
    ledger = a_ledger()
    restored = Ledger()
    restored.load(ledger.image().chunks())()
    ledger.apply(Command(ledger.time + 1, [CreateAccounts([Account(f"new{number}", "EUR") for number in range(99)])]))

    for one in (ledger, restored):
        assert [len(room) for room in one._buffers._arrays] == [one.account_count] * 5


def test_a_state_that_is_loaded_takes_its_place_when_it_is_called() -> None:
    ledger, other = a_ledger(), Ledger()
    digest, empty = ledger.state_digest(), other.state_digest()

    become = other.load(ledger.image().chunks())

    assert other.state_digest() == empty
    other.apply(Command(other.time + 1, [CreateAccounts([Account("meanwhile", "EUR")])]))
    become()
    assert other.state_digest() == digest


def test_images_one_after_the_other_and_at_once_hold_their_own_moments() -> None:
    ledger = a_ledger()
    expected = []
    images = []
    for step in range(4):
        if step != 2:
            images.append(ledger.image())
        else:
            images.pop().release()
            expected.pop()
            images.append(ledger.image())
        expected.append(ledger.state_digest())
        ledger.apply(Command(ledger.time + 1, [CreateTransfers([Transfer(f"more{step}", "a3", "a4", 9)])]))
        ledger.apply(Command(ledger.time + 1, [CreateAccounts([Account(f"later{step}", "EUR")])]))

    for image, digest in zip(images, expected, strict=True):
        restored = Ledger()
        restored.load(image.chunks())()
        assert restored.state_digest() == digest


def test_an_image_of_another_version_is_named() -> None:
    chunks = list(a_ledger().image().chunks())
    head = bytearray(chunks[0])
    head[5] = 1

    with pytest.raises(ImageVersionError, match="version 1, this release knows 2"):
        Ledger().load([bytes(head), *chunks[1:]])()
