"""What `raftpay demo` shows, on paper and without a cluster: the whole report of a made-up result."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from raftpay.ledger import CurrencyTotals
from raftpay.ops.demo.books import Finding
from raftpay.ops.demo.result import Failure, Latency, Rates, Result, Setting
from raftpay.ops.demo.timeline import Mark, MarkKind, Series, Span
from raftpay_cli.demo import shown

GOOD = Result(
    is_good=True,
    setting=Setting(nodes=3, payments=60, accounts=40, seed=1, workers=2, batch=10, processors=2),
    began_at="2026-01-01T00:00:00+00:00",
    failover=Failure("n1", 1, 1.0, "n2", 2, 1.5, 2.5, 3.5, 4.5, Span(0.9, 1.75)),
    longest_gap=Span(0.9, 1.75),
    longest_gap_ms=850.0,
    payments_per_s=Rates(12_345.6, 20_000.0, 8_000.0, None),
    batch_latency=Latency(25.04, 850.0, 900.0),
    acknowledged=58,
    refused=2,
    refused_expected=2,
    lost=0,
    altered=0,
    doubled=0,
    findings=[Finding("another node took over", True, "n1 led in term 1, n2 in term 2")],
    books=[CurrencyTotals("EUR", 30, 0, 1_234_567, 0, 1_234_567), CurrencyTotals("JPY", 10, 0, 5000, 0, 5000)],
    digests={"n1": "d", "n2": "d", "n3": "d"},
    applied_index=9,
    marks=[Mark(MarkKind.KILLED, 1.0, "n1 killed"), Mark(MarkKind.ELECTED, 1.5, "n2 elected")],
    throughput=Series(0.1, [10, 10, 10, 0, 10, 20]),
)


def printed(result: Result) -> str:
    paper = io.StringIO()
    console = Console(width=80, file=paper)
    for part in shown(result, Path("demo-out")):
        console.print(part)
    return paper.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "0.900 s -100 ms last acknowledgement before the silence",
        "1.000 s +0 ms n1, leader in term 1, killed (SIGKILL)",
        "1.500 s +500 ms n2 elected leader, term 2",
        "1.750 s +750 ms first acknowledgement after it",
        "longest gap between acknowledgements, at 0.90 s 850 ms",
        "payments per second, overall 12,346",
        "after all was paid by then",
        "a request of 10 payments, p50 25.0 ms",
        "lost ok 0",
        "doubled ok 0",
        "EUR 30 12,345.67 12,345.67 ok",
        "JPY 10 5,000 5,000 ok",
        "K n1 killed 1.00 s, E n2 elected 1.50 s",
        "All holds: 58 payments made once, 2 flawed ones refused, lost 0, doubled 0.",
    ],
)
def test_the_report_has_the_figures(line: str) -> None:
    lines = [" ".join(found.split()) for found in printed(GOOD).splitlines()]

    assert line in lines


def test_the_report_fits_into_eighty_columns() -> None:
    assert max(len(line) for line in printed(GOOD).splitlines()) <= 80


def test_a_check_that_fails_is_named_and_says_where_the_logs_are() -> None:
    lost = Finding("every payment is there", False, "1 lost: p2")
    text = printed(msgspec.structs.replace(GOOD, is_good=False, lost=1, findings=[*GOOD.findings, lost]))

    assert "FAILED: every payment is there: 1 lost: p2" in text
    assert "demo-out/cluster" in text
    assert "All holds" not in text


def test_a_run_without_a_silence_is_told_too() -> None:
    failover = msgspec.structs.replace(GOOD.failover, silence=None)

    text = printed(msgspec.structs.replace(GOOD, failover=failover, longest_gap=None, longest_gap_ms=None))

    assert "silence" not in text
    assert "All holds" in text
