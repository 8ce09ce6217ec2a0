"""Rounds of faults against a cluster of real processes under load, then the proof that nothing was lost or doubled.

A round: something breaks for a while, is mended, and the payers must get on. Which node is hit, and for how long, comes
from a seed; what the machine makes of it does not, so that a seed says what was done and not what will happen.
"""

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raftpay.client import AsyncClient
from raftpay.config import render_local
from raftpay.ops.local import CONFIG_NAME, LocalCluster, NodeState
from raftpay.ops.ports import free_pairs
from raftpay.ops.probe import probe
from tests.faults.network import NODE_HOST, Cuts
from tests.payers import Payers, check_every_node, open_accounts

# The load that must get through after each fault, and while a minority is hit.
ACKNOWLEDGED_PER_ROUND = 200
LASTS_S = (0.2, 2.5)
# A disk for each node that has to be full soon: small segments, so that the journal soon wants another one.
DISK_MB = 512
DISK_SETTINGS = (
    "[journal]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n"
    # The journal of all rounds would fill it for good.
    "[snapshot]\nlog_bytes_max = 8388608\ntail_bytes = 1048576\n"
)
# What makes a node want room: some megabytes of journal. Where it is the leader it will not come so far.
ACKNOWLEDGED_WHILE_FULL = 30_000
FULL_LASTS_MAX_S = 6.0
PROGRESS_TIMEOUT_S = 45
# A rebuilt node fetches a snapshot, and not only the log; the books grow from round to round.
WIPE_SETTINGS = "[snapshot]\nlog_bytes_max = 8388608\ntail_bytes = 1048576\n"
REBUILD_TIMEOUT_S = 150
CLOCKS_VARIABLE = "RAFTPAY_TEST_CLOCKS"
# Those that a process may be put through anywhere, and those that need a network or mounts of one's own.
SIGNAL_KINDS = ("kill", "pause", "blackout", "wipe", "clock")
NAMESPACE_KINDS = ("oneway", "isolate", "loss", "full")
KINDS = (*SIGNAL_KINDS, *NAMESPACE_KINDS)


@dataclass(frozen=True, slots=True)
class Report:
    """kind, rounds: what was done. acknowledged: transfers, all of them found on every node. seed: of the choices."""

    kind: str
    rounds: int
    acknowledged: int
    longest_gap_s: float
    seconds: float
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.kind:<9}{self.rounds:>4} rounds  {self.acknowledged:>8,} acknowledged, lost 0, doubled 0  "
            f"longest silence {self.longest_gap_s:5.2f} s  {self.seconds:6.1f} s  seed {self.seed}"
        )


def run_kind(kind: str, *, nodes: int, rounds: int, seed: int, folder: Path) -> Report:
    """All rounds of one kind on a fresh cluster in this folder. Raises what goes wrong; the folder then tells more."""
    began_s = time.monotonic()
    directory = folder / f"{kind}-{seed}"
    hosts = _write_config(directory, nodes, kind)
    # The nodes inherit it: tests/faults/clocks/sitecustomize.py lets their wall clocks be off.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "clocks")
    os.environ[CLOCKS_VARIABLE] = str(directory / "clocks")
    (directory / "clocks").mkdir()
    with _disks(directory, list(hosts), kind), LocalCluster(directory, nodes=nodes) as cluster:
        cluster.wait_ready()
        payers, gap_s = asyncio.run(_run(cluster, kind, rounds, random.Random(seed), Cuts(hosts)))
        return Report(kind, rounds, len(payers.acknowledged), gap_s, time.monotonic() - began_s, seed)


def _write_config(directory: Path, nodes: int, kind: str) -> dict[str, str]:
    """A cluster file as this kind of fault needs it; returns the peer host of each node."""
    directory.mkdir(parents=True)
    ports = free_pairs(nodes)
    text = render_local(cluster_id="faults", ports=ports)
    hosts: dict[str, str] = {}
    for number, (peer_port, _) in enumerate(ports, start=1):
        hosts[f"n{number}"] = host = NODE_HOST.format(number) if kind in NAMESPACE_KINDS else "127.0.0.1"
        text = text.replace(f'peer = "127.0.0.1:{peer_port}"', f'peer = "{host}:{peer_port}"')
    (directory / CONFIG_NAME).write_text(text + {"full": DISK_SETTINGS, "wipe": WIPE_SETTINGS}.get(kind, ""))
    return hosts


@contextlib.contextmanager
def _disks(directory: Path, names: list[str], kind: str) -> Iterator[None]:
    """For full disks: a small file system for each node, gone at the end."""
    mounted = []
    try:
        if kind == "full":
            for name in names:
                (directory / name).mkdir()
                options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "raftpay-faults", str(directory / name)]
                subprocess.run(["mount", *options], check=True)
                mounted.append(directory / name)
        yield
    finally:
        for mount in mounted:
            subprocess.run(["umount", str(mount)], check=True)


async def _run(cluster: LocalCluster, kind: str, rounds: int, dice: random.Random, cuts: Cuts) -> tuple[Payers, float]:
    faults = _Faults(cluster, dice, cuts)
    async with AsyncClient(cluster.addresses, deadline_s=30) as client:
        await open_accounts(client)
        payers = Payers(client, dice.randrange(2**32))
        load = asyncio.create_task(payers.run())
        try:
            async with _longest_gap(payers) as gaps:
                for _ in range(rounds):
                    await _progress(payers)
                    async with faults.struck(kind):
                        await _last(kind, payers, dice)
                    await _progress(payers)
            payers.is_over.set()
            await load
        finally:
            load.cancel()
        for name in cluster.names:
            await asyncio.to_thread(cluster.wait_answer, name)
        await check_every_node(cluster, payers)
    return payers, max(gaps)


async def _last(kind: str, payers: Payers, dice: random.Random) -> None:
    """Let the fault last: long enough to be felt."""
    if kind == "full":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FULL_LASTS_MAX_S):
                await payers.wait_for_more(ACKNOWLEDGED_WHILE_FULL)
    else:
        await asyncio.sleep(dice.uniform(*LASTS_S))


async def _progress(payers: Payers) -> None:
    """Liveness: once a majority is well, transfers are acknowledged."""
    async with asyncio.timeout(PROGRESS_TIMEOUT_S):
        await payers.wait_for_more(ACKNOWLEDGED_PER_ROUND)


@contextlib.asynccontextmanager
async def _longest_gap(payers: Payers) -> AsyncIterator[list[float]]:
    """Measures the silences between acknowledgements while the body runs."""
    gaps = [0.0]

    async def watch() -> None:
        while True:
            since = time.monotonic()
            await payers.wait_for_more(1)
            gaps.append(time.monotonic() - since)

    watcher = asyncio.create_task(watch())
    try:
        yield gaps
    finally:
        watcher.cancel()


class _Faults:
    """Breaks things and mends them."""

    def __init__(self, cluster: LocalCluster, dice: random.Random, cuts: Cuts) -> None:
        self._cluster, self._dice, self._cuts = cluster, dice, cuts
        self._clocks = Path(os.environ[CLOCKS_VARIABLE])

    @contextlib.asynccontextmanager
    async def struck(self, kind: str) -> AsyncIterator[None]:
        """The fault lasts as long as the body. Half of the time it hits the leader."""
        leader = await asyncio.to_thread(self._cluster.leader)
        victim = leader if leader is not None and self._dice.random() < 0.5 else self._dice.choice(self._cluster.names)
        strike, mend = {
            "kill": (self._kill, self._start),
            "pause": (self._cluster.pause, self._cluster.resume),
            "blackout": (self._kill_all, self._start_all),
            "oneway": (self._cut_one_way, self._heal),
            "isolate": (self._cuts.isolate, self._heal),
            "loss": (self._lose_some, self._heal),
            "full": (self._fill, self._make_room),
            "wipe": (self._wipe, self._rebuild),
            "clock": (self._shift_clock, self._shift_clock),
        }[kind]
        await asyncio.to_thread(strike, victim)
        try:
            yield
        finally:
            await asyncio.to_thread(mend, victim)

    def _kill(self, victim: str) -> None:
        self._cluster.kill(victim)

    def _start(self, victim: str) -> None:
        self._cluster.start_node(victim)
        self._cluster.wait_answer(victim)

    def _wipe(self, victim: str) -> None:
        self._cluster.kill(victim)
        shutil.rmtree(self._cluster.config.node(victim).data)

    def _rebuild(self, victim: str) -> None:
        """Until the empty disk has all and counts again, the others must be well: one more would be a majority."""
        self._start(victim)
        give_up_s = time.monotonic() + REBUILD_TIMEOUT_S
        while not ((status := probe(self._cluster.config.node(victim).client)) and status.is_voter):
            assert time.monotonic() < give_up_s, f"{victim} does not become a voter: {status}"
            time.sleep(0.02)  # between two questions

    def _shift_clock(self, victim: str) -> None:
        size_s = self._dice.choice([0.01, 1.0, 3600.0, 86_400.0 * 400])
        path = self._clocks / victim
        path.with_suffix(".new").write_text(str(int(self._dice.uniform(-size_s, size_s) * 1e9)))
        path.with_suffix(".new").replace(path)

    def _kill_all(self, _victim: str) -> None:
        for name in self._dice.sample(self._cluster.names, len(self._cluster.names)):
            self._cluster.kill(name)

    def _start_all(self, _victim: str) -> None:
        for name in self._dice.sample(self._cluster.names, len(self._cluster.names)):
            self._cluster.start_node(name)
        self._cluster.wait_ready()

    def _cut_one_way(self, victim: str) -> None:
        """To or from some of the others, or all."""
        others = [name for name in self._cluster.names if name != victim]
        is_outward = self._dice.random() < 0.5
        for other in self._dice.sample(others, self._dice.randint(1, len(others))):
            self._cuts.cut(*((victim, other) if is_outward else (other, victim)))

    def _lose_some(self, victim: str) -> None:
        """Packets of short moments are lost, again and again."""
        for _ in range(self._dice.randint(5, 15)):
            self._cut_one_way(victim)
            time.sleep(self._dice.uniform(0.002, 0.05))  # the moment
            self._cuts.heal()
            time.sleep(self._dice.uniform(0.01, 0.1))  # between two of them

    def _heal(self, _victim: str) -> None:
        self._cuts.heal()

    def _fill(self, victim: str) -> None:
        """Leave no byte, though the node gives its own reserve up when it must."""
        with self._filler(victim).open("ab", buffering=0) as file:
            for size_bytes in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size_bytes))

    def _make_room(self, victim: str) -> None:
        os.unlink(self._filler(victim))
        # A node that met an error which leaves its disk in doubt has stopped itself, as it should.
        if self._cluster.state(victim) is NodeState.DIED:
            self._start(victim)

    def _filler(self, victim: str) -> Path:
        return self._cluster.config.node(victim).data / "lost+found"


def run_kinds(
    kinds: list[str], *, nodes: int, rounds: int, seed: int, folder: Path, told: Callable[[str], None]
) -> None:
    """One kind after the other, each reported as it ends."""
    for kind in kinds:
        told(str(run_kind(kind, nodes=nodes, rounds=rounds, seed=seed, folder=folder)))
