"""Removals: snapshots, their installation, and the compaction of the log behind them."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "older-snapshots",
        "S4",
        "a snapshot that is behind the state is fetched and installed over it",
        (Edit("if info.index <= self.applied_index: return True", "", "Engine.install"),
         Edit("elif message.index > applied_index:", "else:")),
    ),
    Removal(
        "log-begins-anew",
        "S4, S22",
        "a log that disagrees with an installed snapshot is left as it is",
        (Edit("keeps_log=holds_entry(self.log.journal, info.index, info.term)", "keeps_log=True"),),
    ),
    Removal(
        "install-before-acknowledging",
        "S5",
        "a snapshot is acknowledged before the log begins behind it and the state is restored",
        (Edit("try: self.log.install(info, keeps_log=",
              "self._send(self.leader, AppendReply(self.term, True, info.index, 1, self._heard_round))\n"
              "        try:\n            self.log.install(info, keeps_log="),),
    ),
    Removal(
        "heartbeats-without-entries",
        "S21",
        "a leader is silent towards a follower that needs a snapshot",
        (Edit("self._send(peer, self._append_message(self.log.journal.first_index - 1, []))", "pass"),),
    ),
    Removal(
        "offer",
        "S21",
        "a follower that is behind the leader's log is offered no snapshot",
        (Edit("self.snapshots.offer_to(peer, self.term, self._send)", "pass"),),
    ),
    Removal(
        "offers-own-term",
        "seed 592",
        "a fetch goes on in the term of the first offer",
        (Edit("fetch.leader, fetch.offer = leader, offer", "fetch.leader = leader"),),
    ),
    Removal(
        "doubt-what-is-begun-anew",
        "D8",
        "a leader goes on giving a snapshot that is damaged on its disk",
        (Edit("self._doubt(info)", "pass"),),
        faults=("rot", "wipe"),
    ),
    Removal(
        "doubt-sealed-files",
        "seed 7024",
        "a leader goes on giving a file of sealed history that is damaged on its disk",
        (Edit("self._doubt_file(info, file)", "pass"),),
        faults=("rot", "upgrade"),
    ),
    Removal(
        "start-from-snapshot",
        "D8",
        "what the snapshot holds does not count as applied after a start",
        (Edit("if snapshots is not None and snapshots.index > 0:", "if False:"),),
    ),
    Removal(
        "finish-install",
        "D5, D6",
        "a start does not finish the install that a crash has interrupted",
        (Edit("if newest is not None and not holds_entry(journal, newest.index, newest.term):", "if False:"),),
    ),
    Removal(
        "no-empty-state",
        "D8",
        "a node whose snapshots are unreadable goes on with the state that it has",
        (Edit("if journal.first_index - 1 > reached:", "if False:"),),
    ),
    Removal(
        "compact-behind-verified",
        "D5, D6",
        "the log is compacted as soon as a snapshot is begun",
        (Edit("self.is_writing = True",
              "self.is_writing = True\n"
              "        self.journal.compact_to(min(index, self.journal.index_before(self.options.tail_bytes)))"),),
    ),
    Removal(
        "compact-behind-synced",
        "S22",
        "compaction takes segments whose successor is not on the disk yet",
        (Edit("min(index, self.synced_index - 1)", "index"),),
        faults=("slow",),
    ),
    Removal(
        "snapshot-fsync",
        "D6",
        "a snapshot is renamed, and the log compacted, before its bytes are fsynced",
        (Edit("yield from _write_blocks(file, header, chunks) file.fdatasync()",
              "yield from _write_blocks(file, header, chunks)"),),
    ),
    Removal(
        "snapshot-name-fsync",
        "D6",
        "the log is compacted before the snapshot's name is fsynced",
        (Edit("yield self.disk.fsync_folder(FOLDER)", "yield", "_publish"),),
    ),
    Removal(
        "fetched-fsync",
        "S5, D6",
        "a fetched snapshot is installed before its bytes are fsynced",
        (Edit("file.fdatasync()", "pass", "SnapshotStore.receive"),),
    ),
    Removal(
        "snapshot-crc",
        "D8, D9",
        "the bytes of a snapshot are not checked",
        (Edit("if len(data) < length or (length and crc32c(data) != crc):", "if len(data) < length:"),
         Edit("crc != total", "False", "SnapshotStore.chunks"),
         Edit("crc != total", "False", "SnapshotStore._verify")),
    ),
)  # fmt: skip
