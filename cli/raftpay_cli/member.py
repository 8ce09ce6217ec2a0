"""`raftpay member …`: who belongs to the cluster, and changes of that while it runs."""

from collections.abc import Iterator

import click
import msgspec
from rich.table import Table
from rich.text import Text

from raftpay.client import Client, MemberInfo, MemberList
from raftpay_cli.command import Group, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.ledger import open_client
from raftpay_cli.output import emit, say, table, word
from raftpay_cli.settings import Settings


@click.group(cls=Group)
def member() -> None:
    """List the members of the cluster, add one, remove one, while it serves."""


@member.command("list")
@pass_settings
def list_members(settings: Settings) -> int:
    """Show the members: voters count for majorities, learners are catching up."""
    with open_client(settings) as client:
        found = _members(client)
    emit(msgspec.to_builtins(found), is_json=settings.is_json, table=lambda: _tables(found))
    return ExitCode.OK


@member.command()
@click.argument("name")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the other nodes reach it.")
@click.option("--client", "client_address", required=True, metavar="HOST:PORT", help="Where clients reach it.")
@pass_settings
def add(settings: Settings, name: str, peer: str, client_address: str) -> int:
    """Add the node NAME. It gets the log, and votes once it has caught up.

    Start it before or after, with a cluster.toml that has its section with `joins = true`; then put that section into
    the files of the other nodes too.

    \b
    raftpay member add n4 --peer 127.0.0.1:7104 --client 127.0.0.1:7204
    raftpay node run --config cluster.toml --name n4
    """
    with open_client(settings) as client:
        client.add_member(name, peer=peer, client=client_address)
        found = _members(client)
    emit(msgspec.to_builtins(found), is_json=settings.is_json, table=lambda: _tables(found))
    say(f"{name} learns, and votes by itself once it has caught up: watch it with `raftpay member list`.")
    return ExitCode.OK


@member.command()
@click.argument("name")
@pass_settings
def remove(settings: Settings, name: str) -> int:
    """Remove the node NAME, alive or dead. Its data may be deleted afterwards.

    Add its replacement first: while there are fewer members, fewer may fail. One that leads hands over before.
    """
    with open_client(settings) as client:
        client.remove_member(name)
        found = _members(client)
    emit(msgspec.to_builtins(found), is_json=settings.is_json, table=lambda: _tables(found))
    say(f"{name} is no member any more: stop it, and take its section out of the cluster files.")
    return ExitCode.OK


def _members(client: Client) -> MemberList:
    """As the leader sees them where there is one: it alone knows how far the others are."""
    found = client.status()
    return client.members(address=found.leader_address or None)


def _tables(found: MemberList) -> Iterator[Table | Text]:
    shown = table(
        "member", "peer", "client", "counts as", "reached", "log up to", right=["log up to"], whole=["member"]
    )
    for one in found.members:
        reached = word("yes" if one.connected else "no")
        shown.add_row(one.name, one.peer, one.client, _standing(one, found), reached, _upto(one))
    yield shown


def _standing(one: MemberInfo, found: MemberList) -> str:
    if one.name == found.leader:
        return "leader"
    return "voter" if one.is_voter else "learner"


def _upto(one: MemberInfo) -> str:
    return "" if one.match_index is None else f"{one.match_index:,}"
