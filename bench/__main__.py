"""`python -m bench [WORK ...]`: measures a fresh three-node cluster and prints one table.

Every acknowledged transfer is fsynced on a majority. The machine's own pace stands in the first row (an fdatasync of
4 KiB), because machines drift: compare rows of one run, not runs.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.failover import measure_gaps
from bench.load import bulk, many_connections, one_at_a_time, one_at_a_time_sync, open_accounts, run, shared_client
from bench.measure import Measure, percentile
from raftpay.ops.local import LocalCluster

FSYNCS = 300


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table. run: addresses and seconds in, what was measured out."""

    name: str
    title: str
    run: Callable[[list[str], float], Coroutine[None, None, Measure]]


WORKS = [
    Work("bulk", "bulk, one client, batches of 8,190", lambda a, s: bulk(a, s, batch=8190)),
    Work("batch256", "one client, batches of 256", lambda a, s: bulk(a, s, batch=256)),
    Work("tasks", "64 tasks on one client, one transfer each", shared_client),
    Work("connections", "64 connections, one transfer each", many_connections),
    Work("single", "one at a time, async client", one_at_a_time),
    Work("single-sync", "one at a time, sync client", one_at_a_time_sync),
]


def disk_pace_ms(folder: Path) -> list[float]:
    """Milliseconds of each fdatasync of 4 KiB in a preallocated file."""
    path, times = folder / "pace", []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, FSYNCS * 4096)
        os.fsync(descriptor)
        for number in range(FSYNCS):
            started = time.perf_counter()
            os.pwrite(descriptor, b"x" * 4096, number * 4096)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def print_row(title: str, rate: float | None, latencies_ms: list[float]) -> None:
    shown = "" if rate is None else f"{rate:>12,.0f}"
    p50, p99, worst = (percentile(latencies_ms, part) for part in (0.5, 0.99, 1.0))
    print(f"{title:<48}{shown:>12}{p50:>10.2f}{p99:>10.2f}{worst:>10.2f}", flush=True)


def main() -> int:
    names = [work.name for work in WORKS] + ["failover"]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"which rows, of {', '.join(names)} (all)")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each row loads the cluster (6)")
    parser.add_argument("--kills", type=int, default=10, help="leaders killed for the failover row (10)")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.work) - set(names))
    if unknown:
        parser.error(f"unknown work {', '.join(unknown)}: expected some of {', '.join(names)}")
    chosen = arguments.work or names
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="raftpay-bench-", dir=Path.cwd()) as folder:
        print(f"{'':<48}{'transfers/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
        print_row("fdatasync of 4 KiB on this disk", None, disk_pace_ms(Path(folder)))
        with LocalCluster(Path(folder) / "cluster", nodes=arguments.nodes) as cluster:
            cluster.wait_ready()
            run(open_accounts(cluster.addresses))
            for work in WORKS:
                if work.name in chosen:
                    measured = run(work.run(cluster.addresses, arguments.seconds))
                    print_row(work.title, measured.rate, measured.latencies_ms)
                    figures[work.name] = {"transfers_per_s": round(measured.rate), **measured.summary()}
            if "failover" in chosen:
                gaps = measure_gaps(cluster, kills=arguments.kills)
                print_row(f"longest gap, leader killed {arguments.kills} times", None, [gap.gap_ms for gap in gaps])
                figures["failover"] = [asdict(gap) for gap in gaps]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
