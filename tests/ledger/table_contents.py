"""Everything that the tables of a ledger hold, for tests that ask whether two states are the same to the last cell."""

from array import array
from typing import Any

from raftpay.ledger.books import Books
from raftpay.ledger.reversed_amounts import ReversedAmounts

# What a rolled back chain may leave behind, for it changes no answer: entries of the expiry queue that nothing points
# at any more, the string objects of currencies, and whether a search has to look twice.
WITHOUT_MEANING = {"_queue", "shared_currencies", "is_overtaken"}
ELSEWHERE = {"_accounts", "_transfers", "blocks", "open", "remains"}


def contents(books: Books) -> dict[str, Any]:
    tables = {
        "accounts": books.accounts,
        "transfers": books.transfers,
        "histories": books.histories,
        "pendings": books.pendings,
        **{f"block {block.first}": block for block in books.transfers.blocks},
    }
    cells: dict[str, Any] = {"failed_ids": list(books.failed_ids), "volume": books.volume}
    for name, table in tables.items():
        for column in table.__slots__:
            if column not in WITHOUT_MEANING and column not in ELSEWHERE:
                cells[f"{name}.{column}"] = plain(getattr(table, column))
    return cells


def plain(column: Any) -> Any:
    if isinstance(column, array):
        return column.tolist()
    if isinstance(column, list):
        return [plain(cell) for cell in column]
    if isinstance(column, ReversedAmounts):
        return list(column)
    if isinstance(column, dict):
        return [(key, plain(cell)) for key, cell in column.items()]
    return column
