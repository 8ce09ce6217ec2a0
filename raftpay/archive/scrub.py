"""Reading sealed history again: are the bytes still those that were read back when they were sealed?

What a file of a segment has to be is known from the header of its lookup file, which is in memory; files that are
derived carry a crc in each page. Series of steps, for a thread beside the loop.
"""

import hashlib

from raftpay.archive.chain import SegmentFile
from raftpay.archive.pages import check_pages
from raftpay.errors import CorruptionError
from raftpay.storage.scrub import STEP_BYTES
from raftpay.storage.snapshots import OpenFile, Steps


def check_file(known: SegmentFile, open_file: OpenFile) -> Steps:
    """A file of a segment. Raises CorruptionError where it is not what was sealed, StorageError if it is not there."""
    file, digest = open_file(known.name), hashlib.sha256()
    try:
        size = file.size()
        for offset in range(0, size, STEP_BYTES):
            digest.update(file.pread(STEP_BYTES, offset))
            yield
    finally:
        file.close()
    if (size, digest.digest()) != (known.size_bytes, known.sha256):
        raise CorruptionError(f"{known.name}: its bytes are not those that were sealed")


def check_derived(name: str, open_file: OpenFile) -> Steps:
    """A file that is made of segments. Raises as `check_file`."""
    file = open_file(name)
    try:
        yield from check_pages(file)
    finally:
        file.close()
