"""One run: a file of payments or accounts into the ledger, every line once, with a summary of what became of each.

The library under `raftpay pay` and `raftpay account load`, and what the demo and the benches call. What makes a second
run safe is the ids and nothing else: a line that is in the ledger answers `exists`. No state is kept between runs.
"""

import asyncio
import os
import signal
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from raftpay.errors import ConfigError
from raftpay.ledger import BATCH_EVENTS_MAX, Account, Transfer
from raftpay.ops.pay.crew import WORKERS_MAX, Crew, CrewOptions, Ending
from raftpay.ops.pay.forms import AccountForm, Form, PaymentForm
from raftpay.ops.pay.lines import Batch, Rejection, Sheet
from raftpay.ops.pay.pipes import Start
from raftpay.ops.pay.report import Report

BATCH_DEFAULT: Final = 1000
PATIENCE_DEFAULT_S: Final = 60.0
DEADLINE_DEFAULT_S: Final = 10.0
# Rejections that a summary holds; all of them are in the report.
FIRST_REJECTIONS_MAX: Final = 20


class Noun(StrEnum):
    """What a file holds."""

    PAYMENTS = "payments"
    ACCOUNTS = "accounts"


@dataclass(frozen=True, slots=True)
class PayOptions:
    """path: the CSV file. addresses: client addresses of the cluster, "host:port".
    workers: processes; with one, lines take effect in the order of the file. batch: lines in a request.
    deadline_s: of one attempt. patience_s: how long to go on while nothing is answered.
    run: what keeps ids that are derived apart from those of other files; None for the file's name.
    report: where rejected lines are written; None for NAME.rejected.csv beside NAME.csv.
    exponents: decimals of currencies that ISO 4217 does not know.
    is_strict: nothing is paid if any line is malformed. may_ignore_columns: unknown columns are passed over.
    """

    path: Path
    addresses: Sequence[str] = ()
    noun: Noun = Noun.PAYMENTS
    workers: int = 1
    batch: int = BATCH_DEFAULT
    deadline_s: float = DEADLINE_DEFAULT_S
    patience_s: float = PATIENCE_DEFAULT_S
    run: str | None = None
    report: Path | None = None
    exponents: Mapping[str, int] = field(default_factory=dict)
    is_strict: bool = False
    may_ignore_columns: bool = False

    @property
    def run_name(self) -> str:
        return self.path.name if self.run is None else self.run

    @property
    def report_path(self) -> Path:
        name = self.path.stem if self.path.suffix.lower() == ".csv" else self.path.name
        return self.report or self.path.with_name(name + ".rejected.csv")

    def check(self) -> None:
        """Raises ConfigError that names what is out of range."""
        if not 1 <= self.batch <= BATCH_EVENTS_MAX:
            raise ConfigError(f"batch is {self.batch}: expected 1 to {BATCH_EVENTS_MAX} lines")
        if not 1 <= self.workers <= WORKERS_MAX:
            raise ConfigError(f"workers is {self.workers}: expected 1 to {WORKERS_MAX}")
        if not (self.deadline_s > 0 and self.patience_s > 0):
            raise ConfigError(f"deadline {self.deadline_s} s and patience {self.patience_s} s must be above 0")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to one batch, as it came in.

    seconds: since the run began, by the monotonic clock. lines: of this batch; created, exists, rejected add up to it.
    latency_s: since a worker first got the batch, all attempts included; 0 for a batch that none needed to see.
    position, size: bytes of the file that are read and answered up to a point, and all of them.
    """

    seconds: float
    latency_s: float
    lines: int
    created: int
    exists: int
    rejected: int
    position: int
    size: int


@dataclass(slots=True)
class CurrencyTotal:
    """lines and minor units of one currency that are in the ledger, by this run or before."""

    lines: int = 0
    amount_minor: int = 0


@dataclass(slots=True)
class Summary:
    """What became of a file. lines = created + exists + rejected; those after an early ending are not counted.

    created: brought into the ledger by this run. exists: were there already.
    made_ids: lines that had no id and got one, those after an early ending included as far as they were read.
    rejected_by_result: result name to lines. first_rejections: some of them; the rest is in the report.
    totals: what is in the ledger now, by currency (payments only have amounts).
    longest_gap_s: the longest time without any answer between two answers, or from the start to the first.
    ending: "done", "stopped" or "no_majority". may_have_happened: lines without an answer may be in the ledger.
    trouble: what the last failed attempt said. report: where the rejected lines are, if there are any.
    """

    created: int = 0
    exists: int = 0
    made_ids: int = 0
    rejected: int = 0
    rejected_by_result: Counter[str] = field(default_factory=Counter)
    first_rejections: list[Rejection] = field(default_factory=list)
    totals: dict[str, CurrencyTotal] = field(default_factory=dict)
    seconds: float = 0.0
    longest_gap_s: float = 0.0
    workers_replaced: int = 0
    ending: str = "done"
    may_have_happened: bool = False
    trouble: str = ""
    report: Path | None = None

    @property
    def lines(self) -> int:
        return self.created + self.exists + self.rejected

    @property
    def rate(self) -> float:
        """Lines answered a second."""
        return self.lines / self.seconds if self.seconds > 0 else 0.0


def check_file(options: PayOptions) -> Summary:
    """Go through the file without paying: `rejected` are the malformed lines, `created` those that could be sent.

    They are written down only where options.report says so. Needs no cluster.
    Raises ConfigError if the file as a whole, or the place for the report, cannot be used.
    """
    options.check()
    summary, form = Summary(), _form(options)
    with open_file(options.path) as file:
        sheet = _sheet(file, options, form)
        report = Report(options.report) if options.report else None
        for batch in sheet:
            summary.created += len(batch.events)
            _count_rejections(summary, batch.rejections)
            _count_totals(summary, form, batch.events)
            if report is not None:
                report.add(batch.rejections)
        summary.report = report.finish() if report else None
    return summary


def pay_file(
    options: PayOptions,
    *,
    on_acknowledged: Callable[[Acknowledgement], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Summary:
    """Bring a whole file into the ledger. See `PayRun.pay`; for those who do not run an event loop of their own."""

    async def pay() -> Summary:
        return await PayRun(options, on_acknowledged=on_acknowledged, on_notice=on_notice).pay()

    with _interrupts_put_off():
        # One that is interrupted while it is being made says so with a traceback when it is thrown away.
        runner = asyncio.Runner()
        runner.get_loop()
    with runner:
        return runner.run(pay())


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """A Ctrl-C within the body takes effect behind it. Only the main thread gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, came = signal.getsignal(signal.SIGINT), False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


class PayRun:
    """One file on its way into the ledger.

    on_acknowledged: called with each answered batch as its answer arrives.
    on_notice: called with sentences for people (a worker replaced, no majority).
    """

    def __init__(
        self,
        options: PayOptions,
        *,
        on_acknowledged: Callable[[Acknowledgement], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        options.check()
        self._options = options
        self._form = _form(options)
        self._on_acknowledged = on_acknowledged
        self._on_notice = on_notice
        self._crew: Crew | None = None
        # `stop` was called, be it before there was a crew.
        self._is_stopping = False
        self._report: Report | None = None
        self.summary = Summary()
        # Answered batches that wait for those before them, so that the report is in the order of the file.
        self._unordered: dict[int, tuple[Batch, list[Rejection]]] = {}
        self._next_number = 1
        # Up to where the file is read and answered without a hole, in bytes; its size.
        self._position = 0
        self._size = 0
        # When the run began, and when the last answer came, by the loop's clock.
        self._started_at = 0.0
        self._answered_at = 0.0

    @property
    def processes(self) -> Sequence[subprocess.Popen[bytes]]:
        """The handles of the living worker processes. Any may be killed at any moment."""
        return () if self._crew is None else self._crew.processes

    def stop(self) -> None:
        """End soon, in good order: no more is sent, answers on their way are waited for a few seconds."""
        self._is_stopping = True
        if self._crew is not None:
            self._crew.stop()

    async def pay(self) -> Summary:
        """Bring the file into the ledger and return what became of it; `ending` says if it is not all of it.

        Raises ConfigError (the file or the report's place cannot be used; nothing was sent), Rejected (the cluster
        refused a request as such), OutcomeUnknown (workers cannot be kept alive). After any of them, and after any
        early ending, run the same file again: nothing is done twice.
        """
        if self._options.is_strict:
            _check_strictly(self._options)
        with open_file(self._options.path) as file:
            self._size = os.fstat(file.fileno()).st_size
            sheet = _sheet(file, self._options, self._form)
            self._report = Report(self._options.report_path)
            try:
                await self._work(sheet)
            finally:
                self._report.close()
        return self.summary

    async def _work(self, sheet: Iterator[Batch]) -> None:
        options, summary = self._options, self.summary
        start = Start(options.noun.value, list(options.addresses))
        loop = asyncio.get_running_loop()
        self._started_at = self._answered_at = loop.time()
        self._crew = Crew(
            CrewOptions(start, options.workers, deadline_s=options.deadline_s, patience_s=options.patience_s),
            sheet,
            on_answer=self._answered,
            on_notice=self._on_notice or (lambda _: None),
        )
        if self._is_stopping:
            self._crew.stop()
        try:
            ending = await self._crew.run()
        except asyncio.CancelledError:
            summary.ending, summary.may_have_happened = Ending.STOPPED.name.lower(), True
            raise
        finally:
            summary.seconds = loop.time() - self._started_at
            summary.workers_replaced = self._crew.replaced
            summary.made_ids = self._form.made_ids
        summary.ending = ending.name.lower()
        summary.may_have_happened = self._crew.may_have_happened
        summary.trouble = self._crew.trouble_at_end
        self._close_report(is_whole=ending is Ending.DONE)

    def _close_report(self, *, is_whole: bool) -> None:
        assert self._report is not None
        # After an early ending there may be answers behind a hole.
        for number in sorted(self._unordered):
            self._report.add(self._unordered[number][1])
        self._unordered.clear()
        if is_whole:
            self.summary.report = self._report.finish()
        elif self._report.count:
            self.summary.report = self._report.partial_path

    def _answered(self, batch: Batch, results: bytes) -> None:
        assert self._report is not None
        now = asyncio.get_running_loop().time()
        summary, form = self.summary, self._form
        created, exists = results.count(form.created), results.count(form.exists)
        summary.created += created
        summary.exists += exists
        rejections = batch.rejections
        if created + exists == len(results):
            _count_totals(summary, form, batch.events)
        else:
            pairs = list(zip(batch.events, batch.lines, results, strict=True))
            refused = [
                self._report.explain(_rejection(form, line, event.id, number))
                for event, line, number in pairs
                if number not in (form.created, form.exists)
            ]
            _count_totals(summary, form, [event for event, _, number in pairs if number in (form.created, form.exists)])
            rejections = sorted([*rejections, *refused])
        _count_rejections(summary, rejections)
        summary.longest_gap_s = max(summary.longest_gap_s, now - self._answered_at)
        self._answered_at = now
        self._unordered[batch.number] = (batch, rejections)
        self._settle()
        if self._on_acknowledged is not None:
            latency_s = 0.0 if batch.given_at is None else now - batch.given_at
            self._on_acknowledged(
                Acknowledgement(
                    seconds=now - self._started_at,
                    latency_s=latency_s,
                    lines=len(batch),
                    created=created,
                    exists=exists,
                    rejected=len(rejections),
                    position=self._position,
                    size=self._size,
                )
            )

    def _settle(self) -> None:
        """Write the report up to the first batch that is not answered."""
        assert self._report is not None
        while self._next_number in self._unordered:
            batch, rejections = self._unordered.pop(self._next_number)
            self._report.add(rejections)
            self._position = batch.position
            self._next_number += 1


def open_file(path: Path) -> BinaryIO:
    """Open a CSV file for reading. Raises ConfigError that says why that is not possible."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ConfigError(f"{path} is no regular file: it must be possible to read it again, to resume")
    return file


def _form(options: PayOptions) -> Form:
    if options.noun is Noun.ACCOUNTS:
        return AccountForm(options.exponents)
    return PaymentForm(options.run_name, options.exponents)


def _sheet(file: BinaryIO, options: PayOptions, form: Form) -> Sheet:
    return Sheet(
        file,
        str(options.path),
        form,
        batch_lines=options.batch,
        may_ignore_columns=options.may_ignore_columns,
    )


def _check_strictly(options: PayOptions) -> None:
    checked = check_file(replace(options, report=None))
    if checked.rejected:
        first = checked.first_rejections[0]
        raise ConfigError(
            f"{options.path} has {checked.rejected} malformed lines, and nothing was sent. The first is line "
            f"{first.line}: {first.reason}. `--check` lists them; without --strict the others are paid"
        )


def _rejection(form: Form, line: int, event_id: str, number: int) -> Rejection:
    result = form.result(number)
    return Rejection(line, event_id, result.wire_name, result.iso_reason, result.sentence)


def _count_rejections(summary: Summary, rejections: Sequence[Rejection]) -> None:
    summary.rejected += len(rejections)
    summary.rejected_by_result.update(rejection.result for rejection in rejections)
    room = FIRST_REJECTIONS_MAX - len(summary.first_rejections)
    if room > 0:
        summary.first_rejections.extend(rejections[:room])


def _count_totals(summary: Summary, form: Form, events: Iterable[Transfer | Account]) -> None:
    totals = summary.totals
    for event in events:
        currency, amount_minor = form.worth(event)
        paid = totals.get(currency)
        if paid is None:
            paid = totals[currency] = CurrencyTotal()
        paid.lines += 1
        paid.amount_minor += amount_minor
