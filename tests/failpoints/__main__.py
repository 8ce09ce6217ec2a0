"""`python -m tests.failpoints`: as test_steps.py, at more steps and one at a time. Part of `make faults`.

Each page of a file is a step of its own, and an act is told from the same one within another; every kill is followed by
a start that is left alone and looked at. Takes some minutes.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.failpoints.cluster import FailpointCluster
from tests.failpoints.rounds import check_at_the_end, rounds


def main() -> int:
    folder, began_s = Path(tempfile.mkdtemp(prefix="raftpay-failpoints-")), time.monotonic()
    print(f"a SIGKILL at each step; logs in {folder}", flush=True)
    with FailpointCluster(folder, is_thorough=True) as cluster:
        for found in rounds(cluster, ends_max=1):
            print("\n".join(found) or "no other step", flush=True)
        check_at_the_end(cluster)
        count, paid = len(cluster.victim.steps_done()), cluster.paid
    seconds = time.monotonic() - began_s
    print(f"{count} steps, {paid:,} transfers acknowledged, lost 0, doubled 0  {seconds:.1f} s")
    shutil.rmtree(folder)  # Only what went wrong leaves something to look at.
    return 0


if __name__ == "__main__":
    sys.exit(main())
