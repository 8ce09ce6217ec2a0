"""Bytes in pages with a crc each, so that a few of them can be read from a large file and be believed.

Each page of 4096 bytes ends with the crc32c of the rest, started from the page's number and the crc of the first page,
which says what the file is: a page that was damaged, or that lies in another's place, be it that of another file, is
found when it is read. Offsets are those of the bytes without the crcs. Knows nothing of what the bytes mean; lookup.py
and runs.py read and write through it.
"""

import struct
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from raftpay.errors import CorruptionError
from raftpay.storage.disk import DiskFile
from raftpay.storage.snapshots import Steps

PAGE_BYTES: Final = 4096
_CRC: Final = struct.Struct("<I")
CONTENT_BYTES: Final = PAGE_BYTES - _CRC.size
_PART_PAGES: Final = 256
_KEPT_PAGES: Final = 16
_STEP_PAGES: Final = 64


class Paged:
    """The sections as pages, each beginning with a new one, the last page of each filled up with zeros.

    In parts of about a megabyte, made anew whenever they are gone through: nothing here holds the interpreter for long,
    or much memory, however large the file is.
    """

    def __init__(self, *sections: bytes | memoryview) -> None:
        self._sections = sections

    def __iter__(self) -> Iterator[bytes]:
        number = first_crc = 0
        for section in self._sections:
            pages: list[bytes | memoryview] = []
            for start in range(0, len(section), CONTENT_BYTES):
                content = section[start : start + CONTENT_BYTES]
                if len(content) < CONTENT_BYTES:
                    content = bytes(content).ljust(CONTENT_BYTES, b"\0")
                crc = _crc_of(content, number, first_crc)
                pages += (content, _CRC.pack(crc))
                first_crc = first_crc if number else crc
                number += 1
                if len(pages) == 2 * _PART_PAGES:
                    yield b"".join(pages)
                    pages = []
            if pages:
                yield b"".join(pages)


def _crc_of(content: bytes | memoryview, number: int, first_crc: int) -> int:
    """first_crc: of the first page, whose own is started from 0."""
    return crc32c(content, (first_crc + number) & 0xFFFFFFFF if number else 0)


def page_multiple(size: int) -> int:
    """How many bytes of content the pages have that hold so many."""
    return -(-size // CONTENT_BYTES) * CONTENT_BYTES


class PageDamagedError(CorruptionError):
    """A page is not what was written, or cannot be read. name: of the file, which can be made again from a segment."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name}: the page at byte {number * PAGE_BYTES} is not what was written, or cannot be read")
        self.name = name


def check_pages(file: DiskFile) -> Steps:
    """Read all pages, in parts. Raises PageDamagedError."""
    pages = PagedFile(file)
    count, rest = divmod(file.size(), PAGE_BYTES)
    for first in range(0, count, _STEP_PAGES):
        step = min(_STEP_PAGES, count - first)
        pages.read(step * CONTENT_BYTES, first * CONTENT_BYTES)
        yield
    if rest:
        raise PageDamagedError(file.name, count)


class PagedFile:
    """Reads what `Paged` made; raises PageDamagedError. Keeps a few pages: of a row several things are read."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file
        self._kept: dict[int, bytes] = {}
        # The crc of the first page, once it has been read.
        self._first_crc: int | None = None

    def read(self, size: int, offset: int) -> bytes:
        if not size:
            return b""
        first, start = divmod(offset, CONTENT_BYTES)
        if start + size <= CONTENT_BYTES:
            content = self._kept.get(first)
            if content is None:
                if len(self._kept) == _KEPT_PAGES:
                    del self._kept[next(iter(self._kept))]
                content = self._kept[first] = self._pages(first, 1)
            return content[start : start + size]
        count = -(-(start + size) // CONTENT_BYTES)
        return self._pages(first, count)[start : start + size]

    def _pages(self, first: int, count: int) -> bytes:
        if self._first_crc is None and first > 0:
            self._pages(0, 1)
        try:
            data = self._file.pread(count * PAGE_BYTES, first * PAGE_BYTES)
        except CorruptionError as error:
            raise PageDamagedError(self._file.name, first) from error
        view, parts = memoryview(data), []
        for place in range(count):
            page = view[place * PAGE_BYTES : (place + 1) * PAGE_BYTES]
            number = first + place
            if len(page) < PAGE_BYTES:
                raise PageDamagedError(self._file.name, number)
            content, crc = page[:CONTENT_BYTES], _CRC.unpack_from(page, CONTENT_BYTES)[0]
            if _crc_of(content, number, self._first_crc or 0) != crc:
                raise PageDamagedError(self._file.name, number)
            if number == 0:
                self._first_crc = crc
            parts.append(content)
        return parts[0].tobytes() if count == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()
