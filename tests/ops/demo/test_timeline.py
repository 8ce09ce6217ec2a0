"""Gaps, rates and throughput from acknowledgements: small tables, worked out by hand."""

import pytest

from raftpay.ops.demo.timeline import (
    Ack,
    Series,
    Span,
    bucket_for,
    failover_gap,
    longest_gap,
    merged,
    percentile,
    rate,
    throughput,
)


def acks_at(*times: float, payments: int = 10) -> list[Ack]:
    return [Ack(at_s, payments, latency_s=0.01) for at_s in times]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((), None),
        ((1.0,), None),
        ((1.0, 1.5), Span(1.0, 1.5)),
        ((0.0, 1.0, 3.0, 3.5), Span(1.0, 3.0)),
        # Workers report beside each other: the order in which they were noted does not matter.
        ((3.5, 0.0, 3.0, 1.0), Span(1.0, 3.0)),
        # The first of two as long.
        ((0.0, 1.0, 2.0), Span(0.0, 1.0)),
        ((2.0, 2.0), Span(2.0, 2.0)),
    ],
)
def test_the_longest_gap_lies_between_two_successive_acknowledgements(
    times: tuple[float, ...], expected: Span | None
) -> None:
    assert longest_gap(acks_at(*times)) == expected


@pytest.mark.parametrize(
    ("times", "killed_s", "elected_s", "expected"),
    [
        # The plain case: silence from just before the kill until after the election.
        ((0.1, 0.2, 0.9, 1.0), 0.25, 0.8, Span(0.2, 0.9)),
        # An answer of the killed leader was still on its way.
        ((0.1, 0.2, 0.26, 0.9), 0.25, 0.8, Span(0.26, 0.9)),
        # A longer silence elsewhere is not the kill's.
        ((0.1, 5.0, 5.1, 5.5, 9.0), 5.2, 5.4, Span(5.1, 5.5)),
        # Killed before anything was acknowledged: the silence began with the paying.
        ((0.9, 1.0), 0.0, 0.7, Span(0.0, 0.9)),
        ((0.9, 1.0), 0.3, 0.7, Span(0.0, 0.9)),
        # Nothing came after the election, or nothing at all.
        ((0.1, 0.2), 0.25, 0.8, None),
        ((0.1, 0.2, 0.3), 0.25, 0.8, None),
        ((), 0.25, 0.8, None),
        # Nothing was felt: acknowledgements went on all the time.
        ((0.25, 0.5, 0.75, 1.0), 0.3, 0.6, Span(0.25, 0.5)),
    ],
)
def test_the_failover_gap_is_the_silence_that_the_kill_caused(
    times: tuple[float, ...], killed_s: float, elected_s: float, expected: Span | None
) -> None:
    found = failover_gap(acks_at(*times), killed_s=killed_s, elected_s=elected_s)

    assert found == expected


def test_a_rate_counts_what_was_acknowledged_within_the_span() -> None:
    acks = acks_at(1.0, 1.5, 2.0, 2.5)

    assert rate(acks, Span(1.0, 2.0)) == 20.0
    assert rate(acks, Span(3.0, 4.0)) == 0.0
    assert rate(acks, Span(2.0, 2.0)) is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((), 0.5, None),
        ((7.0,), 0.99, 7.0),
        ((1.0, 2.0, 3.0, 4.0), 0.5, 2.0),
        ((4.0, 3.0, 2.0, 1.0), 0.99, 4.0),
        (tuple(float(number) for number in range(1, 101)), 0.99, 99.0),
        ((1.0, 2.0), 1.0, 2.0),
    ],
)
def test_a_percentile_is_one_of_the_values(values: tuple[float, ...], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(
    ("duration_s", "buckets_max", "expected"),
    [(0.0, 72, 0.05), (3.5, 72, 0.05), (3.7, 72, 0.06), (5.8, 72, 0.1), (7.2, 72, 0.1), (40.0, 72, 0.6), (999, 72, 15)],
)
def test_a_bucket_is_a_round_number_that_covers_the_run(duration_s: float, buckets_max: int, expected: float) -> None:
    width = bucket_for(duration_s, buckets_max=buckets_max)

    assert width == expected
    assert width * buckets_max >= duration_s - 1e-9


def test_throughput_keeps_empty_buckets() -> None:
    series = throughput(acks_at(0.05, 0.06, 0.45), bucket_s=0.1, end_s=0.6)

    assert series == Series(0.1, [20, 0, 0, 0, 10, 0])
    assert series.rates[0] == pytest.approx(200.0)
    assert series.end_s == pytest.approx(0.6)


def test_throughput_of_nothing_is_one_empty_bucket() -> None:
    assert throughput([], bucket_s=0.1, end_s=0.0) == Series(0.1, [0])


def test_no_acknowledgement_is_left_out_of_the_throughput() -> None:
    # On the very edge of the last bucket, and beyond the end that was asked for.
    acks = acks_at(0.0, 0.1, 0.3, 0.72)

    series = throughput(acks, bucket_s=0.1, end_s=0.3)

    assert sum(series.counts) == 40
    assert len(series.counts) == 8


@pytest.mark.parametrize(
    ("counts", "buckets_max", "expected"),
    [
        ([1, 2, 3], 3, Series(0.5, [1, 2, 3])),
        ([1, 2, 3], 2, Series(1.0, [3, 3])),
        ([1, 2, 3, 4], 2, Series(1.0, [3, 7])),
        ([1, 0, 0, 0, 0, 0, 5], 3, Series(1.5, [1, 0, 5])),
        ([4], 10, Series(0.5, [4])),
    ],
)
def test_merging_buckets_loses_no_payment(counts: list[int], buckets_max: int, expected: Series) -> None:
    assert merged(Series(0.5, counts), buckets_max=buckets_max) == expected
