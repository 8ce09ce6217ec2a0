"""Putting a node's data aside, so that it begins anew from its peers. Called by `raftpay node rebuild`.

What makes the return safe is not here: an empty directory is another incarnation, which its peers do not count until
it has caught up (raft/membership.py).
"""

import os
import time
from pathlib import Path

from raftpay.config import ClusterConfig
from raftpay.errors import DataDirectoryError, LocalClusterError
from raftpay.ops.probe import ask_all, probe
from raftpay.storage.directory import take_lock
from raftpay.storage.disk import RealDisk, storage_error


def put_aside(config: ClusterConfig, name: str, *, needs_leader: bool) -> Path | None:
    """Rename the node's data directory; returns its new path, None if it had no data.

    Raises LocalClusterError where needs_leader and no other node leads with a majority, DataDirectoryError while the
    node runs, StorageError.
    """
    path = config.node(name).data
    if needs_leader:
        _check_served(config, name)
    if not path.is_dir() or not any(path.iterdir()):
        return None
    lock = take_lock(path)
    try:
        aside = path.with_name(f"{path.name}.aside-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        if aside.exists():
            raise DataDirectoryError(f"{aside} exists; run it again in a second, or move that away")
        try:
            path.rename(aside)
            RealDisk(path.parent).fsync_folder()
        except OSError as error:
            raise storage_error(error, f"putting {path} aside") from error
    finally:
        os.close(lock)
    return aside


def _check_served(config: ClusterConfig, name: str) -> None:
    """Without a leader the node could not come back, and what is on its disk may be needed."""
    others = {node.name: node.client for node in config.nodes.values() if node.name != name}
    seen = ask_all(others, lambda address: probe(address))
    if not any(status is not None and status.is_ready and status.has_quorum for status in seen.values()):
        down = ", ".join(other for other, status in seen.items() if status is None) or "none"
        raise LocalClusterError(
            f"no other node leads with a majority behind it (down: {down}), so {name} could fetch nothing, and its "
            "data may be the last. Start the other nodes first; with --force it is put aside all the same"
        )
