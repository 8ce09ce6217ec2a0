"""A batch of nothing but ordinary new transfers, done column by column: three times as fast as one by one.

One such transfer that comes alone has a way of its own too: all of it is looked at in one place.

This knows no result of its own. It makes sure that each event passes every check that comes before the state of the
accounts, without saying which one failed: in any doubt it does nothing and create_transfers.py does the batch. The
checks of the accounts are those of create_transfers.py. A test holds the two ways to the same books and answers.
"""

from array import array
from collections.abc import Sequence
from itertools import compress, count
from operator import attrgetter, eq
from typing import Final, TypeGuard

from raftpay.ledger.books import Books
from raftpay.ledger.create_transfers import TransferCreator
from raftpay.ledger.forms import is_id
from raftpay.ledger.histories import CHECKPOINT_MASK
from raftpay.ledger.transfers import NO_LINK
from raftpay.ledger.types import AMOUNT_MAX, CODE_MAX, ID_LENGTH_MAX, REFERENCE_LENGTH_MAX, Transfer

# For fewer events the fixed cost of the columns is more than they save.
EVENTS_MIN: Final = 8

# A loop in C over a getter in C takes half the time of a generator.
_flags_of = attrgetter("flags")
_target_id_of = attrgetter("target_id")
_timeout_of = attrgetter("timeout_s")
_timestamp_of = attrgetter("timestamp")
_code_of = attrgetter("code")
_reference_of = attrgetter("reference")

_id_of = attrgetter("id")
_amount_of = attrgetter("amount")
_debit_account_of = attrgetter("debit_account")
_credit_account_of = attrgetter("credit_account")
_currency_of = attrgetter("currency")


class _Columns:
    """The events that are to be entered, by column. rows: id -> row to be."""

    __slots__ = ("amounts", "credits", "debits", "events", "rows", "timestamps")

    def __init__(self, events: Sequence[Transfer], rows: dict[str, int], timestamps: Sequence[int]) -> None:
        self.events = events
        self.rows = rows
        self.timestamps = timestamps
        self.debits: list[int] = []
        self.credits: list[int] = []
        self.amounts: list[int] = []

    def without_refused(self, results: list[int]) -> "_Columns":
        """Those that were created only; the rows close up."""
        created = [not result for result in results]
        first = next(iter(self.rows.values()))
        rows = dict(zip(compress(self.rows, created), count(first)))
        kept = _Columns(list(compress(self.events, created)), rows, list(compress(self.timestamps, created)))
        kept.debits = list(compress(self.debits, created))
        kept.credits = list(compress(self.credits, created))
        kept.amounts = list(compress(self.amounts, created))
        return kept


class PlainTransfers:
    def __init__(self, books: Books, creator: TransferCreator) -> None:
        self._books = books
        self._creator = creator

    def try_create(self, events: Sequence[Transfer], time: int) -> list[int] | None:
        """The number of a result for each event, or None when the batch is not plain and nothing was done."""
        if len(events) < EVENTS_MIN or not _has_plain_form(events):
            return None
        first = len(self._books.transfers)
        rows = dict(zip(map(_id_of, events), count(first)))
        columns = _Columns(events, rows, range(time, time + len(events)))
        if not (self._are_new(columns) and self._find_accounts(columns) and self._find_amounts(columns)):
            return None
        results = self._move(columns, first)
        self._enter(columns.without_refused(results) if any(results) else columns)
        return results

    def try_create_one(self, event: Transfer, time: int) -> bool:
        """The same for one event that comes alone: enters it if it is plain and nothing speaks against it.

        False where that is in any doubt; then nothing was done.
        """
        books, transfer_id, amount = self._books, event.id, event.amount
        accounts, transfers = books.accounts, books.transfers
        if event.flags or event.target_id or event.timeout_s or event.timestamp:
            return False
        if not 0 <= event.code <= CODE_MAX or len(event.reference) > REFERENCE_LENGTH_MAX or not is_id(transfer_id):
            return False
        if transfer_id in transfers.rows or transfer_id in transfers.recalled or transfer_id in books.failed_ids:
            return False
        debit, credit = accounts.rows.get(event.debit_account), accounts.rows.get(event.credit_account)
        if debit is None or credit is None or debit == credit:
            return False
        currency = accounts.currencies[debit]
        if currency != accounts.currencies[credit] or (event.currency and event.currency != currency):
            return False
        if amount is None or amount < 0 or books.volume + amount > AMOUNT_MAX:
            return False
        guards = accounts.guards
        if (guards[debit] or guards[credit]) and self._creator.check_accounts(debit, credit, amount):
            return False
        books.enter(event, debit=debit, credit=credit, amount=amount, timestamp=time, code=event.code)
        return True

    def _are_new(self, columns: _Columns) -> bool:
        """Whether all are valid ids, of no transfer created or failed before, and no two are the same."""
        ids, books = columns.rows, self._books
        if len(ids) < len(columns.events):
            return False
        # One string of all ids is asked about its characters once; no id may hide behind another's length.
        text = "".join(ids)
        return (
            text.isascii()
            and text.isprintable()
            and " " not in text
            and "" not in ids
            and max(map(len, ids)) <= ID_LENGTH_MAX
            and books.transfers.rows.keys().isdisjoint(ids)
            and (not books.failed_ids or books.failed_ids.keys().isdisjoint(ids))
            and (not books.transfers.recalled or books.transfers.recalled.keys().isdisjoint(ids))
        )

    def _find_accounts(self, columns: _Columns) -> bool:
        """Finds the rows of the accounts: whether all are known, and each two fit to each other."""
        accounts, events = self._books.accounts, columns.events
        debits = list(map(accounts.rows.get, map(_debit_account_of, events)))
        credits = list(map(accounts.rows.get, map(_credit_account_of, events)))
        if not (_are_known(debits) and _are_known(credits)) or any(map(eq, debits, credits)):
            return False
        columns.debits, columns.credits = debits, credits
        given = list(map(_currency_of, events))
        if len(accounts.shared_currencies) == 1:
            return all(not name or name in accounts.shared_currencies for name in given) if any(given) else True
        currencies = list(map(accounts.currencies.__getitem__, debits))
        if currencies != list(map(accounts.currencies.__getitem__, credits)):
            return False
        return not any(given) or all(
            not name or name == currency for name, currency in zip(given, currencies, strict=True)
        )

    def _find_amounts(self, columns: _Columns) -> bool:
        """Finds the amounts: whether all are good, and no sum can overflow."""
        amounts: list[int | None] = list(map(_amount_of, columns.events))
        if not _are_known(amounts) or min(amounts) < 0 or self._books.volume + sum(amounts) > AMOUNT_MAX:
            return False
        columns.amounts = amounts
        return True

    def _move(self, columns: _Columns, row: int) -> list[int]:
        """Changes balances and histories, event by event, where the accounts allow it. Returns the results.

        row: that of the first transfer which is created.
        """
        events = columns.events
        accounts, histories = self._books.accounts, self._books.histories
        guards, debits_posted, credits_posted = accounts.guards, accounts.debits_posted, accounts.credits_posted
        rows_of, checkpoint = histories.rows, histories.checkpoint
        results = [0] * len(events)
        sides = zip(range(len(events)), columns.debits, columns.credits, columns.amounts, strict=True)
        for position, debit, credit, amount in sides:
            if guards[debit] or guards[credit]:
                result = self._creator.check_accounts(debit, credit, amount)
                if result:
                    results[position] = int(result)
                    self._creator.record(events[position], result)
                    continue
            debits_posted[debit] += amount
            credits_posted[credit] += amount
            # What Histories.add does, without the call: it is a third of this loop.
            rows = rows_of[debit]
            rows.append(row)
            if not len(rows) & CHECKPOINT_MASK:
                checkpoint(debit)
            rows = rows_of[credit]
            rows.append(row)
            if not len(rows) & CHECKPOINT_MASK:
                checkpoint(credit)
            row += 1
        return results

    def _enter(self, columns: _Columns) -> None:
        """Enters the transfers that were created, all columns at once. Cannot fail."""
        events, transfers, block = columns.events, self._books.transfers, self._books.transfers.open
        if not events:
            return
        assert columns.timestamps[0] > transfers.last_timestamp
        transfers.rows.update(columns.rows)
        transfers.last_timestamp = columns.timestamps[-1]
        block.ids.extend(columns.rows)
        block.references.extend(map(_reference_of, events))
        block.target_ids.extend([""] * len(events))
        block.debits.fromlist(columns.debits)
        block.credits.fromlist(columns.credits)
        block.amounts.fromlist(columns.amounts)
        block.timestamps.extend(columns.timestamps)
        block.codes.fromlist(list(map(_code_of, events)))
        block.flags.extend(array("H", (0,)) * len(events))
        block.links.extend(array("i", (NO_LINK,)) * len(events))
        block.target_amounts.extend(array("q", (0,)) * len(events))
        block.timeouts.extend(array("q", (0,)) * len(events))
        self._books.volume += sum(columns.amounts)


def _has_plain_form(events: Sequence[Transfer]) -> bool:
    """Whether no event asks for more than an ordinary transfer, and code and reference are good."""
    return not (
        any(map(_flags_of, events))
        or any(map(_target_id_of, events))
        or any(map(_timeout_of, events))
        or any(map(_timestamp_of, events))
        or min(map(_code_of, events)) < 0
        or max(map(_code_of, events)) > CODE_MAX
        or max(map(len, map(_reference_of, events))) > REFERENCE_LENGTH_MAX
    )


def _are_known(numbers: list[int | None]) -> TypeGuard[list[int]]:
    return None not in numbers
