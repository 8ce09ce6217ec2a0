"""A node's data put aside, and what refuses it."""

from pathlib import Path

import pytest

from raftpay.config import load
from raftpay.errors import DataDirectoryError, LocalClusterError
from raftpay.ops.ports import free_ports
from raftpay.ops.rebuild import put_aside
from raftpay.storage.directory import DataDirectory
from tests.node.cluster import cluster_text


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(cluster_text(free_ports(6)))
    return path


def test_what_is_put_aside_is_kept_whole_and_the_directory_is_gone(cluster_file: Path) -> None:
    config = load(cluster_file)
    data = config.node("n1").data
    DataDirectory.open(data, cluster_id=config.cluster_id, node_name="n1").close()
    (data / "journal").mkdir()

    aside = put_aside(config, "n1", needs_leader=False)

    assert aside is not None
    assert aside.parent == data.parent
    assert sorted(path.name for path in aside.iterdir()) == ["identity", "journal", "lock"]
    assert not data.exists()
    assert put_aside(config, "n1", needs_leader=False) is None


def test_a_node_that_runs_keeps_its_data(cluster_file: Path) -> None:
    config = load(cluster_file)
    directory = DataDirectory.open(config.node("n1").data, cluster_id=config.cluster_id, node_name="n1")

    with pytest.raises(DataDirectoryError, match="in use by process"):
        put_aside(config, "n1", needs_leader=False)
    directory.close()


def test_without_another_leader_nothing_is_put_aside(cluster_file: Path) -> None:
    config = load(cluster_file)
    DataDirectory.open(config.node("n1").data, cluster_id=config.cluster_id, node_name="n1").close()

    with pytest.raises(LocalClusterError, match=r"no other node leads .*down: n2, n3.*--force"):
        put_aside(config, "n1", needs_leader=True)
    assert config.node("n1").data.exists()
