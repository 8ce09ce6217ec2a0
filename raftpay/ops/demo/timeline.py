"""From acknowledgements to figures: gaps, rates, percentiles and throughput over time. Pure; no clock is read here.

All times are seconds on the client's side of the wire, what a customer would have noticed. The drill collects the
acknowledgements, the plot and the SVG draw the series.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from msgspec import Struct

# Finer than this shows single batches rather than throughput.
BUCKET_MIN_S: Final = 0.05
_BUCKET_STEPS: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True, slots=True)
class Ack:
    """One batch whose answer arrived. latency_s: from its first sending to the answer, retries included."""

    at_s: float
    payments: int
    latency_s: float


class Span(Struct, frozen=True):
    """A stretch of time; of length 0 when nothing lies between."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


class MarkKind(StrEnum):
    KILLED = "killed"
    ELECTED = "elected"
    STARTED = "started"
    CAUGHT_UP = "caught_up"
    PAID = "paid"


class Mark(Struct, frozen=True):
    """Something that happened at one moment, as it is written in the pictures: "n1 killed"."""

    kind: MarkKind
    at_s: float
    label: str


class Series(Struct, frozen=True):
    """Payments acknowledged in each bucket of `bucket_s` seconds; bucket i begins at i * bucket_s."""

    bucket_s: float
    counts: list[int]

    @property
    def rates(self) -> list[float]:
        """Payments per second, bucket by bucket."""
        return [count / self.bucket_s for count in self.counts]

    @property
    def end_s(self) -> float:
        return self.bucket_s * len(self.counts)


def gaps(acks: Sequence[Ack]) -> list[Span]:
    """The stretches between each two successive acknowledgements, in order; none for fewer than two."""
    times = sorted(ack.at_s for ack in acks)
    return [Span(before, after) for before, after in pairwise(times)]


def longest_gap(acks: Sequence[Ack]) -> Span | None:
    """The longest time without an acknowledgement, or None when there were fewer than two. The first of equals."""
    return max(gaps(acks), key=lambda gap: gap.length_s, default=None)


def failover_gap(acks: Sequence[Ack], *, killed_s: float, elected_s: float) -> Span | None:
    """The silence that the kill caused: the longest gap that touches the time from the kill to the election.

    Answers of the killed leader may still be on their way when it dies, so the gap need not begin before the kill.
    With no acknowledgement before, it begins at 0. None when nothing was acknowledged afterwards.
    """
    begin = [Ack(0.0, 0, 0.0)] if all(ack.at_s > killed_s for ack in acks) else []
    touching = [gap for gap in gaps([*begin, *acks]) if gap.end_s > killed_s and gap.start_s <= elected_s]
    longest = max(touching, key=lambda gap: gap.length_s, default=None)
    # The old leader's last answers alone are no recovery.
    if longest is None or all(ack.at_s < elected_s for ack in acks):
        return None
    return longest


def rate(acks: Sequence[Ack], span: Span) -> float | None:
    """Payments acknowledged per second after the start of the span up to its end; None for a span without length."""
    if span.length_s <= 0:
        return None
    return sum(ack.payments for ack in acks if span.start_s < ack.at_s <= span.end_s) / span.length_s


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; None of no values."""
    assert 0.0 < share <= 1.0, share
    if not values:
        return None
    return sorted(values)[math.ceil(share * len(values)) - 1]


def bucket_for(duration_s: float, *, buckets_max: int) -> float:
    """A round bucket width, at least BUCKET_MIN_S, of which `buckets_max` cover the duration."""
    needed = max(duration_s / buckets_max, BUCKET_MIN_S)
    power = 10.0 ** math.floor(math.log10(needed))
    # Written so that 0.05 and 0.6 come out as these numbers and not as their neighbours.
    candidates = [round(step * scale, 9) for scale in (power, power * 10) for step in _BUCKET_STEPS]
    return next(width for width in candidates if width >= needed - 1e-9)


def throughput(acks: Sequence[Ack], *, bucket_s: float, end_s: float) -> Series:
    """How many payments were acknowledged in each bucket from 0 to at least `end_s`; silent buckets hold 0."""
    last_s = max([end_s, *(ack.at_s for ack in acks)])
    counts = [0] * max(1, math.ceil(round(last_s / bucket_s, 6)))
    for ack in acks:
        counts[min(int(ack.at_s / bucket_s), len(counts) - 1)] += ack.payments
    return Series(bucket_s, counts)


def merged(series: Series, *, buckets_max: int) -> Series:
    """The same in at most `buckets_max` buckets, each made of equally many of the old ones."""
    count = math.ceil(len(series.counts) / buckets_max)
    counts = [sum(series.counts[first : first + count]) for first in range(0, len(series.counts), count)]
    return Series(series.bucket_s * count, counts)
