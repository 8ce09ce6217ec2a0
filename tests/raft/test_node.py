"""Members of a group over real sockets, journals and fsyncs, in one process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raftpay.errors import DiskFullError, EngineStoppedError, LeadershipLostError, NotLeaderError, UnreadableError
from raftpay.raft import RaftNode, RaftOptions
from raftpay.storage.directory import DataDirectory
from raftpay.storage.hard_state import HardStateFile
from raftpay.storage.journal import Entry, Journal, JournalOptions
from tests.raft.test_transport import free_addresses

DEADLINE_S = 30


class Machine:
    """Remembers what was applied; `poison` cannot be applied."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, index: int, payload: bytes) -> bytes:
        if payload == b"poison":
            raise ValueError("poison")
        self.applied.append(payload)
        return payload.upper()


@dataclass
class Member:
    options: RaftOptions
    folder: Path
    machine: Machine = field(default_factory=Machine)

    async def start(self) -> None:
        self.directory = DataDirectory.open(self.folder, cluster_id="c", node_name=self.options.name)
        self.journal = Journal.open(self.directory.disk, JournalOptions(cluster_id="c", first_segment_bytes=64 * 1024))
        hard_state = HardStateFile.open(self.directory.disk, cluster_id="c")
        self.raft = RaftNode(self.options, self.journal, hard_state, self.machine)
        await self.raft.start()

    async def stop(self) -> None:
        await self.raft.stop()
        self.journal.close()
        self.directory.close()


@dataclass
class Group:
    members: dict[str, Member]

    async def leader(self) -> Member:
        """Wait until a member leads and is ready."""
        while True:
            for member in self.members.values():
                if member.raft.is_ready:
                    return member
            await self._next_turn()

    async def wait_applied(self, member: Member, payload: bytes) -> None:
        while payload not in member.machine.applied:
            await self._next_turn()

    async def _next_turn(self) -> None:
        # The members tick on this loop: a short wait gives them their turns. Bounded by the deadline of the test.
        await asyncio.sleep(0.005)


def with_group(tmp_path: Path, test: Callable[[Group], Awaitable[None]]) -> None:
    async def run() -> None:
        addresses = dict(zip(("n1", "n2", "n3"), free_addresses(3), strict=True))
        members = {name: Member(RaftOptions(name, "c", addresses), tmp_path / name) for name in addresses}
        started = []
        try:
            async with asyncio.timeout(DEADLINE_S):
                for member in members.values():
                    await member.start()
                    started.append(member)
                await test(Group(members))
        finally:
            for member in started:
                await member.stop()

    asyncio.run(run())


def test_a_proposal_is_applied_on_every_member_and_answered_with_its_result(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()

        result = await leader.raft.propose(b"money")

        assert result == b"MONEY"
        for member in group.members.values():
            await group.wait_applied(member, b"money")

    with_group(tmp_path, test)


def test_many_proposals_on_their_way_are_answered_in_order(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()

        results = await asyncio.gather(*[leader.raft.propose(b"p%d" % number) for number in range(200)])

        assert results == [b"P%d" % number for number in range(200)]
        assert leader.machine.applied == [b"p%d" % number for number in range(200)]

    with_group(tmp_path, test)


def test_a_follower_refuses_proposals_and_names_the_leader(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        await leader.raft.propose(b"settle")
        follower = next(member for member in group.members.values() if member is not leader)
        await group.wait_applied(follower, b"settle")

        with pytest.raises(NotLeaderError) as refusal:
            follower.raft.propose(b"money")

        assert refusal.value.leader == leader.options.name

    with_group(tmp_path, test)


def test_a_read_barrier_passes_on_a_leader_and_not_on_one_that_is_cut_off(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        await leader.raft.read_barrier()
        for member in group.members.values():
            if member is not leader:
                await member.raft.stop()

        with pytest.raises(NotLeaderError):
            await leader.raft.read_barrier()

    with_group(tmp_path, test)


def test_a_proposal_without_a_majority_ends_as_unknown(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        for member in group.members.values():
            if member is not leader:
                await member.raft.stop()

        with pytest.raises(LeadershipLostError, match="was sent, then this node lost the leadership"):
            await leader.raft.propose(b"money")

    with_group(tmp_path, test)


def test_leadership_is_handed_over_within_a_moment(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        await leader.raft.propose(b"before")

        handed_over = await leader.raft.transfer_leadership(5)
        successor = await group.leader()

        assert handed_over
        assert successor is not leader
        assert await successor.raft.propose(b"after") == b"AFTER"

    with_group(tmp_path, test)


def no_room(_index: int, _term: int, _payload: bytes) -> None:
    raise DiskFullError("no room")


def test_a_leader_whose_disk_is_full_lets_a_follower_lead(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        assert await leader.raft.propose(b"before") == b"BEFORE"
        leader.journal.append = no_room  # type: ignore[method-assign]
        successor = leader
        # The followers may have yet to say that they have everything.
        async with asyncio.timeout(10):
            while successor is leader:
                with suppress(DiskFullError, NotLeaderError):
                    await leader.raft.propose(b"money")
                await asyncio.sleep(0.01)
                successor = await group.leader()

        assert await successor.raft.propose(b"after") == b"AFTER"
        assert successor.machine.applied == [b"before", b"after"]

    with_group(tmp_path, test)


def test_followers_without_room_give_the_leadership_back_and_are_not_asked_at_once_again(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        await leader.raft.propose(b"before")
        for member in group.members.values():
            member.journal.append = no_room  # type: ignore[method-assign]
        asked: list[str] = []
        hand_over = leader.raft._engine.hand_over
        leader.raft._engine.hand_over = lambda peer: (asked.append(peer), hand_over(peer))[1]  # type: ignore[method-assign]
        end_s = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < end_s:
            with suppress(DiskFullError, NotLeaderError):
                leader.raft.propose(b"money")
            await asyncio.sleep(0.01)

        assert len(asked) == 1

    with_group(tmp_path, test)


def test_an_entry_that_cannot_be_applied_stops_the_member(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()

        with pytest.raises(LeadershipLostError):
            await leader.raft.propose(b"poison")

        failure = await leader.raft.failure
        assert isinstance(failure, EngineStoppedError)
        assert "could not be applied: poison" in str(failure)
        with pytest.raises(NotLeaderError):
            leader.raft.propose(b"money")

    with_group(tmp_path, test)


def test_a_leader_that_stops_while_it_proposes_says_unknown(tmp_path: Path) -> None:
    """The entry may be on its way, and in the journal when the node starts again."""

    async def test(group: Group) -> None:
        leader = await group.leader()

        def break_off(first: int, last: int, *, bytes_max: int) -> list[Entry]:
            raise UnreadableError("a sector is gone")

        leader.journal.entries = break_off  # type: ignore[method-assign]
        with pytest.raises(LeadershipLostError):
            await leader.raft.propose(b"money")

        assert isinstance(await leader.raft.failure, UnreadableError)

    with_group(tmp_path, test)


def test_a_leader_that_stops_while_it_confirms_a_read_sends_the_reader_elsewhere(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()

        def break_off(index: int) -> int:
            raise UnreadableError("a sector is gone")

        leader.journal.term_at = break_off  # type: ignore[method-assign]
        with pytest.raises(NotLeaderError):
            await leader.raft.read_barrier()

        assert isinstance(await leader.raft.failure, UnreadableError)

    with_group(tmp_path, test)


def test_a_member_stops_at_any_error_in_the_middle_of_a_message(tmp_path: Path) -> None:
    """Half of what the message asked for is done. asyncio would log the error, an OSError not even that, and go on."""

    async def test(group: Group) -> None:
        leader = await group.leader()
        member = next(member for member in group.members.values() if member is not leader)

        def break_off(index: int, payload: bytes, term: int) -> None:
            raise OSError("a stranger among the errors")

        member.raft._engine.log.add = break_off  # type: ignore[method-assign]
        leader.raft.propose(b"money")

        assert str(await member.raft.failure) == "a stranger among the errors"

    with_group(tmp_path, test)


def test_a_member_that_comes_back_catches_up(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        name = next(name for name in group.members if name != leader.options.name)
        await group.members[name].stop()
        for number in range(300):
            await leader.raft.propose(b"%d" % number + b"x" * 1000)

        group.members[name] = again = Member(group.members[name].options, group.members[name].folder)
        await again.start()
        try:
            await group.wait_applied(again, b"299" + b"x" * 1000)
            assert again.machine.applied == leader.machine.applied
        finally:
            await again.stop()
            group.members[name].stop = lambda: asyncio.sleep(0)  # type: ignore[method-assign]  # stopped above

    with_group(tmp_path, test)


def test_an_entry_over_the_limit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    async def test(group: Group) -> None:
        leader = await group.leader()
        last_index = leader.raft.last_index

        with pytest.raises(ValueError, match="an entry has at most 8388608 bytes, found 8388609"):
            leader.raft.propose(b"x" * (8 * 1024 * 1024 + 1))

        assert leader.raft.last_index == last_index

    with_group(tmp_path, test)
