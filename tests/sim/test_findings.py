"""What the simulator found in the engine, each as a short scenario. docs/reliability.md lists them."""

import pytest

from raftpay.storage.hard_state import HardStateFile as HardState
from raftpay.storage.journal import Journal
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from tests.raft.lab import Clock, Lab, simulated_clock
from tests.storage.twin import TINY


class SteppingClock(Clock):
    """Each reading finds it later by step_s: a process that is held up between any two readings."""

    step_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def test_a_process_held_up_while_it_proposes_appends_the_command_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 53 of the first day. Stock's queue gives up after a heartbeat and keeps the command for later."""
    clock = SteppingClock()
    monkeypatch.setattr("pysyncobj.syncobj.monotonicTime", clock)
    lab = Lab(clock)
    engine = lab.elect("n1")
    last_index = engine.last_index

    clock.step_s = 2 * engine.options.heartbeat_s
    index = engine.propose(b"once", lambda result, error: None)
    clock.step_s = 0.0
    lab.run_s(0.2)

    assert index == engine.last_index == last_index + 1
    assert [payload for _, payload in lab.members["n2"].applied] == [b"once"]


def test_a_term_that_cannot_be_saved_is_not_entered() -> None:
    """Seed 9 of the first day. Stock changes its term before it saves it, and speaks in it when saving fails."""
    with simulated_clock() as clock:
        lab = Lab(clock)
        lab.elect("n1")
        lab.kill("n1")
        member = lab.members["n2"]
        term = member.engine.term

        member.disk.capacity_bytes = 0
        clock.now_s += member.engine.options.election_timeout_max_s + 0.01
        lab.tick("n2")
        lab.deliver("n2", "n3")
        lab.deliver("n3", "n2")

        assert member.engine.term == term
        assert HardState.open(member.disk, cluster_id="lab").term == term


def killed_within(act: str, moment: int, seed: int) -> tuple[SimDisk, bool]:
    """The disk of a process that ended at that change of the act, and whether the act has so many."""
    disk = SimDisk(seed)
    journal = Journal.open(disk, TINY)
    for index in range(1, 81):
        journal.append(index, 1, bytes([index]) * 100)
        journal.sync()
    disk.interrupt(moment, PowerLossError())
    try:
        if act == "compact":
            journal.compact_to(60)
        elif act == "cut":
            journal.truncate_from(20)
        else:
            journal.reset(100, 2)
    except PowerLossError:
        return disk, True
    disk.interrupt(0, None)
    return disk, False


@pytest.mark.parametrize("act", ["compact", "cut", "reset"])
@pytest.mark.parametrize("moment", range(14))
def test_what_a_killed_process_wrote_into_the_marks_outlives_a_power_loss(act: str, moment: int) -> None:
    """Seed 20000, torn alone: killed before the marks were synced, which the next life removed segments by; then the
    power went, and took the marks back."""
    for seed in range(12):
        disk, is_killed = killed_within(act, moment, seed)
        if is_killed:
            last_index = Journal.open(disk, TINY).last_index
            disk.crash()

            assert Journal.open(disk, TINY).last_index == last_index


@pytest.mark.parametrize("act", ["compact", "cut", "reset"])
@pytest.mark.parametrize("moment", range(14))
def test_what_is_synced_after_a_killed_act_outlives_a_power_loss(act: str, moment: int) -> None:
    """Seed 580: killed when it had written, and not synced, that a cut was finished; the next life appended and synced
    behind the cut; then the power went, took the marks back, and the cut was made once more."""
    for seed in range(12):
        disk, _ = killed_within(act, moment, seed)
        journal = Journal.open(disk, TINY)
        journal.append(journal.last_index + 1, 2, b"synced")
        journal.sync()
        disk.crash()

        assert Journal.open(disk, TINY).last_index == journal.last_index


def test_a_term_read_from_the_disk_outlives_a_power_loss() -> None:
    """Seed 5032, five nodes: a process killed before it had synced a rename; the next one relied on the new name."""
    lost = []
    for seed in range(20):
        disk = SimDisk(seed=seed)
        HardState.open(disk, cluster_id="lab").save(3, "n4")
        disk.interrupt(4, PowerLossError())  # create, write, fsync, rename, and then the folder's fsync
        with pytest.raises(PowerLossError):
            HardState.open(disk, cluster_id="lab").save(7, None)

        found = HardState.open(disk, cluster_id="lab").term
        disk.crash()
        lost.append(HardState.open(disk, cluster_id="lab").term < found)

    assert not any(lost)
