"""`raftpay up` and `raftpay down`: a local cluster in the foreground, or detached. The work is done in raftpay.ops."""

import asyncio
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from raftpay.errors import LocalClusterError
from raftpay.ops.control import Order, send
from raftpay.ops.local import CONFIG_NAME, LocalCluster
from raftpay.ops.supervisor import Ending, Supervisor
from raftpay_cli.command import Command, data_option, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, say, table, word
from raftpay_cli.settings import DATA_DEFAULT, Settings

LOG_NAME: Final = "up.log"
_POLL_S: Final = 0.05

EXIT_CODES: Final = {
    Ending.STOPPED: ExitCode.OK,
    Ending.EARLY: ExitCode.INTERRUPTED,
    Ending.KILLED: ExitCode.INTERRUPTED,
}


@click.command(cls=Command)
@click.option("--nodes", type=click.Choice(["3", "5"]), help="Size of a new cluster.  [default: 3]")
@data_option
@click.option(
    "--base-port",
    type=click.IntRange(1, 65_000),
    metavar="PORT",
    help="Ports of a new cluster: peers on PORT+1 …, clients on PORT+101 ….  [default: free ones]",
)
@click.option("--detach", is_flag=True, help="Leave it running in the background; `raftpay down` stops it.")
@pass_settings
def up(settings: Settings, nodes: str | None, data: Path | None, base_port: int | None, detach: bool) -> int:
    """Run a local cluster: three or five node processes, their data and logs in one directory.

    The first time, DIR/cluster.toml is written with free ports and a new cluster id; later it is used as it is. Each
    node appends what it has to say to DIR/n1.log … Ctrl-C stops the nodes in good order, a second one kills them; they
    never outlive this command. A node that dies by itself is reported, and stays down until
    `raftpay local start` brings it back.
    """
    directory = settings.directory(data)
    _check_not_running(directory)
    cluster = LocalCluster(directory, nodes=int(nodes) if nodes else None, base_port=base_port)
    if detach:
        return _detach(settings, cluster)

    def on_ready(leader: str) -> None:
        _show_ready(settings, cluster, leader, {name: cluster.pid(name) for name in cluster.names})
        say(_what_next(cluster.directory, ending="Ctrl-C here stops the cluster."))

    async def supervise() -> Ending:
        return await Supervisor(cluster, say=say, on_ready=on_ready).run()

    return EXIT_CODES[asyncio.run(supervise())]


@click.command(cls=Command)
@data_option
@pass_settings
def down(settings: Settings, data: Path | None) -> int:
    """Stop the local cluster that runs in a directory, in good order, and wait until it has ended."""
    directory = settings.directory(data)
    answer = send(directory, Order("down"))
    value = {"directory": str(directory.absolute()), "message": answer.message}
    emit(value, is_json=settings.is_json, table=lambda: [answer.message])
    return ExitCode.OK


def _check_not_running(directory: Path) -> None:
    """The quick and friendly answer; the lock of the directory is the sure one."""
    try:
        send(directory, Order("list"))
    except LocalClusterError:
        return
    raise LocalClusterError(
        f"a local cluster runs in {directory} already: see it with `raftpay status`, stop it with `raftpay down`"
    )


def _show_ready(settings: Settings, cluster: LocalCluster, leader: str, pids: Mapping[str, int | None]) -> None:
    nodes: list[dict[str, Any]] = [  # Any: what json carries
        {
            "name": node.name,
            "role": "leader" if node.name == leader else "follower",
            "client": node.client,
            "peer": node.peer,
            "pid": pids[node.name],
            "log": str(cluster.log_path(node.name)),
        }
        for node in cluster.config.nodes.values()
    ]
    value = {
        "cluster_id": cluster.config.cluster_id,
        "directory": str(cluster.directory),
        "config": str(cluster.config_path),
        "leader": leader,
        "nodes": nodes,
    }

    def tables() -> Iterator[Table | Text | str]:
        yield Text.assemble("cluster ", (cluster.config.cluster_id, "bold"), f" is ready: {leader} leads")
        shown = table(
            "node", "role", "clients", "peers", "process", "log", right=["process"], whole=["node", "clients"]
        )
        for node in nodes:
            log = os.path.relpath(node["log"])
            shown.add_row(node["name"], word(node["role"]), node["client"], node["peer"], str(node["pid"]), log)
        yield shown

    emit(value, is_json=settings.is_json, table=tables)
    sys.stdout.flush()


def _what_next(directory: Path, *, ending: str) -> str:
    lines = ["Try, in another terminal:"]
    if directory != Path(DATA_DEFAULT).absolute():
        lines.append(f"  export RAFTPAY_CONFIG={shlex.quote(str(directory / CONFIG_NAME))}")
    lines += [
        "  raftpay status",
        "  raftpay account create bank EUR",
        "  raftpay account create alice EUR",
        "  raftpay transfer bank alice 12.34",
        "  raftpay local kill leader",
        ending,
    ]
    return "\n".join(lines)


def _detach(settings: Settings, cluster: LocalCluster) -> int:
    """Start ourselves again without --detach, in a session of its own, and wait until it says that it is ready."""
    # Whatever is wrong with the directory is said here rather than in a log.
    cluster.open()
    cluster.stop()
    log = cluster.directory / LOG_NAME
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftpay_cli", "up", "--data", str(cluster.directory)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    say(f"starting in the background: {os.path.relpath(log)} tells how it goes")
    while process.poll() is None:
        try:
            answer = send(cluster.directory, Order("ready"))
        except LocalClusterError:
            # Not listening yet, or ending; its own deadline for becoming ready is ours too.
            time.sleep(_POLL_S)
            continue
        assert answer.leader is not None
        _show_ready(settings, cluster, answer.leader, {node.name: node.pid for node in answer.nodes})
        say(_what_next(cluster.directory, ending="`raftpay down` stops the cluster."))
        return ExitCode.OK
    said = log.read_text(errors="replace").strip().removeprefix("Error: ")
    raise LocalClusterError(f"the local cluster did not start:\n{said}")
