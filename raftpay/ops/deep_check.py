"""`raftpay check --deep`: the data directories of the nodes that are on this machine.

Each archive is checked by itself (`raftpay.archive.deep`); the books are made again from snapshot and journal
(replay.py) and compared with it. Then each is compared with the others: segments of one number, entries of one index
and term, and the books behind one entry: the last that all have, or that at which running nodes were asked for theirs.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from raftpay.archive.deep import Finding, check_archive, knows_nothing
from raftpay.archive.parquet import ColumnStore, Store
from raftpay.errors import StorageError
from raftpay.ledger.window import WindowSizes
from raftpay.ops.replay import Replay, different_entries, different_states, last_entry, replay
from raftpay.storage.directory import held_unused, read_identity
from raftpay.storage.disk import RealDisk

_SIZES: Final = WindowSizes()
# Of a directory in which a node writes meanwhile: a new file of the journal may be seen before the end of the last one.
_TRIES_MAX: Final = 5
# Between two words about how far it is.
_TOLD_SEGMENTS: Final = 10


@dataclass(slots=True)
class ArchiveCheck:
    """What was found of one node. problem: why its archive could not be checked to the end, or None.

    cluster_id: "" where it could not be read; then replay is None.
    """

    node: str
    path: Path
    cluster_id: str = ""
    findings: list[Finding] = field(default_factory=list)
    replay: Replay | None = None
    problem: str | None = None

    @property
    def rows(self) -> int:
        return self.findings[-1].cut.rows.last if self.findings else 0

    @property
    def problems(self) -> list[str]:
        """All of them, each with its segment."""
        found = [f"segment {one.cut.number}: {problem}" for one in self.findings for problem in one.problems]
        found += [] if self.problem is None else [self.problem]
        return found if self.replay is None else found + self.replay.problems


@dataclass(frozen=True, slots=True)
class SeenBooks:
    """What running nodes have in memory. digests: of the state behind the entry of that index, by node."""

    index: int
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeepCheck:
    """The outcome. elsewhere: nodes whose directories are not on this machine. common: the entry behind which the books
    are compared.
    """

    archives: list[ArchiveCheck]
    elsewhere: list[str]
    common: SeenBooks

    @property
    def differences(self) -> list[str]:
        """What is not the same on all nodes."""
        replays = {archive.node: archive.replay for archive in self.archives if archive.replay is not None}
        return [
            *self._segments(),
            *different_entries(replays),
            *different_states(replays, self.common.index),
            *self._in_memory(replays),
        ]

    def _in_memory(self, replays: Mapping[str, Replay]) -> list[str]:
        """Running nodes whose books are not those that their disks give."""
        return [
            f"{name}: the books that it has in memory behind entry {self.common.index} are not those that its snapshot "
            "and its journal give"
            for name, made in replays.items()
            if made.common is not None and self.common.digests.get(name, made.common[1]) != made.common[1]
        ]

    def _segments(self) -> list[str]:
        digests: dict[int, dict[bytes, list[str]]] = {}
        for archive in self.archives:
            for finding in archive.findings:
                digests.setdefault(finding.cut.number, {}).setdefault(finding.cut.digest, []).append(archive.node)
        return [
            f"segment {number} is not the same on {' and '.join(', '.join(nodes) for nodes in found.values())}"
            for number, found in sorted(digests.items())
            if len(found) > 1
        ]

    @property
    def is_good(self) -> bool:
        return not self.differences and not any(archive.problems for archive in self.archives)


def check_deeply(
    directories: Mapping[str, Path],
    *,
    told: Callable[[str], None],
    running: SeenBooks | None = None,
    sizes: WindowSizes = _SIZES,
) -> DeepCheck:
    """Check what is here of these data directories, by node.

    told: what is done now. running: what nodes have said just before. sizes: those of the cluster.
    """
    store = ColumnStore()
    archives = [_opened(node, path) for node, path in directories.items() if path.is_dir()]
    known = [archive for archive in archives if archive.cluster_id]
    with ExitStack() as held:
        in_use = [archive.node for archive in known if not held.enter_context(held_unused(archive.path))]
        ends = (last_entry(archive.path, archive.cluster_id) for archive in known)
        common = SeenBooks(min(ends, default=0)) if running is None else running
        for archive in known:
            told(f"{archive.node}: replaying snapshot and journal")
            for _ in range(_TRIES_MAX if archive.node in in_use else 1):
                archive.replay = replay(archive.path, archive.cluster_id, store, sizes, common_index=common.index)
                if not archive.replay.problems:
                    break
            _check_sealed(archive, store, told)
    return DeepCheck(archives, [node for node, path in directories.items() if not path.is_dir()], common)


def _opened(node: str, path: Path) -> ArchiveCheck:
    try:
        return ArchiveCheck(node, path, read_identity(path)[0])
    except StorageError as error:
        return ArchiveCheck(node, path, problem=str(error))


def _check_sealed(archive: ArchiveCheck, store: Store, told: Callable[[str], None]) -> None:
    disk, made = RealDisk(archive.path), archive.replay
    told(f"{archive.node}: reading sealed history")
    try:
        for finding in check_archive(disk, archive.cluster_id, store, knows_nothing if made is None else made.beside):
            archive.findings.append(finding)
            if len(archive.findings) % _TOLD_SEGMENTS == 0:
                told(f"{archive.node}: reading sealed history from segment {len(archive.findings)} on")
    except StorageError as error:
        archive.problem = str(error)
    if made is not None:
        made.ledger = None  # it is compared, and the next one needs the room
