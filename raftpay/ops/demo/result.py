"""What a demo leaves behind: the figures of the failover and the proof, for result.json and for the table.

`conclude` works them out; it is pure. Field names are part of the file's format: they are added to, not changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from raftpay.ledger import CurrencyTotals
from raftpay.ops.check import Check
from raftpay.ops.demo.books import Finding, Proof
from raftpay.ops.demo.failover import Moments
from raftpay.ops.demo.timeline import (
    Ack,
    Mark,
    MarkKind,
    Series,
    Span,
    bucket_for,
    failover_gap,
    longest_gap,
    percentile,
    rate,
    throughput,
)

FORMAT_VERSION: Final = 1
# About as many steps as the SVG can show.
_BUCKETS_MAX: Final = 120


class Setting(Struct, frozen=True):
    """What was asked for. batch: payments in a request. workers: processes that paid."""

    nodes: int
    payments: int
    accounts: int
    seed: int
    workers: int
    batch: int
    processors: int


class Failure(Struct, frozen=True):
    """The failover. Times are seconds since the first acknowledgement; None where it did not happen.

    silence: the longest gap around the kill and the election.
    """

    killed: str
    killed_term: int
    killed_s: float
    elected: str
    elected_term: int
    elected_s: float
    started_s: float
    caught_up_s: float
    paid_s: float
    silence: Span | None


class Rates(Struct, frozen=True):
    """Payments acknowledged per second. during: from the kill until the node had caught up, silence included."""

    overall: float | None
    before: float | None
    during: float | None
    after: float | None


class Latency(Struct, frozen=True):
    """Of batches, in milliseconds, all attempts included; without those that waited for the workers to start."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Result(Struct, frozen=True):
    """All of it. longest_gap: between any two successive acknowledgements of the whole run."""

    is_good: bool
    setting: Setting
    began_at: str
    failover: Failure
    longest_gap: Span | None
    longest_gap_ms: float | None
    payments_per_s: Rates
    batch_latency: Latency
    acknowledged: int
    refused: int
    refused_expected: int
    lost: int
    altered: int
    doubled: int
    findings: list[Finding]
    books: list[CurrencyTotals]
    digests: dict[str, str]
    applied_index: int
    marks: list[Mark]
    throughput: Series
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Story:
    """What was seen. acks: by the monotonic clock, like `moments`. began_at: the wall clock at the start, ISO 8601."""

    setting: Setting
    began_at: str
    acks: Sequence[Ack]
    moments: Moments
    refused: int
    refused_expected: int


def conclude(story: Story, proof: Proof, books: Check) -> Result:
    """Work out the figures. Time begins with the first acknowledgement: before, workers were starting."""
    start_at = min(ack.at_s for ack in story.acks)
    acks = [Ack(ack.at_s - start_at, ack.payments, ack.latency_s) for ack in story.acks]
    failover = _failover(story.moments, acks, start_at)
    marks = _marks(failover)
    end_s = max(mark.at_s for mark in marks)
    gap = longest_gap(acks)
    findings = [_took_over(failover), *proof.findings]
    return Result(
        is_good=all(finding.is_good for finding in findings),
        setting=story.setting,
        began_at=story.began_at,
        failover=failover,
        longest_gap=gap,
        longest_gap_ms=None if gap is None else gap.length_s * 1000,
        payments_per_s=_rates(acks, failover),
        batch_latency=_latency(acks),
        acknowledged=sum(ack.payments for ack in acks) - story.refused,
        refused=story.refused,
        refused_expected=story.refused_expected,
        lost=proof.lost,
        altered=proof.altered,
        doubled=proof.doubled,
        findings=findings,
        books=next((node.totals.totals for node in books.nodes if node.totals is not None), []),
        digests=books.digests,
        applied_index=books.index,
        marks=marks,
        throughput=throughput(acks, bucket_s=bucket_for(end_s, buckets_max=_BUCKETS_MAX), end_s=end_s),
    )


def _failover(moments: Moments, acks: Sequence[Ack], start_at: float) -> Failure:
    killed_s, elected_s = moments.killed_at - start_at, moments.elected_at - start_at
    return Failure(
        killed=moments.killed,
        killed_term=moments.term_before,
        killed_s=killed_s,
        elected=moments.elected,
        elected_term=moments.term,
        elected_s=elected_s,
        started_s=moments.started_at - start_at,
        caught_up_s=moments.caught_up_at - start_at,
        paid_s=max(ack.at_s for ack in acks),
        silence=failover_gap(acks, killed_s=killed_s, elected_s=elected_s),
    )


def _marks(failover: Failure) -> list[Mark]:
    return [
        Mark(MarkKind.KILLED, failover.killed_s, f"{failover.killed} killed"),
        Mark(MarkKind.ELECTED, failover.elected_s, f"{failover.elected} elected"),
        Mark(MarkKind.STARTED, failover.started_s, f"{failover.killed} started"),
        Mark(MarkKind.CAUGHT_UP, failover.caught_up_s, f"{failover.killed} caught up"),
        Mark(MarkKind.PAID, failover.paid_s, "all paid"),
    ]


def _took_over(failover: Failure) -> Finding:
    is_good = failover.elected != failover.killed and failover.elected_term > failover.killed_term
    found = f"{failover.killed} led in term {failover.killed_term}, {failover.elected} in term {failover.elected_term}"
    return Finding("another node took over", is_good, found)


def _rates(acks: Sequence[Ack], failover: Failure) -> Rates:
    back_s = min(failover.caught_up_s, failover.paid_s)
    return Rates(
        overall=rate(acks, Span(0.0, failover.paid_s)),
        before=rate(acks, Span(0.0, failover.killed_s)),
        during=rate(acks, Span(failover.killed_s, back_s)),
        after=rate(acks, Span(back_s, failover.paid_s)),
    )


def _latency(acks: Sequence[Ack]) -> Latency:
    # Handed out before anything was answered: these waited for the workers to start.
    latencies = [ack.latency_s * 1000 for ack in acks if ack.at_s - ack.latency_s > 0]
    return Latency(percentile(latencies, 0.5), percentile(latencies, 0.99), max(latencies, default=None))
