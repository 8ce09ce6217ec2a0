"""Two real ledgers and the twin, fed the same commands and asked the same questions: what differs fails at once.

The first ledger has its old rows sealed and dropped, whenever the dice say so, and is restored from images of itself;
the second keeps all its life in memory. Everything that they answer must be the same, down to the cursors.
"""

from collections import Counter
from random import Random
from typing import Any, NamedTuple

import msgspec

from raftpay.ledger import (
    TIME_MAX,
    Account,
    AccountFlag,
    AccountQuery,
    AccountsQuery,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    TransferQuery,
)
from raftpay.ledger.image import LedgerImage
from raftpay.ledger.window import WindowSizes
from tests.ledger.random_commands import CommandMaker
from tests.ledger.real import Real, pages
from tests.ledger.sealed_in_memory import SealedInMemory
from tests.ledger.twin import Twin
from tests.ledger.twin_books import BALANCES

PREFIXES = {CreateAccounts: "account", CreateTransfers: "transfer", Operate: "operator"}
# Of the many instants in a history so many are asked about.
TIMES_MAX = 20


class Kept(NamedTuple):
    """An image that was taken, and what was true at that moment."""

    image: LedgerImage
    digest: str
    command_count: int
    is_of_second: bool


class SideBySide:
    """The second real ledger gets each command as it comes out of the log: encoded and decoded."""

    def __init__(self, sizes: WindowSizes) -> None:
        self.sizes = sizes
        self.twin = Twin()
        self.real = Real(sizes, page_limit=3, sealed=SealedInMemory())
        self.second = Real(sizes)
        self.commands: list[Command] = []
        self.counts: Counter[str] = Counter()
        # Images of ledgers which then went on.
        self.images: list[Kept] = []

    def apply(self, command: Command) -> None:
        self.commands.append(command)
        expected = self.twin.apply(command)
        assert self.real.apply(command) == expected
        assert self.second.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command)) == expected
        for request, (_, names) in zip(command.requests, expected, strict=True):
            self.counts.update(f"{PREFIXES[type(request)]} {name}" for name in names)
        self.check_state()

    def restore(self) -> None:
        """The first ledger goes on from an image of itself; one of each is kept for later."""
        image = self.real.ledger.image()
        for kept, is_of_second in ((image, False), (self.second.ledger.image(), True)):
            digest = self.second.ledger.state_digest()
            self.images.append(Kept(kept, digest, len(self.commands), is_of_second))
        self.real.restore(b"".join(image.chunks()))
        self.check_state()

    def drop(self, dice: Random) -> None:
        """Some more of the first ledger's history is sealed; sometimes it is dropped, sometimes later."""
        self.real.seal(dice.choice((0, 1, 1, 2, 100)))
        if dice.randrange(3):
            self.real.drop()
        self.counts["segments dropped"] = max(self.counts["segments dropped"], self.real.ledger._window.cuts[0].number)
        self.check_state()

    def check_images(self) -> None:
        """Images show their moment, whatever the ledger did afterwards; and what followed leads from there to now.

        By now more is sealed than the ledger of that moment had dropped, or even applied.
        """
        for kept in self.images[-4:]:
            again = Real(self.sizes, sealed=None if kept.is_of_second else self.real.sealed)
            again.ledger.load(kept.image.chunks())()
            assert again.ledger.state_digest() == kept.digest
            for command in self.commands[kept.command_count :]:
                again.apply(command)
                if not kept.is_of_second:
                    again.drop()
            assert again.ledger.state_digest() == self.second.ledger.state_digest()

    def tell(self, maker: CommandMaker) -> None:
        """Tells the maker of commands what there is to hit."""
        books = self.twin.books
        maker.time = self.twin.time
        maker.next_expiry = books.next_expiry()
        maker.created = list(books.transfers.values())
        maker.pending = list(books.open_pendings())
        if books.accounts:
            maker.last_account = list(books.accounts.values())[-1]

    # What must hold after each command.

    def check_state(self) -> None:
        twin, real = self.twin.books, self.real.books
        assert self.real.time == self.twin.time
        assert real.next_expiry() == twin.next_expiry()
        assert real.counts() == twin.counts()
        accounts = [*twin.accounts, "nobody", ""]
        assert self.real.ledger.lookup_accounts(accounts) == [twin.lookup_account(account) for account in accounts]
        transfers = [*twin.transfers, *twin.failed, "nothing", ""]
        assert self.real.ledger.lookup_transfers(transfers) == [twin.lookup_transfer(t) for t in transfers]
        assert real.trial_balance() == twin.trial_balance()
        assert self.real.ledger.state_digest() == self.second.ledger.state_digest()
        self.check_books_balance()

    def check_books_balance(self) -> None:
        for line in self.real.books.trial_balance():
            assert line.debits_posted == line.credits_posted
            assert line.debits_pending == line.credits_pending
        for record in self.real.books.list_accounts(AccountsQuery()):
            balances = {name: getattr(record, name) for name in BALANCES}
            assert all(0 <= balance < 2**63 for balance in balances.values())
            debits = record.debits_pending + record.debits_posted
            credits_ = record.credits_pending + record.credits_posted
            if record.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
                assert debits <= record.credits_posted + record.overdraft_limit
            if record.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS:
                assert credits_ <= record.debits_posted

    # Questions.

    def ask(self, dice: Random) -> None:
        """One question of each kind, with filters by chance."""
        twin, real = self.twin.books, self.real.books
        times = [0, self.twin.time, *(t.timestamp + dice.choice((-1, 0, 1)) for t in twin.transfers.values())]
        account = dice.choice([*twin.accounts, "nobody"])
        span = {"time_from": dice.choice(times)} if dice.randrange(3) == 0 else {}
        span |= {"time_to": dice.choice(times)} if dice.randrange(3) == 0 else {}
        code = dice.choice((None, None, 0, 1, 2))
        newest_first = dice.choice((False, True))
        direction = dice.choice(("", "debit", "credit"))
        query = AccountQuery(account, code=code, direction=direction, newest_first=newest_first, **span)
        assert real.account_transfers(query) == twin.account_transfers(query), query
        assert real.account_balances(query) == twin.account_balances(query), query
        self.check_pages(dice, "account_transfers", query)
        self.check_pages(dice, "account_balances", query)
        search = TransferQuery(
            reference=dice.choice((None, "", "r", "rent")),
            currency=dice.choice((None, None, "EUR", "USD")),
            code=code,
            newest_first=newest_first,
            **span,
        )
        assert real.query_transfers(search) == twin.query_transfers(search), search
        self.check_pages(dice, "query_transfers", search)
        listing = AccountsQuery(
            prefix=dice.choice(("", "", "m", "la", "nobody")),
            currency=dice.choice((None, "EUR", "USD")),
            status=dice.choice((None, "open", "frozen", "closed")),
        )
        assert real.list_accounts(listing) == twin.list_accounts(listing), listing
        time = dice.choice([*times, 1, *(a.timestamp + dice.choice((-1, 0)) for a in twin.accounts.values())])
        assert real.balance_at(account, time) == twin.balance_at(account, time), (account, time)

    def check_pages(self, dice: Random, question: str, query: Any) -> None:
        """Page by page the same from both ledgers, while the first drops rows between two pages."""
        limit = dice.choice((1, 2, 3, 5))
        of_second = pages(getattr(self.second.ledger, question), query, limit)
        for page in pages(getattr(self.real.ledger, question), query, limit):
            assert page == next(of_second), query
            if not dice.randrange(4):
                self.drop(dice)
        assert next(of_second, None) is None

    def ask_everything(self) -> None:
        """The whole history of each account, in both directions of reading, and its balances at each instant."""
        twin, real = self.twin.books, self.real.books
        digest = self.real.ledger.state_digest()
        for newest_first in (False, True):
            search = TransferQuery(newest_first=newest_first)
            assert real.query_transfers(search) == twin.query_transfers(search)
            for account in twin.accounts:
                query = AccountQuery(account, newest_first=newest_first)
                assert real.account_transfers(query) == twin.account_transfers(query)
                assert real.account_balances(query) == twin.account_balances(query)
        times = sorted({record.timestamp + i for _, record in twin.history for i in (-1, 0)})
        for time in times[:: 1 + len(times) // TIMES_MAX]:
            for search in (TransferQuery(time_from=time), TransferQuery(time_to=time, newest_first=True)):
                assert real.query_transfers(search) == twin.query_transfers(search)
        for account in twin.accounts:
            assert [real.balance_at(account, t) for t in times] == [twin.balance_at(account, t) for t in times]
        assert self.real.ledger.state_digest() == digest, "a question changed the state"

    # Digests.

    def check_replay(self, dice: Random) -> None:
        """The same log again gives the same digest, and questions on the way are answered alike."""
        again, restarted = Real(self.sizes), Real(self.sizes, sealed=self.real.sealed)
        for command in self.commands:
            # The one that starts again with all that was sealed before, and drops as soon as it can.
            assert again.apply(command) == restarted.apply(command)
            restarted.drop()
            if not dice.randrange(8):
                time = dice.choice(self.twin.books.history)[1].timestamp if self.twin.books.history else 1
                for account in self.twin.books.accounts:
                    assert restarted.books.balance_at(account, time) == again.books.balance_at(account, time)
                search = TransferQuery(time_from=time, time_to=dice.choice((time, TIME_MAX)))
                assert restarted.books.query_transfers(search) == again.books.query_transfers(search)
        assert again.ledger.state_digest() == restarted.ledger.state_digest() == self.real.ledger.state_digest()

    def check_fork(self, dice: Random) -> None:
        """A log that differs in one event gives another digest wherever the twin says that the books differ."""
        changed = dice.randrange(len(self.commands))
        fork, twin = Real(self.sizes), Twin()
        for i, command in enumerate(self.commands):
            if i == changed:
                command = with_one_event_changed(command, dice)
            assert fork.apply(command) == twin.apply(command)
        is_same = contents(twin) == contents(self.twin)
        assert is_same or fork.ledger.state_digest() != self.real.ledger.state_digest()


def contents(twin: Twin) -> tuple[object, ...]:
    books = twin.books
    accounts = [(a, books.limit(a.id), bool(books.frozen.get(a.id))) for a in books.accounts.values()]
    return accounts, books.transfers, books.ended, books.failed


def with_one_event_changed(command: Command, dice: Random) -> Command:
    """Another code, reference, limit or act; a sweep becomes a freeze."""
    requests = list(command.requests)
    places = [i for i, request in enumerate(requests) if isinstance(request, Operate) or request.events]
    if not places:
        return msgspec.structs.replace(command, requests=[Operate(OperatorAction.FREEZE, "b")])
    place = dice.choice(places)
    request = requests[place]
    if isinstance(request, Operate):
        requests[place] = Operate(OperatorAction.FREEZE, "b")
    else:
        events = list(request.events)
        i = dice.randrange(len(events))
        if isinstance(events[i], Account) or dice.randrange(2):
            events[i] = msgspec.structs.replace(events[i], code=(events[i].code + 1) % 3)
        else:
            events[i] = msgspec.structs.replace(events[i], reference=events[i].reference[:9] + "!")
        requests[place] = type(request)(events)
    return msgspec.structs.replace(command, requests=requests)
