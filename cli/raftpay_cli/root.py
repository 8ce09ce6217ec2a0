"""The root of the command line: the group, the loading of commands on demand, and the one error handler.

Every error that raftpay raises on purpose ends here as one message on stderr and a documented exit code; a traceback
on the terminal is a bug of ours. The commands live in modules of their own, listed in commands.py.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import raftpay
from raftpay.errors import RaftpayError
from raftpay_cli.command import Group, global_options
from raftpay_cli.commands import COMMANDS
from raftpay_cli.exits import MEANINGS, ExitCode, exit_code_of


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code. Never raises."""
    try:
        code = root.main(args=arguments, prog_name="raftpay", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except RaftpayError as error:
        complain(str(error))
        return exit_code_of(error)
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`raftpay history … | head`): nothing is wrong, and nobody listens.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


def complain(message: str) -> None:
    """One message on stderr, in red where that is a terminal."""
    label = click.style("Error:", fg="red", bold=True) if _is_colourful() else "Error:"
    click.echo(f"{label} {message}", err=True)


def _is_colourful() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def main() -> NoReturn:
    """The console script `raftpay`."""
    sys.exit(run())


class RootGroup(Group):
    """Finds a command in the table, and imports its module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command), f"{entry.module}.{entry.attribute} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if rows := [(name, entry.help) for name, entry in COMMANDS.items()]:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])

    # Any: click's own signature.
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if standalone_mode:
            sys.exit(run(args))
        return super().main(args, prog_name, complete_var, standalone_mode, **extra)


root = click.version_option(raftpay.__version__, prog_name="raftpay")(
    RootGroup(
        name="raftpay",
        help="A payments ledger kept identical on three or five nodes by Raft.",
        params=global_options(),
        no_args_is_help=True,
    )
)
