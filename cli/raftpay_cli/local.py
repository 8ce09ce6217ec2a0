"""`raftpay local …`: what may happen to a node, done on purpose, through the supervisor that holds the processes."""

import os
from pathlib import Path

import click

from raftpay.ops.control import Action, Answer, Order, send
from raftpay_cli.command import Group, data_option, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, table, word
from raftpay_cli.settings import Settings


@click.group(cls=Group)
def local() -> None:
    """Kill, stop, start, pause or resume a node of a local cluster that `raftpay up` runs.

    NODE is a node's name, such as n1, or the word "leader".
    """


def _show_list(settings: Settings, answer: Answer) -> None:
    value = [
        {"name": node.name, "state": node.state, "pid": node.pid, "client": node.client, "log": node.log}
        for node in answer.nodes
    ]
    shown = table("node", "state", "process", "clients", "log", right=["process"], whole=["node", "clients"])
    for node in answer.nodes:
        pid = "-" if node.pid is None else str(node.pid)
        shown.add_row(node.name, word(node.state), pid, node.client, os.path.relpath(node.log))
    emit(value, is_json=settings.is_json, table=lambda: [shown])


@local.command("list")
@data_option
@pass_settings
def list_nodes(settings: Settings, data: Path | None) -> int:
    """List the node processes: state, process id, address, log."""
    _show_list(settings, send(settings.directory(data), Order("list")))
    return ExitCode.OK


def _add(action: Action, help_line: str) -> None:
    """The commands that do one thing to one node differ in their verb only."""

    @local.command(action, help=help_line)
    @click.argument("node")
    @data_option
    @pass_settings
    def act(settings: Settings, node: str, data: Path | None) -> int:
        answer = send(settings.directory(data), Order(action, node))
        value = {"action": action, "node": answer.node, "message": answer.message}
        emit(value, is_json=settings.is_json, table=lambda: [answer.message])
        return ExitCode.OK


_add("kill", "Kill NODE at once with SIGKILL, as if its machine had lost power.")
_add("stop", "Stop NODE in good order with SIGTERM: it hands over leadership first.")
_add("start", "Start NODE again after it was killed, stopped or died; it catches up by itself.")
_add("pause", "Pause NODE with SIGSTOP, as a machine that hangs.")
_add("resume", "Let a paused NODE go on with SIGCONT.")
