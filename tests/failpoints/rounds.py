"""Lives that end at one step after the other, until there is no step left that none has ended at."""

import signal
from collections.abc import Callable, Iterator

from tests.failpoints.cluster import FailpointCluster, until

# Enough for a few snapshots, compactions and segments, and for runs of the id index to be merged.
AWAKE_BATCHES = 40


def rounds(cluster: FailpointCluster, *, ends_max: int) -> Iterator[list[str]]:
    """After each round, the steps at which the victim ended in it.

    ends_max: how many of its starts in a row may end at a step, before one is left alone and looked at.
    """
    ways: list[Callable[[FailpointCluster], None]] = [pay_while_it_runs, let_it_come_back]
    idle = 0
    while idle < len(ways):
        known = len(cluster.victim.steps_done())
        ways[0](cluster)
        start_until_it_lives(cluster, ends_max)
        settle(cluster)
        found = cluster.victim.steps_done()[known:]
        yield found
        if found:
            idle = 0
        else:
            idle += 1
            ways.reverse()


def pay_while_it_runs(cluster: FailpointCluster) -> None:
    """All that a running node does comes again and again."""
    cluster.victim.arm(is_armed=True)
    for _ in range(AWAKE_BATCHES):
        if cluster.victim.has_ended():
            return
        cluster.pay()


def let_it_come_back(cluster: FailpointCluster) -> None:
    """It is away until the others have no log left for it, and then comes back."""
    applied = cluster.applied(cluster.victim.name)
    cluster.victim.end(signal.SIGKILL)
    while min(cluster.first_indexes()) <= applied + 1:
        cluster.pay()
    cluster.victim.arm(is_armed=True)
    cluster.victim.begin()


def start_until_it_lives(cluster: FailpointCluster, ends_max: int) -> None:
    """It comes back until a life does not end by itself, and has what the others have."""
    ends = 0
    for _ in until("the victim has what the others have"):
        if cluster.victim.has_ended():
            ends += 1
            cluster.victim.arm(is_armed=ends < ends_max)
            begin_again(cluster)
        elif cluster.is_level():
            return


def begin_again(cluster: FailpointCluster) -> None:
    code = cluster.victim.end(signal.SIGKILL)
    assert code == -signal.SIGKILL, f"the victim ended by {code}:\n{cluster.victim.log_end()}"
    cluster.victim.begin()


def settle(cluster: FailpointCluster) -> None:
    """It lives, has the same books as the others, and no file that is half done."""
    cluster.victim.arm(is_armed=False)
    for _ in until("the victim has what the others have, and leaves nothing half done"):
        if cluster.victim.has_ended():
            begin_again(cluster)  # at a step that it came to meanwhile
        elif cluster.is_level() and not cluster.files(cluster.victim.name, "**/*.tmp"):
            break
    cluster.check()


def check_at_the_end(cluster: FailpointCluster) -> None:
    """Nothing is lost or doubled; the victim makes snapshots and seals like the others, and has no more files."""
    victim = cluster.victim.name
    snapshots = cluster.files(victim, "snapshots/*.snap")
    for _ in until("the victim makes two snapshots more, and seals what the others do"):
        found = cluster.files(victim, "snapshots/*")
        if not found & snapshots and not [name for name in found if not name.endswith(".snap")]:
            files = [cluster.files(name, "archive/*") | cluster.files(name, "index/*") for name in cluster.nodes]
            if files[0] == files[1] == files[2]:
                break
        cluster.pay()
    settle(cluster)
    for _ in until("the victim keeps two snapshots"):
        if len(cluster.files(victim, "snapshots/*")) == 2:
            break
    cluster.check_all()
