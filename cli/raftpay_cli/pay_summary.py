"""What `raftpay pay` says at the end: tables for people, JSON for programs, and how to go on after an early ending."""

import shlex
import sys
from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from raftpay.ops import money
from raftpay.ops.pay import Noun, PayOptions, Summary
from raftpay_cli.output import facts, table

SHOWN_REJECTIONS_MAX: Final = 10


def early_ending(options: PayOptions, summary: Summary) -> str:
    """Why it stopped, what is certain, and how to go on."""
    if summary.ending == "stopped":
        why = "Stopped before the end of the file."
    else:
        why = f"Stopped: no majority took anything for {options.patience_s:g} s ({summary.trouble})."
    unknown = "Some lines behind those may be in the ledger as well. " if summary.may_have_happened else ""
    command = shlex.join(["raftpay", *sys.argv[1:]])
    return (
        f"{why} {summary.created + summary.exists} lines are in the ledger, {summary.rejected} were rejected. {unknown}"
        f"To resume, run the same command again, nothing is done twice:\n  {command}"
    )


def value(options: PayOptions, summary: Summary, *, is_check: bool = False) -> dict[str, Any]:  # Any: what json carries
    fields: dict[str, Any] = {
        "file": str(options.path),
        "kind": options.noun.value,
        "lines": summary.lines,
        "sendable" if is_check else "created": summary.created,
        "rejected": summary.rejected,
        "rejected_by_result": dict(summary.rejected_by_result.most_common()),
        "totals": {
            currency: {
                "lines": total.lines,
                "amount": money.format(total.amount_minor, currency, exponent=options.exponents.get(currency)),
                "amount_minor": total.amount_minor,
            }
            for currency, total in sorted(summary.totals.items())
        },
        "first_rejections": [rejection._asdict() for rejection in summary.first_rejections],
        "report": str(summary.report) if summary.report else None,
    }
    if not is_check:
        fields |= {
            "exists": summary.exists,
            "run": options.run_name if options.noun is Noun.PAYMENTS else None,
            "seconds": round(summary.seconds, 3),
            "rate": round(summary.rate, 1),
            "longest_gap_s": round(summary.longest_gap_s, 3),
            "workers_replaced": summary.workers_replaced,
            "ending": summary.ending,
            "may_have_happened": summary.may_have_happened,
        }
    return fields


def tables(options: PayOptions, summary: Summary) -> Iterator[Table | Text | str]:
    """The summary of a run, for people."""
    is_payments = options.noun is Noun.PAYMENTS
    done = "paid" if is_payments else "opened"
    pairs = [
        (done, f"{summary.created:,}"),
        (f"already {done}", f"{summary.exists:,}"),
        ("rejected", f"{summary.rejected:,}"),
        ("time", f"{summary.seconds:.1f} s, {summary.rate:,.0f} lines/s, longest gap {summary.longest_gap_s:.2f} s"),
    ]
    if summary.workers_replaced:
        pairs.append(("workers replaced", str(summary.workers_replaced)))
    yield facts(pairs)
    yield from _total_tables(options, summary, f"{done}, now and before")
    yield from _rejection_tables(summary)
    if summary.made_ids and summary.exists and summary.created and options.run is None:
        yield (
            f"{summary.exists:,} lines were in the ledger already. If they are new payments, in a new file that has no "
            f"ids and the name of an old one ({options.run_name}), pay it with a --run NAME of its own."
        )


def check_tables(options: PayOptions, summary: Summary) -> Iterator[Table | Text | str]:
    """The summary of a check, for people."""
    yield facts([("could be sent", f"{summary.created:,}"), ("malformed", f"{summary.rejected:,}")])
    yield from _total_tables(options, summary, "could be sent")
    yield from _rejection_tables(summary)


def _total_tables(options: PayOptions, summary: Summary, title: str) -> Iterator[Table]:
    if not summary.totals:
        return
    totals = table("currency", "lines", "amount", right=("lines", "amount"), title=title)
    for currency, total in sorted(summary.totals.items()):
        amount = money.format(total.amount_minor, currency, exponent=options.exponents.get(currency))
        totals.add_row(currency, f"{total.lines:,}", amount if options.noun is Noun.PAYMENTS else "")
    yield totals


def _rejection_tables(summary: Summary) -> Iterator[Table | str]:
    if not summary.rejected:
        return
    reasons = table("rejected because", "lines", right=("lines",))
    for result, count in summary.rejected_by_result.most_common():
        reasons.add_row(result, f"{count:,}")
    yield reasons
    lines = table("line", "id", "result", "code", "what to do", right=("line",))
    for rejection in summary.first_rejections[:SHOWN_REJECTIONS_MAX]:
        code = rejection.iso_reason or ""
        # Text: what stands in a file is no markup.
        lines.add_row(str(rejection.line), Text(rejection.id), rejection.result, code, Text(rejection.reason))
    yield lines
    if summary.report is not None:
        yield f"All {summary.rejected:,} rejected lines are in {summary.report}"
    elif summary.rejected > SHOWN_REJECTIONS_MAX:
        yield f"{summary.rejected - SHOWN_REJECTIONS_MAX:,} more are rejected; --report PATH writes all of them"
