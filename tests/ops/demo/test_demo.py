"""The demo from end to end, small: real nodes, a real kill, and nothing left behind however it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from xml.etree import ElementTree

import pytest

from raftpay.errors import ConfigError
from raftpay.ops.demo.drill import PAYMENTS_MIN
from raftpay.ops.demo.folder import MARKER_NAME, taken

DEADLINE_S = 60.0
# A mark by which a test knows the processes that it has started.
TOKEN_NAME = "RAFTPAY_TEST_TOKEN"


def demo(out: Path, *arguments: str, token: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "raftpay_cli", "demo", "--out", str(out), *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, TOKEN_NAME: token or uuid.uuid4().hex},
        # As from a shell: Ctrl-C in this test's own terminal is not meant.
        start_new_session=True,
    )


def processes_with(token: str) -> list[str]:
    """The command lines of all processes that inherited the token."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TOKEN_NAME}={token}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            # It ended meanwhile, or is somebody else's.
            continue
    return found


def wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Read the process's stderr up to the line that has this in it."""
    assert process.stderr is not None
    # A demo that says nothing any more is ended, and with it the reading.
    deadline = threading.Timer(DEADLINE_S, process.kill)
    deadline.start()
    try:
        for line in process.stderr:
            if part in line:
                return
    finally:
        deadline.cancel()
    raise AssertionError(f"the demo ended before it said {part!r}")


def test_a_small_demo_proves_its_books_and_leaves_nothing_running(tmp_path: Path) -> None:
    out, token = tmp_path / "out", uuid.uuid4().hex
    process = demo(out, "--payments", "3000", "--seed", "7", "--json", token=token)

    shown, said = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, said
    result = json.loads(shown)
    assert result == json.loads((out / "result.json").read_text())
    assert result["is_good"]
    assert (result["lost"], result["altered"], result["doubled"]) == (0, 0, 0)
    assert (result["acknowledged"], result["refused"], result["refused_expected"]) == (2993, 7, 7)
    failover = result["failover"]
    assert failover["elected"] != failover["killed"]
    assert 0 < failover["killed_s"] < failover["elected_s"]
    assert failover["killed_s"] < failover["started_s"] < failover["caught_up_s"]
    assert result["longest_gap_ms"] >= 1000 * (failover["silence"]["end_s"] - failover["silence"]["start_s"]) - 1e-6
    assert sum(result["throughput"]["counts"]) == 3000
    assert len(set(result["digests"].values())) == 1
    assert len(result["digests"]) == 3
    ElementTree.parse(out / "throughput.svg")
    assert len((out / "payments.csv").read_text().splitlines()) == 3001
    # Data are large and are gone, logs are small and stay.
    assert not (out / "cluster" / "n1").exists()
    assert (out / "cluster" / "n1.log").exists()
    assert "paying" in said
    assert processes_with(token) == []


def test_the_smallest_demo_goes_in_small_requests(tmp_path: Path) -> None:
    process = demo(tmp_path / "out", "--payments", str(PAYMENTS_MIN), "--json", token=uuid.uuid4().hex)

    shown, said = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, said
    result = json.loads(shown)
    assert (result["setting"]["payments"], result["setting"]["batch"]) == (PAYMENTS_MIN, PAYMENTS_MIN // 6)
    assert (result["acknowledged"], result["refused"], result["is_good"]) == (PAYMENTS_MIN - 7, 7, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    token = uuid.uuid4().hex
    process = demo(tmp_path / "out", "--payments", "30000", token=token)
    wait_for_line(process, "paying")
    assert len(processes_with(token)) > 3

    process.send_signal(number)
    shown, said = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 130, said
    assert shown == ""
    assert "Traceback" not in said
    assert processes_with(token) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "payments.csv").write_text("mine")

    with pytest.raises(ConfigError, match="is not empty, and no demo made it"), taken(tmp_path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["payments.csv"]


def test_an_earlier_demo_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    with taken(tmp_path / "out") as folder:
        (folder / "cluster" / "n1").mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        (folder / "notes.txt").write_text("mine")

    with taken(tmp_path / "out") as folder:
        left = {path.name for path in folder.iterdir()}

    assert left == {MARKER_NAME, "notes.txt"}


def test_a_link_in_the_folder_is_removed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    with taken(tmp_path / "out") as folder:
        (folder / "cluster").symlink_to(elsewhere)

    with taken(tmp_path / "out") as folder:
        assert not (folder / "cluster").exists()

    assert (elsewhere / "precious").read_text() == "mine"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        taken(tmp_path / "out"),
        pytest.raises(ConfigError, match="a demo runs in"),
        taken(tmp_path / "out"),
    ):
        pass
