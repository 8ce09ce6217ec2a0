"""The rejected lines of a run, in a CSV file beside the payments: line, id, result, ISO 20022 reason code, what to do.

A run appends to FILE.partial as it goes and, when it has been through the whole file, puts what it found in the place
of the report of the run before. So whatever ends a run early, what is known so far can be read. It also keeps a reason
from being lost: the ledger answers `id_already_failed` to an id that it refused before and does not say why again, so
the reason is taken over from the report of the run that got it. No payment depends on these files.
"""

import contextlib
import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from raftpay.errors import ConfigError, StorageError
from raftpay.ledger import CreateTransferResult
from raftpay.ops.pay.lines import Rejection

COLUMNS: Final = ("line", "id", "result", "iso_reason", "reason")
# Reasons of earlier runs that are kept in memory; beyond that, `id_already_failed` stands without its cause.
EARLIER_MAX: Final = 100_000
# A line of the report is shorter than this.
_TAIL_BYTES: Final = 64 * 1024

_FAILED_BEFORE: Final = CreateTransferResult.ID_ALREADY_FAILED.wire_name


class Report:
    """The report of one run. Raises ConfigError if a file that is no report of ours is in its place.

    path: where the report goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial_path = path.with_name(path.name + ".partial")
        # Rejections by id of earlier runs, those that say why.
        self._earlier: dict[str, Rejection] = {}
        if not os.access(path.parent, os.W_OK):
            raise ConfigError(f"the report {path} cannot be written in that folder: name another with --report")
        for found in (self.path, self.partial_path):
            self._read_earlier(found)
        self._file: TextIO | None = None
        # Where this run's lines begin in the partial file; those before it are of runs that were cut short.
        self._start = 0
        self.count = 0

    def explain(self, rejection: Rejection) -> Rejection:
        """The rejection with the reason that an earlier run was given, if the ledger only says that there was one."""
        if rejection.result != _FAILED_BEFORE:
            return rejection
        earlier = self._earlier.get(rejection.id)
        return rejection if earlier is None else earlier._replace(line=rejection.line)

    def add(self, rejections: Iterable[Rejection]) -> None:
        """Append lines of the file, in its order. The file is made with the first of them."""
        rows = list(rejections)
        if not rows:
            return
        if self._file is None:
            self._file = self._open()
        try:
            csv.writer(self._file).writerows(row._replace(iso_reason=row.iso_reason or "") for row in rows)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self.partial_path} cannot be written: {error.strerror}") from error
        self.count += len(rows)

    def _open(self) -> TextIO:
        try:
            _cut_torn_line(self.partial_path)
            file = self.partial_path.open("a", encoding="utf-8", newline="")
            if file.tell() == 0:
                csv.writer(file).writerow(COLUMNS)
                file.flush()
        except OSError as error:
            raise StorageError(f"{self.partial_path} cannot be written: {error.strerror}") from error
        self._start = file.tell()
        return file

    def finish(self) -> Path | None:
        """The whole file was gone through: put this run's lines in the report's place. None if there are none."""
        self.close()
        if self.count == 0:
            self.path.unlink(missing_ok=True)
            self.partial_path.unlink(missing_ok=True)
            return None
        whole = self.path.with_name(self.path.name + ".new")
        with self.partial_path.open("rb") as partial, whole.open("wb") as new:
            new.write((",".join(COLUMNS) + "\r\n").encode())
            partial.seek(self._start)
            while data := partial.read(1 << 20):
                new.write(data)
        os.replace(whole, self.path)
        self.partial_path.unlink()
        return self.path

    def close(self) -> None:
        """Close the partial file and leave it where it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_earlier(self, path: Path) -> None:
        try:
            file = path.open(encoding="utf-8", errors="replace", newline="")
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(
                f"the report {path} cannot be read: {error.strerror}; name another with --report"
            ) from error
        with file:
            rows = csv.reader(file)
            # An empty file has nothing to lose: a run may have been killed before it wrote the header.
            if tuple(next(rows, COLUMNS)) != COLUMNS:
                message = f"{path} is no report of rejected lines (its header is not {','.join(COLUMNS)})"
                raise ConfigError(f"{message}: it is left as it is; move it away, or name another with --report")
            # Reading stops where a file is damaged: it only explains.
            with contextlib.suppress(csv.Error):
                for row in rows:
                    # The last line may be cut off where a run was killed.
                    if len(row) == len(COLUMNS) and len(self._earlier) < EARLIER_MAX and row[2] != _FAILED_BEFORE:
                        self._earlier[row[1]] = Rejection(0, row[1], row[2], row[3] or None, row[4])


def _cut_torn_line(path: Path) -> None:
    """Cut off what a killed run left of its last line, or the lines behind it would seem to belong to it."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _TAIL_BYTES))
        end = file.read().rfind(b"\r\n")
        if end >= 0:
            file.truncate(start + end + 2)
