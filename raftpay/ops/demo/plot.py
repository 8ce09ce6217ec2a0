"""Throughput over time as text: block characters where they can be shown, plain ASCII elsewhere. Pure.

Lines are made of segments with an ink, so that the command line can colour them and a file need not.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final, NamedTuple

from raftpay.ops.demo.axes import rate_label, seconds_label, ticks, ticks_within
from raftpay.ops.demo.timeline import Mark, MarkKind, Series


class Ink(StrEnum):
    PLAIN = "plain"
    BAR = "bar"
    AXIS = "axis"
    KILLED = "killed"
    ELECTED = "elected"
    STARTED = "started"
    CAUGHT_UP = "caught_up"
    PAID = "paid"


class Segment(NamedTuple):
    text: str
    ink: Ink


class Glyphs(NamedTuple):
    """What is drawn with. bars: from the lowest to the full cell. Each string is one column wide a character."""

    bars: str
    rising: str
    corner: str
    tick: str
    floor: str
    floor_tick: str
    drop: str
    between: str
    marks: dict[MarkKind, str]


BLOCKS: Final = Glyphs(
    bars="▁▂▃▄▅▆▇█",
    rising="│",
    corner="└",
    tick="┤",
    floor="─",
    floor_tick="┴",
    drop="┊",
    between=" · ",
    marks={
        MarkKind.KILLED: "✗",
        MarkKind.ELECTED: "★",
        MarkKind.STARTED: "▲",
        MarkKind.CAUGHT_UP: "●",
        MarkKind.PAID: "■",
    },
)
ASCII: Final = Glyphs(
    bars=".:#",
    rising="|",
    corner="+",
    tick="+",
    floor="-",
    floor_tick="+",
    drop="|",
    between=", ",
    marks={
        MarkKind.KILLED: "K",
        MarkKind.ELECTED: "E",
        MarkKind.STARTED: "S",
        MarkKind.CAUGHT_UP: "C",
        MarkKind.PAID: "P",
    },
)
WIDTH_MIN: Final = 40
_LABEL_COLUMNS: Final = 7

Line = list[Segment]


def columns_of(width: int) -> int:
    """How many buckets a plot of this width has room for, one a column."""
    return max(width, WIDTH_MIN) - _LABEL_COLUMNS - 1


def text_of(lines: Sequence[Line]) -> str:
    """The plot without its inks, one line under the other."""
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


def draw(series: Series, marks: Sequence[Mark], *, width: int, height: int = 10, is_unicode: bool) -> list[Line]:
    """The lines of a plot at most `width` columns wide: `height` rows of bars, an axis, and the marks explained.

    series: of at most `columns_of(width)` buckets, one a column.
    """
    columns = len(series.counts)
    assert columns <= columns_of(width), f"{columns} buckets do not fit into {width} columns"
    glyphs = BLOCKS if is_unicode else ASCII
    rate_ticks = ticks(max(series.rates), count_max=max(2, height // 3))
    marked = _columns_of_marks(series, marks)
    lines = [[Segment("payments/s".rjust(_LABEL_COLUMNS), Ink.AXIS)], _mark_row(marked, columns, glyphs)]
    for row in range(height, 0, -1):
        lines.append(_bar_row(series, marked, row / height * rate_ticks[-1], rate_ticks, height=height, glyphs=glyphs))
    lines.extend(_time_axis(series, glyphs))
    lines.extend(_legend(marks, glyphs, width))
    return lines


def _columns_of_marks(series: Series, marks: Sequence[Mark]) -> dict[int, Mark]:
    """Each mark's column. Two in one bucket stand side by side, the later one further right while there is room."""
    last = len(series.counts) - 1
    placed: dict[int, Mark] = {}
    for mark in sorted(marks, key=lambda mark: mark.at_s):
        wanted = min(max(0, int(mark.at_s / series.bucket_s)), last)
        free = [column for column in range(last + 1) if column not in placed]
        if free:
            # The nearest; of two as near, the one to the right.
            placed[min(free, key=lambda column: (abs(column - wanted), -column))] = mark
    return placed


def _mark_row(marked: dict[int, Mark], columns: int, glyphs: Glyphs) -> Line:
    cells = [Segment(" ", Ink.PLAIN)] * columns
    for column, mark in marked.items():
        cells[column] = Segment(glyphs.marks[mark.kind], Ink(mark.kind))
    return [Segment(" " * (_LABEL_COLUMNS + 1), Ink.PLAIN), *_joined(cells)]


def _bar_row(
    series: Series, marked: dict[int, Mark], top: float, rate_ticks: list[float], *, height: int, glyphs: Glyphs
) -> Line:
    """One row of cells, whose upper edge is at the rate `top`."""
    row_rate = rate_ticks[-1] / height
    # A label stands in the row whose upper edge is nearest to it.
    label = next((rate_label(tick) for tick in rate_ticks[1:] if abs(tick - top) <= row_rate / 2 - 1e-9), None)
    axis = (label or "").rjust(_LABEL_COLUMNS - 1) + " " + (glyphs.rising if label is None else glyphs.tick)
    cells = []
    for column, rate in enumerate(series.rates):
        cell = _cell(rate, top - row_rate, row_rate, glyphs.bars)
        mark = marked.get(column)
        if mark is not None:
            cells.append(Segment(cell if cell != " " else glyphs.drop, Ink(mark.kind)))
        else:
            cells.append(Segment(cell, Ink.BAR))
    return [Segment(axis, Ink.AXIS), *_joined(cells)]


def _cell(rate: float, bottom: float, row_rate: float, bars: str) -> str:
    """How full a cell is that reaches from `bottom` up by `row_rate`."""
    if rate <= bottom:
        return " "
    # Rounded up: the least throughput does not look like none.
    level = math.ceil((rate - bottom) / row_rate * len(bars) - 1e-9)
    return bars[min(level, len(bars)) - 1]


def _time_axis(series: Series, glyphs: Glyphs) -> list[Line]:
    columns = len(series.counts)
    floor = [glyphs.floor] * columns
    labels = [" "] * (columns + _LABEL_COLUMNS + 1)
    for tick in ticks_within(series.end_s, count_max=max(2, columns // 9)):
        column = round(tick / series.bucket_s)
        text = seconds_label(tick)
        start = max(0, _LABEL_COLUMNS + column - len(text) // 2)
        if start + len(text) > len(labels):
            continue
        labels[start : start + len(text)] = text
        if 0 < column < columns:
            floor[column] = glyphs.floor_tick
    zero = "0".rjust(_LABEL_COLUMNS - 1) + " " + glyphs.corner
    return [[Segment(zero + "".join(floor), Ink.AXIS)], [Segment("".join(labels), Ink.AXIS)]]


def _legend(marks: Sequence[Mark], glyphs: Glyphs, width: int) -> list[Line]:
    """What each mark is and when it was, as many on a line as fit."""
    lines: list[Line] = []
    used = width
    for mark in sorted(marks, key=lambda mark: mark.at_s):
        text = f" {mark.label} {mark.at_s:.2f} s"
        if used + len(glyphs.between) + 1 + len(text) > width:
            lines.append([])
            used = 0
        else:
            lines[-1].append(Segment(glyphs.between, Ink.AXIS))
            used += len(glyphs.between)
        lines[-1].extend((Segment(glyphs.marks[mark.kind], Ink(mark.kind)), Segment(text, Ink.PLAIN)))
        used += 1 + len(text)
    return lines


def _joined(cells: Sequence[Segment]) -> Line:
    """Neighbours of one ink as one segment."""
    return [Segment("".join(cell.text for cell in run), ink) for ink, run in groupby(cells, key=lambda cell: cell.ink)]
