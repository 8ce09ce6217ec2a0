"""Fixtures of the node's tests."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raftpay.config import ClusterConfig, parse
from raftpay.ops.ports import free_ports
from tests.node.cluster import Cluster, cluster_text


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ClusterConfig]:
    """A configuration of three nodes with small files; settings: TOML such as "[limits]\\nconnections_max = 2\\n"."""

    def make(settings: str = "") -> ClusterConfig:
        text = cluster_text(free_ports(6), settings)
        if "[journal]" not in settings:
            text += "[journal]\nsegment_bytes = 16777216\nreserve_bytes = 1048576\n"
        if "[raft]" not in settings:
            text += "[raft]\nelection_timeout_min_s = 0.3\nelection_timeout_max_s = 0.5\nheartbeat_s = 0.03\n"
        return parse(text, tmp_path / "cluster.toml")

    return make


@pytest.fixture
def run_cluster(
    make_config: Callable[..., ClusterConfig],
) -> Callable[..., contextlib.AbstractAsyncContextManager[Cluster]]:
    """`async with run_cluster(settings) as cluster`: three nodes, all closed at the end."""

    @contextlib.asynccontextmanager
    async def run(settings: str = "", *, start: bool = True) -> AsyncIterator[Cluster]:
        cluster = Cluster(make_config(settings))
        try:
            if start:
                await cluster.start()
            yield cluster
        finally:
            await cluster.close()

    return run
