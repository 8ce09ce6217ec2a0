"""The museum's door: which exhibits there are, and how one is run. The halls beside it hold our half of each."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.museum.stock import DONE

STOCK = Path(__file__).parent / "stock"
ROOT = STOCK.parent.parent.parent
DEADLINE_S = 60


def exhibits(hall: str) -> list[str]:
    """The names of a hall's exhibits, read from its source: it must not be imported where raftpay is."""
    source = (STOCK / f"{hall}.py").read_text()
    return re.findall(r"^def ((?:[sd]\d+|open)_\w+)\(\) -> None:$", source, re.MULTILINE)


def show(hall: str, exhibit: str, folder: Path) -> None:
    """Run an exhibit in a process of its own; raises AssertionError with its output if stock did no harm."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    shown = subprocess.run(
        [sys.executable, "-m", "tests.museum.stock", hall, exhibit],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    ended_well = shown.returncode == 0 and shown.stdout.splitlines()[-1:] == [DONE]
    assert ended_well, f"{exhibit}: exit code {shown.returncode}\n{shown.stdout}{shown.stderr}"
