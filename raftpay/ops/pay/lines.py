"""A file to batches of events, in the order of its lines, with the lines that cannot become events beside them.

Streaming: no more than one batch is held here, whatever the size of the file. run.py is the caller.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from raftpay.errors import ConfigError
from raftpay.ledger import Account, Transfer
from raftpay.ops.pay.forms import Form, LineError, malformed, read_header
from raftpay.ops.pay.records import Record, Records


class Rejection(NamedTuple):
    """A line that is not in effect, and why. result: the ledger's name for it, or one of forms.py."""

    line: int
    id: str
    result: str
    iso_reason: str | None
    reason: str


@dataclass(slots=True)
class Batch:
    """Consecutive lines of the file. `lines` has the line number of each of `events`.

    number: 1, 2, … in the order of the file.
    position: how many bytes of the file are read when this batch is.
    given_at: when a worker first got it, by the loop's clock; None before, and for a batch without events.
    may_have_happened: it was handed out, and no answer came back: some or all of it may be in the ledger.
    """

    number: int
    events: list[Transfer | Account] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    position: int = 0
    given_at: float | None = None
    may_have_happened: bool = False

    def __len__(self) -> int:
        return len(self.events) + len(self.rejections)


class Sheet(Iterator[Batch]):
    """The batches of one open file. Raises ConfigError at once if its header cannot be used.

    name: what messages call the file.
    batch_lines: lines in a batch, blank ones not counted.
    """

    def __init__(self, file: BinaryIO, name: str, form: Form, *, batch_lines: int, may_ignore_columns: bool) -> None:
        self._form = form
        self._batch_lines = batch_lines
        self._number = 0
        self._records = Records(file, name)
        header = next(self._records, None)
        if header is None:
            columns = ",".join(form.required)
            raise ConfigError(
                f"{name} is empty: expected a header line like {columns}, and a line for each of the {form.noun}"
            )
        if header.problem:
            raise ConfigError(f"{name}, line {header.line}, the header: {header.problem}")
        self._columns = read_header(form, header.fields, name, may_ignore_columns=may_ignore_columns)

    def __next__(self) -> Batch:
        batch = Batch(self._number + 1)
        for record in self._records:
            self._add(batch, record)
            if len(batch) >= self._batch_lines:
                break
        if not len(batch):
            raise StopIteration
        batch.position = self._records.position
        self._number += 1
        return batch

    def _add(self, batch: Batch, record: Record) -> None:
        fields: dict[str, str] = {}
        try:
            if record.problem:
                raise malformed(record.problem)
            if len(record.fields) != len(self._columns):
                found, expected = len(record.fields), len(self._columns)
                hint = ": put a field that has a comma in double quotes" if found > expected else ""
                raise malformed(f"it has {found} fields, the header has {expected}{hint}")
            fields = {name: text for name, text in zip(self._columns, record.fields, strict=True) if name}
            event = self._form.event(fields)
        except LineError as error:
            given_id = fields.get("id", "").strip()[:64]
            batch.rejections.append(Rejection(record.line, given_id, error.result, error.iso_reason, error.reason))
        else:
            batch.events.append(event)
            batch.lines.append(record.line)
