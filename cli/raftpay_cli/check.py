"""`raftpay check`: the trial balance of every node, and whether all keep the same books."""

import importlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from raftpay.errors import CorruptionError, FormatVersionError
from raftpay.ops import money
from raftpay.ops.check import Check, NodeBooks, check_books, is_balanced, members_of
from raftpay.storage.directory import read_identity
from raftpay_cli.check_history import history_tables, history_value
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, say, table, word
from raftpay_cli.settings import Settings

if TYPE_CHECKING:
    from raftpay.ops.deep_check import DeepCheck

DIGEST_SHOWN: int = 16


@click.command(cls=Command)
@click.option(
    "--deep", is_flag=True, help="Also read the sealed history of the nodes of this machine, every row of it."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    metavar="DIR",
    help="With --deep: check only these data directories or copies of them, and ask no node; may be repeated.",
)
@pass_settings
def check(settings: Settings, deep: bool, data: tuple[Path, ...]) -> int:
    """Check that the books balance on every node, and that all nodes keep the same books.

    Every node sums its own accounts; then the digests of their whole states are compared at one applied index, for
    which it waits up to --deadline. Ends with 1 on any difference. Nodes that do not answer are named, and left out.

    With --deep each segment of sealed history is compared with its digest and with the one before, and all balances
    in it are computed again; segments of the same number must be the same on all nodes. The books are made again from
    snapshot and journal, and must be those that the sealed rows come to, and those that the node has in memory.
    """
    if data and not deep:
        raise click.UsageError("--data goes with --deep: it names the directories to read")
    outcome = None
    if not data:
        outcome = check_books(members_of(settings.named_addresses()), deadline_s=settings.deadline_s)
    history = _check_history(settings, data, outcome) if deep else None
    value = {} if outcome is None else _value(outcome)
    if history is not None:
        value["history"] = history_value(history)
        value["is_good"] = value.get("is_good", True) and history.is_good
    emit(value, is_json=settings.is_json, table=lambda: _all_tables(outcome, history))
    is_good = (outcome is None or outcome.is_good) and (history is None or history.is_good)
    return ExitCode.OK if is_good else ExitCode.REFUSED


def _check_history(settings: Settings, data: tuple[Path, ...], outcome: Check | None) -> "DeepCheck":
    # The column store takes half a second to load, and only --deep reads with it.
    deep_check = importlib.import_module("raftpay.ops.deep_check")
    directories = {str(path): path for path in data}
    for path in data:
        # What is no data directory at all is a mistake of who named it; one that is damaged is a finding.
        with suppress(CorruptionError, FormatVersionError):
            read_identity(path)
    if not data:
        directories = {name: Path(node.data) for name, node in settings.cluster().nodes.items()}

    running = None if outcome is None else deep_check.SeenBooks(outcome.index, outcome.digests)
    checked: DeepCheck = deep_check.check_deeply(directories, told=say, running=running)
    return checked


def _all_tables(outcome: Check | None, history: "DeepCheck | None") -> Iterator[Table | Text | str]:
    if outcome is not None:
        yield from _tables(outcome)
    if history is not None:
        yield from history_tables(history)


def _value(outcome: Check) -> dict[str, Any]:  # Any: what json carries
    return {
        "is_good": outcome.is_good,
        "is_balanced": outcome.is_balanced,
        "has_equal_digests": outcome.has_equal_digests,
        "index": outcome.index,
        "unreachable": outcome.unreachable,
        "nodes": [_node_value(node, outcome) for node in outcome.nodes],
    }


def _node_value(node: NodeBooks, outcome: Check) -> dict[str, Any]:  # Any: what json carries
    if node.problem is not None:
        return {"name": node.name, "address": node.address, "is_up": False, "problem": node.problem}
    assert node.totals is not None
    totals = [{**msgspec.structs.asdict(line), "is_balanced": is_balanced(line)} for line in node.totals.totals]
    return {
        "name": node.name,
        "address": node.address,
        "is_up": True,
        "digest": outcome.digests[node.name],
        "totals_index": node.totals.index,
        "totals": totals,
    }


def _tables(outcome: Check) -> Iterator[Table | Text | str]:
    yield "Trial balance, as each node sums its own accounts"
    yield (
        _totals_table(outcome)
        if any(node.totals and node.totals.totals for node in outcome.nodes)
        else "no accounts yet"
    )
    yield ""
    yield f"State at applied index {outcome.index:,}"
    yield _digest_table(outcome)
    yield ""
    yield from _verdict(outcome)


def _totals_table(outcome: Check) -> Table:
    numbers = ["accounts", "debits\nposted", "credits\nposted", "debits\npending", "credits\npending"]
    shown = table("node", "currency", *numbers, "", right=numbers, whole=["node", "currency", ""])
    for node in outcome.nodes:
        for line in node.totals.totals if node.problem is None and node.totals is not None else ():
            sums = (line.debits_posted, line.credits_posted, line.debits_pending, line.credits_pending)
            amounts = [money.format(amount, line.currency) for amount in sums]
            verdict = word("ok" if is_balanced(line) else "differs")
            shown.add_row(node.name, line.currency, f"{line.accounts:,}", *amounts, verdict)
    return shown


def _digest_table(outcome: Check) -> Table:
    shown = table("node", "digest", "")
    # The digest that most nodes have; which of two is right, no digest can tell.
    usual = max(outcome.digests.values(), key=list(outcome.digests.values()).count)
    for node in outcome.nodes:
        if node.problem is not None:
            shown.add_row(node.name, Text(node.problem, style="dim"), word("down"))
            continue
        digest = outcome.digests[node.name]
        shown.add_row(node.name, digest[:DIGEST_SHOWN], word("ok" if digest == usual else "differs"))
    return shown


def _verdict(outcome: Check) -> Iterator[Text]:
    if not outcome.is_balanced:
        yield Text(
            "The books do not balance: stop paying, and keep the data directories as they are.", style="bold red"
        )
    if not outcome.has_equal_digests:
        yield Text(
            "The nodes keep different books: stop paying, and keep the data directories as they are.", style="bold red"
        )
    if outcome.unreachable:
        yield Text(f"Not checked, for they do not answer: {', '.join(outcome.unreachable)}.", style="yellow")
    if outcome.is_good:
        count = len(outcome.digests)
        if count == 1:
            yield Text("Books balanced; one node answered, so there was nothing to compare them with.", style="yellow")
        else:
            yield Text(f"Books balanced; {count} nodes compared, digests equal.", style="green")
