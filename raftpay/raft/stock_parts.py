"""What PySyncObj is given in the place of its own parts: pickle, journal door, poller, transport and
settings.

Importing this replaces them for the whole process. The engine (engine.py) is the only user. No rule of Raft lives here;
S.. names the defects listed in docs/engine.md, line numbers are those of syncobj.py of PySyncObj 0.3.17.
"""

from collections.abc import Callable
from typing import Any

import pysyncobj.syncobj as stock
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raftpay.errors import EngineStoppedError
from raftpay.raft.log import RaftLog
from raftpay.raft.messages import Message, RequestVote, TimeoutNow, Vote
from raftpay.raft.options import RaftOptions


class _PickleRefused:
    """Stands where syncobj.py has its pickle module: an entry or message of ours is never pickled or unpickled."""

    def __getattr__(self, name: str) -> Any:  # Any: it stands for a module
        raise EngineStoppedError(f"the engine reached for pickle.{name}, which raftpay does not have")


def _journal_as_given(journal: Any) -> Any:  # Any: PySyncObj's configuration is untyped
    return journal


# The constructor calls createJournal(conf.journalFile) (line 166): there is no other door for a journal of one's own.
stock.createJournal = _journal_as_given
# Whoever reaches a port that unpickles runs code; membership and version commands are pickled too (line 1423).
stock.pickle = _PickleRefused()


def stock_configuration(options: RaftOptions, log: RaftLog, *, on_state: Callable[[int, int], None]) -> SyncObjConf:
    """PySyncObj's settings: all that it would do of its own accord is off."""
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=options.election_timeout_min_s,
        raftMaxTimeout=options.election_timeout_max_s,
        appendEntriesPeriod=options.heartbeat_s,
        connectionTimeout=options.election_timeout_max_s,
        # S15: stock waits 30 s before an isolated leader gives up. Two election timeouts, by Raft thesis 6.2.
        leaderFallbackTimeout=2 * options.election_timeout_max_s,
        # S19: a command must not wait for a leader for an unknown time.
        commandsWaitLeader=False,
        appendEntriesUseBatch=True,
        dynamicMembershipChange=False,
        journalFile=log,
        # Stock's dumps and compaction are never used (S4, S5, S14, S21, S22, D4-D8): snapshots.py makes ours.
        fullDumpFile=None,
        useFork=False,
        logCompactionMinEntries=2**62,
        logCompactionMinTime=2**62,
        onStateChanged=on_state,
    )


class NoPoller:
    """Stands where PySyncObj has its poller: the transport's sockets are the loop's."""

    def poll(self, _timeout_s: float) -> None:
        return


class EngineTransport(Transport):  # type: ignore[misc]  # PySyncObj ships no types
    """PySyncObj's side of the seam: turns the dicts it still sends itself into messages."""

    def __init__(self, engine: SyncObj, send: Callable[[str, Message], None]) -> None:
        super().__init__(engine, None, [])
        self._send = send

    def send(self, node: Node, message: dict[str, Any]) -> bool:  # Any: PySyncObj's message dicts
        kind = message["type"]
        if kind == "request_vote":
            self._send(node.id, RequestVote(message["term"], message["last_log_index"], message["last_log_term"]))
        elif kind == "response_vote":
            self._send(node.id, Vote(message["term"]))
        elif kind == "timeout_now":
            self._send(node.id, TimeoutNow(message["term"]))
        else:
            # apply_command: a follower would forward and might lose it (S12, S13). Ours redirects its clients.
            raise EngineStoppedError(f"the engine tried to send a {kind}, which raftpay replaces")
        return True
