"""Removals: the journal and the hard state on the disk."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "journal-fsync",
        "D1",
        "the journal is never fsynced",
        (Edit("segment.file.fdatasync()", "pass", "SyncJob.run"),),
    ),
    Removal(
        "segment-name-fsync",
        "D1",
        "the names of new segments are not fsynced",
        (Edit("if self.is_linking:", "if False:"),),
    ),
    Removal(
        "sync-ends-at-cut",
        "D1",
        "an fsync that began before a cut counts for what was appended after it",
        (Edit("job.index = min(job.index, self.last_index)", "pass"),),
        faults=("exile", "slow"),
    ),
    Removal(
        "write-again",
        "D1",
        "what a killed process has left in the page cache counts as synced at the next start",
        (Edit("scan.write_again()", "pass"),),
    ),
    Removal(
        "hard-state-fsync",
        "D1, D3",
        "term and vote are renamed into place before their bytes are fsynced",
        (Edit("file.fdatasync()", "pass", "_write_temporary"),),
    ),
    Removal(
        "hard-state-name-fsync",
        "D1, D3",
        "the rename of term and vote is not fsynced",
        (Edit('disk.fsync_folder(name.rpartition("/")[0])', "pass"),),
    ),
    Removal(
        "hard-state-fsync-at-start",
        "seed 5032",
        "a start relies on a rename that the killed process before it has not fsynced",
        (Edit('disk.fsync_folder("")', "pass", "HardStateFile.open"),),
    ),
    Removal(
        "unreadable-hard-state",
        "D3",
        "an unreadable hard state is taken for no term and no vote",
        (Edit("body = _decode(data, cluster_id)",
              "try:\n                body = _decode(data, cluster_id)\n"
              "            except CorruptionError:\n"
              '                body = _Body(0, None, cluster_id, draw(), b"")'),),
    ),
    Removal(
        "hard-state-crc",
        "D9",
        "the bytes of term and vote are not checked",
        (Edit("if crc32c(body, crc32c(data[: _HEAD.size])) != _CRC.unpack_from(data, _HEAD.size)[0] "
              "or length != len(body):", "if False:"),),
    ),
    Removal(
        "record-crc",
        "D9",
        "the bytes of an entry are not checked at the start",
        (Edit("if crc32c(view[position + 4 : end], salt) != record_crc: break", "pass"),),
    ),
    Removal(
        "record-crc-when-read",
        "D9",
        "the bytes of an entry are not checked when it is read back",
        (Edit("if crc32c(memoryview(data)[position + 4 : end], salt) != record_crc: return None", "pass"),),
        faults=("rot",),
    ),
    Removal(
        "corruption-is-no-torn-tail",
        "D9, D12",
        "what is wrong in the journal is cut as a torn tail, synced or not",
        (Edit("if fault is None or (fault.index > self.durable_index and fault.is_torn and not self.astray):",
              "if True:"),),
    ),
    Removal(
        "astray-is-no-torn-tail",
        "D12",
        "a newest record that the disk wrote elsewhere passes for a torn tail",
        (Edit("and fault.is_torn and not self.astray", "and fault.is_torn"),),
        faults=("misdirect",),
    ),
    Removal(
        "erase-at-cut",
        "D12",
        "a cut leaves the old records behind the new end",
        (Edit("erase(segment.file, start, stop) segment.file.fdatasync()", "pass"),),
    ),
    Removal(
        "erase-torn-tail",
        "D12",
        "a start leaves the torn tail behind the new end",
        (Edit("erase(last.file, last.end, last.size) last.file.fdatasync()", "pass"),),
    ),
    Removal(
        "announce-cut",
        "D12",
        "a cut is not announced before it is made",
        (Edit("self._marks.store_durably( cut_segment=segment.number, cut_offset=start, "
              "synced_index=min(self.synced_index, index - 1) )", "pass"),),
        faults=("torn", "exile"),
    ),
    Removal(
        "finish-cut",
        "D12",
        "a start does not finish the cut that a crash has interrupted",
        (Edit("scan.finish_truncation()", "pass"),),
        faults=("torn", "exile"),
    ),
    Removal(
        "marks-again",
        "seed 20000, seed 580",
        "a start relies on marks that the killed process before it has not fsynced",
        (Edit("marks.store_durably() scan.finish_reset()", "scan.finish_reset()"),),
        faults=("torn", "exile"),
    ),
    Removal(
        "compaction-in-marks",
        "D5",
        "segments are removed before the marks durably say so",
        (Edit("self._marks.store_durably(first_segment=self._segments[0].number)",
              "self._marks.store(first_segment=self._segments[0].number)"),),
    ),
    Removal(
        "reset-in-marks",
        "D5, D6",
        "the log of an installed snapshot is begun before the marks durably say so",
        (Edit("self._marks.store_durably(first_segment=header.number, synced_index=header.first_index - 1)",
              "self._marks.store(first_segment=header.number, synced_index=header.first_index - 1)"),),
    ),
    Removal(
        "reset-fsync",
        "D5, D6",
        "the marks name the first segment of a new log before it is fsynced",
        (Edit('file.fdatasync() self._disk.fsync_folder("journal")', "pass", "_make_reset"),),
    ),
    Removal(
        "finish-reset",
        "D5, D6",
        "a start does not finish the reset that a crash has interrupted",
        (Edit("scan.finish_reset()", "pass"),),
        faults=("torn", "partition"),
    ),
)  # fmt: skip
