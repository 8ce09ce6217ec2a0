"""The terminal plot: what is drawn where, in blocks and in plain ASCII."""

import pytest

from raftpay.ops.demo.axes import rate_label, ticks, ticks_within
from raftpay.ops.demo.plot import Ink, columns_of, draw, text_of
from raftpay.ops.demo.timeline import Mark, MarkKind, Series

KILLED = Mark(MarkKind.KILLED, 0.35, "n1 killed")
ELECTED = Mark(MarkKind.ELECTED, 0.55, "n2 elected")
# A tenth of a second each, up to 400 payments/s, with a hole from the kill to the election.
HOLE = Series(0.1, [20, 40, 30, 10, 0, 0, 20, 40])


def test_the_plot_in_ascii_is_this_one() -> None:
    plot = draw(HOLE, [KILLED, ELECTED], width=60, height=4, is_unicode=False)

    assert (
        text_of(plot)
        == """\
payments/s
           K E
   400 + # | | #
       | ##| | #
   200 +###| |##
       |#### |##
     0 +-----+--
      0 s 0.5 s
K n1 killed 0.35 s, E n2 elected 0.55 s"""
    )


def test_the_plot_in_blocks_is_this_one() -> None:
    plot = draw(HOLE, [KILLED, ELECTED], width=60, height=4, is_unicode=True)

    assert (
        text_of(plot)
        == """\
payments/s
           ✗ ★
   400 ┤ █ ┊ ┊ █
       │ ██┊ ┊ █
   200 ┤███┊ ┊██
       │████ ┊██
     0 └─────┴──
      0 s 0.5 s
✗ n1 killed 0.35 s · ★ n2 elected 0.55 s"""
    )


@pytest.mark.parametrize("is_unicode", [True, False])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_asked(width: int, is_unicode: bool) -> None:
    series = Series(0.05, [1000 + 37 * number % 600 for number in range(columns_of(width))])
    marks = [Mark(kind, 0.5 * number, f"node-{number} {kind}") for number, kind in enumerate(MarkKind)]

    lines = text_of(draw(series, marks, width=width, is_unicode=is_unicode)).splitlines()

    assert max(len(line) for line in lines) <= width


def test_plain_text_is_ascii_where_nothing_else_can_be_shown() -> None:
    marks = [Mark(kind, 0.1, "n1") for kind in MarkKind]

    assert text_of(draw(HOLE, marks, width=80, is_unicode=False)).isascii()


@pytest.mark.parametrize("series", [Series(0.1, [0]), Series(0.1, [0] * 30)])
def test_a_run_without_a_payment_is_an_empty_plot(series: Series) -> None:
    plot = text_of(draw(series, [], width=80, is_unicode=False))

    assert "#" not in plot
    assert "0 +-" in plot


def test_marks_in_one_bucket_stand_side_by_side() -> None:
    marks = [Mark(MarkKind.KILLED, 0.31, "n1 killed"), Mark(MarkKind.ELECTED, 0.32, "n2 elected")]

    plot = text_of(draw(HOLE, marks, width=80, is_unicode=False)).splitlines()

    assert plot[1] == " " * 11 + "KE"


def test_a_mark_at_the_very_start_or_beyond_the_end_is_still_shown() -> None:
    marks = [Mark(MarkKind.KILLED, 0.0, "n1 killed"), Mark(MarkKind.PAID, 9.9, "all paid")]

    plot = text_of(draw(HOLE, marks, width=80, is_unicode=False)).splitlines()

    assert plot[1] == " " * 8 + "K" + " " * 6 + "P"


def test_the_least_throughput_does_not_look_like_none() -> None:
    series = Series(1.0, [1, 100_000])

    bottom_row = text_of(draw(series, [], width=80, height=4, is_unicode=True)).splitlines()[5]

    assert bottom_row == "       │▁█"


def test_bars_axis_and_marks_have_inks_of_their_own() -> None:
    plot = draw(HOLE, [KILLED], width=80, is_unicode=True)

    assert {segment.ink for line in plot for segment in line} == {Ink.AXIS, Ink.BAR, Ink.PLAIN, Ink.KILLED}


@pytest.mark.parametrize(
    ("top", "count_max", "expected"),
    [
        (0, 5, [0, 1]),
        (1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (34_000, 4, [0, 10_000, 20_000, 30_000, 40_000]),
        (100, 3, [0, 50, 100]),
        (101, 3, [0, 50, 100, 150]),
        (0.3, 3, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round_and_reach_the_top(top: float, count_max: int, expected: list[float]) -> None:
    assert ticks(top, count_max=count_max) == expected


def test_ticks_within_stop_before_the_end() -> None:
    assert ticks_within(5.8, count_max=7) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (950, "950"), (2500, "2.5 k"), (40_000, "40 k"), (1_200_000, "1.2 M")]
)
def test_rates_are_written_short(value: float, expected: str) -> None:
    assert rate_label(value) == expected
