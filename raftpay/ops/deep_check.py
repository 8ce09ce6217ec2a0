"""`raftpay check --deep`: the data directories of the nodes that are on this machine.

Each archive is checked by itself (`raftpay.archive.deep`); where no node uses the directory, the books are made again
from snapshot and journal (replay.py) and compared with it. Then each is compared with the others: segments of one
number, entries of one index and term, and the books behind the last entry that all have.
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
# Between two words about how far it is.
_TOLD_SEGMENTS: Final = 10


@dataclass(slots=True)
class ArchiveCheck:
    """What was found of one node. problem: why its archive could not be checked to the end, or None.

    cluster_id: "" where it could not be read. replay: None where a node uses the directory.
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
class DeepCheck:
    """The outcome. elsewhere: nodes whose directories are not on this machine. common_index: the last entry that all
    journals have that were replayed.
    """

    archives: list[ArchiveCheck]
    elsewhere: list[str]
    common_index: int

    @property
    def differences(self) -> list[str]:
        """What is not the same on all nodes."""
        replays = {archive.node: archive.replay for archive in self.archives if archive.replay is not None}
        return [
            *self._segments(),
            *different_entries(replays),
            *different_states(replays, self.common_index),
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
    directories: Mapping[str, Path], *, told: Callable[[str], None], sizes: WindowSizes = _SIZES
) -> DeepCheck:
    """Check what is here of these data directories, by node. told: what is done now. sizes: those of the cluster."""
    store = ColumnStore()
    archives = [_opened(node, path) for node, path in directories.items() if path.is_dir()]
    known = [archive for archive in archives if archive.cluster_id]
    with ExitStack() as held:
        unused = [archive for archive in known if held.enter_context(held_unused(archive.path))]
        common_index = min((last_entry(archive.path, archive.cluster_id) for archive in unused), default=0)
        for archive in known:
            if archive in unused:
                told(f"{archive.node}: replaying snapshot and journal")
                archive.replay = replay(archive.path, archive.cluster_id, store, sizes, common_index=common_index)
            _check_sealed(archive, store, told)
    return DeepCheck(archives, [node for node, path in directories.items() if not path.is_dir()], common_index)


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
