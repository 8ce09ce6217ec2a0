"""How far a file is: a bar on a terminal, elsewhere a line every few seconds. On stderr; stdout is for the summary."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final, Protocol

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from raftpay.ops.pay import Acknowledgement
from raftpay_cli.output import console, say

LINE_EVERY_S: Final = 5.0


class Shown(Protocol):
    """What a run tells of itself."""

    def acknowledged(self, answer: Acknowledgement) -> None: ...

    def notice(self, text: str) -> None: ...


@contextlib.contextmanager
def progress(name: str) -> Iterator[Shown]:
    """Show the progress of one file while the block runs."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
        console=console(is_error=True),
    )
    with bar:
        yield _Bar(bar, name)


class _Count:
    """Lines so far, as words."""

    def __init__(self) -> None:
        self.lines = 0
        self.rejected = 0

    def add(self, answer: Acknowledgement) -> str:
        self.lines += answer.lines
        self.rejected += answer.rejected
        rate = self.lines / answer.seconds if answer.seconds > 0 else 0.0
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        return f"{self.lines:,} lines, {rate:,.0f}/s{rejected}"


class _Bar:
    def __init__(self, bar: Progress, name: str) -> None:
        self._bar = bar
        self._task = bar.add_task(name, total=None, told="")
        self._count = _Count()

    def acknowledged(self, answer: Acknowledgement) -> None:
        told = self._count.add(answer)
        self._bar.update(self._task, total=answer.size, completed=answer.position, told=told)

    def notice(self, text: str) -> None:
        self._bar.console.print(Text(text, style="yellow"))


class _Lines:
    def __init__(self, name: str) -> None:
        self._name = name
        self._count = _Count()
        self._told_at = time.monotonic()

    def acknowledged(self, answer: Acknowledgement) -> None:
        told = self._count.add(answer)
        now = time.monotonic()
        if now - self._told_at < LINE_EVERY_S:
            return
        self._told_at = now
        left = answer.size - answer.position
        eta = f", {left * answer.seconds / answer.position:.0f} s left" if answer.position else ""
        percent = 100 * answer.position // answer.size if answer.size else 100
        say(f"{self._name}: {percent} %, {told}{eta}")

    def notice(self, text: str) -> None:
        say(text)
