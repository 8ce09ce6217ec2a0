"""What a benchmark collects, and its summary."""

from dataclasses import dataclass


def percentile(values: list[float], part: float) -> float:
    """Return the value below which the given part (0..1) of the values lies; 0.0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Measure:
    """transfers acknowledged in seconds; latencies_ms of the calls, whatever their size."""

    transfers: int
    seconds: float
    latencies_ms: list[float]

    @property
    def rate(self) -> float:
        return self.transfers / self.seconds

    def summary(self) -> dict[str, float]:
        return {
            "p50_ms": round(percentile(self.latencies_ms, 0.5), 3),
            "p99_ms": round(percentile(self.latencies_ms, 0.99), 3),
            "max_ms": round(percentile(self.latencies_ms, 1.0), 3),
            "calls": len(self.latencies_ms),
        }
