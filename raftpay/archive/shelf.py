"""Which segments lie on a disk, and make a chain. Only reads: it may look at the directory of a running node.

A segment counts if all of its files are there, and it carries the digest of the one before. What its files hold is
believed here; `Archive` and deep.py compare it with the digest.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from raftpay.archive.chain import FOLDER, Cut, file_name, lookup_of, read_about, segments_in
from raftpay.archive.columns import TABLES, TRANSFERS, Columns, Segment, genesis, moves_of
from raftpay.archive.files import read_whole
from raftpay.archive.lookup import LookupHeader, read_header
from raftpay.archive.parquet import Rows, Store
from raftpay.errors import CorruptionError
from raftpay.storage.disk import Disk
from raftpay.storage.records import REBUILD_ADVICE

_NOTHING: Final[dict[str, list[str]]] = {}
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Shelf:
    """The files of segments in a data directory. store: reads what they say."""

    def __init__(self, disk: Disk, store: Store) -> None:
        self._disk, self._store = disk, store

    def cuts(self, cluster_id: str) -> list[Cut]:
        """Of all segments from the first on, as far as there is no gap."""
        return list(self.cuts_after(0, genesis(cluster_id)))

    def cuts_after(self, number: int, previous: bytes) -> Iterator[Cut]:
        """Those that follow on `number` segments whose last has the digest `previous`."""
        lying = segments_in(f"{FOLDER}/{name}" for name in self._disk.list(FOLDER))
        while (cut := self._next(lying.get(number, _NOTHING), number, previous)) is not None:
            yield cut
            number, previous = number + 1, cut.digest

    def _next(self, found: dict[str, list[str]], number: int, previous: bytes) -> Cut | None:
        """The complete segment among these files that follows on the one before."""
        cuts = [cut for names in found.values() if (cut := self._cut(names[0])).file_names == sorted(names)]
        cuts = [cut for cut in cuts if (cut.number, cut.previous) == (number, previous)]
        if len(cuts) > 1:
            several = ", ".join(name for cut in cuts for name in cut.file_names)
            raise CorruptionError(f"segment {number} is there more than once: {several}. {REBUILD_ADVICE}")
        return cuts[0] if cuts else None

    def _cut(self, name: str) -> Cut:
        """What the lookup file knows of the segment, else what its own file says."""
        header = self.header(lookup_of(name))
        if header is not None:
            return header.cut
        return read_about(name, self._store.about(name, read_whole(self._disk, name)))

    def header(self, name: str) -> LookupHeader | None:
        """That of a lookup file, None where there is none that can be believed."""
        if not self._disk.exists(name):
            return None
        file = self._disk.open(name)
        try:
            return read_header(file)[0]
        except CorruptionError:
            return None
        finally:
            file.close()

    def segment(self, cut: Cut, instead: Mapping[str, str] = NOTHING) -> Segment:
        """What its files hold. Raises CorruptionError where they cannot be read, or it is not what was sealed.

        instead: where to read a file of the segment, by its name, if not where it belongs.
        """
        tables: dict[str, Columns] = {}
        for table, span in zip(TABLES, cut.spans, strict=True):
            if not span.count:
                tables[table.name] = Columns.empty(table, span.first)
                continue
            name = file_name(cut, table.name)
            data = read_whole(self._disk, instead.get(name, name))
            tables[table.name] = self._store.decode(name, data, Rows(table, span.first, span.count))
        numbers = tables[TRANSFERS.name].numbers
        segment = Segment(cut.number, cut.time, tables, moves_of(numbers["debit"], numbers["credit"]))
        if segment.digest(cut.previous) != cut.digest:
            raise CorruptionError(f"{', '.join(cut.file_names)}: the rows are not those that were sealed")
        return segment
