"""`raftpay pay` and `raftpay account load`: a file of payments or accounts into the ledger, by raftpay.ops.pay."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from raftpay.errors import ConfigError
from raftpay.ops import money
from raftpay.ops.pay import Noun, PayOptions, PayRun, Summary, check_file
from raftpay.ops.pay.crew import WORKERS_MAX
from raftpay.ops.pay.run import BATCH_DEFAULT, PATIENCE_DEFAULT_S
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit, say
from raftpay_cli.pay_progress import progress
from raftpay_cli.pay_summary import check_tables, early_ending, tables, value
from raftpay_cli.settings import Settings


def file_options(function: Callable[..., int]) -> Callable[..., int]:
    """The argument and the options that both commands take."""
    decorators = (
        click.argument("file", type=click.Path(path_type=Path)),
        click.option(
            "--workers",
            type=click.IntRange(1, WORKERS_MAX),
            default=1,
            show_default=True,
            help="Processes that send. With one, lines take effect in the order of the file; more are faster.",
        ),
        click.option("--batch", type=int, default=BATCH_DEFAULT, show_default=True, help="Lines in one request."),
        click.option(
            "--patience",
            type=click.FloatRange(min=0, min_open=True),
            default=PATIENCE_DEFAULT_S,
            show_default=True,
            metavar="SECONDS",
            help="How long to go on while no majority of the nodes answers.",
        ),
        click.option("--check", is_flag=True, help="Only check the file; nothing is sent, no cluster is needed."),
        click.option("--strict", is_flag=True, help="Send nothing if any line is malformed."),
        click.option(
            "--report",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="PATH",
            help="Where the rejected lines are written.  [default: NAME.rejected.csv beside NAME.csv]",
        ),
        click.option("--ignore-columns", is_flag=True, help="Pass over columns that mean nothing here."),
        click.option(
            "--exponent",
            "exponents",
            multiple=True,
            metavar="CODE=N",
            help="Decimals of a currency that ISO 4217 does not know, like BTC=8; may be repeated.",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@click.command(cls=Command)
@file_options
@click.option(
    "--run",
    metavar="NAME",
    help="Keeps ids that are made for lines without one apart from those of other files.  [default: the file's name]",
)
@pass_settings
# Any: what click hands over for the options that both commands take.
def pay(settings: Settings, /, file: Path, run: str | None, **given: Any) -> int:
    """Pay every line of FILE, a CSV, exactly once. Interrupted or crashed: run the same command again.

    \b
    Columns, by their names in the first line:
      debit_account, credit_account, amount (like 12.34), currency
      and as you like: id, code, reference, pending, timeout_s

    A wrong line is reported, and the others are paid. A line without an id gets one made from what it says, so the same
    file never pays twice; to pay it once more on purpose, give the second time a --run NAME of its own.
    """
    return _bring_in(settings, _options(settings, file, Noun.PAYMENTS, run, given), given)


@click.command(cls=Command)
@file_options
@pass_settings
# Any: what click hands over for the options that both commands take.
def load(settings: Settings, /, file: Path, **given: Any) -> int:
    """Open the accounts of FILE, a CSV. Interrupted or crashed: run the same command again.

    \b
    Columns, by their names in the first line:
      id, currency
      and as you like: code, reference, overdraft_limit (like 500.00),
      flags (debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed; separated by |)
    """
    return _bring_in(settings, _options(settings, file, Noun.ACCOUNTS, None, given), given)


def _options(settings: Settings, file: Path, noun: Noun, run: str | None, given: dict[str, Any]) -> PayOptions:
    return PayOptions(
        path=file,
        addresses=() if given["check"] else settings.addresses(),
        noun=noun,
        workers=given["workers"],
        batch=given["batch"],
        deadline_s=settings.deadline_s,
        patience_s=given["patience"],
        run=run,
        report=given["report"],
        exponents=dict(_exponent(text) for text in given["exponents"]),
        is_strict=given["strict"],
        may_ignore_columns=given["ignore_columns"],
    )


def _exponent(text: str) -> tuple[str, int]:
    code, _, digits = text.partition("=")
    if not (code and digits.isascii() and digits.isdigit() and int(digits) <= money.EXPONENT_MAX):
        raise ConfigError(f"--exponent {text!r}: expected CODE=N with N from 0 to {money.EXPONENT_MAX}, like BTC=8")
    if code in money.EXPONENTS and money.EXPONENTS[code] != int(digits):
        raise ConfigError(f"--exponent {text!r}: ISO 4217 gives {code} {money.EXPONENTS[code]} decimals, leave it so")
    return code, int(digits)


def _bring_in(settings: Settings, options: PayOptions, given: dict[str, Any]) -> int:
    if given["check"]:
        summary = check_file(options)
        emit(
            value(options, summary, is_check=True),
            is_json=settings.is_json,
            table=lambda: check_tables(options, summary),
        )
        return ExitCode.REFUSED if summary.rejected else ExitCode.OK
    summary = asyncio.run(_run(options))
    emit(value(options, summary), is_json=settings.is_json, table=lambda: tables(options, summary))
    if summary.ending != "done":
        say(early_ending(options, summary))
    return _exit_code(summary)


async def _run(options: PayOptions) -> Summary:
    """The run under a progress bar; the first Ctrl-C ends it in good order, the second at once."""
    with progress(options.path.name) as shown:
        run = PayRun(options, on_acknowledged=shown.acknowledged, on_notice=shown.notice)
        task = asyncio.ensure_future(run.pay())
        interrupts = 0

        def interrupt() -> None:
            nonlocal interrupts
            interrupts += 1
            if interrupts > 1:
                task.cancel()
                return
            shown.notice("stopping: answers on their way are waited for; Ctrl-C again to leave at once")
            run.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        try:
            return await task
        except asyncio.CancelledError:
            return run.summary
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _exit_code(summary: Summary) -> ExitCode:
    if summary.ending == "stopped":
        return ExitCode.INTERRUPTED
    if summary.ending == "no_majority":
        return ExitCode.OUTCOME_UNKNOWN if summary.may_have_happened else ExitCode.NOT_COMMITTED
    return ExitCode.REFUSED if summary.rejected else ExitCode.OK
