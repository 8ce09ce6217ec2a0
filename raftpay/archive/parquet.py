"""Columns as Parquet and back: all that is asked of DuckDB but for SQL (sql.py).

DuckDB wants a path, the disk seam gives bytes: a file in memory (memfd) is both. It is loaded at the first use, for it
takes some 50 MB and a third of a second, and works on one thread beside the loop, mostly without holding the
interpreter.
"""

# ruff: noqa: S608  (what is put into SQL here are names of columns, numbers and quoted texts of our own)

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from raftpay.archive.columns import PIECE_ROWS, Columns, Numbers, Table
from raftpay.errors import CorruptionError, StorageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Some 8 pieces of a segment that can be read by themselves, each with the least and greatest of every column.
ROW_GROUP_ROWS: Final = 32_768
# Version 2 packs numbers as differences: 15 % smaller and a third sooner done than with dictionaries, which are off.
_FORMAT: Final = (
    f"FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, DICTIONARY_SIZE_LIMIT 1, "
    "USE_TMP_FILE false"
)
_MEMORY_MAX: Final = "512MB"
SQL_TYPES: Final = {"<i8": "BIGINT", "<i4": "INTEGER", "<u4": "UINTEGER", "<u2": "USMALLINT"}


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows a file holds."""

    table: Table
    first: int
    count: int


class Store(Protocol):
    """Makes files of columns, and reads them: ColumnStore, or a simpler one in the simulator.

    data: of a file. name: of the file, for messages. What reads raises CorruptionError for what is no such file.
    """

    def encode(self, columns: Columns, about: dict[str, str]) -> tuple[bytes, int]:
        """A file, and the checksum of its rows. about: what it says of itself, beside the rows."""

    def about(self, name: str, data: bytes) -> dict[str, str]:
        """What the file says of itself."""

    def decode(self, name: str, data: bytes, rows: Rows) -> Columns:
        """The rows of the file; they must be those, in their order."""

    def checksum(self, name: str, data: bytes, table: Table) -> int:
        """Of the rows in the file, as `encode` gave it when it was made."""

    def rest(self) -> None:
        """Give back what it holds: it is not asked again for a while."""


class ColumnStore:
    """DuckDB, in memory and on one thread. Callers of several threads wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: DuckDBPyConnection | None = None

    def _connection(self) -> "DuckDBPyConnection":
        if self._opened is None:
            # No folder of its own for what does not fit into memory: nothing here is larger than a segment.
            self._opened = import_module("duckdb").connect(
                ":memory:",
                config={
                    "threads": 1,
                    "memory_limit": _MEMORY_MAX,
                    "temp_directory": "",
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        assert self._opened is not None
        return self._opened

    def encode(self, columns: Columns, about: dict[str, str]) -> tuple[bytes, int]:
        rows: dict[str, Numbers] = {
            "row": np.arange(columns.first, columns.last, dtype=np.int64),
            **{name: _objects(columns.texts[name]) for name in columns.table.texts},
            **columns.numbers,
        }
        said = ", ".join(f"{key}: {quoted(value)}" for key, value in about.items())
        typed = f"SELECT {_typed(columns.table)} FROM rows_to_seal"
        with _memory_file() as (descriptor, path), self._lock:
            connection = self._connection()
            connection.register("rows_to_seal", rows)
            try:
                connection.execute(f"COPY ({typed}) TO {quoted(path)} ({_FORMAT}, KV_METADATA {{{said}}})")
                found = connection.execute(f"SELECT {_checksum(columns.table)} FROM ({typed})").fetchall()
            except self._errors as error:
                raise StorageError(f"sealing {columns.table.name} {columns.first} and on: {error}") from error
            finally:
                connection.unregister("rows_to_seal")
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0), found[0][0]

    def about(self, name: str, data: bytes) -> dict[str, str]:
        with self._reading(name, data) as (connection, path):
            query = f"SELECT decode(key), decode(value) FROM parquet_kv_metadata({quoted(path)})"
            return dict(connection.execute(query).fetchall())

    def decode(self, name: str, data: bytes, rows: Rows) -> Columns:
        table, end = rows.table, rows.first + rows.count
        texts: dict[str, list[str]] = {text: [] for text in table.texts}
        numbers: dict[str, list[Numbers]] = {number: [np.empty(0, dtype)] for number, dtype in table.numbers.items()}
        with self._reading(name, data) as (connection, path):
            for start in range(rows.first, end, ROW_GROUP_ROWS):
                span = range(start, min(start + ROW_GROUP_ROWS, end))
                found = _fetched(connection, path, table, span)
                if not np.array_equal(found["row"], np.arange(span.start, span.stop)):
                    raise CorruptionError(f"{name}: does not hold the rows {start} to {span.stop - 1} in their order")
                for column, cells in found.items():
                    if isinstance(cells, np.ma.MaskedArray) and cells.mask.any():
                        raise CorruptionError(f"{name}: the column {column} has a row without a value")
                for text in table.texts:
                    texts[text] += found[text].tolist()
                for number in table.numbers:
                    numbers[number].append(np.asarray(found[number]))
        whole = {number: np.concatenate(parts).astype(table.numbers[number]) for number, parts in numbers.items()}
        return Columns(table, rows.first, texts, whole)

    def checksum(self, name: str, data: bytes, table: Table) -> int:
        with self._reading(name, data) as (connection, path):
            query = f"SELECT {_checksum(table)} FROM read_parquet({quoted(path)})"
            checksum: int = connection.execute(query).fetchall()[0][0]
            return checksum

    def rest(self) -> None:
        """A connection that has written a segment holds 50 MB, and another one is made in 12 ms."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
        _give_back_memory()

    @contextmanager
    def _reading(self, name: str, data: bytes) -> Iterator[tuple["DuckDBPyConnection", str]]:
        """The connection, and a path to the data."""
        with _memory_file(data) as (_, path), self._lock:
            try:
                yield self._connection(), path
            except self._errors as error:
                raise CorruptionError(f"{name}: cannot be read as a part of a segment: {error}") from error

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return (import_module("duckdb").Error,)


def _give_back_memory() -> None:
    """What was freed goes back to the system: glibc would keep most of it, a quarter of what a node has."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def _memory_file(data: bytes = b"") -> Iterator[tuple[int, str]]:
    """A file that lies nowhere, with these bytes: its descriptor, and a path to it for this process."""
    descriptor = os.memfd_create("segment", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _fetched(connection: "DuckDBPyConnection", path: str, table: Table, span: range) -> dict[str, Numbers]:
    names = ", ".join(("row", *table.texts, *table.numbers))
    where = f"row >= {span.start} AND row < {span.stop}"
    return connection.execute(f"SELECT {names} FROM read_parquet({quoted(path)}) WHERE {where}").fetchnumpy()


def _objects(texts: list[str]) -> NDArray[np.object_]:
    """The texts as an array that DuckDB reads, made piece by piece: the interpreter is not held for long."""
    made = np.empty(len(texts), np.object_)
    for first in range(0, len(texts), PIECE_ROWS):
        made[first : first + PIECE_ROWS] = texts[first : first + PIECE_ROWS]
    return made


def _typed(table: Table) -> str:
    """The columns with the types that they have in the file."""
    texts = [f"{name}::VARCHAR AS {name}" for name in table.texts]
    numbers = [f"{name}::{SQL_TYPES[dtype]} AS {name}" for name, dtype in table.numbers.items()]
    return ", ".join(("row::BIGINT AS row", *texts, *numbers))


def _checksum(table: Table) -> str:
    """The row is hashed with its values, so that rows which change places do not pass."""
    return f"bit_xor(hash({', '.join(('row', *table.texts, *table.numbers))}))"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
