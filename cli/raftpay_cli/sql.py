"""`raftpay sql "SELECT …"`: questions to sealed history."""

import datetime
import decimal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from raftpay.archive.chain import Cut
from raftpay.archive.sql import ask
from raftpay.ops.archives import data_directory, sealed_cuts
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, moment, say, table
from raftpay_cli.settings import Settings


@click.command(cls=Command)
@click.argument("query", metavar="QUERY")
@click.option("--node", metavar="NAME", help="The node whose files are read. [default: the first that is here]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The data directory of a node, or a copy of it, instead of those of the cluster.toml.",
)
@pass_settings
def sql(settings: Settings, query: str, node: str | None, data: Path | None) -> int:
    """Ask the sealed history of a node in SQL (DuckDB's). It is read from the files; the node may run or not.

    There are the views transfers, postings (each transfer once for each of its accounts), accounts (with the balances
    at the end of what is sealed), failed and segments. The newest transfers are not sealed yet; how far it reaches is
    said on stderr. Amounts are integers of minor units. Nothing can be changed, and no other file be read.

    \b
    raftpay sql "DESCRIBE transfers"
    raftpay sql "SELECT account, sum(amount) AS out FROM postings WHERE direction = 'debit' GROUP BY account"
    """
    if data is None:
        data = data_directory({name: Path(known.data) for name, known in settings.cluster().nodes.items()}, node)
    cuts = sealed_cuts(data)
    answer = ask(data.resolve(), cuts, query)
    rows = list(answer.rows)
    names = answer.columns
    value = [{name: _json_value(cell) for name, cell in zip(names, row, strict=True)} for row in rows]
    emit(value, is_json=settings.is_json, table=lambda: [_table(names, rows)])
    say(_reach(data, cuts))
    return ExitCode.OK


# Any: whatever a column of SQL holds, and json carries.
def _json_value(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float | str):
        return cell
    if isinstance(cell, list | tuple):
        return [_json_value(item) for item in cell]
    if isinstance(cell, dict):
        return {str(key): _json_value(item) for key, item in cell.items()}
    if isinstance(cell, decimal.Decimal) and cell == cell.to_integral_value():
        return int(cell)
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    return str(cell)


def _table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:  # Any: as above
    numbers = {
        name
        for place, name in enumerate(names)
        if any(isinstance(row[place], int | float | decimal.Decimal) for row in rows[:1])
    }
    shown = table(*names, right=numbers)
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    return shown


def _reach(data: Path, cuts: Sequence[Cut]) -> str:
    if not cuts:
        return f"Nothing is sealed in {data} yet: the answer is of an empty history."
    last = cuts[-1]
    return f"Read from {data}: {len(cuts)} segments, the first {last.rows.last:,} rows, sealed {moment(last.time)}."
