"""Throughput over time as an SVG file: axes with units, the silence shaded, each event labelled at its time. Pure.

The colours are written twice, for a light page and for a dark one: the file needs no style of the page that shows it.
Text is not measured here, only estimated, so labels have room to spare.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from raftpay.ops.demo.axes import rate_label, seconds_label, ticks, ticks_within
from raftpay.ops.demo.timeline import Mark, Series, Span

WIDTH: Final = 960
HEIGHT: Final = 460
_LEFT: Final = 78
_RIGHT: Final = WIDTH - 28
_BOTTOM: Final = HEIGHT - 58
# Title and subtitle end here; the lanes of the labels follow, then the plot.
_HEAD: Final = 74
_LANE: Final = 19
# Of a 12 px sans-serif, a little more than the average.
_CHARACTER: Final = 6.7
_LABEL_GAP: Final = 5

_LIGHT: Final = {
    "page": "#ffffff",
    "ink": "#16202b",
    "quiet": "#566372",
    "grid": "#e4e9ee",
    "axis": "#8a97a5",
    "bar": "#2f6fd0",
    "gap": "#d5382f",
    "killed": "#c22a22",
    "elected": "#9a5b00",
    "started": "#6a3fb5",
    "caught_up": "#14774a",
    "paid": "#455261",
}
_DARK: Final = {
    "page": "#10161d",
    "ink": "#e8edf3",
    "quiet": "#9dabba",
    "grid": "#232d38",
    "axis": "#5f6e7d",
    "bar": "#6aa5ff",
    "gap": "#ff6b60",
    "killed": "#ff7b72",
    "elected": "#f0b34a",
    "started": "#b99bff",
    "caught_up": "#4fd093",
    "paid": "#b4c0cc",
}
_MARK_KINDS: Final = ("killed", "elected", "started", "caught_up", "paid")


class Placed(NamedTuple):
    """A label and where it goes. lane: 0 is next to the plot. is_left: it stands to the left of its line."""

    mark: Mark
    x: float
    text: str
    lane: int
    is_left: bool


class Frame(NamedTuple):
    """From seconds and payments per second to pixels."""

    top: float
    end_s: float
    rate_max: float

    def x(self, at_s: float) -> float:
        return _LEFT + min(max(at_s / self.end_s, 0.0), 1.0) * (_RIGHT - _LEFT)

    def y(self, rate: float) -> float:
        return _BOTTOM - rate / self.rate_max * (_BOTTOM - self.top)


def render(series: Series, marks: Sequence[Mark], silence: Span | None, *, title: str, subtitle: str) -> str:
    """The whole file. silence: the gap to shade and to name, if there was one."""
    rate_ticks = ticks(max(series.rates), count_max=5)
    labels = place_labels(marks, lambda at_s: Frame(0, series.end_s, 1).x(at_s))
    lanes = 1 + max((label.lane for label in labels), default=0)
    frame = Frame(_HEAD + lanes * _LANE + 8, series.end_s, rate_ticks[-1])
    parts = [
        _head(title, subtitle),
        _axes(frame, series, rate_ticks),
        _shade(frame, silence) if silence is not None else "",
        _bars(frame, series),
        _gap_name(frame, silence) if silence is not None else "",
        *(_label(frame, label) for label in labels),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def place_labels(marks: Sequence[Mark], x_of: Callable[[float], float]) -> list[Placed]:
    """Give each mark's label a side and a lane, so that no label covers another, nor the line of one.

    A line runs from its label down to the plot, through all lower lanes. So a label must lie above the lanes of all
    marks whose lines it spans. Labels stand to the right of their line, but towards the right edge to the left.
    """
    ordered = sorted(marks, key=lambda mark: mark.at_s)
    texts = [f"{mark.label} · {mark.at_s:.2f} s" for mark in ordered]
    xs = [x_of(mark.at_s) for mark in ordered]
    widths = [_LABEL_GAP + len(text) * _CHARACTER for text in texts]
    turns_at = len(ordered)
    edge = float(_RIGHT)
    while turns_at > 0 and xs[turns_at - 1] + widths[turns_at - 1] > edge:
        turns_at -= 1
        edge = xs[turns_at]
    lanes: dict[int, int] = {}
    spans: dict[int, tuple[float, float]] = {}
    for number in (*reversed(range(turns_at)), *range(turns_at, len(ordered))):
        is_left = number >= turns_at
        span = (xs[number] - widths[number], xs[number]) if is_left else (xs[number], xs[number] + widths[number])
        below = [lanes[other] for other in lanes if spans[other][0] <= span[1] and span[0] <= spans[other][1]]
        lanes[number], spans[number] = max(below, default=-1) + 1, span
    return [
        Placed(mark, xs[number], texts[number], lanes[number], number >= turns_at)
        for number, mark in enumerate(ordered)
    ]


def _head(title: str, subtitle: str) -> str:
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" \
aria-labelledby="title summary">
<title id="title">{escape(title)}</title>
<desc id="summary">{escape(subtitle)}</desc>
<style>
text {{ font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }}
.title {{ font-size: 19px; font-weight: 600; }}
.subtitle {{ font-size: 13px; }}
.label, .gap-name {{ font-weight: 600; }}
.tick {{ font-variant-numeric: tabular-nums; }}
.area {{ stroke: none; fill-opacity: 0.2; }}
.outline {{ fill: none; stroke-width: 1.6; stroke-linejoin: round; }}
.mark {{ stroke-width: 1.5; stroke-dasharray: 4 3; }}
.silence {{ fill-opacity: 0.12; }}
.gap-name {{ paint-order: stroke; stroke-width: 5px; stroke-linejoin: round; }}
{_colours(_LIGHT)}
@media (prefers-color-scheme: dark) {{
{_colours(_DARK)}
}}
</style>
<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>
<text class="title ink" x="24" y="36">{escape(title)}</text>
<text class="subtitle quiet" x="24" y="58">{escape(subtitle)}</text>"""


def _colours(colours: dict[str, str]) -> str:
    rules = [f".{name} {{ fill: {colours[name]}; }}" for name in ("page", "ink", "quiet")]
    rules += [f".{name} {{ stroke: {colours[name]}; }}" for name in ("grid", "axis")]
    rules += [f".area {{ fill: {colours['bar']}; }} .outline {{ stroke: {colours['bar']}; }}"]
    # The name may stand on the bars: an outline in the page's colour keeps it legible.
    rules += [f".silence, .gap-name {{ fill: {colours['gap']}; }} .gap-name {{ stroke: {colours['page']}; }}"]
    rules += [
        f".mark.{kind} {{ stroke: {colours[kind]}; }} .label.{kind} {{ fill: {colours[kind]}; }}"
        for kind in _MARK_KINDS
    ]
    return "\n".join(rules)


def _axes(frame: Frame, series: Series, rate_ticks: Sequence[float]) -> str:
    parts = []
    for rate in rate_ticks:
        y, kind = frame.y(rate), "axis" if rate == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 10, y + 4, rate_label(rate), "tick quiet", "end"))
    for at_s in ticks_within(frame.end_s, count_max=10):
        x = frame.x(at_s)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{_BOTTOM}" x2="{x:.1f}" y2="{_BOTTOM + 5}"/>')
        parts.append(_text(x, _BOTTOM + 20, seconds_label(at_s), "tick quiet", "middle"))
    parts.append(_text((_LEFT + _RIGHT) / 2, HEIGHT - 14, "seconds since the first acknowledgement", "quiet", "middle"))
    middle = (frame.top + _BOTTOM) / 2
    unit = f"payments per second, each {series.bucket_s * 1000:g} ms"
    parts.append(
        f'<text class="quiet" text-anchor="middle" transform="translate(20 {middle:.1f}) rotate(-90)">{unit}</text>'
    )
    return "\n".join(parts)


def _bars(frame: Frame, series: Series) -> str:
    """Steps rather than a smoothed curve: nothing between two measurements is invented."""
    points = []
    for number, rate in enumerate(series.rates):
        y = frame.y(rate)
        points.append(f"{frame.x(number * series.bucket_s):.1f},{y:.1f}")
        points.append(f"{frame.x((number + 1) * series.bucket_s):.1f},{y:.1f}")
    line = " ".join(points)
    corners = f"{frame.x(0):.1f},{_BOTTOM} {line} {frame.x(frame.end_s):.1f},{_BOTTOM}"
    return f'<polygon class="area" points="{corners}"/>\n<polyline class="outline" points="{line}"/>'


def _shade(frame: Frame, silence: Span) -> str:
    left, right = frame.x(silence.start_s), frame.x(silence.end_s)
    return (
        f'<rect class="silence" x="{left:.1f}" y="{frame.top:.1f}" width="{max(1.0, right - left):.1f}" '
        f'height="{_BOTTOM - frame.top:.1f}"/>'
    )


def _gap_name(frame: Frame, silence: Span) -> str:
    left, right = frame.x(silence.start_s), frame.x(silence.end_s)
    name = f"{silence.length_s * 1000:.0f} ms"
    if len(name) * _CHARACTER + 4 <= right - left:
        return _text((left + right) / 2, frame.top + 18, name, "gap-name", "middle")
    # Too narrow for its name, which stands beside it.
    return _text(right + 5, frame.top + 18, f"← {name}", "gap-name", "start")


def _label(frame: Frame, label: Placed) -> str:
    kind, y = str(label.mark.kind), frame.top - 8 - label.lane * _LANE
    x = label.x - _LABEL_GAP if label.is_left else label.x + _LABEL_GAP
    return (
        f'<line class="mark {kind}" x1="{label.x:.1f}" y1="{y - 10:.1f}" x2="{label.x:.1f}" y2="{_BOTTOM}"/>\n'
        + _text(x, y, label.text, f"label {kind}", "end" if label.is_left else "start")
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
