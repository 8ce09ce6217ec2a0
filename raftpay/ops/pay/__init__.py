"""Files of payments and accounts into the ledger, every line once, by worker processes of which any may be killed.

Bytes become records (records.py), records events (forms.py, ids.py), events batches (lines.py); a crew of processes
(crew.py, pipes.py, worker.py) brings them into the ledger; run.py counts what became of each line and report.py
writes down the rejected ones. `raftpay pay`, `raftpay account load`, the demo and the benches call what is named here.
"""

from raftpay.ops.pay.lines import Rejection
from raftpay.ops.pay.run import (
    Acknowledgement,
    CurrencyTotal,
    Noun,
    PayOptions,
    PayRun,
    Summary,
    check_file,
    pay_file,
)

__all__ = [
    "Acknowledgement",
    "CurrencyTotal",
    "Noun",
    "PayOptions",
    "PayRun",
    "Rejection",
    "Summary",
    "check_file",
    "pay_file",
]
