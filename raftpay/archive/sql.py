"""SQL over sealed history: views on the files of an archive, read only, with no way to other files or to the network.

DuckDB reads the Parquet files where they lie; a node may run meanwhile, for they never change. It is closed to every
other file, and what it runs is looked through first: a COPY inside a WITH, or a function that runs a text as SQL, would
otherwise write on the very files that it may open. So only the kinds of node and the table functions listed here pass.
"""

# ruff: noqa: S608  (what is put into SQL here are names of columns and of our own files, and all of it only reads)

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from raftpay.archive.chain import Cut, file_name
from raftpay.archive.columns import ACCOUNTS, BALANCES, FAILED, TABLES, TRANSFERS
from raftpay.archive.parquet import SQL_TYPES, quoted
from raftpay.errors import CorruptionError, QueryError
from raftpay.ledger.transfers import EXPIRY, PENDING, POST, REVERSAL, TARGETED, VOID

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VIEWS: Final = ("transfers", "postings", "accounts", "failed", "segments")
DAMAGE_ADVICE: Final = (
    "`raftpay check --deep` tells what is damaged. A running node puts it right with its next scrub; "
    "meanwhile ask another one"
)
_HINT: Final = f"\nThere are {', '.join(VIEWS)}; `DESCRIBE transfers` names columns"
_MEMORY_MAX: Final = "2GB"
_FETCHED_ROWS: Final = 1024
_KIND: Final = (
    f"CASE WHEN t.flags & {EXPIRY} != 0 THEN 'expiry' WHEN t.flags & {PENDING} != 0 THEN 'pending' "
    f"WHEN t.flags & {POST} != 0 THEN 'post' WHEN t.flags & {VOID} != 0 THEN 'void' "
    f"WHEN t.flags & {REVERSAL} != 0 THEN 'reversal' ELSE 'transfer' END"
)
_OWN_BALANCES: Final = tuple(name.removeprefix("debit_") for name in BALANCES[:4])

# What the parts of a question may be that are questions or statements themselves, and what may stand for a table.
_NODES: Final = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
_TABLE_FUNCTIONS: Final = ("range", "generate_series", "unnest", "repeat")

Value = Any  # whatever a column of SQL holds
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """columns: their names. rows: in the order of the answer, fetched as they are taken."""

    columns: list[str]
    rows: Iterator[tuple[Value, ...]]


def ask(root: Path, cuts: Sequence[Cut], query: str) -> Answer:
    """The answer to a question in SQL about these segments, which lie in the data directory `root`.

    Raises QueryError: it cannot be answered; the message says what DuckDB found, or what is allowed. CorruptionError: a
    file of a segment cannot be read.
    """
    duckdb = import_module("duckdb")
    connection: DuckDBPyConnection = duckdb.connect(
        ":memory:", config={"memory_limit": _MEMORY_MAX, "temp_directory": "", "autoinstall_known_extensions": False}
    )
    files = [str(root / name) for cut in cuts for name in cut.file_names]
    try:
        statements = connection.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            found = ", ".join(statement.type.name for statement in statements) or "nothing"
            raise QueryError(f"one SELECT is expected, found {found}: history is only read")
        parsed = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0]
        _check_only_reads(json.loads(parsed))
        # From here on no other file is opened, and nothing of this can be changed again.
        connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, files))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        for view in _views(root, cuts):
            connection.execute(view)
        cursor = _interruptible(connection, lambda: connection.execute(statements[0]))
    except duckdb.Error as error:
        raise _explained(error, files, _HINT) from error
    return Answer(_distinct([column[0] for column in cursor.description or ()]), _rows(cursor, duckdb.Error, files))


def _interruptible(connection: "DuckDBPyConnection", act: Callable[[], Result]) -> Result:
    """DuckDB hears no signal while it works: it does so in another thread, and a Ctrl-C here ends it there."""
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(act)
        try:
            return done.result()
        except BaseException:
            connection.interrupt()
            raise


def _explained(error: Exception, files: Sequence[str], hint: str = "") -> QueryError | CorruptionError:
    """What DuckDB says, as an error of ours. files: those of the segments. hint: for whoever asked."""
    # Behind the first line it may cite the SQL, in which whoever asks can write what he likes.
    first = str(error).partition("\n")[0]
    if any(file in first for file in files):
        return CorruptionError(f"sealed history cannot be read: {first}. {DAMAGE_ADVICE}")
    return QueryError(f"{error}{hint}")


def _check_only_reads(part: Value) -> None:
    """part: of the question as DuckDB parsed it. Raises QueryError where it holds anything but what may pass."""
    if isinstance(part, list):
        for item in part:
            _check_only_reads(item)
    if not isinstance(part, dict):
        return
    if part.get("error") is True:
        raise QueryError(f"this form of a question is not known here: {part.get('error_message')}")
    kind = part.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
        raise QueryError(f"only SELECT is expected, found {kind.split('_')[0]} within it: history is only read")
    if kind == "TABLE_FUNCTION":
        name = str(part.get("function", {}).get("function_name")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(f"the table function {name} is not known here; there are {', '.join(_TABLE_FUNCTIONS)}")
    for item in part.values():
        _check_only_reads(item)


def _rows(cursor: "DuckDBPyConnection", error: type[Exception], files: Sequence[str]) -> Iterator[tuple[Value, ...]]:
    try:
        while rows := _interruptible(cursor, lambda: cursor.fetchmany(_FETCHED_ROWS)):
            yield from rows
    except error as found:
        raise _explained(found, files) from found


def _distinct(names: Sequence[str]) -> list[str]:
    """Each once: a second `id` is called `id_2`."""
    seen: dict[str, int] = {}
    distinct: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return distinct


def _views(root: Path, cuts: Sequence[Cut]) -> Iterator[str]:
    for table in TABLES:
        files = [quoted(str(root / file_name(cut, table.name))) for cut in cuts if table.name in cut.tables]
        if files:
            yield f"CREATE VIEW sealed_{table.name} AS SELECT * FROM read_parquet([{', '.join(files)}])"
            continue
        columns = [f"NULL::VARCHAR AS {name}" for name in table.texts]
        columns += [f"NULL::{SQL_TYPES[dtype]} AS {name}" for name, dtype in table.numbers.items()]
        yield f"CREATE VIEW sealed_{table.name} AS SELECT {', '.join(('NULL::BIGINT AS row', *columns))} WHERE false"
    assert (TRANSFERS, ACCOUNTS, FAILED) == TABLES, "what follows names their columns"
    yield (
        f"CREATE VIEW transfers AS SELECT t.row, t.id, {_KIND} AS kind, d.id AS debit_account, c.id AS credit_account, "
        "t.amount, d.currency, t.code, t.reference, t.flags, "
        f"CASE WHEN t.flags & {TARGETED} != 0 THEN t.link END AS target_row, t.target_amount, t.timeout_s, "
        f"t.timestamp, make_timestamp_ns(t.timestamp) AS time, {', '.join(f't.{name}' for name in BALANCES)} "
        "FROM sealed_transfers t JOIN sealed_accounts d ON d.row = t.debit JOIN sealed_accounts c ON c.row = t.credit"
    )
    yield f"CREATE VIEW postings AS {_side('debit', 'credit')} UNION ALL {_side('credit', 'debit')}"
    last = ", ".join(f"arg_max({name}, row) AS {name}" for name in _OWN_BALANCES)
    balances = ", ".join(f"coalesce(p.{name}, 0) AS {name}" for name in _OWN_BALANCES)
    sides = " UNION ALL ".join(
        f"SELECT row, {side} AS number, {', '.join(f'{side}_{name} AS {name}' for name in _OWN_BALANCES)} "
        "FROM sealed_transfers"
        for side in ("debit", "credit")
    )
    yield (
        "CREATE VIEW accounts AS SELECT a.row AS number, a.id, a.currency, a.code, a.reference, a.flags, "
        "a.overdraft_limit, a.created_at, make_timestamp_ns(a.created_at) AS created, "
        f"coalesce(p.entries, 0) AS entries, {balances} FROM sealed_accounts a "
        f"LEFT JOIN (SELECT number, count(*) AS entries, {last} FROM ({sides}) GROUP BY number) p ON p.number = a.row"
    )
    yield "CREATE VIEW failed AS SELECT row AS number, id FROM sealed_failed"
    yield _segments(cuts)


def _side(side: str, other: str) -> str:
    balances = ", ".join(f"{side}_{name} AS {name}" for name in _OWN_BALANCES)
    return (
        f"SELECT row, id AS transfer_id, kind, {side}_account AS account, '{side}' AS direction, "
        f"{other}_account AS other_account, amount, currency, code, reference, timestamp, time, {balances} "
        "FROM transfers"
    )


def _segments(cuts: Sequence[Cut]) -> str:
    names = "number, first_row, rows, failed, accounts, time, digest"
    if not cuts:
        return (
            f"CREATE VIEW segments AS SELECT {', '.join(f'NULL AS {name}' for name in names.split(', '))} WHERE false"
        )
    lines = [
        f"({cut.number}, {cut.rows.first}, {cut.rows.count}, {cut.failed.count}, {cut.accounts.count}, "
        f"make_timestamp_ns({cut.time}), '{cut.digest.hex()}')"
        for cut in cuts
    ]
    return f"CREATE VIEW segments AS SELECT * FROM (VALUES {', '.join(lines)}) AS s({names})"
