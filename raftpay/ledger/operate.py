"""An operator's act on one account: freezing, releasing, setting the overdraft limit. Called by ledger.py."""

from raftpay.ledger.accounts import FROZEN, LIMITS_DEBITS, Accounts
from raftpay.ledger.forms import is_amount
from raftpay.ledger.results import OperatorResult
from raftpay.ledger.types import Operate, OperatorAction


def operate(accounts: Accounts, act: Operate) -> OperatorResult:
    """Does it, or says why not. Freezing what is frozen is done."""
    row = accounts.rows.get(act.account_id)
    if row is None:
        return OperatorResult.ACCOUNT_NOT_FOUND
    if act.action == OperatorAction.SET_OVERDRAFT_LIMIT:
        return _set_overdraft_limit(accounts, row, act.overdraft_limit)
    if act.action == OperatorAction.FREEZE:
        accounts.guards[row] |= FROZEN
    else:
        assert act.action == OperatorAction.UNFREEZE
        accounts.guards[row] &= ~FROZEN
    return OperatorResult.DONE


def _set_overdraft_limit(accounts: Accounts, row: int, limit: int) -> OperatorResult:
    if not is_amount(limit) or not accounts.guards[row] & LIMITS_DEBITS:
        return OperatorResult.OVERDRAFT_LIMIT_INVALID
    if accounts.debits_pending[row] + accounts.debits_posted[row] > accounts.credits_posted[row] + limit:
        return OperatorResult.OVERDRAFT_LIMIT_BELOW_USE
    accounts.first_limits.setdefault(row, accounts.limits[row])
    accounts.limits[row] = limit
    return OperatorResult.DONE
