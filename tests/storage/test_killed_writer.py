"""A real process that appends and syncs is killed: everything that it said was synced is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from raftpay.storage.disk import RealDisk
from raftpay.storage.journal import Journal, JournalOptions
from tests.storage.twin import payload_of

OPTIONS = JournalOptions(segment_bytes=1 << 18, first_segment_bytes=1 << 16, reserve_bytes=0)

WRITER = """
import sys, threading
from pathlib import Path
from raftpay.storage.disk import RealDisk
from tests.storage.test_killed_writer import OPTIONS, payload_of
from raftpay.storage.journal import Journal

journal = Journal.open(RealDisk(Path(sys.argv[1])), OPTIONS)
index = journal.last_index
while True:
    for _ in range(1 + index % 7):
        index += 1
        journal.append(index, 1 + index // 50, payload_of(index, index * 37 % 3000, index))
    job = journal.begin_sync()
    thread = threading.Thread(target=job.run)
    thread.start()
    index += 1
    journal.append(index, 1 + index // 50, payload_of(index, 10, index))
    thread.join()
    print(journal.complete_sync(job), flush=True)
    if index % 90 > 80:
        journal.truncate_from(index)
        index -= 1
"""


@pytest.mark.parametrize("round_count", [3])
def test_all_that_a_killed_process_printed_as_synced_is_there(tmp_path: Path, round_count: int) -> None:
    synced = 0
    for lines in range(100, 100 + 150 * round_count, 150):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
        ) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                synced = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().splitlines(keepends=True)
        synced = max([synced, *(int(line) for line in rest if line.endswith(b"\n"))])

        journal = Journal.open(RealDisk(tmp_path), OPTIONS)

        assert journal.last_index >= synced
        assert journal.synced_index == journal.last_index
        for entry in journal.entries(1, journal.last_index, bytes_max=1 << 40):
            sizes = (entry.index * 37 % 3000, 10)
            assert entry.payload in [payload_of(entry.index, size, entry.index) for size in sizes]
        journal.close()
