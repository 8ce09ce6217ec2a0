"""The segments of one data directory: sealed, opened again, taken in from a peer; with what is derived from each.

Only complete segments count, from the first on without a gap, each with the digest of the one before: the files of any
other are passed over. What is derived (lookup files, runs of the id index) is made again where it is missing or
damaged. One thread seals; any may ask meanwhile (history.py), and is answered from the segments before.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from raftpay.archive import chain, runs
from raftpay.archive.chain import Cut, SegmentFile, cut_of, file_name, lookup_name
from raftpay.archive.columns import TABLES, Segment, Table, genesis, segment_of
from raftpay.archive.files import parts_of, publish, read_whole, sha256
from raftpay.archive.ids import IdIndex, Key, Run, merged, run_of
from raftpay.archive.lookup import LookupHeader, encode_lookup, read_header
from raftpay.archive.lookup_read import Lookup
from raftpay.archive.pages import PageDamagedError
from raftpay.archive.parquet import ColumnStore, Store
from raftpay.archive.shelf import Shelf
from raftpay.errors import CorruptionError
from raftpay.ledger.sealed import SegmentRows
from raftpay.storage.disk import Disk
from raftpay.storage.records import REBUILD_ADVICE
from raftpay.storage.snapshots import Steps

# Files that are open at a time; the others are opened when they are asked.
_OPEN_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Sealed:
    """All that counts at one moment.

    headers: of the segments, by their number. bases: the ordinal of the first id of each; the ids of a segment are
    those of its rows, then its failed ones. time_ends: the greatest time of any row up to the end of each.
    """

    headers: tuple[LookupHeader, ...] = ()
    bases: tuple[int, ...] = ()
    time_ends: tuple[int, ...] = ()

    def with_next(self, header: LookupHeader) -> "Sealed":
        cut = header.cut
        time_end = max(header.time_max, self.time_ends[-1] if self.time_ends else 0)
        base = cut.rows.first + cut.failed.first
        return Sealed((*self.headers, header), (*self.bases, base), (*self.time_ends, time_end))

    @property
    def end(self) -> int:
        """How many rows are sealed."""
        return self.headers[-1].cut.rows.last if self.headers else 0

    def segment_of_row(self, row: int) -> int:
        """The number of the segment that has the row."""
        return bisect_right(self.headers, row, key=lambda header: header.cut.rows.first) - 1

    def segment_of_ordinal(self, ordinal: int) -> int:
        return bisect_right(self.bases, ordinal) - 1


class Archive:
    """disk: the data directory. sealed: what counts. index: of all its ids."""

    def __init__(self, disk: Disk, cluster_id: str, store: Store | None = None) -> None:
        self.disk = disk
        self.store: Store = store or ColumnStore()
        self.sealed = Sealed()
        self.index = IdIndex(Key(disk.random_u32() << 32 | disk.random_u32()))
        self._shelf = Shelf(disk, self.store)
        self._genesis = genesis(cluster_id)
        self._opened: OrderedDict[int, Lookup] = OrderedDict()

    @classmethod
    def open(cls, disk: Disk, cluster_id: str, store: Store | None = None) -> Self:
        """What is sealed on this disk. store: one that others of this process use too; its own where it is None.

        Raises FormatVersionError, and CorruptionError for a segment that is not what was sealed.
        """
        archive = cls(disk, cluster_id, store)
        for folder in (chain.FOLDER, chain.DERIVED_FOLDER):
            disk.make_folder(folder)
            for name in archive._names(folder):
                if name.endswith(".tmp"):
                    disk.remove(name)
            # What a killed process renamed and did not sync is relied on from now on.
            disk.fsync_folder(folder)
        for _ in archive.take_in():
            continue
        return archive

    @property
    def segments(self) -> int:
        """How many segments are sealed, numbered from 0."""
        return len(self.sealed.headers)

    @property
    def files(self) -> list[SegmentFile]:
        """All files of all segments."""
        return [file for header in self.sealed.headers for file in header.files]

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()

    # ---- sealing

    def seal(self, rows: SegmentRows) -> Steps:
        """Seal what the ledger has closed; when the last step is done, it counts. Done again, it compares only.

        Raises DiskFullError: nothing has changed, try again. CorruptionError: what is sealed under that number is not
        what the ledger has; the node must stop.
        """
        segment = segment_of(rows)
        yield
        if segment.number < self.segments:
            self._check_same(segment)
            return
        assert segment.number == self.segments, f"segment {segment.number} comes after {self.segments}"
        cut = cut_of(segment, self._previous(segment.number))
        yield
        files = []
        for table in TABLES:
            if len(segment.tables[table.name]):
                sealed: list[SegmentFile] = []
                yield from self._seal_table(segment, cut, table, sealed)
                files += sealed
        yield from self._derive(segment, cut, files)
        yield from self._merge_runs()

    def _seal_table(self, segment: Segment, cut: Cut, table: Table, sealed: list[SegmentFile]) -> Steps:
        """Write the table's file, and read its rows back from the disk. Adds it to those that are sealed."""
        name = file_name(cut, table.name)
        data, checksum = self.store.encode(segment.tables[table.name], chain.about(cut))
        yield
        yield from publish(self.disk, name, parts_of(data))
        file = SegmentFile(name, len(data), sha256(data))
        del data  # Not held beside what is read back.
        if self.store.checksum(name, read_whole(self.disk, name), table) != checksum:
            raise CorruptionError(f"{name}: the rows read back are not those that were sealed. {REBUILD_ADVICE}")
        sealed.append(file)
        yield

    def _check_same(self, segment: Segment) -> None:
        found = self.sealed.headers[segment.number].cut
        if segment.digest(found.previous) != found.digest:
            raise CorruptionError(
                f"segment {segment.number} on this disk is not what the log gives: one of the two was changed. "
                f"{REBUILD_ADVICE}"
            )

    def _previous(self, number: int) -> bytes:
        return self.sealed.headers[number - 1].cut.digest if number else self._genesis

    def _derive(self, segment: Segment, cut: Cut, files: list[SegmentFile]) -> Steps:
        """Make what belongs to the segment, and let it count."""
        yield from publish(self.disk, lookup_name(cut), encode_lookup(segment, cut, files))
        run = self._run(segment, cut)
        yield
        yield from publish(self.disk, runs.run_name(run), runs.encode_run(run, self.index.key, cut.digest))
        self.index.add(run)
        self._count(lookup_name(cut))

    def _run(self, segment: Segment, cut: Cut) -> Run:
        ids = segment.transfers.texts["id"] + segment.failed.texts["id"]
        return run_of(self.index.key, ids, cut.number, cut.rows.first + cut.failed.first)

    def _count(self, name: str) -> None:
        self.sealed = self.sealed.with_next(self._read_header(name))

    def _read_header(self, name: str) -> LookupHeader:
        file = self.disk.open(name)
        try:
            return read_header(file)[0]
        finally:
            file.close()

    def _merge_runs(self) -> Steps:
        """Few runs are asked faster than many. Whatever happens on the way, the ones that are there cover all ids."""
        while group := self.index.to_merge():
            run = merged(group)
            yield
            digest = self.sealed.headers[run.segments[1]].cut.digest
            yield from publish(self.disk, runs.run_name(run), runs.encode_run(run, self.index.key, digest))
            self.index.add(run)
            for old in group:
                self.disk.remove(runs.run_name(old))
            yield

    # ---- what lies there

    def take_in(self) -> Steps:
        """Let the segments count that lie on the disk behind those that do: after a start, or when they were fetched.

        Raises CorruptionError for one that is not what was sealed. What is no part of the chain is passed over.
        """
        waiting = list(self._shelf.cuts_after(self.segments, self._previous(self.segments)))
        self._load_runs(waiting)
        for cut in waiting:
            yield
            yield from self._take(cut)
        yield from self._merge_runs()
        if waiting:
            self.store.rest()

    def _take(self, cut: Cut) -> Steps:
        """Let a segment count, with what is there of that which is derived from it."""
        header = self._shelf.header(lookup_name(cut))
        has_run = any(run.segments[0] <= cut.number <= run.segments[1] for run in self.index.runs)
        if header is not None and header.cut == cut and has_run and self._has_sizes(header.files):
            self.sealed = self.sealed.with_next(header)
            return
        files = [self._file(file_name(cut, table)) for table in cut.tables]
        yield
        segment = self._shelf.segment(cut)
        yield
        if not has_run:
            yield from self._derive(segment, cut, files)
            return
        yield from publish(self.disk, lookup_name(cut), encode_lookup(segment, cut, files))
        self._count(lookup_name(cut))

    def _has_sizes(self, files: Iterable[SegmentFile]) -> bool:
        for known in files:
            file = self.disk.open(known.name)
            try:
                if file.size() != known.size_bytes:
                    return False
            finally:
                file.close()
        return True

    def _file(self, name: str) -> SegmentFile:
        data = read_whole(self.disk, name)
        return SegmentFile(name, len(data), sha256(data))

    def _load_runs(self, cuts: list[Cut]) -> None:
        """Read the runs of segments that do not count yet, as far as they follow on those of the index."""
        if self.segments or not cuts:
            return
        names = self._names(chain.DERIVED_FOLDER)
        chosen = runs.covering(names, len(cuts))
        loaded: list[Run] = []
        seed = self.index.key.seed
        for name in chosen:
            try:
                run, seed_of_run, digest = runs.read_run(self.disk, name)
            except CorruptionError:
                break
            if digest != cuts[run.segments[1]].digest or (loaded and seed_of_run != seed):
                break
            seed = seed_of_run
            loaded.append(run)
        self.index = IdIndex(Key(seed), loaded)
        for name in names:
            if runs.segments_of(name) and name not in {runs.run_name(run) for run in loaded}:
                self.disk.remove(name)

    def _names(self, folder: str) -> list[str]:
        return [f"{folder}/{name}" for name in self.disk.list(folder)]

    # ---- reading

    def lookup(self, number: int) -> Lookup:
        """The lookup file of a segment, open. Raises CorruptionError. To be used at once, and not kept."""
        known = self._opened.get(number)
        if known is None:
            known = self._opened[number] = Lookup(self.disk.open(lookup_name(self.sealed.headers[number].cut)))
            if len(self._opened) > _OPEN_MAX:
                self._opened.popitem(last=False)[1].close()
        self._opened.move_to_end(number)
        return known

    def repair(self, damaged: PageDamagedError) -> None:
        """Make a lookup file again, at once. Raises CorruptionError where the segment itself is damaged."""
        if self._header_of(damaged.name) is None:
            raise damaged
        for _ in self.make_again(damaged.name):
            continue
        self.reopen(damaged.name)

    def reopen(self, name: str) -> None:
        """A lookup file is another one: what is asked next opens it anew. On the thread that asks."""
        header = self._header_of(name)
        if header is not None and (known := self._opened.pop(header.cut.number, None)) is not None:
            known.close()

    def _header_of(self, name: str) -> LookupHeader | None:
        """Of the segment that has this lookup file."""
        return next((header for header in self.sealed.headers if lookup_name(header.cut) == name), None)

    # ---- what is damaged

    @property
    def derived(self) -> list[str]:
        """The files that this node has made for itself of the segments, and can make again."""
        return [
            *(lookup_name(header.cut) for header in self.sealed.headers),
            *(runs.run_name(run) for run in self.index.runs),
        ]

    def make_again(self, name: str) -> Steps:
        """Make one of `derived` again. Raises CorruptionError where the segment itself is damaged."""
        header = self._header_of(name)
        if header is not None:
            segment = self._shelf.segment(header.cut)
            yield
            yield from publish(self.disk, name, encode_lookup(segment, header.cut, header.files))
            return
        for run in self.index.runs:
            if runs.run_name(run) == name:
                digest = self.sealed.headers[run.segments[1]].cut.digest
                yield from publish(self.disk, name, runs.encode_run(run, self.index.key, digest))

    def replace(self, name: str, copy: str) -> Steps:
        """Put what was fetched from another node, and lies under the name `copy`, in the place of a file of a segment.

        Its bytes are those that were sealed here, or its rows are: another release may have packed them otherwise.
        Raises CorruptionError, with the copy removed, where neither is so.
        """
        header = next(header for header in self.sealed.headers if any(file.name == name for file in header.files))
        file = self.disk.open(copy)
        file.fdatasync()
        file.close()
        yield
        try:
            found = self._file(copy)
            yield
            known = next(file for file in header.files if file.name == name)
            is_same = (found.size_bytes, found.sha256) == (known.size_bytes, known.sha256)
            segment = None if is_same else self._shelf.segment(header.cut, {name: copy})
        except CorruptionError:
            self.disk.remove(copy)
            raise
        yield
        self.disk.rename(copy, name)
        self.disk.fsync_folder(chain.FOLDER)
        if segment is None:
            return
        files = [SegmentFile(name, found.size_bytes, found.sha256) if f.name == name else f for f in header.files]
        yield from publish(self.disk, lookup_name(header.cut), encode_lookup(segment, header.cut, files))
        headers = list(self.sealed.headers)
        headers[header.cut.number] = self._read_header(lookup_name(header.cut))
        self.sealed = Sealed(tuple(headers), self.sealed.bases, self.sealed.time_ends)
