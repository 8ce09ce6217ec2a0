"""The SVG: sound XML, all that happened is in it, and no label covers another."""

import itertools
import random
from xml.etree import ElementTree

import pytest

from raftpay.ops.demo.svg import HEIGHT, WIDTH, place_labels, render
from raftpay.ops.demo.timeline import Mark, MarkKind, Series, Span

NAMESPACE = "{http://www.w3.org/2000/svg}"
MARKS = [
    Mark(MarkKind.KILLED, 0.35, "n1 killed"),
    Mark(MarkKind.ELECTED, 0.55, "n2 elected"),
    Mark(MarkKind.PAID, 0.79, "all paid"),
]
HOLE = Series(0.1, [20, 40, 30, 10, 0, 0, 20, 40])


def texts_of(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text")]


def test_the_picture_says_what_happened_and_when() -> None:
    svg = render(HOLE, MARKS, Span(0.33, 0.6), title="The leader is killed", subtitle="lost 0")

    texts = texts_of(svg)

    assert {"The leader is killed", "lost 0", "n1 killed · 0.35 s", "n2 elected · 0.55 s", "270 ms"} <= set(texts)
    assert {"0", "100", "400", "0 s", "0.8 s", "seconds since the first acknowledgement"} <= set(texts)
    assert "payments per second, each 100 ms" in texts


def test_names_are_escaped() -> None:
    svg = render(HOLE, [Mark(MarkKind.KILLED, 0.1, "a<b&c")], None, title="<&>", subtitle='"')

    assert "a<b&c · 0.10 s" in texts_of(svg)
    assert "<&>" in texts_of(svg)


@pytest.mark.parametrize("series", [Series(0.1, [0]), Series(0.05, [0] * 100), Series(0.1, [1])])
def test_a_run_without_marks_or_payments_is_a_picture_too(series: Series) -> None:
    texts = texts_of(render(series, [], None, title="t", subtitle="s"))

    assert not any(text.endswith("ms") and text[0].isdigit() for text in texts)


def test_all_is_drawn_within_the_page() -> None:
    svg = render(HOLE, MARKS, Span(0.33, 0.6), title="t", subtitle="s")

    for element in ElementTree.fromstring(svg).iter():
        for name, limit in (("x", WIDTH), ("x1", WIDTH), ("x2", WIDTH), ("y", HEIGHT), ("y1", HEIGHT), ("y2", HEIGHT)):
            assert 0 <= float(element.get(name, 0)) <= limit


def test_both_colour_schemes_give_each_class_a_colour() -> None:
    svg = render(HOLE, MARKS, Span(0.33, 0.6), title="t", subtitle="s")
    light, dark = svg.split("@media (prefers-color-scheme: dark)")

    used = {name for part in svg.split('class="')[1:] for name in part.split('"')[0].split()}

    for name in used - {"title", "subtitle", "tick", "label", "mark"}:
        assert f".{name} {{" in light or f".{name}, " in light or f"mark.{name} {{" in light
        assert f".{name} {{" in dark or f".{name}, " in dark or f"mark.{name} {{" in dark


@pytest.mark.parametrize("seed", range(50))
def test_no_label_covers_another_or_the_line_of_one(seed: int) -> None:
    dice = random.Random(seed)
    marks = [Mark(kind, dice.random(), f"n{number} {kind}") for number, kind in enumerate(MarkKind)]

    labels = place_labels(marks, lambda at_s: 78 + at_s * 854)

    spans = {}
    for label in labels:
        width = 6 + 6.5 * len(label.text)
        spans[label] = (label.x - width, label.x) if label.is_left else (label.x, label.x + width)
        assert spans[label][1] <= WIDTH - 20
    for one, other in itertools.permutations(labels, 2):
        if one.lane == other.lane:
            assert spans[one][1] < spans[other][0] or spans[other][1] < spans[one][0]
        # The other's line runs from its own lane down to the plot.
        if one.lane < other.lane:
            assert not spans[one][0] < other.x < spans[one][1]
