"""The ledger: one door to change, `apply`, and the questions. The machine and the tests call it.

The rules live in the modules that this one puts together. What matters here is time: it comes with each command,
each event takes the next nanosecond, and before anything else the command releases the pendings that are due.

Old rows may leave the memory: `segments` gives what is complete, the archive seals it, `drop_before` lets it go.
Nothing that the ledger answers depends on that.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from raftpay.ledger.batches import create_batch
from raftpay.ledger.books import Books
from raftpay.ledger.create_accounts import AccountOpener
from raftpay.ledger.create_transfers import TransferCreator
from raftpay.ledger.digest import FoldState, StateDigest
from raftpay.ledger.history import History, NothingSealed
from raftpay.ledger.image import Buffers, LedgerImage
from raftpay.ledger.operate import operate
from raftpay.ledger.plain_transfers import EVENTS_MIN, PlainTransfers
from raftpay.ledger.queries import Queries
from raftpay.ledger.records import (
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    BalanceRecord,
    CurrencyTotals,
    Page,
    Results,
    TransferQuery,
    TransferRecord,
)
from raftpay.ledger.restoring import Restored, load
from raftpay.ledger.sealed import SealedHistory
from raftpay.ledger.types import TIME_MAX, Command, CreateAccounts, CreateTransfers, Operate, Request
from raftpay.ledger.window import Cut, Segment, Window, WindowSizes

_events_of = attrgetter("events")
# Those of every cluster; tests may have smaller ones.
_SIZES: Final = WindowSizes()


class Ledger:
    """The replicated state: the same commands in the same order give the same answers on every node.

    time: of the last event applied, nanoseconds since the epoch; 0 at first. A new command must be later.
    """

    def __init__(self, sealed: SealedHistory | None = None, *, sizes: WindowSizes = _SIZES) -> None:
        """sealed: where dropped rows are found; without it none can be dropped. sizes: the same on all nodes."""
        self._sealed: SealedHistory = NothingSealed() if sealed is None else sealed
        self._sizes = sizes
        self._hold(Restored(Books(), FoldState(), cuts=[], time=0), Buffers())

    def _hold(self, state: Restored, buffers: Buffers) -> None:
        self.time = state.time
        self._buffers = buffers
        self._books = state.books
        self._accounts = AccountOpener(self._books)
        self._transfers = TransferCreator(self._books)
        self._plain_transfers = PlainTransfers(self._books, self._transfers)
        self._digest = StateDigest(self._books, state.fold)
        self._window = Window(self._books, self._digest, self._sizes, state.cuts)
        self._history = History(self._books, self._sealed)
        self._queries = Queries(self._books, self._history)

    def apply(self, command: Command) -> list[Results]:
        """Does what the command asks; one Results for each of its requests, in order.

        Raises AssertionError, and only for a mistake of ours: a command whose time is not after the ledger's. The
        node must stop then.
        """
        count = sum(map(_event_count, command.requests))
        assert self.time < command.time <= TIME_MAX - count, f"{command.time} must be after {self.time}"
        if self._window.has_dropped:
            self._history.recall(command)
        self._books.release_due(command.time)
        answers = (self._plain_answers(command) if count >= EVENTS_MIN else []) or self._answers(command)
        self.time = max(command.time, command.time + count - 1)
        self._books.pendings.tidy()
        self._digest.fold_accounts()
        self._buffers.make_room(len(self._books.accounts))
        self._window.advance(self.time, entered=count)
        return answers

    def _answers(self, command: Command) -> list[Results]:
        answers: list[Results] = []
        time = command.time
        for request in command.requests:
            answers.append(Results(time, self._results(request, time)))
            time += len(answers[-1].results)
        return answers

    def _results(self, request: Request, time: int) -> list[int]:
        if isinstance(request, CreateTransfers):
            events, results = request.events, None
            if len(events) >= EVENTS_MIN:
                results = self._plain_transfers.try_create(events, time)
            elif len(events) == 1 and self._plain_transfers.try_create_one(events[0], time):
                return [0]  # created
            return create_batch(self._transfers, events, time) if results is None else results
        if isinstance(request, CreateAccounts):
            return create_batch(self._accounts, request.events, time)
        return [int(operate(self._books.accounts, request))]

    def _plain_answers(self, command: Command) -> list[Results]:
        """The answers to many small requests of plain transfers, done as one batch; none where they are not that.

        What binds the events of a request together, chains and imports, does not occur among plain transfers.
        """
        requests = [request for request in command.requests if isinstance(request, CreateTransfers)]
        if len(requests) < max(2, len(command.requests)):
            return []
        events = list(chain.from_iterable(map(_events_of, requests)))
        results = self._plain_transfers.try_create(events, command.time)
        if results is None:
            return []
        answers: list[Results] = []
        first = 0
        for request in requests:
            answers.append(Results(command.time + first, results[first : first + len(request.events)]))
            first += len(request.events)
        return answers

    def image(self) -> LedgerImage:
        """The whole state as it is now, to be written out while the ledger goes on."""
        return LedgerImage(self._books, self._digest.state, self._window, self._buffers, time=self.time)

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]:
        """Makes a state of an image; changes nothing, and may run in another thread while the ledger goes on.

        What it returns, called between two commands, makes the ledger the one that the image was taken of, in every
        answer and in the digest; and gives back what it was, for to forget a million accounts takes long, too.

        Raises ImageVersionError, and ValueError for what is no image, or one that needs more sealed segments than there
        are.
        """
        state = load(chunks, self._sizes)
        needed = state.cuts[0].number
        if needed > self._sealed.segments:
            raise ValueError(
                f"the image of the ledger needs the first {needed} segments of history, {self._sealed.segments} are "
                "sealed here; fetch the others from a peer first"
            )
        buffers = Buffers()
        buffers.make_room(len(state.books.accounts))

        def become() -> object:
            was = (self._books, self._buffers, self._window.cuts)
            self._hold(state, buffers)
            return was

        return become

    def segments(self) -> list[Segment]:
        """The segments of history that are complete and still in memory, the oldest first."""
        return self._window.segments()

    @property
    def cuts(self) -> Sequence[Cut]:
        """Where the rows in memory begin, then where segments end: with the balances of all accounts there."""
        return self._window.cuts

    @property
    def account_ids(self) -> Sequence[str]:
        """Of all accounts, by their numbers."""
        return self._books.accounts.ids

    def drop_before(self, number: int) -> None:
        """Lets the rows of all segments before that one leave the memory. They must be sealed."""
        assert number <= self._sealed.segments, f"segment {number - 1} is not sealed"
        self._window.drop_before(number)

    @property
    def next_expiry(self) -> int | None:
        """When the earliest open pending transfer is due; at or after it an idle leader logs a sweep."""
        return self._books.pendings.next_expiry()

    @property
    def account_count(self) -> int:
        return len(self._books.accounts)

    @property
    def transfer_count(self) -> int:
        return len(self._books.transfers) - self._books.transfers.expiries

    @property
    def pending_count(self) -> int:
        """How many pending transfers are open."""
        return self._books.pendings.open_count

    def lookup_accounts(self, ids: Sequence[str]) -> list[AccountRecord | None]:
        """Each account as it stands, None where there is none."""
        return self._queries.lookup_accounts(ids)

    def lookup_transfers(self, ids: Sequence[str]) -> list[TransferRecord | None]:
        """Each transfer, None where none of that id was created."""
        return self._queries.lookup_transfers(ids)

    def account_transfers(self, query: AccountQuery) -> Page[TransferRecord]:
        """The transfers of one account. Raises ValueError for a limit, direction or cursor that cannot be."""
        return self._queries.account_transfers(query)

    def account_balances(self, query: AccountQuery) -> Page[BalanceRecord]:
        """The account's balances after each of its transfers. Raises as account_transfers."""
        return self._queries.account_balances(query)

    def balance_at(self, account_id: str, time: int) -> BalanceRecord | None:
        """The account's balances at a time, as a lookup right then would have shown them; None before it was opened."""
        return self._queries.balance_at(account_id, time)

    def query_transfers(self, query: TransferQuery) -> Page[TransferRecord]:
        """The transfers that match all that is given. Raises ValueError for a limit or cursor that cannot be."""
        return self._queries.query_transfers(query)

    def list_accounts(self, query: AccountsQuery) -> Page[AccountRecord]:
        """The accounts in the order of their creation. Raises ValueError for a bad limit, status or cursor."""
        return self._queries.list_accounts(query)

    def trial_balance(self) -> list[CurrencyTotals]:
        """The sums over all accounts of each currency, by name; debits equal credits."""
        return self._queries.trial_balance()

    def state_digest(self) -> str:
        """A hash of the whole state, in hex: equal on all nodes that have applied the same commands."""
        return self._digest.hexdigest()


def _event_count(request: Request) -> int:
    return 1 if isinstance(request, Operate) else len(request.events)
