"""A few rounds of each kind of fault that this machine permits; `make faults ROUNDS=50` does many.

In a process of its own, because a network namespace is entered by a process and not by a test.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.network import is_permitted
from tests.faults.run import KINDS, SIGNAL_KINDS

ROOT = Path(__file__).resolve().parent.parent.parent
# test_kills has the kills.
PERMITTED = [kind for kind in (KINDS if is_permitted() else SIGNAL_KINDS) if kind != "kill"]


@pytest.mark.parametrize("kind", PERMITTED)
def test_nothing_acknowledged_is_lost_or_doubled(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults", kind, "--rounds", "2", "--folder", str(tmp_path)]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert f"{kind} " in ended.stdout
    assert "lost 0, doubled 0" in ended.stdout
