"""`raftpay node …`: one member of a cluster, as a process."""

import click
from rich.text import Text

from raftpay.node import run_node_process
from raftpay.ops.parent import die_with_parent as tie_to_parent
from raftpay.ops.rebuild import put_aside
from raftpay_cli.command import Group, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, say
from raftpay_cli.settings import Settings


@click.group(cls=Group)
def node() -> None:
    """Run one node of a cluster, on its own machine or by hand, or rebuild one. `raftpay up` runs all of them here."""


@node.command()
@click.option("--name", required=True, metavar="NAME", help="Which node of the cluster.toml this is, such as n1.")
# For `raftpay up` alone: the process that must not be outlived, and the pipe's end on which to say so.
@click.option("--die-with-parent", type=int, nargs=2, hidden=True)
@pass_settings
def run(settings: Settings, name: str, die_with_parent: tuple[int, int] | None) -> int:
    """Run a node until SIGTERM or Ctrl-C, logging to stderr.

    It hands leadership over and stops in good order; a second signal ends it at once, which loses nothing.
    """
    if die_with_parent is not None:
        tie_to_parent(*die_with_parent)
    run_node_process(settings.cluster(), name)
    return ExitCode.OK


@node.command()
@click.option("--name", required=True, metavar="NAME", help="Which node of the cluster.toml it is, such as n1.")
@click.option("--force", is_flag=True, help="Even though the others have no leader that serves without this node.")
@pass_settings
def rebuild(settings: Settings, name: str, force: bool) -> int:
    """Have a stopped node begin anew, from what its peers have: for a damaged disk or data directory.

    Its data directory is put aside, not deleted. Started again with `raftpay node run`, the node fetches everything
    from its peers, and counts as a voter only once it has: a promise that it has forgotten puts nothing at risk.
    """
    config = settings.cluster()
    aside = put_aside(config, name, needs_leader=not force)
    value = {"node": name, "aside": None if aside is None else str(aside)}
    told = (
        f"{name} has no data: start it, and it fetches everything." if aside is None else f"{name}: put aside {aside}"
    )
    emit(value, is_json=settings.is_json, table=lambda: [Text(told)])
    say(f"Start it now: raftpay node run --config {config.path} --name {name}")
    return ExitCode.OK
