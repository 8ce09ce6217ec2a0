"""Kills the leader when a part of the payments is acknowledged, brings it back later, notes when each thing happened.

It runs in a thread of its own beside the paying, and asks single nodes for their status to see the election and the
catching up: so these two moments are as exact as the polling, a few milliseconds late. All times are of the monotonic
clock. The drill is the caller.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from raftpay.errors import LocalClusterError
from raftpay.ops.local import LocalCluster

ELECTION_TIMEOUT_S: Final = 30.0
CATCH_UP_TIMEOUT_S: Final = 60.0
_PROBE_TIMEOUT_S: Final = 0.25
_ELECTION_POLL_S: Final = 0.005
# Slower than for the election: it goes on beside the paying, on the same processors.
_CATCH_UP_POLL_S: Final = 0.025


@dataclass(slots=True)
class Moments:
    """What happened to whom, and when.

    killed, term_before: the leader that was killed, and the term in which it led. elected, term: the one after it.
    """

    killed: str = ""
    term_before: int = 0
    killed_at: float = 0.0
    elected: str = ""
    term: int = 0
    elected_at: float = 0.0
    started_at: float = 0.0
    caught_up_at: float = 0.0


class Failover:
    """kill_at, start_at: after how many acknowledged payments the leader dies and comes back."""

    def __init__(self, cluster: LocalCluster, *, kill_at: int, start_at: int) -> None:
        self._cluster = cluster
        self._kill_at = kill_at
        self._start_at = start_at
        self._is_time_to_kill = threading.Event()
        self._is_time_to_start = threading.Event()
        self._is_abandoned = threading.Event()

    def acknowledged(self, total: int) -> None:
        """Tell how many payments are acknowledged by now."""
        if total >= self._kill_at:
            self._is_time_to_kill.set()
        if total >= self._start_at:
            self._is_time_to_start.set()

    def abandon(self) -> None:
        """Make `run` raise soon: the paying has ended early."""
        self._is_abandoned.set()
        self._is_time_to_kill.set()
        self._is_time_to_start.set()

    def run(self) -> Moments:
        """Wait for the moments, act, and return what happened once the killed node has caught up.

        Raises LocalClusterError when nobody is elected, the node does not come back, or it was abandoned.
        """
        self._wait(self._is_time_to_kill)
        moments = self._kill()
        self._await_election(moments)
        self._wait(self._is_time_to_start)
        moments.started_at = time.monotonic()
        self._cluster.start_node(moments.killed)
        self._await_catching_up(moments)
        return moments

    def _kill(self) -> Moments:
        for _ in self._until(ELECTION_TIMEOUT_S, "no node led that could be killed", _ELECTION_POLL_S):
            leader = self._cluster.leader()
            status = self._cluster.probe(leader, timeout_s=_PROBE_TIMEOUT_S) if leader is not None else None
            if leader is not None and status is not None and status.role == "leader":
                moments = Moments(killed=leader, term_before=status.term, killed_at=time.monotonic())
                self._cluster.kill(leader)
                return moments
        raise AssertionError("the wait ends by returning or raising")

    def _await_election(self, moments: Moments) -> None:
        survivors = [name for name in self._cluster.names if name != moments.killed]
        for _ in self._until(ELECTION_TIMEOUT_S, f"nobody was elected after {moments.killed}", _ELECTION_POLL_S):
            for name in survivors:
                status = self._cluster.probe(name, timeout_s=_PROBE_TIMEOUT_S)
                if status is not None and status.role == "leader" and status.term > moments.term_before:
                    moments.elected, moments.term, moments.elected_at = name, status.term, time.monotonic()
                    return

    def _await_catching_up(self, moments: Moments) -> None:
        """Until the node has applied all that was committed a moment before, as a node of good standing has."""
        complaint = f"{moments.killed} did not catch up"
        for _ in self._until(CATCH_UP_TIMEOUT_S, complaint, _CATCH_UP_POLL_S):
            statuses = [
                self._cluster.probe(name, timeout_s=_PROBE_TIMEOUT_S)
                for name in self._cluster.names
                if name != moments.killed
            ]
            committed = max((status.commit_index for status in statuses if status is not None), default=None)
            back = self._cluster.probe(moments.killed, timeout_s=_PROBE_TIMEOUT_S)
            if committed is not None and back is not None and back.applied_index >= committed:
                moments.caught_up_at = time.monotonic()
                return

    def _wait(self, moment: threading.Event) -> None:
        moment.wait()
        self._check_abandoned()

    def _check_abandoned(self) -> None:
        if self._is_abandoned.is_set():
            raise LocalClusterError("the payments ended early, so the failover was not played to its end")

    def _until(self, timeout_s: float, complaint: str, pause_s: float) -> Iterator[None]:
        """Go round until the caller leaves; raise when a node has died by itself, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            yield
            self._check_abandoned()
            if died := self._cluster.died():
                raise LocalClusterError("\n".join(self._cluster.describe_death(name) for name in died))
            time.sleep(pause_s)
        raise LocalClusterError(f"{complaint} within {timeout_s:g} s")
