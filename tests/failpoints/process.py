"""`python -m tests.failpoints.process CONFIG NAME LOG FOLDER [thorough]`: the lives of a node, one after the other.

It loads what a node needs once, and forks for each life: that costs some 20 ms instead of half a second, and is
`raftpay node run` for the rest. A line on stdin begins a life; the answers are its process id, and how it ended. Sizes
are far below what a configuration may ask for, so that every few hundred transfers bring all that is to be broken off.
"""

import importlib
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import raftpay.node.run as run_module
import raftpay.storage.directory as directory_module
from raftpay.config import ClusterConfig
from raftpay.ledger.window import WindowSizes
from raftpay.node.node import Node
from raftpay.ops.parent import die_with_parent
from raftpay_cli.root import run
from tests.failpoints.steps import Failpoints, WatchedDisk

KIB = 1 << 10
SIZES = WindowSizes(block_entries=50, segment_entries=250)
# Loaded when they are first used; here before the first fork.
LAZY_MODULES = ("duckdb", "uvloop", "raftpay_cli.node")


class SmallNode(Node):
    @classmethod
    async def start(cls, config: ClusterConfig, name: str) -> Node:
        journal = replace(config.journal, segment_bytes=8 * KIB, reserve_bytes=0)
        snapshot = replace(config.snapshot, log_bytes_max=16 * KIB, tail_bytes=0)
        return await super().start(replace(config, journal=journal, snapshot=snapshot), name, sizes=SIZES)


def main() -> None:
    config, name, log, folder, *thorough = sys.argv[1:]
    die_with_parent(os.getppid(), os.open(os.devnull, os.O_RDONLY))
    for module in LAZY_MODULES:
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    directory_module.RealDisk = WatchedDisk
    run_module.Node = SmallNode
    for _ in sys.stdin:
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            WatchedDisk.failpoints = Failpoints(Path(folder), is_thorough=bool(thorough))
            _live(launcher, ["--config", config, "--name", name], log)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _live(launcher: int, options: list[str], log: str) -> None:
    """A life. Never returns."""
    code = 1
    try:
        die_with_parent(launcher, os.open(os.devnull, os.O_RDONLY))
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
            os.dup2(source, descriptor)
        code = run(["node", "run", *options])
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
