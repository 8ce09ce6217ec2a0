"""The journal: the file of the log. Appends entries, syncs them, gives them back, cuts a suffix, drops a prefix.

It carries bytes and knows nothing of ledger or messages. One thread owns it (the node's loop); only `SyncJob.run` may
run in another. Callers: raftpay/raft. Bytes are in records.py, one file of it in segment.py, opening in recovery.py,
the small file beside the records in marks.py.

1. An append is one write into preallocated room; it is not durable. Only what `complete_sync` has returned is.
2. Behind the last record of each segment all is zero. A cut is announced in the marks, erased, and taken back from
   the marks, each step synced: whenever power fails, opening finishes it. So no record of a cut suffix comes back.
3. An error of the disk that leaves the state in doubt is final: the journal gives what it has and refuses everything
   else. A full disk is not one: the append did not happen, and works again once there is room.
4. A name in the folder is synced with the first entries behind it, in the same SyncJob.
5. What is found damaged and written once more (`rewrite`) counts as synced only after the next sync.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from raftpay.errors import CorruptionError, DiskFullError, StorageError
from raftpay.storage.disk import PAGE_BYTES, Disk, DiskFile, Preparation
from raftpay.storage.marks import Marks
from raftpay.storage.payload_cache import PayloadCache
from raftpay.storage.records import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    cluster_hash,
    encode_record,
)
from raftpay.storage.recovery import Recovery, recover
from raftpay.storage.reserve import Reserve
from raftpay.storage.scrub import SegmentReading
from raftpay.storage.segment import RESET_NAME, Segment, erase, segment_name
from raftpay.storage.sync_job import SyncGate, SyncJob

__all__ = ["Entry", "Journal", "JournalOptions", "SyncJob"]

MIB = 1 << 20


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log."""

    index: int
    term: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """segment_bytes: size of a full-grown segment; the first ones are smaller (first_segment_bytes, then doubling).
    cache_bytes: how much of the newest payloads is kept in memory.
    reserve_bytes: room that is kept so that a node on a full disk can still save its hard state; 0 for none.
    payload_bytes_max: the largest payload; one that is larger than a segment gets a segment of its own.
    cluster_id: stands in every file; another cluster's journal is refused.
    """

    segment_bytes: int = 16 * MIB
    first_segment_bytes: int = 4 * MIB
    cache_bytes: int = 8 * MIB
    reserve_bytes: int = 16 * MIB
    payload_bytes_max: int = 16 * MIB
    cluster_id: str = ""


class Journal:
    """Opened by `Journal.open`. Every method but those that only read raises StorageError after a disk error.

    first_index .. last_index: the entries that are there; last_index is first_index - 1 when there are none.
    synced_index: all entries up to it are on the disk. Never above last_index; lowered by `truncate_from` and `reset`.
    recovery: what opening found.
    """

    def __init__(self, disk: Disk, options: JournalOptions, marks: Marks, segments: list[Segment]) -> None:
        self._disk = disk
        self._options = options
        self._marks = marks
        self._segments = segments  # at least one; the last is the one written to
        self._active = segments[-1]
        self._reserve = Reserve(disk, options.reserve_bytes)
        self._gate = SyncGate()
        self._failure: StorageError | None = None
        self._jobs: list[SyncJob] = []  # begun and not completed
        self._retired: list[DiskFile] = []  # removed, but perhaps in the hands of a job
        self._obsolete: list[DiskFile] = []  # compacted away, to be removed
        self._discards: list[Callable[[], None]] = []  # each waits until a removal is done
        self._preparation: Preparation | None = None  # of the segment after the active one
        self._prepare_at = self._active.size // 2  # the byte of the active segment at which that is begun
        self.first_index = segments[0].first_index
        self.last_index = self._active.last_index
        self.last_term = self._active.last_term
        self.synced_index = self.last_index
        self._cache = PayloadCache(self.last_index + 1, options.cache_bytes)
        self.recovery = Recovery()

    @classmethod
    def open(cls, disk: Disk, options: JournalOptions | None = None) -> "Journal":
        """The journal in the folder `journal` of the disk, made if there is none; everything in it is synced.

        Raises CorruptionError (the message says where and what to do), FormatVersionError, DataDirectoryError if it
        belongs to another cluster, DiskFullError if there is no room to make a new one, StorageError.
        """
        options = options or JournalOptions()
        cluster = cluster_hash(options.cluster_id)
        disk.make_folder("journal")
        marks = Marks.open(disk, cluster)
        if marks is None:
            marks = Marks.create(disk, cluster)
        try:
            segments, recovery = recover(disk, marks)
            if not segments:
                header = SegmentHeader(cluster, marks.now.first_segment, 1, 0)
                size = min(options.first_segment_bytes, options.segment_bytes)
                segments = [_new_segment(disk, header, marks.now.salt, size)]
        except StorageError:
            marks.close()
            raise
        journal = cls(disk, options, marks, segments)
        journal.recovery = recovery
        journal._reserve.try_restore()
        return journal

    @property
    def written_index(self) -> int:
        return self.last_index

    def term_at(self, index: int) -> int:
        """The term of an entry, also of the one before first_index (0 before entry 1)."""
        active = self._active
        if index >= active.first_index:
            return active.terms[index - active.first_index]
        if index == self.first_index - 1:
            return self._segments[0].previous_term
        segment = self._segment_of(index)
        return segment.terms[index - segment.first_index]

    def entry(self, index: int) -> Entry:
        """Raises CorruptionError if it is read from disk and is not what was written."""
        payload = self._cache.get(index)
        if payload is None:
            payload = self._segment_of(index).read(index, index)[0]
        return Entry(index, self.term_at(index), payload)

    def entries(self, first: int, last: int, *, bytes_max: int) -> list[Entry]:
        """Entries from first to last inclusive: as many as take bytes_max in the journal, and at least one.

        Raises CorruptionError as `entry`.
        """
        assert self.first_index <= first <= last <= self.last_index, (self.first_index, first, last, self.last_index)
        if first == last and (payload := self._cache.get(first)) is not None:
            return [Entry(first, self.term_at(first), payload)]
        found: list[Entry] = []
        index, left = first, bytes_max
        while index <= last:
            segment = self._segment_of(index)
            stop = min(last, segment.last_index)
            if index < self._cache.first:
                stop = min(stop, self._cache.first - 1)
            stop = segment.last_fitting(index, stop, left)
            if stop < index:
                if found:
                    break
                stop = index
            left -= segment.offset_of(stop + 1) - segment.offset_of(index)
            is_cached = index >= self._cache.first
            payloads = self._cache.take(index, stop) if is_cached else segment.read(index, stop)
            terms = segment.terms[index - segment.first_index : stop + 1 - segment.first_index]
            found.extend(map(Entry, range(index, stop + 1), terms, payloads))
            index = stop + 1
        return found

    def beginning_with(self, byte: int) -> list[int]:
        """The entries whose payload begins with that byte, in order. One small read each: for the start of a node."""
        found: list[int] = []
        for segment in self._segments:
            for place, offset in enumerate(segment.offsets):
                stop = segment.offsets[place + 1] if place + 1 < len(segment.offsets) else segment.end
                if (
                    stop > offset + RECORD_HEADER_BYTES
                    and segment.file.pread(1, offset + RECORD_HEADER_BYTES)[0] == byte
                ):
                    found.append(segment.first_index + place)
        return found

    # ---- what is read again, and written once more where it is damaged

    @property
    def segment_numbers(self) -> list[int]:
        """Of the segments that are there, oldest first."""
        return [segment.number for segment in self._segments]

    def reading(self, number: int) -> SegmentReading | None:
        """What of a segment is on the disk, for a read beside this thread; None if it is not there any more."""
        segment = next((segment for segment in self._segments if segment.number == number), None)
        if segment is None:
            return None
        count = max(0, min(segment.last_index, self.synced_index) + 1 - segment.first_index)
        return SegmentReading(
            segment.file.name,
            self._header_of(segment),
            self._marks.now.salt,
            segment.offsets[:count],
            segment.terms[:count],
            segment.offset_of(segment.first_index + count),
            has_end=segment is not self._active and segment.last_index <= self.synced_index,
        )

    def _header_of(self, segment: Segment) -> SegmentHeader:
        return SegmentHeader(self._marks.now.cluster, segment.number, segment.first_index, segment.previous_term)

    def is_whole(self, index: int) -> bool:
        """Whether the entry lies on the disk as it was written. True for one that is not there any more."""
        if not self.first_index <= index <= self.last_index:
            return True
        try:
            self._segment_of(index).read(index, index)
        except CorruptionError:
            return False
        return True

    def payload_in_memory(self, index: int) -> bytes | None:
        """That of an entry, as it was appended, if it is still in memory."""
        return self._cache.get(index)

    def length_of(self, index: int) -> int:
        """How many bytes the record of the entry takes."""
        segment = self._segment_of(index)
        return segment.offset_of(index + 1) - segment.offset_of(index)

    def rewrite(self, first: int, payloads: Sequence[bytes]) -> None:
        """Write entries of one segment once more in their places, from `first` on; the header with the first of all.

        In one write that covers whole pages where they begin or end the records: a page that cannot be read cannot be
        written in part. Of each, the length is that of before (`length_of`). Not synced yet, and not counted so.
        """
        if self._failure is not None:
            raise self._refusal()
        segment, last = self._segment_of(first), first + len(payloads) - 1
        assert first <= last <= segment.last_index, (first, last, segment.last_index)
        start, stop = segment.offset_of(first), segment.offset_of(last + 1)
        durable = min(first - 1, self.synced_index)
        data = b"".join(
            encode_record(self._marks.now.salt, index, self.term_at(index), durable, payload)
            for index, payload in enumerate(payloads, first)
        )
        assert len(data) == stop - start, (first, last, len(data), stop - start)
        if first == segment.first_index:
            start, data = 0, self._header_of(segment).encode() + data
        if last == segment.last_index:
            data += bytes(min(-stop % PAGE_BYTES, segment.size - stop))
        self._write_again(segment, data, start, index=first)

    def rewrite_header(self, number: int) -> None:
        """The same for the header of a segment, without which none of its entries is found."""
        segment = next(segment for segment in self._segments if segment.number == number)
        index = min(segment.first_index, segment.last_index)  # It is synced also where it has no entry yet.
        self._write_again(segment, self._header_of(segment).encode(), 0, index=index)

    def erase_behind(self, number: int, start: int, stop: int) -> None:
        """The same for bytes behind the last record of a segment that is not written to any more."""
        segment = next(segment for segment in self._segments if segment.number == number)
        assert segment is not self._active, number
        assert start >= segment.end, (number, start, segment.end)
        self._write_again(segment, bytes(min(stop, segment.size) - start), start, index=segment.last_index)

    def _write_again(self, segment: Segment, data: bytes, start: int, *, index: int) -> None:
        """index: from it on nothing counts as synced until it has been synced again."""
        try:
            segment.file.pwrite(data, start)
        except StorageError as error:
            self._failure = error
            raise
        self.synced_index = max(self.first_index - 1, min(self.synced_index, index - 1))
        for job in self._jobs:
            job.index = min(job.index, self.synced_index)

    def append(self, index: int, term: int, payload: bytes) -> None:
        """Write the next entry; it is not synced yet.

        Raises DiskFullError if it needs a new segment and there is no room; then nothing has changed, and it may be
        tried again.
        """
        if self._failure is not None:
            raise self._refusal()
        assert index == self.last_index + 1, (index, self.last_index)
        assert term >= self.last_term, (term, self.last_term)
        assert len(payload) <= self._options.payload_bytes_max, len(payload)
        segment = self._active
        record = encode_record(self._marks.now.salt, index, term, self.synced_index, payload)
        start = segment.end
        if start + len(record) > segment.size:
            segment = self._roll_over(index, len(record))
            start = segment.end
        try:
            segment.file.pwrite(record, start)
        except DiskFullError:
            self._erase_half_written(segment, start, start + len(record))
            raise
        except StorageError as error:
            self._failure = error
            raise
        segment.end = start + len(record)
        segment.offsets.append(start)
        segment.terms.append(term)
        self.last_index, self.last_term = index, term
        self._cache.add(index, payload)
        if segment.end >= self._prepare_at:
            self._prepare_next()

    def begin_sync(self) -> SyncJob | None:
        """What is to be synced now, or None if all is. The owner runs it, here or in a thread, and completes it."""
        if self._failure is not None:
            raise self._refusal()
        if self.synced_index >= self.last_index:
            return None
        place = len(self._segments) - 1
        while place > 0 and self._segments[place].first_index > self.synced_index + 1:
            place -= 1
        job = SyncJob(self._disk, self._gate, self.last_index, self._segments[place:])
        self._jobs.append(job)
        return job

    def complete_sync(self, job: SyncJob) -> int:
        """Take the result of a job that has run; returns synced_index. Raises StorageError if the run failed: final."""
        self._jobs.remove(job)
        self._close_retired()
        if self._failure is not None:
            raise self._refusal()
        if not job.is_done:
            self._failure = self._gate.failure or StorageError("a sync of the journal was given up")
            raise self._refusal()
        if job.is_linking:
            for segment in job.segments:
                segment.is_linked = True
        if job.index > self.synced_index:
            self.synced_index = job.index
            try:
                self._marks.store(synced_index=job.index)
            except StorageError as error:
                self._failure = error
                raise
        return self.synced_index

    def sync(self) -> int:
        """Sync all that is written, blocking; returns synced_index."""
        job = self.begin_sync()
        if job is None:
            return self.synced_index
        with suppress(StorageError):  # complete_sync raises it
            job.run()
        return self.complete_sync(job)

    def truncate_from(self, index: int) -> None:
        """Cut index and all after it; durable on return. Waits for a sync that runs."""
        if self._failure is not None:
            raise self._refusal()
        assert self.first_index <= index <= self.last_index + 1, (self.first_index, index, self.last_index)
        if index == self.last_index + 1:
            return
        segment = self._segment_of(index)
        with self._gate.lock:
            try:
                self._cut(segment, index)
            except StorageError as error:
                self._failure = error
                raise
        self._cache.drop_from(index, self.last_index)
        self._active = segment
        self._prepare_at = segment.size // 2
        segment.forget_from(index)
        self.last_index, self.last_term = segment.last_index, segment.last_term
        self.synced_index = min(self.synced_index, self.last_index)
        for job in self._jobs:
            job.index = min(job.index, self.last_index)
        self._close_retired()

    def compact_to(self, index: int) -> None:
        """Delete the segments that hold only entries up to index; one with a synced entry always stays.

        They are gone once the marks say so; the files are removed beside this thread, or by the next opening.
        """
        if self._failure is not None:
            raise self._refusal()
        # What is kept must begin durably before anything goes: a power loss that took the name of a new segment would
        # otherwise leave no place from which to count.
        last, kept = min(index, self.synced_index - 1), 0
        while kept < len(self._segments) - 1 and self._segments[kept].last_index <= last:
            kept += 1
        if kept == 0:
            return
        victims, self._segments = self._segments[:kept], self._segments[kept:]
        self.first_index = self._segments[0].first_index
        try:
            self._marks.store_durably(first_segment=self._segments[0].number)
        except StorageError as error:
            self._failure = error
            raise
        self._obsolete.extend(segment.file for segment in victims)
        self._cache.drop_before(self.first_index)
        self._close_retired()

    def reset(self, index: int, term: int) -> None:
        """Throw all entries away and go on after entry `index` of that term, which is not here; durable on return.

        What makes up for the entries, a snapshot, is durable before this is called. Raises DiskFullError if there is
        no room for the new segment; then nothing has changed.
        """
        if self._failure is not None:
            raise self._refusal()
        if self._preparation is not None:
            self._preparation.cancel()
            self._preparation = None
        # Not the next number: the name of a preparation that was cancelled may come back after a power loss.
        header = SegmentHeader(self._marks.now.cluster, self._active.number + 2, index + 1, term)
        with self._gate.lock:
            try:
                self._make_reset(header)
                self._begin_anew(header)
            except DiskFullError:
                if self._marks.now.first_segment == header.number:
                    self._failure = StorageError("the disk was full in the middle of a reset")
                raise
            except StorageError as error:
                self._failure = error
                raise
        self._prepare_at = self._active.size // 2
        self.first_index, self.last_index, self.last_term, self.synced_index = index + 1, index, term, index
        self._cache = PayloadCache(index + 1, self._options.cache_bytes)
        for job in self._jobs:
            job.index = min(job.index, index)
        self._close_retired()

    def _make_reset(self, header: SegmentHeader) -> None:
        """The new first segment, whole and durable, under a name that says nothing yet."""
        if self._disk.exists(RESET_NAME):
            self._disk.remove(RESET_NAME)
        file = self._disk.create(RESET_NAME)
        try:
            file.preallocate(min(self._options.first_segment_bytes, self._options.segment_bytes))
            file.pwrite(header.encode(), 0)
            file.fdatasync()
            self._disk.fsync_folder("journal")
        except DiskFullError:
            self._disk.remove(RESET_NAME)
            raise
        finally:
            file.close()

    def _begin_anew(self, header: SegmentHeader) -> None:
        """From the marks on it is done: opening gives the segment its name (recovery.py)."""
        self._marks.store_durably(first_segment=header.number, synced_index=header.first_index - 1)
        name = segment_name(header.number)
        self._disk.rename(RESET_NAME, name)
        self._disk.fsync_folder("journal")
        self._obsolete.extend(segment.file for segment in self._segments)
        self._active = Segment(self._disk.open(name), header, self._marks.now.salt, is_linked=True)
        self._segments = [self._active]

    def bytes_after(self, index: int) -> int:
        """How many bytes the entries after index take."""
        total = 0
        for segment in reversed(self._segments):
            if index + 1 >= segment.first_index + len(segment.offsets):
                break
            total += segment.end - segment.offset_of(max(index + 1, segment.first_index))
        return total

    def index_before(self, tail_bytes: int) -> int:
        """The highest index behind which the entries take at least tail_bytes; first_index - 1 if there is none."""
        left = tail_bytes
        for segment in reversed(self._segments):
            size = segment.end - SEGMENT_HEADER_BYTES
            if size >= left:
                return segment.first_index - 1 + bisect_right(segment.offsets, segment.end - left) - (left > 0)
            left -= size
        return self.first_index - 1

    def close(self) -> None:
        """Close the files; what is not synced stays so. Waits for a sync that runs; one that has not begun fails."""
        if self._preparation is not None:
            self._preparation.cancel()
            self._preparation = None
        with self._gate.lock:
            self._jobs.clear()
            self._close_retired()
            for segment in self._segments:
                segment.file.close()
            self._marks.close()
        for wait in self._discards:
            wait()
        self._failure = self._failure or StorageError("it was closed")

    def _segment_of(self, index: int) -> Segment:
        assert self.first_index <= index <= self.last_index, (self.first_index, index, self.last_index)
        if index >= self._active.first_index:
            return self._active
        return self._segments[bisect_right(self._segments, index, key=lambda segment: segment.first_index) - 1]

    def _refusal(self) -> StorageError:
        return StorageError(f"the journal accepts nothing more after an error: {self._failure}")

    def _next_size(self) -> int:
        return min(self._options.segment_bytes, 2 * self._active.size)

    def _prepare_next(self) -> None:
        """Begin to make the next segment, if there is room; if not, the append that needs it will say so."""
        self._prepare_at += max(1, self._active.size // 16)
        if self._preparation is not None:
            return
        size = self._next_size()
        with suppress(StorageError):
            if self._reserve.try_restore() and self._disk.free_bytes() >= size:
                self._preparation = self._disk.prepare(segment_name(self._active.number + 1), size)

    def _roll_over(self, index: int, needed_bytes: int) -> Segment:
        """Make the next segment the active one. Raises DiskFullError, and then nothing has changed."""
        size = max(self._next_size(), SEGMENT_HEADER_BYTES + needed_bytes)
        preparation, self._preparation = self._preparation, None
        name = segment_name(self._active.number + 1)
        if preparation is None:
            if not self._reserve.try_restore() or self._disk.free_bytes() < size:
                raise DiskFullError(f"{name}: no room for its {size} bytes. Free some; the journal goes on by itself")
            preparation = self._disk.prepare(name, size)
        try:
            file = preparation.take()
            if file.size() < size:
                file.preallocate(size)
            header = SegmentHeader(self._marks.now.cluster, self._active.number + 1, index, self.last_term)
            file.pwrite(header.encode(), 0)
        except DiskFullError:
            preparation.cancel()
            raise
        except StorageError as error:
            self._failure = error
            raise
        segment = Segment(file, header, self._marks.now.salt, is_linked=preparation.is_linked())
        self._segments.append(segment)
        self._active = segment
        self._prepare_at = segment.size // 2
        return segment

    def _erase_half_written(self, segment: Segment, start: int, stop: int) -> None:
        try:
            erase(segment.file, start, stop)
        except StorageError as error:
            self._failure = error

    def _cut(self, segment: Segment, index: int) -> None:
        """Rule 2. The names come first: a cut must not be announced for a segment that a power loss may take away."""
        if any(not each.is_linked for each in self._segments):
            self._disk.fsync_folder("journal")
        start, stop = segment.offset_of(index), segment.end
        self._marks.store_durably(
            cut_segment=segment.number, cut_offset=start, synced_index=min(self.synced_index, index - 1)
        )
        if self._preparation is not None:
            self._preparation.cancel()
            self._preparation = None
        place = self._segments.index(segment) + 1
        victims, self._segments = self._segments[place:], self._segments[:place]
        self._remove(victims)
        self._disk.fsync_folder("journal")
        for each in self._segments:
            each.is_linked = True
        erase(segment.file, start, stop)
        segment.file.fdatasync()
        self._marks.store_durably(cut_segment=0, cut_offset=0)

    def _remove(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._disk.remove(segment.file.name)
            self._retired.append(segment.file)

    def _close_retired(self) -> None:
        """Close removed files once no thread can be syncing them: a closed descriptor's number may soon mean another
        file.
        """
        if not self._jobs:
            for file in self._retired:
                file.close()
            self._retired.clear()
            if self._obsolete:
                self._discards.append(self._disk.discard(self._obsolete))
                self._obsolete = []
                if len(self._discards) > 8:
                    self._discards.pop(0)()  # done long ago


def _new_segment(disk: Disk, header: SegmentHeader, salt: int, size: int) -> Segment:
    """The first segment of a new journal, durable."""
    preparation = disk.prepare(segment_name(header.number), size)
    file = preparation.take()
    file.pwrite(header.encode(), 0)
    file.fdatasync()
    disk.fsync_folder("journal")
    return Segment(file, header, salt, is_linked=True)
