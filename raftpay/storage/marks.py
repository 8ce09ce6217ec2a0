"""The journal's marks: one small preallocated file with two slots that are written in turn.

It holds what the records cannot say of themselves: the salt of their crcs, which segments are compacted away, a
truncation that may be half done, and how far the journal was synced. Only journal.py and recovery.py use it. A slot
is one sector, so a write is whole or absent; the valid slot with the higher sequence counts. A hint (`store`) is not
synced: it survives a killed process always, a power loss once the kernel has written it back. A promise
(`store_durably`) is written to both slots and synced after each, so that neither a lost sector nor a flipped bit
brings an older state back.
"""

from msgspec.structs import replace

from raftpay.errors import CorruptionError, DiskFullError, StorageError
from raftpay.storage.disk import Disk, DiskFile
from raftpay.storage.records import (
    MARKS_SLOT_BYTES,
    REBUILD_ADVICE,
    MarksSlot,
    check_cluster,
    check_version,
    decode_marks_slot,
)
from raftpay.storage.segment import segment_number

MARKS_NAME = "journal/marks"


class Marks:
    """The file, and its newest content as `now`."""

    __slots__ = ("_file", "now")

    def __init__(self, file: DiskFile, now: MarksSlot) -> None:
        self._file = file
        self.now = now

    @classmethod
    def create(cls, disk: Disk, cluster: int) -> "Marks":
        """Make the file, durably; a half-made one is replaced.

        Raises CorruptionError if there are segments: it is made before the first one, so it was lost.
        """
        if any(segment_number(name) is not None for name in disk.list("journal")):
            raise CorruptionError(f"{MARKS_NAME} is missing or empty, but there are segments. {REBUILD_ADVICE}")
        if disk.exists(MARKS_NAME):
            disk.remove(MARKS_NAME)
        file = disk.create(MARKS_NAME)
        file.preallocate(2 * MARKS_SLOT_BYTES)
        marks = cls(file, MarksSlot(0, cluster, disk.random_u32(), 1, 0, 0, 0))
        marks.store_durably()
        disk.fsync_folder("journal")
        return marks

    @classmethod
    def open(cls, disk: Disk, cluster: int) -> "Marks | None":
        """The file, or None if there is none that was ever completed.

        Raises FormatVersionError, and DataDirectoryError if it belongs to another cluster.
        """
        if not disk.exists(MARKS_NAME):
            return None
        file = disk.open(MARKS_NAME)
        try:
            data = file.pread(2 * MARKS_SLOT_BYTES, 0)
            found = [decode_marks_slot(data[start:]) for start in (0, MARKS_SLOT_BYTES)]
            slots = [slot for slot in found if slot is not None]
            for version, slot in slots:
                check_version(MARKS_NAME, version)
                check_cluster(MARKS_NAME, slot.cluster, cluster)
        except StorageError:
            file.close()
            raise
        if slots:
            return cls(file, max((slot for _, slot in slots), key=lambda slot: slot.sequence))
        file.close()
        if any(data):
            raise CorruptionError(
                f"{MARKS_NAME}: both slots (bytes 0 and {MARKS_SLOT_BYTES}) are damaged. {REBUILD_ADVICE}"
            )
        return None

    def store(self, **changes: int) -> None:
        """Write the next slot with these fields changed, as a hint: it may be lost."""
        self.now = replace(self.now, sequence=self.now.sequence + 1, **changes)
        try:
            self._file.pwrite(self.now.encode(), self.now.sequence % 2 * MARKS_SLOT_BYTES)
        except DiskFullError:
            # Only a copy-on-write filesystem can say so here. A hint that is not stored costs nothing but knowledge.
            return

    def store_durably(self, **changes: int) -> None:
        """Write both slots, one after the other, each synced."""
        for _ in range(2):
            self.now = replace(self.now, sequence=self.now.sequence + 1, **changes)
            self._file.pwrite(self.now.encode(), self.now.sequence % 2 * MARKS_SLOT_BYTES)
            self._file.fdatasync()

    def close(self) -> None:
        self._file.close()
