"""`raftpay check --deep`: the sealed history of the nodes whose data directories are on this machine.

Each archive is checked by itself (`raftpay.archive.deep`), and then against the others: where two have a segment of one
number, it must be the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raftpay.archive.deep import Finding, check_archive
from raftpay.archive.parquet import ColumnStore
from raftpay.errors import StorageError
from raftpay.storage.directory import read_identity
from raftpay.storage.disk import RealDisk


@dataclass(slots=True)
class ArchiveCheck:
    """What was found of one node. problem: why its archive could not be checked to the end, or None."""

    node: str
    path: Path
    findings: list[Finding] = field(default_factory=list)
    problem: str | None = None

    @property
    def rows(self) -> int:
        return self.findings[-1].cut.rows.last if self.findings else 0

    @property
    def problems(self) -> list[str]:
        """All of them, each with its segment."""
        found = [f"segment {one.cut.number}: {problem}" for one in self.findings for problem in one.problems]
        return found if self.problem is None else [*found, self.problem]


@dataclass(frozen=True, slots=True)
class DeepCheck:
    """The outcome. elsewhere: nodes whose directories are not on this machine."""

    archives: list[ArchiveCheck]
    elsewhere: list[str]

    @property
    def differences(self) -> list[str]:
        """Segments that are not the same on all nodes."""
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


def check_deeply(directories: Mapping[str, Path], *, told: Callable[[str, int], None]) -> DeepCheck:
    """Check what is here of these data directories, by node. told: the node, and the segment that comes next."""
    store = ColumnStore()
    archives: list[ArchiveCheck] = []
    for node, path in directories.items():
        if not path.is_dir():
            continue
        archive = ArchiveCheck(node, path)
        archives.append(archive)
        told(node, 0)
        try:
            cluster_id, _ = read_identity(path)
            for finding in check_archive(RealDisk(path), cluster_id, store):
                archive.findings.append(finding)
                told(node, finding.cut.number + 1)
        except StorageError as error:
            archive.problem = str(error)
    return DeepCheck(archives, [node for node, path in directories.items() if not path.is_dir()])
