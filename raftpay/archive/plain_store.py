"""A Store without a column store, for simulations and tests of everything but the Parquet files: a hundred times sooner
done. It keeps columns as msgpack with a crc.
"""

import msgspec
import numpy as np
from crc32c import crc32c

from raftpay.archive.columns import Columns, Table
from raftpay.archive.parquet import Rows
from raftpay.errors import CorruptionError


class _File(msgspec.Struct, frozen=True, array_like=True):
    about: dict[str, str]
    first: int
    texts: dict[str, list[str]]
    numbers: dict[str, bytes]


class PlainStore:
    """A `raftpay.archive.parquet.Store`."""

    def encode(self, columns: Columns, about: dict[str, str]) -> tuple[bytes, int]:
        numbers = {name: column.tobytes() for name, column in columns.numbers.items()}
        body = msgspec.msgpack.encode(_File(about, columns.first, columns.texts, numbers))
        checksum = crc32c(body)
        return checksum.to_bytes(4, "little") + body, checksum

    def about(self, name: str, data: bytes) -> dict[str, str]:
        return _read(name, data).about

    def decode(self, name: str, data: bytes, rows: Rows) -> Columns:
        file, table = _read(name, data), rows.table
        numbers = {number: np.frombuffer(file.numbers[number], dtype) for number, dtype in table.numbers.items()}
        found = Columns(table, file.first, file.texts, numbers)
        if (found.first, len(found)) != (rows.first, rows.count):
            raise CorruptionError(f"{name}: has {len(found)} rows from {found.first} on, expected {rows}")
        return found

    def checksum(self, name: str, data: bytes, table: Table) -> int:
        _read(name, data)
        return crc32c(data[4:])

    def rest(self) -> None:
        """It holds nothing."""


def _read(name: str, data: bytes) -> _File:
    if len(data) < 4 or crc32c(data[4:]) != int.from_bytes(data[:4], "little"):
        raise CorruptionError(f"{name}: the crc is wrong")
    return msgspec.msgpack.decode(data[4:], type=_File)
