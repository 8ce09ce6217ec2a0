"""`python -m tests.faults`: rounds of faults against real processes, as many as wanted. `make faults ROUNDS=50`."""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.network import command_inside, is_permitted, set_up
from tests.faults.run import KINDS, NAMESPACE_KINDS, run_kinds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)} (all that this machine permits)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (5)")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--seed", type=int, default=None, help="of the choices (a fresh one)")
    parser.add_argument("--folder", type=Path, default=None, help="where clusters and logs go (a new temporary one)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.kinds) - set(KINDS)):
        parser.error(f"there is no fault {unknown[0]!r}: expected some of {', '.join(KINDS)}")
    if not arguments.inside and is_permitted():
        return subprocess.run(command_inside(sys.argv[1:]), check=False).returncode
    kinds = arguments.kinds or [kind for kind in KINDS if arguments.inside or kind not in NAMESPACE_KINDS]
    if arguments.inside:
        set_up()
    elif needing := [kind for kind in kinds if kind in NAMESPACE_KINDS]:
        parser.error(f"{needing[0]} needs root, `unshare` and `ip`, to have a network and mounts of its own")
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="raftpay-faults-"))
    print(f"{arguments.nodes} nodes, {arguments.rounds} rounds of each kind, seed {seed}, logs in {folder}", flush=True)
    run_kinds(
        kinds,
        nodes=arguments.nodes,
        rounds=arguments.rounds,
        seed=seed,
        folder=folder,
        told=lambda line: print(line, flush=True),
    )
    if arguments.folder is None:
        shutil.rmtree(folder)  # Only what went wrong leaves something to look at.
    return 0


if __name__ == "__main__":
    sys.exit(main())
