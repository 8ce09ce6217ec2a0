"""What the command line ends with: each exit code, its meaning, and which error leads to it.

The one place: `raftpay --help`, docs/cli.md and the error handler of root.py read it here.
"""

from enum import IntEnum

from raftpay.errors import ConfigError, NotCommitted, OutcomeUnknown, QueryError, RaftpayError, Rejected


class ExitCode(IntEnum):
    OK = 0
    REFUSED = 1
    USAGE = 2
    NODE_FAILED = 3
    NOT_COMMITTED = 4
    OUTCOME_UNKNOWN = 5
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "the ledger refused something, what was asked for does not exist, or a check found a difference",
    ExitCode.USAGE: "wrong usage or configuration; nothing was sent",
    ExitCode.NODE_FAILED: "a node, or the local cluster, failed, does not run, or runs already",
    ExitCode.NOT_COMMITTED: "no answer in time, and it did not happen: safe to run again",
    ExitCode.OUTCOME_UNKNOWN: "it may have happened: run it again with the same ids, it takes effect at most once",
    ExitCode.INTERRUPTED: "interrupted",
}

# The first that fits; everything else that raftpay raises on purpose comes from a node or its disk.
_OF_ERROR: tuple[tuple[type[RaftpayError], ExitCode], ...] = (
    (ConfigError, ExitCode.USAGE),
    (QueryError, ExitCode.USAGE),
    (Rejected, ExitCode.REFUSED),
    (NotCommitted, ExitCode.NOT_COMMITTED),
    (OutcomeUnknown, ExitCode.OUTCOME_UNKNOWN),
)


def exit_code_of(error: RaftpayError) -> ExitCode:
    """The code that the command ends with when this error reaches its end."""
    for kind, code in _OF_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.NODE_FAILED
