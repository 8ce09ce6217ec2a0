"""A data directory belongs to one node of one cluster, and to one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftpay.errors import CorruptionError, DataDirectoryError, FormatVersionError, StorageError
from raftpay.storage.directory import DataDirectory

HOLDER = """
import sys
from pathlib import Path
from raftpay.storage.directory import DataDirectory
DataDirectory.open(Path(sys.argv[1]), cluster_id="pay-1", node_name="n1")
print("held", flush=True)
sys.stdin.read()
"""


def opened(path: Path, *, cluster_id: str = "pay-1", node_name: str = "n1") -> DataDirectory:
    return DataDirectory.open(path, cluster_id=cluster_id, node_name=node_name)


def test_it_is_made_on_first_use_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "n1"

    opened(path).close()
    again = opened(path)

    assert again.disk.list() == ["identity", "lock"]
    assert again.disk.root == path
    again.close()


def test_another_node_or_cluster_is_refused_by_name(tmp_path: Path) -> None:
    opened(tmp_path / "n1").close()

    with pytest.raises(
        DataDirectoryError, match=r"belongs to node 'n1' of cluster 'pay-1'; this is node 'n2'.*Correct"
    ):
        opened(tmp_path / "n1", node_name="n2")
    with pytest.raises(DataDirectoryError, match="of cluster 'pay-2'"):
        opened(tmp_path / "n1", cluster_id="pay-2")

    opened(tmp_path / "n1").close()


def test_it_is_used_once_at_a_time_also_within_a_process(tmp_path: Path) -> None:
    first = opened(tmp_path)

    with pytest.raises(DataDirectoryError, match=f"in use by process {os.getpid()}"):
        opened(tmp_path)

    first.close()
    opened(tmp_path).close()


def test_it_is_free_again_when_the_process_that_held_it_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataDirectoryError, match=f"in use by process {holder.pid}"):
            opened(tmp_path)
        holder.kill()

    opened(tmp_path).close()


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")

    with pytest.raises(DataDirectoryError, match=r"holds holiday\.jpg"):
        opened(tmp_path)


def test_leftovers_of_an_interrupted_first_start_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "identity.tmp").write_bytes(b"half")
    (tmp_path / "lost+found").mkdir()

    opened(tmp_path).close()

    assert (tmp_path / "identity").exists()


def test_an_unknown_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("raftpay.storage.directory.FORMAT_VERSION", 2)
        opened(tmp_path).close()

    with pytest.raises(FormatVersionError, match="has format version 2; this release knows 1"):
        opened(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 80])
def test_a_damaged_identity_is_corruption(tmp_path: Path, damage: bytes) -> None:
    opened(tmp_path).close()
    (tmp_path / "identity").write_bytes(damage)

    with pytest.raises(CorruptionError, match="identity is damaged"):
        opened(tmp_path)


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "n1").write_bytes(b"")

    with pytest.raises(DataDirectoryError, match="is not a folder"):
        opened(tmp_path / "n1")
    with pytest.raises(StorageError, match="making the data directory"):
        opened(tmp_path / "n1" / "below")
