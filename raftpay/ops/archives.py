"""The data directories of nodes on this machine, and the sealed history in them; a node may run there meanwhile."""

from collections.abc import Mapping
from pathlib import Path

from raftpay.archive.chain import Cut
from raftpay.archive.parquet import ColumnStore
from raftpay.archive.shelf import Shelf
from raftpay.errors import ConfigError
from raftpay.storage.directory import read_identity
from raftpay.storage.disk import RealDisk


def data_directory(directories: Mapping[str, Path], node: str | None) -> Path:
    """That of the node named, else the first of them that is on this machine. directories: by the name of the node.

    Raises ConfigError: there is no such node, or none has its directory here.
    """
    if node is not None and node not in directories:
        raise ConfigError(f"there is no node {node!r} in the cluster; there are {', '.join(directories)}")
    wanted = list(directories.values()) if node is None else [directories[node]]
    here = [path for path in wanted if path.is_dir()]
    if not here:
        raise ConfigError(
            f"no data directory is on this machine: {', '.join(map(str, wanted))}. "
            "Run this where a node runs, or name a copy of its directory with --data"
        )
    return here[0]


def sealed_cuts(path: Path) -> list[Cut]:
    """The segments that are sealed in a data directory. Raises StorageError."""
    cluster_id, _ = read_identity(path)
    return Shelf(RealDisk(path), ColumnStore()).cuts(cluster_id)
