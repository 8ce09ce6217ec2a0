"""The data directories of nodes on this machine, and the sealed history in them; a node may run there meanwhile."""

from collections.abc import Mapping
from pathlib import Path

from raftpay.archive.chain import FOLDER, Cut, segments_in
from raftpay.archive.parquet import ColumnStore
from raftpay.archive.shelf import Shelf
from raftpay.archive.sql import DAMAGE_ADVICE
from raftpay.errors import ConfigError, CorruptionError
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
    """The segments that are sealed in a data directory.

    Raises StorageError; CorruptionError where one is not whole though another lies behind it: that is no history.
    """
    cluster_id, _ = read_identity(path)
    disk = RealDisk(path)
    # Listed first, for a running node may seal more meanwhile; of its newest one some files may be there already.
    newest = max(segments_in(f"{FOLDER}/{name}" for name in disk.list(FOLDER)), default=0)
    cuts = Shelf(disk, ColumnStore()).cuts(cluster_id)
    if newest > len(cuts):
        raise CorruptionError(
            f"{path / FOLDER}: segment {len(cuts)} is not whole, or not that which the next one follows on, though "
            f"segment {newest} is there. {DAMAGE_ADVICE}"
        )
    return cuts
