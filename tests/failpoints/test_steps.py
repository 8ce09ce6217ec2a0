"""Real processes: SIGKILL at every step of snapshot, compaction, sealing and install, and of the start behind it."""

from pathlib import Path

from tests.failpoints.cluster import FailpointCluster
from tests.failpoints.rounds import check_at_the_end, rounds

# What each act is sure to do. The steps come from the disk itself; this only says that they came.
KNOWN = {
    "snapshot": "create write fsync rename remove",
    "compaction": "write fsync",
    "discard": "remove",
    "sealing": "create write fsync rename",
    "merging": "create write fsync rename remove",
    "fetch": "create write",
    "install": "create fsync rename remove",
    "taking in": "create write fsync rename",
    "reset": "create allocate write fsync rename",
    "start": "write fsync remove",
}
STARTS_ENDED_MAX = 8


def test_a_node_killed_at_each_step_loses_nothing_and_starts_clean(tmp_path: Path) -> None:
    with FailpointCluster(tmp_path) as cluster:
        for _ in rounds(cluster, ends_max=STARTS_ENDED_MAX):
            continue
        check_at_the_end(cluster)

        done = cluster.victim.steps_done()

    assert len(done) == len(set(done)), "it does not know what it has ended at"
    came = {(act, change.split()[0]) for act, change in (step.split(": ") for step in done)}
    assert {(act, what) for act, known in KNOWN.items() for what in known.split()} <= came
