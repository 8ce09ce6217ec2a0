"""A node: introduces the rooms to each other, starts them in order and stops them in order.

It owns the data directory, journal, ledger, Raft member and client front of one member of the cluster. Signals, exit
codes and logging are `run`'s; several nodes may live in one process and on one loop, as the tests have them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from raftpay.archive.archive import Archive
from raftpay.archive.history import SealedFiles
from raftpay.config import KIB, MIB, ClusterConfig
from raftpay.ledger import Ledger
from raftpay.ledger.window import WindowSizes
from raftpay.machine import COMMAND_VERSION, Machine
from raftpay.node.calls import Refusals
from raftpay.node.front import ClientFront
from raftpay.node.group_commit import GroupCommit, GroupCommitOptions
from raftpay.node.log import log_line
from raftpay.node.methods import Methods
from raftpay.node.reads import LinearizableReads
from raftpay.node.scrubbing import Scrubbing
from raftpay.node.sealing import Sealing
from raftpay.raft import RaftNode, RaftOptions, SnapshotOptions, SnapshotParts
from raftpay.raft.catch_up import restore
from raftpay.storage.directory import DataDirectory
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Journal, JournalOptions
from raftpay.storage.snapshots import SnapshotStore

logger = logging.getLogger("raftpay.node")

_SIZES: Final = WindowSizes()


class Node:
    """One member of the cluster: `await Node.start(config, name)`, and later `await node.stop()`.

    clock_ns: nanoseconds since the epoch; the simulated clock of a test, or the machine's. sizes: of the parts of
    history; the same on all nodes and for ever, smaller ones only in tests.
    """

    def __init__(
        self,
        config: ClusterConfig,
        name: str,
        directory: DataDirectory,
        *,
        clock_ns: Callable[[], int],
        sizes: WindowSizes,
    ):
        """Open what is on the disk. Called by `start`."""
        self.config, self.name = config, name
        self.node_config = config.node(name)
        self._directory = directory
        self.journal = Journal.open(directory.disk, _journal_options(config))
        try:
            self.hard_state = HardStateFile.open(directory.disk, cluster_id=config.cluster_id)
            self.archive = Archive.open(directory.disk, config.cluster_id)
            self.ledger = Ledger(SealedFiles(self.archive), sizes=sizes)
            machine = Machine(self.ledger, self.archive)
            self.snapshots = SnapshotStore.open(directory.disk, config.cluster_id)
            restore(self.journal, self.snapshots, machine)
            # The room for copies is had now: taken from the system within the first snapshot it would hold the loop up.
            machine.image().release()
            self.raft = RaftNode(
                _raft_options(config, name),
                self.journal,
                self.hard_state,
                machine,
                snapshots=SnapshotParts(self.snapshots, machine, _snapshot_options(config)),
            )
            self.raft.copies.rate_bytes_s = config.snapshot.fetch_rate_bytes_max
            self.scrubbing = Scrubbing(
                config.scrub, self.raft, journal=self.journal, archive=self.archive, clock_ns=clock_ns
            )
            machine.on_applied = Sealing(self.ledger, self.archive, self.raft, asyncio.get_running_loop().time).look
        except BaseException:
            self.journal.close()
            raise
        refusals = Refusals(name, self._client_address)
        limits = config.limits
        self.group_commit = GroupCommit(GroupCommitOptions.of(config), self.raft, self.ledger, refusals, clock_ns)
        self.reads = LinearizableReads(
            self.raft, refusals, waiting_max=limits.queue_requests_max, timeout_s=limits.request_timeout_s
        )
        self.methods = Methods(
            config,
            name,
            self.raft,
            self.ledger,
            refusals=refusals,
            group_commit=self.group_commit,
            reads=self.reads,
            scrubbing=self.scrubbing,
        )
        self.front = ClientFront(limits, self.methods.dispatch)

    @classmethod
    async def start(
        cls,
        config: ClusterConfig,
        name: str,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        sizes: WindowSizes = _SIZES,
    ) -> "Node":
        """Open the data directory, listen to peers and clients, and take part.

        Raises ConfigError (a port is taken) and StorageError (the data directory is another's, in use, or damaged); all
        that was opened is closed again.
        """
        node_config = config.node(name)
        directory = DataDirectory.open(node_config.data, cluster_id=config.cluster_id, node_name=name)
        try:
            node = cls(config, name, directory, clock_ns=clock_ns, sizes=sizes)
        except BaseException:
            directory.close()
            raise
        try:
            await node.raft.start()
            await node.front.start(node_config.client)
            node.scrubbing.start()
        except BaseException:
            await node.close()
            raise
        node._log_start()
        return node

    def _client_address(self, name: str) -> str | None:
        """Where clients find a node: by the cluster file, else by what it was added with."""
        if name in self.config.nodes:
            return self.config.nodes[name].client
        member = self.raft.members.get(name)
        return None if member is None else member.client

    def _log_start(self) -> None:
        fields: dict[str, Any] = {  # Any: whatever a log line shows
            "node": self.name,
            "cluster": self.config.cluster_id,
            "peer": self.node_config.peer,
            "client": self.node_config.client,
            "data": self.node_config.data,
            "term": self.hard_state.term,
            "entries": self.journal.last_index - self.journal.first_index + 1,
            "recovery": self.journal.recovery,
            "snapshot": self.raft.snapshot_index,
            "segments": self.archive.segments,
        }
        log_line(logger, logging.INFO, "started", **fields)

    async def stop(self) -> None:
        """Stop in good order: no new writes, finish those accepted, hand over the leadership, snapshot, close."""
        limits = self.config.limits
        self.front.stop_listening()
        self.group_commit.close()
        if not await self.group_commit.drain(limits.stop_timeout_s):
            log_line(logger, logging.WARNING, "writes unfinished at the stop", stop_timeout_s=limits.stop_timeout_s)
        if self.raft.role == "leader":
            handed_over = await self.raft.transfer_leadership(self.config.raft.transfer_timeout_s)
            log_line(logger, logging.INFO, "leadership handed over" if handed_over else "nobody took the leadership")
        await self.raft.take_snapshot(limits.stop_timeout_s)
        await self.close()
        log_line(logger, logging.INFO, "stopped", node=self.name)

    async def close(self) -> None:
        """Close at once: what is in flight is answered as unknown. The journal keeps all that was acknowledged."""
        self.scrubbing.stop()
        await self.reads.close()
        self.group_commit.abandon()
        await self.front.stop()
        await self.raft.stop()
        self.archive.close()
        self.journal.close()
        self._directory.close()

    async def wait_failed(self) -> Exception:
        """Wait until the engine has stopped itself, and return why. Never returns on a healthy node."""
        # Whoever gives the waiting up must not cancel the future itself: the engine would take itself for stopped.
        return await asyncio.shield(self.raft.failure)


def _journal_options(config: ClusterConfig) -> JournalOptions:
    journal = config.journal
    return JournalOptions(
        segment_bytes=journal.segment_bytes,
        first_segment_bytes=min(journal.segment_bytes, 4 * MIB),
        cache_bytes=journal.cache_bytes,
        reserve_bytes=journal.reserve_bytes,
        # The engine puts a byte of its own before a payload.
        payload_bytes_max=config.entry_bytes_max + KIB,
        cluster_id=config.cluster_id,
    )


def _snapshot_options(config: ClusterConfig) -> SnapshotOptions:
    snapshot = config.snapshot
    return SnapshotOptions(
        log_bytes_max=snapshot.log_bytes_max,
        tail_bytes=snapshot.tail_bytes,
        chunk_bytes=min(256 * KIB, config.raft.append_bytes_max),
        rate_bytes_s=snapshot.fetch_rate_bytes_max,
        pin_log_bytes_max=8 * snapshot.log_bytes_max,
    )


def _raft_options(config: ClusterConfig, name: str) -> RaftOptions:
    raft = config.raft
    return RaftOptions(
        name=name,
        cluster_id=config.cluster_id,
        peers={node.name: node.peer for node in config.nodes.values()},
        clients={node.name: node.client for node in config.nodes.values()},
        command_version=COMMAND_VERSION,
        founders=tuple(node.name for node in config.nodes.values() if not node.joins),
        election_timeout_min_s=raft.election_timeout_min_s,
        election_timeout_max_s=raft.election_timeout_max_s,
        heartbeat_s=raft.heartbeat_s,
        entry_bytes_max=config.entry_bytes_max,
        append_bytes_max=raft.append_bytes_max,
        window_bytes_max=raft.window_bytes_max,
    )
