"""`raftpay status`: every node as it is at this moment, each asked by itself."""

import time
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raftpay.client import NodeStatus
from raftpay.errors import ProtocolError
from raftpay.ops.probe import ask_all, probe
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import console, duration, emit, table, word
from raftpay_cli.settings import Settings

WATCH_INTERVAL_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 1.5

# A node's status, or why there is none.
Seen = NodeStatus | str


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
@pass_settings
def status(settings: Settings, watch: bool) -> int:
    """Show every node: role, term, how far its log is committed and applied, how far it lags, up or down.

    Ends with 0 when a node leads with a majority behind it, even if others are down, and with 3 otherwise.
    """
    addresses = settings.named_addresses()
    if watch:
        if settings.is_json:
            raise click.UsageError("--watch is for eyes: leave it out with --json")
        _watch(addresses)
    seen = _look(addresses, deadline_s=settings.deadline_s)
    leader = leader_of(seen)
    emit(_value(addresses, seen), is_json=settings.is_json, table=lambda: _tables(addresses, seen))
    return ExitCode.OK if leader is not None else ExitCode.NODE_FAILED


def leader_of(seen: dict[str, Seen]) -> str | None:
    """The node that leads with a majority, or None."""
    leaders = [node for node in seen.values() if isinstance(node, NodeStatus) and node.is_ready and node.has_quorum]
    return max(leaders, key=lambda node: node.term).name if leaders else None


def _watch(addresses: dict[str, str]) -> None:
    with Live(console=console(), auto_refresh=False, transient=True) as live:
        try:
            while True:
                live.update(Group(*_tables(addresses, _look(addresses, deadline_s=ANSWER_TIMEOUT_S))), refresh=True)
                time.sleep(WATCH_INTERVAL_S)
        except KeyboardInterrupt:
            return


def _look(addresses: dict[str, str], *, deadline_s: float) -> dict[str, Seen]:
    def question(address: str) -> Seen:
        try:
            return probe(address, timeout_s=min(ANSWER_TIMEOUT_S, deadline_s)) or "no answer"
        except ProtocolError as error:
            return str(error)

    return ask_all(addresses, question)


def _value(addresses: dict[str, str], seen: dict[str, Seen]) -> dict[str, Any]:  # Any: what json carries
    nodes = []
    for name, node in seen.items():
        if isinstance(node, NodeStatus):
            nodes.append(
                {"is_up": True, "address": addresses[name], "lag": _lag(node, seen), **msgspec.to_builtins(node)}
            )
        else:
            nodes.append({"is_up": False, "address": addresses[name], "name": name, "problem": node})
    return {"leader": leader_of(seen), "nodes": nodes}


def _lag(node: NodeStatus, seen: dict[str, Seen]) -> int:
    """How many entries known to be committed anywhere this node has not applied."""
    committed = max(other.commit_index for other in seen.values() if isinstance(other, NodeStatus))
    # Nodes answer one after another: what one applied may be news to those who answered before it.
    return max(0, committed - node.applied_index)


def _tables(addresses: dict[str, str], seen: dict[str, Seen]) -> Iterator[Table | Text]:
    yield _headline(seen)
    # No more than 80 columns hold; the rest is in the JSON.
    numbers = ["term", "commit", "applied", "lag", "transfers", "uptime"]
    shown = table("node", "address", "role", *numbers, right=numbers, whole=["node", "address", "role"])
    for name, node in seen.items():
        if isinstance(node, str):
            shown.add_row(name, addresses[name], word("down"))
            continue
        lag = _lag(node, seen)
        counts = [node.term, node.commit_index, node.applied_index, lag, node.transfers]
        uptime = duration(node.uptime_s)
        shown.add_row(
            node.name,
            addresses[name],
            word(node.role if node.is_voter else "learner"),
            *(f"{n:,}" for n in counts),
            uptime,
        )
    yield shown
    for name, node in seen.items():
        if isinstance(node, str):
            yield Text(f"{name}: {node}", style="dim")
            continue
        for damaged in node.scrub.damaged:
            yield Text(f"{name}: damaged on its disk, and not repaired yet: {damaged}", style="bold red")


def _headline(seen: dict[str, Seen]) -> Text:
    up = [node for node in seen.values() if isinstance(node, NodeStatus)]
    clusters = sorted({node.cluster_id for node in up})
    leader = leader_of(seen)
    line = Text.assemble("cluster ", (", ".join(clusters) or "?", "bold"), f": {len(up)} of {len(seen)} nodes up, ")
    if leader is not None:
        return line.append_text(Text(f"{leader} leads", style="green"))
    down = ", ".join(name for name, node in seen.items() if isinstance(node, str))
    why = "no node leads: nothing can be paid until a majority is up"
    if up and down and all(node.members_index == 0 for node in up):
        why = f"a new cluster begins once all its nodes have been up together: start {down}"
    return line.append_text(Text(why, style="bold red"))
