"""What is concluded from acknowledgements, moments and a proof; the time line begins with the first acknowledgement."""

from collections.abc import Sequence

import pytest

from raftpay.ops.check import Check, NodeBooks
from raftpay.ops.demo.books import Finding, Proof
from raftpay.ops.demo.failover import Moments
from raftpay.ops.demo.result import Result, Setting, Story, conclude
from raftpay.ops.demo.timeline import Ack, MarkKind, Span

SETTING = Setting(nodes=3, payments=60, accounts=40, seed=1, workers=2, batch=10, processors=2)
MOMENTS = Moments(
    killed="n1",
    term_before=1,
    killed_at=101.5,
    elected="n2",
    term=2,
    elected_at=102.25,
    started_at=103.0,
    caught_up_at=104.0,
)
# By the monotonic clock: answers at 0, 0.5, 1, then silence from 1.25 to 2.5, and on until 5.
ACKS = tuple(Ack(at_s, 10, 0.25) for at_s in (100.5, 101.0, 101.25, 102.5, 103.5, 105.0))
NO_BOOKS = Check([NodeBooks("n1", "127.0.0.1:1")], 7, {"n1": "d"})


def concluded(
    *, acks: Sequence[Ack] = ACKS, moments: Moments = MOMENTS, findings: Sequence[Finding] = (), refused: int = 2
) -> Result:
    story = Story(SETTING, "2026-01-01T00:00:00+00:00", acks, moments, refused, refused_expected=2)
    return conclude(story, Proof(0, 0, 0, list(findings)), NO_BOOKS)


def test_times_count_from_the_first_acknowledgement() -> None:
    result = concluded()

    happened = result.failover
    assert (happened.killed_s, happened.elected_s, happened.started_s) == (1.0, 1.75, 2.5)
    assert (happened.caught_up_s, happened.paid_s) == (3.5, 4.5)
    assert happened.silence == Span(0.75, 2.0)
    assert [(mark.kind, mark.at_s) for mark in result.marks] == [
        (MarkKind.KILLED, 1.0),
        (MarkKind.ELECTED, 1.75),
        (MarkKind.STARTED, 2.5),
        (MarkKind.CAUGHT_UP, 3.5),
        (MarkKind.PAID, 4.5),
    ]


def test_the_longest_gap_may_lie_elsewhere_than_the_kill() -> None:
    result = concluded()

    assert result.longest_gap == Span(3.0, 4.5)
    assert result.longest_gap_ms == 1500.0


def test_rates_are_told_for_each_stretch() -> None:
    rates = concluded().payments_per_s

    # The first acknowledgement begins the count; its own payments were made before it.
    assert rates.overall == pytest.approx(50 / 4.5)
    assert rates.before == pytest.approx(20 / 1.0)
    assert rates.during == pytest.approx(20 / 2.5)
    assert rates.after == pytest.approx(10 / 1.0)


def test_nothing_is_said_of_the_time_after_when_all_was_paid_before_the_node_was_back() -> None:
    late = Moments("n1", 1, 101.5, "n2", 2, 102.25, 103.0, 109.0)

    result = concluded(moments=late)

    assert result.payments_per_s.after is None
    assert result.throughput.end_s >= 8.5


def test_batches_that_waited_for_the_workers_to_start_are_no_measure_of_latency() -> None:
    # The first two were handed out before anything had been answered.
    acks = [Ack(100.0, 10, 0.9), Ack(100.1, 10, 1.0), Ack(100.5, 10, 0.25), Ack(101.0, 10, 0.5)]

    latency = concluded(acks=acks).batch_latency

    assert latency.p50_ms == pytest.approx(250)
    assert latency.max_ms == pytest.approx(500)


def test_refused_lines_are_not_counted_as_acknowledged() -> None:
    assert concluded(refused=2).acknowledged == 58


def test_one_finding_that_fails_fails_the_whole() -> None:
    good, bad = Finding("this", True, "yes"), Finding("that", False, "no")

    assert concluded(findings=[good]).is_good
    assert not concluded(findings=[good, bad]).is_good


@pytest.mark.parametrize(
    "moments",
    [
        Moments("n1", 1, 101.5, "n1", 2, 102.25, 103.0, 104.0),
        Moments("n1", 2, 101.5, "n2", 2, 102.25, 103.0, 104.0),
    ],
    ids=["the same node", "the same term"],
)
def test_a_failover_in_which_nobody_else_took_over_is_none(moments: Moments) -> None:
    result = concluded(moments=moments)

    assert not result.is_good
    assert [finding.claim for finding in result.findings if not finding.is_good] == ["another node took over"]
