"""How results reach the eye or the next program: stdout is data (a table, or one JSON document), stderr is progress.

Colours appear on a terminal only, and not with NO_COLOR set (rich sees to both). Without a terminal a table is as
wide as it needs to be, so that `grep` sees whole lines. Only command modules import this: rich is slow to load.
"""

import datetime
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL: Final = 500
# What tells good from bad, by the words that tables use.
STYLES: Final = {
    "leader": "bold green",
    "up": "green",
    "open": "green",
    "ok": "green",
    "created": "green",
    "posted": "green",
    "pending": "yellow",
    "candidate": "yellow",
    "frozen": "yellow",
    "paused": "yellow",
    "down": "bold red",
    "closed": "red",
    "voided": "red",
    "expired": "red",
    "differs": "bold red",
}


def console(*, is_error: bool = False) -> Console:
    """A console on stdout (data) or stderr (progress)."""
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=is_error, highlight=False, width=width, soft_wrap=False)


def say(message: str) -> None:
    """A line of progress, on stderr. Rich markup is not read in it."""
    # The terminal breaks long lines: then they can be copied whole.
    console(is_error=True).print(Text(message), soft_wrap=True)


# Any: whatever json can carry.
def emit(value: Any, *, is_json: bool, table: Callable[[], Iterable[Table | Text | str]]) -> None:
    """Print a result on stdout: `value` as one JSON document, or what `table()` yields, made only when wanted."""
    if is_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return
    out = console()
    for part in table():
        out.print(Text(part) if isinstance(part, str) else part)


def table(*columns: str, right: Iterable[str] = (), whole: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table in the house's form.

    right: the columns that hold numbers. whole: others that must stay on one line. On a narrow terminal it is the
    remaining ones that go over several lines; nothing is left out.
    """
    made = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        header_style="bold",
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    numbers, on_one_line = set(right), {*right, *whole}
    for column in columns:
        justify: JustifyMethod = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column in on_one_line)
    return made


def facts(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """What there is to say of one thing: a name and a value on each line."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value if isinstance(value, Text) else Text(value))
    return made


def word(text: str) -> Text:
    """A word in the colour of its meaning."""
    return Text(text, style=STYLES.get(text, ""))


def moment(time_ns: int) -> str:
    """Ledger time as UTC to the microsecond: 2026-11-23 20:41:07.123456Z. Zero is never."""
    if time_ns == 0:
        return "-"
    at = datetime.datetime.fromtimestamp(time_ns // 1_000_000_000, tz=datetime.UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{time_ns // 1000 % 1_000_000:06d}Z"


def second(time_ns: int) -> str:
    """Ledger time as UTC to the second, for narrow tables: 2026-11-23 20:41:07."""
    return f"{datetime.datetime.fromtimestamp(time_ns // 1_000_000_000, tz=datetime.UTC):%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """A span of time in its largest unit: 42 s, 3 min, 2 h, 5 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"
