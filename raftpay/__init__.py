"""raftpay: a payments ledger kept identical on three or five nodes by Raft.

The front door: what programs import. Names are loaded when they are first used, so that `import raftpay` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftpay.client import AsyncClient, Client, NodeStatus, Outcome, Outcomes, StateDigest, TrialBalance, new_id
    from raftpay.errors import ClientError, NotCommitted, OutcomeUnknown, RaftpayError, Rejected
    from raftpay.ledger import (
        Account,
        AccountFlag,
        AccountQuery,
        AccountRecord,
        AccountsQuery,
        BalanceRecord,
        CreateAccountResult,
        CreateTransferResult,
        CurrencyTotals,
        OperatorAction,
        OperatorResult,
        Page,
        ResultClass,
        Transfer,
        TransferFlag,
        TransferQuery,
        TransferRecord,
    )

__version__ = "0.1.0"

# fmt: off
__all__ = [
    "Account", "AccountFlag", "AccountQuery", "AccountRecord", "AccountsQuery", "AsyncClient", "BalanceRecord",
    "Client", "ClientError", "CreateAccountResult", "CreateTransferResult", "CurrencyTotals", "NodeStatus",
    "NotCommitted", "OperatorAction", "OperatorResult", "Outcome", "OutcomeUnknown", "Outcomes", "Page", "RaftpayError",
    "Rejected", "ResultClass", "StateDigest", "Transfer", "TransferFlag", "TransferQuery", "TransferRecord",
    "TrialBalance", "__version__", "new_id",
]

_ROOMS: Final = {
    "raftpay.client": {
        "AsyncClient", "Client", "NodeStatus", "Outcome", "Outcomes", "StateDigest", "TrialBalance", "new_id",
    },
    "raftpay.errors": {"ClientError", "NotCommitted", "OutcomeUnknown", "RaftpayError", "Rejected"},
}
# fmt: on


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'raftpay' has no attribute {name!r}")
    room = next((room for room, names in _ROOMS.items() if name in names), "raftpay.ledger")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
