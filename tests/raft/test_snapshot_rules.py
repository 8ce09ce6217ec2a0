"""Raft paper 7, log compaction: what a snapshot may replace, who is sent one, and what is acknowledged of it."""

import hashlib
from collections.abc import Callable, Iterable

import pytest
from msgspec import structs

from raftpay.errors import CorruptionError, DiskFullError, FormatVersionError, LeadershipLostError, StorageError
from raftpay.raft.messages import SnapshotChunk, SnapshotFetch, SnapshotOffer
from raftpay.raft.snapshots import RETRY_S, SnapshotOptions
from raftpay.storage.records import REBUILD_ADVICE
from raftpay.storage.sim_disk import PowerLossError, SimDisk
from raftpay.storage.snapshots import SnapshotInfo, SnapshotStore, StateFile, Steps, Written, part_name
from tests.raft.lab import CLUSTER, FREQUENT, Clock, Lab, ListImage, ListMachine, run_at_once, simulated_clock


@pytest.fixture
def lab(clock: Clock) -> Lab:
    return Lab(clock, snapshots=FREQUENT)


def write(lab: Lab, count: int, prefix: bytes = b"p") -> None:
    for number in range(count):
        assert lab.propose(prefix + b"%d of %d" % (number, lab.clock.now_s * 1000) + b"x" * 100)
        if number % 5 == 4:
            lab.settle()
    lab.run_s(0.1)


def leave_behind(lab: Lab, name: str = "n3") -> None:
    """The node is killed, and the log is compacted past what it has."""
    lab.elect("n1")
    write(lab, 10, b"before")
    lab.kill(name)
    write(lab, 60, b"meanwhile")
    assert lab.members["n1"].journal.first_index > 20


def test_7_the_log_is_compacted_behind_a_verified_snapshot_only(lab: Lab) -> None:
    lab.elect("n1")
    write(lab, 100)

    for member in lab.members.values():
        newest = SnapshotStore.open(member.disk, CLUSTER).newest
        assert newest is not None
        assert 1 < member.journal.first_index <= newest.index + 1
        assert member.journal.bytes_after(newest.index) < max(FREQUENT.log_bytes_max, newest.size_bytes // 2) + 1000
    lab.check_outcome()


def test_a_snapshot_waits_until_the_log_behind_the_last_one_has_half_of_its_size(lab: Lab) -> None:
    lab.elect("n1")
    write(lab, 300)
    member = lab.members["n1"]
    assert member.snapshots is not None

    log_bytes: dict[int, int] = {}
    for _ in range(200):
        write(lab, 1)
        log_bytes[member.snapshots.index] = max(log_bytes.get(member.snapshots.index, 0), member.snapshots.log_bytes)
    sizes = {info.index: info.size_bytes for info in (member.snapshots.store.newest, member.snapshots.store.previous)
             if info is not None}  # fmt: skip

    before, newest = sorted(sizes)
    assert sizes[before] // 2 - 500 < log_bytes[before] <= sizes[before] // 2
    assert sizes[before] // 2 > 4 * FREQUENT.log_bytes_max
    assert log_bytes[newest] <= sizes[newest] // 2


def test_7_while_a_snapshot_is_being_written_the_log_is_whole(lab: Lab) -> None:
    waiting: list[tuple[Steps, Callable[[StorageError | None], None]]] = []
    lab.run_steps = lambda steps, done: waiting.append((steps, done))
    lab.elect("n1")
    write(lab, 100)

    assert [member.journal.first_index for member in lab.members.values()] == [1, 1, 1]
    assert len(waiting) == 3


def test_7_a_restarted_node_goes_on_from_its_snapshot_and_applies_nothing_twice(lab: Lab) -> None:
    lab.elect("n1")
    write(lab, 60)
    applied = list(lab.members["n1"].applied)

    for name in lab.names:
        lab.kill(name, power_loss=True)
    for name in lab.names:
        member = lab.start(name)
        assert member.engine.applied_index == member.engine.commit_index > 20
    lab.connect_all()
    lab.run_s(3)

    assert lab.members["n2"].applied == applied
    write(lab, 5, b"after")
    lab.check_outcome()


def test_7_a_follower_whose_entries_are_compacted_away_gets_the_snapshot(lab: Lab) -> None:
    leave_behind(lab)

    lab.start("n3")
    lab.connect_all()
    lab.run_s(3)

    assert lab.members["n3"].journal.first_index > 20
    write(lab, 5, b"after")
    lab.check_outcome()


def test_7_a_follower_without_room_for_a_new_log_does_not_fetch_the_snapshot_with_every_heartbeat(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(lab)
    received: list[str] = []
    receive = SnapshotStore.receive

    def counted(store: SnapshotStore, part: str, index: int, term: int, written: Written) -> Steps:
        received.append(part)
        return receive(store, part, index, term, written)

    monkeypatch.setattr(SnapshotStore, "receive", counted)
    lab.start("n3")

    def refused(index: int, term: int) -> None:
        raise DiskFullError("no room")

    with monkeypatch.context() as full:
        full.setattr(lab.members["n3"].journal, "reset", refused)
        lab.connect_all()
        lab.run_s(RETRY_S - 1)
        assert len(received) == 1

    lab.run_s(3)

    assert len(received) == 2
    write(lab, 5, b"after")
    lab.check_outcome()


def newest_of_leader(lab: Lab) -> SnapshotInfo:
    snapshots = lab.members["n1"].snapshots
    assert snapshots is not None
    assert snapshots.store.newest is not None
    return snapshots.store.newest


def unreadable(disk: SimDisk, info: SnapshotInfo) -> None:
    """The leader itself finds it, when it reads a chunk."""
    disk.fail_sectors(info.name, info.size_bytes // 2, 1)


def flipped(disk: SimDisk, info: SnapshotInfo) -> None:
    """The follower finds it, when it has the whole."""
    disk.flip_bit(info.name, info.size_bytes // 2)


@pytest.mark.parametrize("damage", [unreadable, flipped])
def test_7_a_snapshot_that_is_damaged_on_its_leaders_disk_is_made_anew(
    lab: Lab, damage: Callable[[SimDisk, SnapshotInfo], None]
) -> None:
    """Seen with writes that go astray: a follower fetched one again and again, until the log had grown enough."""
    leave_behind(lab)
    damage(lab.disks["n1"], newest_of_leader(lab))

    lab.start("n3")
    lab.connect_all()
    lab.run_s(3)

    assert lab.members["n3"].applied == lab.members["n1"].applied
    assert SnapshotStore.open(lab.disks["n1"], CLUSTER).damaged == []
    lab.check_outcome()


HISTORY = bytes(range(250)) * 10
SEALED = StateFile("archive/sealed", len(HISTORY), hashlib.sha256(HISTORY).digest())


@pytest.fixture
def sealed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """n1 and n2 have a file of sealed history, which n3 has to fetch with the snapshot."""
    monkeypatch.setattr(ListImage, "files", (SEALED,))
    for name in ("n1", "n2"):
        lab.disks[name].make_folder("archive")
        lab.disks[name].create(SEALED.name).pwrite(HISTORY, 0)
    leave_behind(lab)
    lab.start("n3")
    lab.connect_all()
    return lab


def test_7_a_leader_whose_file_of_sealed_history_is_damaged_stops(sealed: Lab) -> None:
    sealed.disks["n1"].flip_bit(SEALED.name, 1234)

    with pytest.raises(CorruptionError, match=r"archive/sealed: its bytes are not those that were sealed.*rebuild"):
        sealed.run_s(3)

    sealed.kill("n1")
    sealed.run_s(5)
    assert sealed.members["n3"].applied == sealed.members["n2"].applied
    assert sealed.disks["n3"].open(SEALED.name).pread(len(HISTORY) + 1, 0) == HISTORY


def test_7_a_leader_whose_file_a_follower_has_lost_gives_it_once_more(sealed: Lab) -> None:
    """The follower's disk did wrong, not the leader's."""
    losses = 0

    def lose_it_once(steps: Steps, done: Callable[[StorageError | None], None]) -> None:
        nonlocal losses
        name = part_name(SEALED.digest)
        if not losses and sealed.disks["n3"].exists(name) and sealed.disks["n3"].open(name).size() == len(HISTORY):
            sealed.disks["n3"].flip_bit(name, 1234)
            losses += 1
        run_at_once(steps, done)

    sealed.run_steps = lose_it_once
    sealed.run_s(5)

    assert losses == 1
    assert sealed.members["n3"].applied == sealed.members["n1"].applied
    sealed.check_outcome()


def test_7_a_file_that_a_peers_copy_has_replaced_is_offered_with_the_next_snapshot(
    sealed: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may pack the same rows into other bytes; what the scrubber mends with is then no damage."""
    other = HISTORY[::-1]
    file = sealed.disks["n1"].open(SEALED.name)
    file.pwrite(other, 0)
    monkeypatch.setattr(ListImage, "files", (structs.replace(SEALED, digest=hashlib.sha256(other).digest()),))
    snapshots = sealed.members["n1"].snapshots
    assert snapshots is not None
    snapshots.is_wanted, snapshots.not_before_s = True, sealed.clock.now_s + 2.0

    sealed.run_s(2)
    write(sealed, 5)
    sealed.run_s(8)

    assert sealed.disks["n3"].open(SEALED.name).pread(len(HISTORY) + 1, 0) == other
    assert sealed.members["n3"].applied == sealed.members["n1"].applied


def test_7_an_empty_follower_gets_the_snapshot(lab: Lab) -> None:
    leave_behind(lab)
    lab.disks["n3"] = SimDisk(seed=77)

    lab.start("n3")
    lab.connect_all()
    lab.run_s(3)

    lab.check_outcome()


def test_7_nothing_is_acknowledged_before_the_snapshot_is_durable_and_restored(lab: Lab) -> None:
    leave_behind(lab)
    waiting: list[tuple[Steps, Callable[[StorageError | None], None]]] = []
    lab.start("n3")
    lab.run_steps = lambda steps, done: waiting.append((steps, done))
    lab.connect_all()
    progress = lab.members["n1"].engine
    lab.run_s(1)

    assert len(waiting) == 1
    assert (progress.match_index("n3") or 0) < 20
    steps, done = waiting.pop()
    for _ in steps:
        assert lab.members["n3"].engine.applied_index < 20
    done(None)
    lab.run_s(0.2)

    assert (progress.match_index("n3") or 0) > 20
    lab.run_steps = run_at_once
    lab.run_s(1)
    lab.check_outcome()


def test_the_state_of_a_snapshot_is_made_beside_the_loop_and_the_old_one_forgotten_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(lab)
    waiting: list[tuple[Steps, Callable[[StorageError | None], None]]] = []
    lab.start("n3")
    lab.run_steps = lambda steps, done: waiting.append((steps, done))
    lab.connect_all()
    lab.run_s(1)
    steps, done = waiting.pop()
    before = list(lab.members["n3"].applied)

    list(steps)
    monkeypatch.setattr(ListMachine, "load", None)
    assert lab.members["n3"].applied == before
    done(None)

    assert len(lab.members["n3"].applied) > len(before)
    assert len(waiting) == 1


def test_a_snapshot_that_was_fetched_is_there_though_an_older_one_is_taken_in_late(lab: Lab) -> None:
    """The loop may hear of the node's own snapshot only when the thread has finished with the one behind it."""
    lab.elect("n1")
    write(lab, 13)
    lab.isolate("n3")
    write(lab, 60)
    follower, waiting = lab.members["n3"], list[tuple[Steps, Callable[[StorageError | None], None]]]()
    lab.run_steps = lambda steps, done: waiting.append((steps, done))
    assert follower.snapshots is not None
    applied = follower.engine.applied_index
    follower.snapshots.pass_over(applied)
    follower.snapshots.tick(applied, lab.clock.now_s)
    lab.connect_all()
    lab.run_s(1)
    (own, own_done), (fetched, fetched_done) = waiting

    list(own)
    list(fetched)
    own_done(None)
    fetched_done(None)

    newest = follower.snapshots.store.newest
    assert newest is not None
    assert newest.index > applied
    assert SnapshotStore.open(follower.disk, CLUSTER).newest == newest


def test_a_snapshot_that_the_machine_cannot_take_stops_the_node(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(lab)

    def load(machine: ListMachine, chunks: Iterable[bytes]) -> Callable[[], object]:
        raise FormatVersionError("of version 9")

    lab.start("n3")
    monkeypatch.setattr(ListMachine, "load", load)
    lab.connect_all()

    with pytest.raises(StorageError, match=r"the snapshot of entry \d+ could not be restored: of version 9"):
        lab.run_s(3)


def fetch_a_part(lab: Lab) -> None:
    """n3 is behind, and has fetched the first chunks of n1's snapshot."""
    leave_behind(lab)
    lab.start("n3")
    lab.connect_all()
    fetched = 0

    for _ in range(400):
        lab.clock.now_s += 0.02
        lab.tick("n1")
        while lab.deliver("n1", "n3") is not None:
            pass
        message = lab.deliver("n3", "n1")
        fetched += isinstance(message, SnapshotFetch)
        if fetched == 4:
            break
        lab.tick("n2")
        lab.settle_pair("n1", "n2")


def test_7_a_fetch_goes_on_after_a_reconnect_and_after_a_restart(lab: Lab) -> None:
    fetch_a_part(lab)
    have = part_sizes(lab, "n3")

    lab.kill("n3")
    lab.start("n3")
    lab.connect_all()
    first = next_fetch(lab)

    assert sum(have) >= 600
    assert first.offset == sum(have)
    lab.run_s(3)
    lab.check_outcome()


def test_7_a_fetch_goes_on_when_the_same_snapshot_is_offered_in_a_later_term(lab: Lab) -> None:
    """Found by the simulator, seed 592: the follower went on asking in the term of the first offer, to no avail."""
    fetch_a_part(lab)
    snapshots = lab.members["n3"].engine.snapshots
    assert snapshots is not None
    assert snapshots.fetch is not None
    offer = snapshots.fetch.offer

    later = structs.replace(offer, term=offer.term + 1)
    first = snapshots.offered("n1", later, lab.clock.now_s + 10)

    assert first is not None
    assert (first.term, first.digest, first.offset) == (later.term, offer.digest, sum(part_sizes(lab, "n3")))


def part_sizes(lab: Lab, name: str) -> list[int]:
    disk = lab.disks[name]
    return [disk.open(f"snapshots/{part}").size() for part in disk.list("snapshots") if part.endswith(".part")]


def next_fetch(lab: Lab) -> SnapshotFetch:
    for _ in range(400):
        lab.clock.now_s += 0.02
        lab.tick("n1")
        lab.settle_pair("n1", "n2")
        while lab.deliver("n1", "n3") is not None:
            pass
        while (message := lab.deliver("n3", "n1")) is not None:
            if isinstance(message, SnapshotFetch):
                return message
    raise AssertionError("nothing is fetched")


def test_7_an_older_snapshot_is_neither_fetched_nor_installed(lab: Lab) -> None:
    """S4."""
    lab.elect("n1")
    write(lab, 60)
    leader, follower = lab.members["n1"], lab.members["n2"]
    assert leader.snapshots is not None
    info = leader.snapshots.store.newest
    assert info is not None
    write(lab, 3)
    applied, first = follower.engine.applied_index, follower.journal.first_index
    follower.engine.receive("n1", SnapshotOffer(leader.engine.term, 5, 1, 100, b"d" * 32, []))

    taken: list[str] = []
    assert follower.engine.install(info, lambda: taken.append("the snapshot's state"))

    assert taken == []
    assert (follower.engine.applied_index, follower.journal.first_index) == (applied, first)
    assert part_sizes(lab, "n2") == []
    lab.check_outcome()


def test_7_offers_and_chunks_of_another_term_are_passed_over(lab: Lab) -> None:
    lab.elect("n1")
    write(lab, 5)
    engine = lab.members["n2"].engine
    stale = SnapshotOffer(engine.term - 1, 10_000, 1, 100, b"d" * 32, [])

    engine.receive("n1", stale)
    engine.receive("n3", SnapshotOffer(engine.term, 10_000, 1, 100, b"d" * 32, []))
    engine.receive("n1", SnapshotChunk(engine.term - 1, b"d" * 32, b"d" * 32, 0, b"books"))

    assert part_sizes(lab, "n2") == []
    write(lab, 5, b"after")
    lab.check_outcome()


def test_7_a_log_that_agrees_with_the_snapshot_is_kept(lab: Lab) -> None:
    """Raft paper figure 13, step 6."""
    lab.elect("n1")
    write(lab, 10)
    follower = lab.members["n2"]
    first, last = follower.journal.first_index, follower.journal.last_index
    info = snapshot_of(lab, "n2")
    follower.engine._SyncObj__raftLastApplied = 3  # as if it had yet to apply what it has

    taken: list[str] = []
    assert follower.engine.install(info, lambda: taken.append("the snapshot's state"))

    assert taken == ["the snapshot's state"]
    assert (follower.journal.first_index, follower.journal.last_index) == (first, last)
    assert follower.engine.applied_index == info.index


def snapshot_of(lab: Lab, name: str) -> SnapshotInfo:
    """A new snapshot of a node's state, with its log kept whole."""
    snapshots = lab.members[name].snapshots
    assert snapshots is not None
    snapshots.options = SnapshotOptions(log_bytes_max=0, tail_bytes=1 << 20)
    snapshots.tick(lab.members[name].engine.applied_index, lab.clock.now_s)
    assert snapshots.store.newest is not None
    return snapshots.store.newest


def test_7_a_proposer_whose_entry_a_snapshot_covers_is_told_unknown(lab: Lab) -> None:
    """S14. Stock never answers it."""
    lab.elect("n1")
    write(lab, 10)
    answers: list[Exception | None] = []
    lab.isolate("n1")
    lab.members["n1"].engine.propose(b"cut off", lambda result, error: answers.append(error))
    lab.run_s(4)
    for name in ("n2", "n3"):
        if lab.members[name].engine.is_ready:
            write(lab, 60, b"meanwhile")

    lab.connect_all()
    lab.run_s(3)

    assert [type(answer) for answer in answers] == [LeadershipLostError]
    assert lab.members["n1"].journal.first_index > 5
    lab.check_outcome()


def test_7_a_leader_without_a_snapshot_sends_a_heartbeat_and_no_more(lab: Lab) -> None:
    """S21. Stock spins for a whole period and floods."""
    leave_behind(lab)
    leader = lab.members["n1"]
    assert leader.snapshots is not None
    leader.snapshots.store.newest, leader.snapshots.options = None, SnapshotOptions()
    lab.start("n3")
    lab.connect_all()
    sent = 0
    for _ in range(10):
        lab.clock.now_s += leader.engine.options.heartbeat_s + 0.001
        lab.tick("n1")
        while lab.deliver("n1", "n3") is not None:
            sent += 1
        while lab.deliver("n3", "n1") is not None:
            pass

    assert sent <= 12


@pytest.mark.parametrize("moment", range(0, 40, 2))
def test_7_power_may_fail_at_every_operation_of_an_install(moment: int) -> None:
    with simulated_clock() as clock:
        lab = Lab(clock, seed=moment, snapshots=FREQUENT)
        leave_behind(lab)
        member = lab.start("n3")
        member.disk.interrupt(moment, PowerLossError())
        lab.connect_all()
        try:
            lab.run_s(2)
        except PowerLossError:
            lab.kill("n3", power_loss=True)
            lab.start("n3")
            lab.connect_all()
        lab.run_s(4)
        write(lab, 5, b"after")

        lab.check_outcome()


def test_d8_without_a_whole_snapshot_a_compacted_journal_does_not_start(lab: Lab) -> None:
    lab.elect("n1")
    write(lab, 60)
    lab.kill("n2")
    disk = lab.disks["n2"]
    for name in disk.list("snapshots"):
        disk.flip_bit(f"snapshots/{name}", 60)

    with pytest.raises(CorruptionError, match="raftpay node rebuild") as refused:
        lab.start("n2")
    assert str(refused.value).count(REBUILD_ADVICE) == 1


def test_a_start_names_the_sealed_file_without_which_its_snapshot_gives_no_state(
    sealed: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.run_s(3)
    sealed.kill("n3")
    sealed.disks["n3"].remove(SEALED.name)
    sealed.start("n3")  # The state has all that was in it.
    sealed.kill("n3")

    def load(machine: ListMachine, chunks: Iterable[bytes]) -> Callable[[], object]:
        raise CorruptionError("0 of 1 segments are here")

    monkeypatch.setattr(ListMachine, "load", load)
    with pytest.raises(CorruptionError, match=r"archive/sealed is not there, and snapshots/\S+ gives no.*node rebuild"):
        sealed.start("n3")
    sealed.disks["n3"].create(SEALED.name).pwrite(HISTORY, 0)
    with pytest.raises(CorruptionError, match="0 of 1 segments are here"):
        sealed.start("n3")
