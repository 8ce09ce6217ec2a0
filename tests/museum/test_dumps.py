"""Compaction, and what a log means to a node's next life: D4 to D8, D14, D15, stock and ours.

Stock's dumps are never made; ours are in storage/snapshots.py. Journals drop whole segments, and any power loss on the
way is proved harmless in storage/test_journal_properties: D5, D6 test_power_may_fail_at_every_single_operation. D8:
test_d8_without_a_whole_snapshot_a_compacted_journal_does_not_start (raft/test_snapshot_rules).
"""

from pathlib import Path

import pytest

from raftpay.storage.disk import RealDisk
from raftpay.storage.journal import Journal
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab
from tests.storage.twin import TINY


@pytest.mark.parametrize("exhibit", exhibits("dumps"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("dumps", exhibit, tmp_path)


def test_d4_d7_the_engine_writes_no_dump_and_forks_no_process(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fork", lambda: pytest.fail("forked"))
    lab.elect("n1")
    for number in range(100):
        lab.propose(b"p%d" % number)
        lab.run_s(60, step_s=10)

    for member in lab.members.values():
        assert (member.engine.conf.fullDumpFile, member.engine.conf.useFork) == (None, False)
        assert member.engine._SyncObj__serializer.checkSerializing()[1] is None


def test_d5_d6_a_kill_anywhere_in_compaction_leaves_what_was_synced(tmp_path: Path) -> None:
    journal = Journal.open(RealDisk(tmp_path), TINY)
    for index in range(1, 80):
        journal.append(index, 1, bytes([index]) * 100)
    journal.sync()
    before = {file.name: file.read_bytes() for file in (tmp_path / "journal").iterdir()}
    journal.compact_to(60)
    journal.close()
    removed = sorted(before.keys() - {file.name for file in (tmp_path / "journal").iterdir()})
    assert removed

    # The marks say that the prefix is gone, and the process was killed before it removed the files.
    for name in removed:
        (tmp_path / "journal" / name).write_bytes(before[name])
    again = Journal.open(RealDisk(tmp_path), TINY)

    assert [again.entry(index).payload[0] for index in range(61, 80)] == list(range(61, 80))
    assert again.last_index == 79
    again.close()


def test_d14_d15_the_engine_knows_no_methods_and_the_log_gives_the_whole_state_again(lab: Lab) -> None:
    lab.elect("n1")
    for number in range(20):
        lab.propose(b"p%d" % number)
    lab.run_s(0.2)
    before = lab.members["n1"].applied
    assert lab.members["n1"].engine._methodToID == {}

    for name in lab.names:
        lab.kill(name)
    for name in lab.names:
        lab.start(name)
    lab.connect_all()
    lab.run_s(3)

    assert len(before) == 20
    assert [member.applied for member in lab.members.values()] == [before] * 3
