"""The books: accounts, transfers, their rules and their answers. Pure and deterministic; the machine calls it.

What is named here is what other rooms may use.
"""

from raftpay.ledger.ledger import Ledger
from raftpay.ledger.pendings import EXPIRIES_PER_COMMAND_MAX
from raftpay.ledger.records import (
    QUERY_LIMIT_MAX,
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
from raftpay.ledger.results import CreateAccountResult, OperatorResult, Result, ResultClass
from raftpay.ledger.transfer_results import CreateTransferResult
from raftpay.ledger.types import (
    AMOUNT_MAX,
    BATCH_EVENTS_MAX,
    CODE_MAX,
    CURRENCY_LENGTH_MAX,
    ID_LENGTH_MAX,
    REFERENCE_LENGTH_MAX,
    TIME_MAX,
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    Request,
    Transfer,
    TransferFlag,
)

__all__ = [
    "AMOUNT_MAX",
    "BATCH_EVENTS_MAX",
    "CODE_MAX",
    "CURRENCY_LENGTH_MAX",
    "EXPIRIES_PER_COMMAND_MAX",
    "ID_LENGTH_MAX",
    "QUERY_LIMIT_MAX",
    "REFERENCE_LENGTH_MAX",
    "TIME_MAX",
    "Account",
    "AccountFlag",
    "AccountQuery",
    "AccountRecord",
    "AccountsQuery",
    "BalanceRecord",
    "Command",
    "CreateAccountResult",
    "CreateAccounts",
    "CreateTransferResult",
    "CreateTransfers",
    "CurrencyTotals",
    "Ledger",
    "Operate",
    "OperatorAction",
    "OperatorResult",
    "Page",
    "Request",
    "Result",
    "ResultClass",
    "Results",
    "Transfer",
    "TransferFlag",
    "TransferQuery",
    "TransferRecord",
]
