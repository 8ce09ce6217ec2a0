"""Click classes that every command is made of: the global options, accepted before and after a command's name.

`raftpay --json status` and `raftpay status --json` are the same. What they set is collected in `Settings`, which a
command takes with `@pass_settings`. No command lives here.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from raftpay_cli.settings import DEADLINE_DEFAULT_S, DEADLINE_MAX_S, Settings

pass_settings = click.make_pass_decorator(Settings, ensure=True)


def _setter(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps a given option in the settings; one that was not given leaves what was said before."""

    # Any: what click hands over is of the option's own type.
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        settings = context.ensure_object(Settings)
        if value is not None and value != ():
            setattr(settings, field, value)

    return keep


def global_options() -> list[click.Parameter]:
    """The options that every command takes; made anew for each, since click ties a parameter to its command."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="PATH",
            expose_value=False,
            callback=_setter("config"),
            help="The cluster.toml. Else $RAFTPAY_CONFIG, ./cluster.toml or ./raftpay-data/cluster.toml.",
        ),
        click.Option(
            ["--address"],
            multiple=True,
            metavar="HOST:PORT",
            expose_value=False,
            callback=_setter("given_addresses"),
            help="A node's client address, instead of those of the cluster.toml; may be repeated.",
        ),
        click.Option(
            ["--deadline"],
            type=click.FloatRange(min=0, max=DEADLINE_MAX_S, min_open=True),
            metavar="SECONDS",
            expose_value=False,
            callback=_setter("deadline_s"),
            help=f"How long to go on trying before giving up. [default: {DEADLINE_DEFAULT_S:g}]",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_setter("is_json"),
            help="Print data as one JSON document instead of tables.",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options too."""

    # Any: click's own constructor, passed through.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


class Group(click.Group):
    """A group whose commands take the global options, and which knows what a mistyped command may have meant."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            nearest = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            meant = (
                f", did you mean {nearest[0]!r}?" if nearest else f"; there are {', '.join(self.list_commands(ctx))}"
            )
            ctx.fail(f"no such command {name!r}{meant}")
        return super().resolve_command(ctx, args)


def data_option(function: Callable[..., int]) -> Callable[..., int]:
    """--data DIR of the commands for a local cluster; `Settings.directory` makes a directory of it."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Directory of the local cluster.  [default: that of --config, else ./raftpay-data]",
    )(function)
