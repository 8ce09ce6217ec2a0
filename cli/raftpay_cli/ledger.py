"""What the commands that talk to the ledger share: the client, records as JSON, and how results are told.

No command lives here.
"""

import contextlib
from collections.abc import Iterator
from enum import IntFlag
from typing import Any

import click
import msgspec

from raftpay.client import Client
from raftpay.ledger.records import AccountRecord, BalanceRecord, TransferRecord
from raftpay.ledger.results import Result
from raftpay.ledger.types import AccountFlag, TransferFlag
from raftpay_cli.exits import ExitCode
from raftpay_cli.root import complain
from raftpay_cli.settings import Settings

Record = AccountRecord | TransferRecord


@contextlib.contextmanager
def open_client(settings: Settings) -> Iterator[Client]:
    """A client of the cluster that the global options name."""
    with Client(settings.addresses(), deadline_s=settings.deadline_s) as client:
        yield client


def record_value(record: Record) -> dict[str, Any]:  # Any: what json carries
    """A record as JSON: its fields, amounts in minor units, the flags by their names."""
    kind: type[IntFlag] = AccountFlag if isinstance(record, AccountRecord) else TransferFlag
    return {**msgspec.structs.asdict(record), "flags": flag_names(kind(record.flags))}


def flag_names(flags: IntFlag) -> list[str]:
    """["pending", "closing_debit"]."""
    return [str(flag.name).lower() for flag in flags]


def result_value(event_id: str, result: Result, timestamp: int) -> dict[str, Any]:  # Any: what json carries
    """The result of one event as JSON."""
    return {
        "id": event_id,
        "result": result.wire_name,
        "is_ok": result.is_ok,
        "class": result.result_class.value,
        "iso_reason": result.iso_reason,
        "sentence": result.sentence,
        "timestamp": timestamp,
    }


def tell_refusal(event_id: str, result: Result) -> int:
    """Say on stderr why the ledger refused; returns the exit code."""
    reason = f" ({result.iso_reason})" if result.iso_reason else ""
    complain(f"{event_id}: {result.wire_name}{reason}. {result.sentence}")
    return ExitCode.REFUSED


def not_found(noun: str, event_id: str, settings: Settings) -> int:
    """Say on stderr that what was asked for is not in the ledger; JSON is null."""
    if settings.is_json:
        click.echo("null")
    complain(f"there is no {noun} {event_id!r}")
    return ExitCode.REFUSED


def balance(record: AccountRecord | BalanceRecord) -> int:
    """What is posted in the account's favour: credits less debits."""
    return record.credits_posted - record.debits_posted
