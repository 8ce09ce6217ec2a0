"""What is on disk, and when: D1, D3, D9 to D13, D16, stock and ours.

Ours, elsewhere: D1 test_5_3_persistence_comes_before_the_acknowledgement and
test_5_3_the_leader_counts_itself_only_after_its_own_fsync, D10 test_a_full_disk_of_a_follower_costs_nothing_and_heals
(test_engine_rules); D12 test_a_record_in_the_place_of_another_is_corruption (test_recovery); D13
test_indexes_and_terms_have_64_bits (storage/test_journal).
"""

from pathlib import Path

import pytest

from raftpay.errors import CorruptionError
from raftpay.raft.messages import RequestVote, Vote
from raftpay.storage.disk import RealDisk
from raftpay.storage.journal import Journal
from tests.museum.exhibits import exhibits, show
from tests.raft.lab import Lab
from tests.storage.twin import TINY


@pytest.mark.parametrize("exhibit", exhibits("journal"))
def test_stock_breaks(exhibit: str, tmp_path: Path) -> None:
    show("journal", exhibit, tmp_path)


def test_d3_a_node_with_an_unreadable_hard_state_does_not_start(lab: Lab) -> None:
    voter = lab.members["n2"]
    voter.engine.receive("n1", RequestVote(term=5, last_log_index=1, last_log_term=0))
    assert list(lab.links["n2", "n1"]) == [Vote(5)]
    lab.kill("n2")
    lab.disks["n2"].open("hard_state").truncate(0)

    with pytest.raises(CorruptionError, match=r"hard_state: .* this node might vote twice"):
        lab.start("n2")


def test_d9_a_node_with_a_flipped_bit_in_its_journal_does_not_start(lab: Lab) -> None:
    lab.elect("n1")
    lab.propose(b"alice pays 1000")
    lab.run_s(0.2)
    lab.kill("n2")
    (name,) = [name for name in lab.disks["n2"].list("journal") if name.endswith("1.seg")]
    file = lab.disks["n2"].open(f"journal/{name}")
    at = file.pread(file.size(), 0).index(b"pays 1000") + 5
    lab.disks["n2"].flip_bit(f"journal/{name}", at, bit=3)

    with pytest.raises(CorruptionError, match=r"00000001\.seg: entry 3 .* the crc of the record is wrong"):
        lab.start("n2")


def test_d11_there_is_room_on_the_disk_for_the_whole_of_each_segment(tmp_path: Path) -> None:
    journal = Journal.open(RealDisk(tmp_path), TINY)
    for index in range(1, 50):
        journal.append(index, 1, bytes(500))
    journal.close()

    segments = list((tmp_path / "journal").glob("*.seg"))

    assert len(segments) > 3
    assert all(file.stat().st_blocks * 512 >= file.stat().st_size for file in segments)


def test_d16_after_a_restart_nothing_is_committed_until_a_majority_says_so(lab: Lab) -> None:
    lab.elect("n1")
    for number in range(20):
        lab.propose(b"p%d" % number)
    lab.settle()
    for name in lab.names:
        lab.kill(name, power_loss=True)
    for name in lab.names:
        lab.start(name)
    assert [member.engine.commit_index for member in lab.members.values()] == [1, 1, 1]
    lab.connect_all()
    leader = lab.elect("n1")
    committed = leader.commit_index
    lab.isolate("n1")

    lab.propose(b"only here")
    lab.run_s(0.5)

    assert leader.commit_index == committed
    assert b"only here" not in lab.acknowledged
