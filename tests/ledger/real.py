"""The real ledger in the shape of the twin: names for numbers, pages joined into lists. No expectation is here."""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import structs

from raftpay.ledger import (
    AccountQuery,
    AccountRecord,
    AccountsQuery,
    BalanceRecord,
    Command,
    CreateAccountResult,
    CreateAccounts,
    CreateTransferResult,
    CreateTransfers,
    CurrencyTotals,
    Ledger,
    Operate,
    OperatorResult,
    Page,
    TransferQuery,
    TransferRecord,
)
from raftpay.ledger.window import WindowSizes
from tests.ledger.sealed_in_memory import SealedInMemory

RESULTS = {CreateAccounts: CreateAccountResult, CreateTransfers: CreateTransferResult, Operate: OperatorResult}
PAGES_MAX = 10_000
USUAL_SIZES = WindowSizes()


class Real:
    """A Ledger that answers as Twin does. page_limit: items of a page, so that small ones can be tried.

    sealed: what may be dropped, if anything.
    """

    def __init__(
        self, sizes: WindowSizes = USUAL_SIZES, *, page_limit: int = 100, sealed: SealedInMemory | None = None
    ) -> None:
        self.sizes = sizes
        self.sealed = sealed
        self.ledger = Ledger(sealed, sizes=sizes)
        self.books = RealBooks(self.ledger, page_limit)

    def restore(self, image: bytes) -> None:
        """Goes on with another ledger, which knows nothing but the image, and has the sealed history at hand."""
        self.ledger = self.books.ledger = Ledger(self.sealed, sizes=self.sizes)
        # Cut anywhere: the borders of chunks have no meaning.
        self.ledger.load(image[start : start + 1009] for start in range(0, len(image), 1009))()

    def seal(self, count: int) -> None:
        """Seals so many of the segments that are complete and not sealed yet."""
        assert self.sealed is not None
        new = [segment for segment in self.ledger.segments() if segment.number >= self.sealed.segments]
        for segment in new[:count]:
            self.sealed.seal(segment.rows())

    def drop(self) -> None:
        """Drops all that is complete and sealed."""
        assert self.sealed is not None
        complete = [segment.number + 1 for segment in self.ledger.segments()]
        self.ledger.drop_before(max((number for number in complete if number <= self.sealed.segments), default=0))

    @property
    def time(self) -> int:
        return self.ledger.time

    def apply(self, command: Command) -> list[tuple[int, list[str]]]:
        answers = self.ledger.apply(command)
        return [
            (answer.timestamp, [RESULTS[type(request)](number).name.lower() for number in answer.results])
            for request, answer in zip(command.requests, answers, strict=True)
        ]


class RealBooks:
    """The questions of a Ledger in the shape of the twin's Books."""

    def __init__(self, ledger: Ledger, page_limit: int) -> None:
        self.ledger = ledger
        self.page_limit = page_limit

    def lookup_account(self, account_id: str) -> AccountRecord | None:
        return self.ledger.lookup_accounts([account_id])[0]

    def lookup_transfer(self, transfer_id: str) -> TransferRecord | None:
        return self.ledger.lookup_transfers([transfer_id])[0]

    def account_transfers(self, query: AccountQuery) -> list[TransferRecord]:
        return self.all_pages(self.ledger.account_transfers, query)

    def account_balances(self, query: AccountQuery) -> list[BalanceRecord]:
        return self.all_pages(self.ledger.account_balances, query)

    def balance_at(self, account_id: str, time: int) -> BalanceRecord | None:
        return self.ledger.balance_at(account_id, time)

    def query_transfers(self, query: TransferQuery) -> list[TransferRecord]:
        return self.all_pages(self.ledger.query_transfers, query)

    def list_accounts(self, query: AccountsQuery) -> list[AccountRecord]:
        return self.all_pages(self.ledger.list_accounts, query)

    def trial_balance(self) -> list[CurrencyTotals]:
        return self.ledger.trial_balance()

    def next_expiry(self) -> int | None:
        return self.ledger.next_expiry

    def counts(self) -> dict[str, int]:
        ledger = self.ledger
        return {
            "accounts": ledger.account_count,
            "transfers": ledger.transfer_count,
            "pendings": ledger.pending_count,
        }

    def all_pages(self, ask: Callable[[Any], Page[Any]], query: Any) -> list[Any]:
        return [item for page in pages(ask, query, self.page_limit) for item in page.items]


def pages(ask: Callable[[Any], Page[Any]], query: Any, limit: int) -> Iterator[Page[Any]]:
    """All pages of an answer; what is done between two of them is the caller's affair."""
    cursor = ""
    for _ in range(PAGES_MAX):
        page = ask(structs.replace(query, limit=limit, cursor=cursor))
        assert len(page.items) <= limit
        yield page
        cursor = page.cursor
        if not cursor:
            return
    raise AssertionError(f"no end of pages: {query}")
