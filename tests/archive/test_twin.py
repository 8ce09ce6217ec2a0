"""The books with their past in sealed files, against the naive twin: random commands, accounts, times and pages."""

from collections.abc import Callable
from random import Random

import pytest

from raftpay.archive.archive import Archive
from raftpay.archive.history import SealedFiles
from raftpay.ledger import TIME_MAX
from raftpay.ledger.sealed import SegmentRows
from raftpay.ledger.window import WindowSizes
from raftpay.ops.statement import Period, Statement
from raftpay.storage.sim_disk import SimDisk
from tests.archive.histories import PLAIN, run
from tests.ledger.random_commands import PENDING, VOID, CommandMaker
from tests.ledger.real import Real
from tests.ledger.side_by_side import SideBySide
from tests.ledger.twin_books import Books

COMMANDS = 50


class OnDisk(SealedFiles):
    """Sealed files with the door through which the ledger's segments come in."""

    def __init__(self) -> None:
        archive = Archive.open(SimDisk(), "pay-1", PLAIN)
        super().__init__(archive)
        self.seal: Callable[[SegmentRows], None] = lambda rows: run(archive.seal(rows))


def check_statements(pair: SideBySide, dice: Random) -> None:
    """For each account a period between any two instants: the twin's posted transfers, and its balances at the ends."""
    twin: Books = pair.twin.books
    times = [0, TIME_MAX, *(record.timestamp + i for _, record in twin.history for i in (0, 1))]
    for name, account in twin.accounts.items():
        first, last = sorted((dice.choice(times), dice.choice(times)))
        record = pair.real.ledger.lookup_accounts([name])[0]
        assert record is not None
        found = Statement(pair.real.ledger, record, Period(first, last))
        lines = [line for page in found.pages() for line in page]

        moved = [t for t in twin.transfers.values() if name in (t.debit_account, t.credit_account)]
        moved = [t for t in moved if first <= t.timestamp <= last and not t.flags & (PENDING | VOID)]
        assert [line.transfer.id for line in lines] == [t.id for t in moved], (name, first, last)
        assert found.difference() == (0, 0)
        closing = twin.balance_at(name, last)
        assert closing is None or found.closing == closing
        opening = twin.balance_at(name, first - 1) if first else None
        before = 0 if opening is None else opening.credits_posted - opening.debits_posted
        steps = [-t.amount if t.debit_account == name else t.amount for t in moved]
        assert [line.balance for line in lines] == [before + sum(steps[: i + 1]) for i in range(len(steps))]
        assert account.id == name


@pytest.mark.parametrize("seed", range(12))
def test_books_whose_past_is_in_files_answer_as_the_twin_does(seed: int) -> None:
    dice, maker = Random(seed), CommandMaker(has_long_batches=True)
    pair = SideBySide(WindowSizes(*dice.choice(((3, 7), (8, 30)))))
    pair.real = Real(pair.sizes, page_limit=3, sealed=OnDisk())  # type: ignore[arg-type]  # stands in for the list

    pair.apply(maker.first_command())
    for _ in range(COMMANDS):
        pair.tell(maker)
        pair.apply(maker.command(dice))
        pair.ask(dice)
        pair.drop(dice)
    pair.ask_everything()
    for _ in range(5):
        check_statements(pair, dice)

    assert pair.counts["segments dropped"] > 0
