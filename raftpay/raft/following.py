"""What a follower does to its log when its leader sends entries, and where it asks the leader to try again.

Stock cuts whatever follows the previous index of each message (S1). Decisions over the log only: no PySyncObj, no
messages are sent. Called by the engine.
"""

from raftpay.errors import DiskFullError, EngineStoppedError, ProtocolError
from raftpay.raft.log import RaftLog
from raftpay.raft.messages import LogEntry
from raftpay.storage.journal import Journal


def retry_after(journal: Journal, prev: int, commit_index: int) -> int:
    """The index after which the leader should try again: below the whole run of a conflicting term (S7)."""
    if prev > journal.last_index:
        return journal.last_index
    conflicting, index = journal.term_at(prev), prev
    while index > commit_index and journal.term_at(index) == conflicting:
        index -= 1
    return index


def append_entries(log: RaftLog, entries: list[LogEntry], prev: int, commit_index: int) -> int:
    """Append what the log lacks, cutting it only where a term differs (S1; Raft paper figure 2).

    Returns the last index of the message that is now in the log: less than all of them where the disk is full.
    """
    journal, matched = log.journal, prev
    for entry in entries:
        if entry.index != matched + 1:
            raise ProtocolError(f"entry {entry.index} follows entry {matched} in one message")
        if entry.index <= journal.last_index and journal.term_at(entry.index) != entry.term:
            if entry.index <= commit_index:
                raise EngineStoppedError(
                    f"entry {entry.index} of term {journal.term_at(entry.index)} is committed here, "
                    f"and the leader has it with term {entry.term}"
                )
            log.truncate_from(entry.index)
        if entry.index > journal.last_index:
            try:
                log.add(entry.payload, entry.index, entry.term)
            except DiskFullError:
                # Not appended, hence not acknowledged (D10). The leader's next heartbeat finds the gap, and it
                # sends the entries again: at the pace of heartbeats, until there is room.
                break
        matched = entry.index
    return matched
