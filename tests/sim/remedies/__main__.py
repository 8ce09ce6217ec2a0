"""`python -m tests.sim.remedies [NAME ...]`: the simulator against the engine with one remedy taken out.

Prints the tables of docs/reliability.md: how many seeds it takes until a promise is broken, and which; then the
remedies whose lack no fault shows.
"""

import argparse
import sys

from tests.sim.remedies.catalogue import OUT_OF_REACH, REMOVALS
from tests.sim.remedies.removal import Removal
from tests.sim.remedies.search import Found, control, search


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.remedies", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of removals, or ids of defects (all of them)")
    parser.add_argument("--seeds", type=int, default=2000, help="so many at most for each (2000)")
    parser.add_argument("--first-seed", type=int, default=0, help="where they begin (0)")
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="as each removal needs: 3 for most")
    parser.add_argument("--control", type=int, default=100, help="seeds with all remedies in place (100)")
    parser.add_argument("--list", action="store_true", help="print what there is, and run nothing")
    arguments = parser.parse_args()
    known = {name for removal in REMOVALS for name in _names(removal)}
    if unknown := sorted(set(arguments.names) - known):
        parser.error(f"nothing is called {unknown[0]!r}: --list shows what there is")
    wanted = [removal for removal in REMOVALS if not arguments.names or {*arguments.names} & _names(removal)]
    if arguments.list:
        for removal in wanted:
            print(f"{removal.name:30} {removal.defects:10} {removal.taken_out}")
    else:
        _run(wanted, arguments)
    if not arguments.names:
        print("\n| defect | remedy out of reach | why | held by |\n| --- | --- | --- | --- |")
        for beyond in OUT_OF_REACH:
            held_by = "<br>".join(f"`{name}`" for name in beyond.held_by)
            print(f"| {beyond.defects} | {beyond.remedy} | {beyond.reason} | {held_by} |")
    return 0


def _names(removal: Removal) -> set[str]:
    return {removal.name, *removal.defects.split(", ")}


def _run(wanted: list[Removal], arguments: argparse.Namespace) -> None:
    print("| name | defect | what is taken out | nodes | seeds | what failed | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    first, seeds = arguments.first_seed, arguments.seeds
    for nodes in sorted({arguments.nodes or removal.nodes for removal in wanted} if arguments.control else ()):
        found = control(nodes, first, arguments.control)
        print(_row(None, found), flush=True)
    for removal in wanted:
        found = search(removal, nodes=arguments.nodes or removal.nodes, first=first, seeds=seeds)
        print(_row(removal, found), flush=True)


def _row(removal: Removal | None, found: Found) -> str:
    """removal: None for the control."""
    remark = "" if removal is None else removal.remark
    seeds, what = (str(found.seeds), found.describe()) if found.violation else (f"none in {found.seeds}", remark)
    if removal is not None and removal.faults:
        seeds += f" of `--faults {','.join(removal.faults)}`"
    if found.whole_fails:
        seeds += f" ({found.whole_fails} of them fail with all remedies too)"
    cells = ["", "", "nothing: the control"]
    if removal is not None:
        cells = [f"`{removal.name}`", removal.defects, removal.taken_out]
    return f"| {' | '.join(cells)} | {found.nodes} | {seeds} | {what} | {found.cpu_s:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
