"""`raftpay demo`: the failover shown to a person, as tables and a picture. The work is done in raftpay.ops.demo."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from raftpay.ops import money
from raftpay.ops.check import is_balanced
from raftpay.ops.demo.drill import BATCH_DEFAULT, PAYMENTS_MAX, PAYMENTS_MIN, Audience, DemoOptions, run_demo
from raftpay.ops.demo.folder import CLUSTER_NAME, PICTURE_NAME, RESULT_NAME
from raftpay.ops.demo.plot import Ink, columns_of, draw
from raftpay.ops.demo.result import Result
from raftpay.ops.demo.timeline import merged
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import console, emit, say, table
from raftpay_cli.settings import Settings

OUT_DEFAULT: Final = "demo-out"
# Where there is no terminal to measure.
_PLOT_WIDTH: Final = 80
_PLOT_WIDTH_MAX: Final = 132
_PLOT_HEIGHT: Final = 10

_INK_STYLES: Final = {
    Ink.PLAIN: "",
    Ink.BAR: "blue",
    Ink.AXIS: "dim",
    Ink.KILLED: "bold red",
    Ink.ELECTED: "yellow",
    Ink.STARTED: "magenta",
    Ink.CAUGHT_UP: "green",
    Ink.PAID: "bold",
}


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(OUT_DEFAULT),
    metavar="DIR",
    help=f"Where files, data and logs go; what an earlier demo made there is replaced.  [default: {OUT_DEFAULT}]",
)
@click.option(
    "--payments",
    type=click.IntRange(PAYMENTS_MIN, PAYMENTS_MAX),
    default=100_000,
    metavar="N",
    help="How many.  [default: 100000]",
)
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", help="Size of the cluster.  [default: 3]")
@click.option("--seed", type=int, default=1, metavar="S", help="Makes other accounts and payments.  [default: 1]")
@click.option("--keep", is_flag=True, help="Keep the nodes' data too, not only their logs.")
@pass_settings
def demo(settings: Settings, out: Path, payments: int, nodes: str, seed: int, keep: bool) -> int:
    """Kill the leader under load, and prove that no payment is lost or doubled.

    Starts a local cluster, pays a file of payments through it, kills the leader with SIGKILL at a third, starts it
    again at two thirds, and waits until it has caught up. Then every payment is looked up and compared with the file,
    all balances are worked out anew, and the books of all nodes are compared. Ends with 0 only if everything holds;
    a picture (throughput.svg) and all figures (result.json) stay in DIR. Needs no network.
    """
    # Few payments go in small requests: there must be some before, between and after the kill and the start.
    batch = min(BATCH_DEFAULT, payments // 6)
    options = DemoOptions(out, payments=payments, nodes=int(nodes), seed=seed, batch=batch, is_kept=keep)
    with _interrupted_by_signals(), _audience() as audience:
        result = run_demo(options, audience)
    emit(msgspec.to_builtins(result), is_json=settings.is_json, table=lambda: shown(result, out))
    return ExitCode.OK if result.is_good else ExitCode.REFUSED


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that they too leave nothing running."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _audience() -> Iterator[Audience]:
    """Lines of progress on stderr, and a bar while payments are made where that is a terminal."""
    screen = console(is_error=True)
    if not screen.is_terminal:
        yield Audience(say=say, paid=lambda _done, _total: None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task("paid", visible=False, start=False)

        def paid(done: int, total: int) -> None:
            progress.start_task(bar)
            progress.update(bar, completed=done, total=total, visible=done < total)

        yield Audience(say=lambda message: progress.console.print(Text(message)), paid=paid)


# --- what a person sees


def shown(result: Result, out: Path) -> Iterator[Table | Text | str]:
    """The whole report, part by part. out: the demo's folder, as the user named it."""
    setting = result.setting
    yield Text(
        f"{setting.payments:,} payments through {setting.nodes} nodes, the leader killed on the way", style="bold"
    )
    yield ""
    yield from _plot(result)
    yield ""
    for part in (_time_line, _figures, _proof, _books):
        yield part(result)
        yield ""
    yield from _verdict(result, out)


def _plot(result: Result) -> Iterator[Text]:
    screen = console()
    width = min(screen.width, _PLOT_WIDTH_MAX) if screen.is_terminal else _PLOT_WIDTH
    is_unicode = screen.is_terminal and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    series = merged(result.throughput, buckets_max=columns_of(width))
    for line in draw(series, result.marks, width=width, height=_PLOT_HEIGHT, is_unicode=is_unicode):
        yield Text.assemble(*((segment.text, _INK_STYLES[segment.ink]) for segment in line))


def _time_line(result: Result) -> Table:
    happened = result.failover
    events = [
        (0.0, "first acknowledgement", ""),
        (happened.killed_s, f"{happened.killed}, leader in term {happened.killed_term}, killed (SIGKILL)", "red"),
        (happened.elected_s, f"{happened.elected} elected leader, term {happened.elected_term}", "yellow"),
        (happened.started_s, f"{happened.killed} started again", "magenta"),
        (happened.caught_up_s, f"{happened.killed} has caught up", "green"),
        (happened.paid_s, "last payment acknowledged", ""),
    ]
    if (silence := happened.silence) is not None:
        events.append((silence.start_s, "last acknowledgement before the silence", ""))
        events.append((silence.end_s, "first acknowledgement after it", ""))
    made = table(
        "time",
        "since the kill",
        "event",
        right=["time", "since the kill"],
        title="Time line, from the first acknowledgement",
    )
    for at_s, what, style in sorted(events, key=lambda event: event[0]):
        since = f"{(at_s - happened.killed_s) * 1000:+,.0f} ms"
        made.add_row(f"{at_s:.3f} s", since, Text(what, style=style))
    return made


def _figures(result: Result) -> Table:
    rates, latency = result.payments_per_s, result.batch_latency
    made = table("figure", "value", right=["value"], title="Figures, as the payer saw them")
    gap, silence = result.longest_gap, result.failover.silence
    where = "" if gap is None else f", at {gap.start_s:.2f} s"
    made.add_row(f"longest gap between acknowledgements{where}", Text(_ms(result.longest_gap_ms), style="bold"))
    made.add_row("gap around the kill", _ms(None if silence is None else silence.length_s * 1000))
    made.add_row("payments per second, overall", _rate(rates.overall))
    made.add_row("  before the kill", _rate(rates.before))
    made.add_row("  from the kill until caught up, the gap included", _rate(rates.during))
    made.add_row("  after", "all was paid by then" if rates.after is None else _rate(rates.after))
    size = f"a request of {result.setting.batch} payments"
    made.add_row(f"{size}, p50", _ms(latency.p50_ms))
    made.add_row(f"{size}, p99", _ms(latency.p99_ms))
    made.add_row(f"{size}, longest", _ms(latency.max_ms))
    return made


def _proof(result: Result) -> Table:
    made = table("proof", "", "found", title="Proof, from the file and the nodes alone")
    for name, count in (("lost", result.lost), ("doubled", result.doubled)):
        made.add_row(name, _mark(is_good=count == 0), Text(f"{count:,}", style="bold"))
    for finding in result.findings:
        made.add_row(finding.claim, _mark(is_good=finding.is_good), finding.found)
    return made


def _books(result: Result) -> Table:
    numbers = ["accounts", "debits", "credits"]
    title = f"Books, the same on {len(result.digests)} nodes" if result.is_good else "Books"
    made = table("currency", *numbers, "", right=numbers, title=title)
    for line in result.books:
        amounts = [_amount(amount, line.currency) for amount in (line.debits_posted, line.credits_posted)]
        made.add_row(line.currency, f"{line.accounts:,}", *amounts, _mark(is_good=is_balanced(line)))
    return made


def _verdict(result: Result, out: Path) -> Iterator[Text]:
    failed = [finding for finding in result.findings if not finding.is_good]
    for finding in failed:
        yield Text(f"FAILED: {finding.claim}: {finding.found}", style="bold red")
    if failed:
        yield Text(f"The nodes' logs and data are in {out / CLUSTER_NAME}; keep them.", style="red")
    else:
        yield Text(
            f"All holds: {result.acknowledged:,} payments made once, {result.refused} flawed ones refused, "
            f"lost {result.lost}, doubled {result.doubled}.",
            style="bold green",
        )
    yield Text(f"Picture: {out / PICTURE_NAME}   figures: {out / RESULT_NAME}", style="dim")


def _amount(amount: int, currency: str) -> str:
    whole, point, decimals = money.format(amount, currency).partition(".")
    return f"{int(whole):,}{point}{decimals}"


def _mark(*, is_good: bool) -> Text:
    return Text("ok", style="green") if is_good else Text("FAILED", style="bold red")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
