"""CSV bytes to records with line numbers: UTF-8, commas, double quotes (RFC 4180), any size of file in little memory.

Not the csv module alone, for two reasons. After an error it starts afresh on the next line, and so would read what
stands inside an open quoted field as lines of its own: a payee could smuggle a payment into a reference. Here a record
ends only where its quotes say so, and a damaged one is reported whole. And a line that is not UTF-8 must cost that
line, not the file. What the fields mean is the business of forms.py.
"""

import csv
from collections.abc import Iterator
from enum import Enum, auto
from typing import BinaryIO, Final, NamedTuple

from raftpay.errors import ConfigError

# A payment takes some 200 bytes; longer records are damaged, and are skipped without being held in memory.
RECORD_BYTES_MAX: Final = 64 * 1024

_BOM_UTF8: Final = b"\xef\xbb\xbf"
_BOMS_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class Record(NamedTuple):
    """line: its first line, from 1. fields: its text, one for each column. problem: why it cannot be used, or ""."""

    line: int
    fields: list[str]
    problem: str


class Place(Enum):
    """Where a scan stands within a record."""

    FIELD_START = auto()
    UNQUOTED = auto()
    QUOTED = auto()
    AFTER_QUOTE = auto()


class Records(Iterator[Record]):
    """The records of a file open for reading bytes, from its start; blank lines are passed over.

    Raises ConfigError at once if the file is in UTF-16, which cannot be read line by line.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        # Lines and bytes read so far.
        self.line = 0
        self.position = 0
        start = file.read(len(_BOM_UTF8))
        if start.startswith(_BOMS_UTF16):
            raise ConfigError(f"{name} is UTF-16: expected UTF-8, save it as “CSV UTF-8”")
        # A byte order mark of UTF-8 says nothing, and spreadsheets write it.
        self.position = len(start) if start == _BOM_UTF8 else 0
        file.seek(self.position)

    def __next__(self) -> Record:
        while True:
            line = self.line + 1
            piece = self._read()
            if not piece:
                raise StopIteration
            if b'"' not in piece and len(piece) <= RECORD_BYTES_MAX:
                record = _split_plain(line, piece)
            else:
                record = self._read_quoted(line, piece)
            if record.problem or any(record.fields):
                return record

    def _read(self) -> bytes:
        """The next line with its end, or a part of one that is too long; empty at the end of the file."""
        piece = self._file.readline(RECORD_BYTES_MAX + 1)
        self.position += len(piece)
        if piece.endswith(b"\n") or (piece and len(piece) <= RECORD_BYTES_MAX):
            self.line += 1
        return piece

    def _read_quoted(self, line: int, piece: bytes) -> Record:
        """Read on until the record's quotes are closed, keeping no more of it than a sound record can have."""
        place, kept, size = Place.FIELD_START, bytearray(), 0
        while True:
            place = scan(piece, place)
            size += len(piece)
            if size <= RECORD_BYTES_MAX:
                kept += piece
            if piece.endswith(b"\n") and place is not Place.QUOTED:
                break
            piece = self._read()
            if not piece:
                break
        lines = f"lines {line}-{self.line} are" if self.line > line else "it is"
        if place is Place.QUOTED:
            return Record(line, [], f'a quote (") opens here and never closes: {lines} not read; close or remove it')
        if size > RECORD_BYTES_MAX:
            return Record(line, [], f"{lines} one record of {size} bytes, at most {RECORD_BYTES_MAX} are accepted")
        return _split_quoted(line, bytes(kept), lines)


def scan(piece: bytes, place: Place) -> Place:
    """Follow the quotes through a piece of a record. The same four places as in CPython's Modules/_csv.c."""
    position, end = 0, len(piece)
    while position < end:
        if place is Place.QUOTED:
            quote = piece.find(b'"', position)
            if quote < 0:
                return place
            position, place = quote + 1, Place.AFTER_QUOTE
        elif place is Place.UNQUOTED:
            comma = piece.find(b",", position)
            if comma < 0:
                return place
            position, place = comma + 1, Place.FIELD_START
        else:
            byte = piece[position : position + 1]
            position += 1
            if byte == b'"':
                place = Place.QUOTED
            elif byte == b",":
                place = Place.FIELD_START
            else:
                place = Place.UNQUOTED
    return place


def _split_plain(line: int, piece: bytes) -> Record:
    text, problem = _decode(piece)
    if "\r" in text:
        problem = problem or "it has a carriage return inside: end lines with LF or CRLF"
    return Record(line, text.split(","), problem)


def _split_quoted(line: int, data: bytes, lines: str) -> Record:
    text, problem = _decode(data)
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        return Record(line, [], problem or f"{lines} not sound CSV ({error}): double a quote inside a quoted field")
    assert len(rows) == 1, f"the scan and the csv module disagree on line {line}"
    return Record(line, rows[0], problem)


def _decode(data: bytes) -> tuple[str, str]:
    """The text without its line end, and what is wrong with its bytes."""
    if data.endswith(b"\r\n"):
        data = data[:-2]
    elif data.endswith(b"\n"):
        data = data[:-1]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at position {error.start + 1} is not UTF-8"
        return data.decode(errors="replace"), f"{found}: save the file as UTF-8"
    if "\0" in text:
        return text, "it contains a NUL byte: save the file as UTF-8 text"
    return text, ""
