"""Times as people write them on the command line: ISO 8601, UTC where no zone is given. No command lives here."""

import datetime
from typing import Final

import click

from raftpay.ledger.types import TIME_MAX
from raftpay.ops.statement import Period

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY: Final = datetime.timedelta(days=1)


def nanoseconds(text: str) -> int:
    """The instant as ledger time; of a date its midnight. Raises BadParameter."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time such as 2026-01-31 or 2026-01-31T12:00:00") from error
    return _since_epoch(at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC))


def period(begin: str | None, end: str | None) -> Period:
    """From `begin` on and before `end`, which as a date is that whole day. Raises BadParameter."""
    try:
        first = 0 if begin is None else nanoseconds(begin)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint="'--from'") from error
    try:
        behind = TIME_MAX + 1 if end is None else _behind(end)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint="'--to'") from error
    if begin is not None and end is not None and behind <= first:
        raise click.BadParameter(
            f"--from {begin} --to {end} has no instant in it: --to must be later (a date means that whole day, a time "
            "of day is itself not in the period)",
            param_hint="'--to'",
        )
    return Period(first, behind - 1)


def _behind(text: str) -> int:
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return nanoseconds(text)
    if day == datetime.date.max:
        return TIME_MAX + 1
    return nanoseconds((day + _DAY).isoformat())


def _since_epoch(at: datetime.datetime) -> int:
    return min(max(0, (at - _EPOCH) // datetime.timedelta(microseconds=1) * 1000), TIME_MAX)
