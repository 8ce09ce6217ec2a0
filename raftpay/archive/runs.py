"""The runs of the id index on the disk, so that a start reads them instead of making them again.

They are this node's alone: not part of the state, made again from the segments where they are missing or damaged. A
file is the run's header and its two columns, in checked pages; its name tells which segments it covers.
"""

import re
import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from raftpay.archive.chain import DERIVED_FOLDER
from raftpay.archive.ids import Key, Run
from raftpay.archive.pages import CONTENT_BYTES, Paged, PagedFile, page_multiple
from raftpay.errors import CorruptionError
from raftpay.storage.disk import Disk

FORMAT_VERSION: Final = 1
_NAME: Final = re.compile(rf"{DERIVED_FOLDER}/ids-([0-9]{{8,}})-([0-9]{{8,}})\.run")
_MAGIC: Final = b"raftpayI"
# magic, version, seed of the key, first and last segment, base, count, then the digest of the last segment
_HEAD: Final = struct.Struct("<8sIQQQQQ32s")
_READ_PAGES: Final = 256


def run_name(run: Run) -> str:
    return f"{DERIVED_FOLDER}/ids-{run.segments[0]:08d}-{run.segments[1]:08d}.run"


def segments_of(name: str) -> tuple[int, int] | None:
    """Which segments a file of this name covers; None for another kind of file."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def encode_run(run: Run, key: Key, digest: bytes) -> Paged:
    """The file. digest: of the last segment, by which a run of another history is known."""
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, key.seed, *run.segments, run.base, len(run), digest)
    columns = (run.fingerprints.astype("<u8", copy=False), run.offsets.astype("<u4", copy=False))
    return Paged(head, *(memoryview(column.view(np.uint8).data) for column in columns))


def read_run(disk: Disk, name: str) -> tuple[Run, int, bytes]:
    """The run, the seed of its key, the digest of its last segment. Raises CorruptionError."""
    file = disk.open(name)
    try:
        pages = PagedFile(file)
        magic, version, seed, first, last, base, count, digest = _HEAD.unpack(pages.read(_HEAD.size, 0))
        if magic != _MAGIC or version != FORMAT_VERSION:
            raise CorruptionError(f"{name}: not a run of the id index, or of another version")
        if file.size() < 12 * count:
            raise CorruptionError(f"{name}: {file.size()} bytes cannot hold {count} ids")
        start = page_multiple(_HEAD.size)
        fingerprints = np.empty(count, "<u8")
        offsets = np.empty(count, "<u4")
        for column, at in ((fingerprints, start), (offsets, start + page_multiple(8 * count))):
            _read_into(column.view(np.uint8), pages, at)
    finally:
        file.close()
    return Run((first, last), base, fingerprints, offsets), seed, digest


def _read_into(column: NDArray[np.uint8], pages: PagedFile, offset: int) -> None:
    step = _READ_PAGES * CONTENT_BYTES
    for place in range(0, len(column), step):
        data = pages.read(min(step, len(column) - place), offset + place)
        column[place : place + len(data)] = np.frombuffer(data, np.uint8)


def covering(names: Iterable[str], count: int) -> list[str]:
    """Of these files those that together cover the first segments, from 0 on and each once, up to `count` of them."""
    spans = {span: name for name in names if (span := segments_of(name)) is not None and span[1] < count}
    chosen: list[str] = []
    next_segment = 0
    while found := [span for span in spans if span[0] == next_segment]:
        span = max(found)
        chosen.append(spans[span])
        next_segment = span[1] + 1
    return chosen
