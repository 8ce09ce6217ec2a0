"""Who belongs to the group, by the log: its configurations, and the rules for the next one (Raft thesis chapter 4).

A configuration is an entry that lists all members; the last one in the log is in force, committed or not (thesis 4.1;
S23: stock forgets an uncommitted one on restart). Each differs from the one before in one member, so that any majority
of the one meets any of the other, and the next is proposed only when the last is applied (S10: stock lets several be
under way).

A member counts with one incarnation: the memory, on its disk, of what it voted and acknowledged. A disk that was
replaced has another incarnation. Its votes and acknowledgements are heard but not counted, until a configuration says
that this incarnation learns (a change of one member, like removing the old one) and, once it has all, another that it
votes. Numbers and names only: no sockets, no clock, no PySyncObj.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from raftpay.errors import MembershipError, ProtocolError
from raftpay.raft.messages import Hello

# The type byte of a configuration's entry. PySyncObj's own are 0 to 3, of which 2 and 3 are never used here.
MEMBERS: Final = b"\x10"
# Entry 1 is PySyncObj's own, the same in every log. What the cluster is founded with stands there.
FOUNDING_INDEX: Final = 1
VOTERS_MAX: Final = 7
# With one voter left, one lost disk loses money.
VOTERS_MIN: Final = 2


class Member(Struct, frozen=True, array_like=True):
    """peer, client: addresses "host:port". is_voter: else it learns: it gets the log and is not counted.

    incarnation: of its data directory; 0 until it has been met. command_version: the newest that it can apply.
    """

    peer: str
    client: str
    is_voter: bool
    incarnation: int
    command_version: int


Members = Mapping[str, Member]

_decoder = msgspec.msgpack.Decoder(dict[str, Member])


def encode_members(members: Members) -> bytes:
    return msgspec.msgpack.encode(dict(sorted(members.items())))


def decode_members(data: bytes) -> Members:
    """Raises ProtocolError."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a configuration of {len(data)} bytes cannot be read: {error}") from error


class Configurations:
    """The configurations of one log, the oldest that still matters first.

    members: those in force; empty while this node knows of none. index: of the entry that says so; 0 for none.
    generation: grows with every change.
    """

    def __init__(self) -> None:
        self._found: list[tuple[int, Members]] = []
        self.members: Members = {}
        self.index = 0
        self.generation = 0

    def _become(self, found: list[tuple[int, Members]]) -> None:
        self._found = found
        self.index, self.members = found[-1] if found else (0, {})
        self.generation += 1

    def at(self, index: int) -> Members | None:
        """Those in force at that entry; None where it is not known here."""
        return next((members for at, members in reversed(self._found) if at <= index), None)

    def since(self, index: int) -> list[Members]:
        """Those in force at that entry and at any later one."""
        before = self.at(index)
        return ([] if before is None else [before]) + [members for at, members in self._found if at > index]

    def append(self, index: int, members: Members) -> None:
        self._become([*self._found, (index, members)])

    def truncate_from(self, index: int) -> None:
        """The log was cut from that entry on."""
        if self.index >= index:
            self._become([found for found in self._found if found[0] < index])

    def install(self, index: int, members: Members, *, keeps_log: bool) -> None:
        """Take the configuration of a snapshot of that entry. keeps_log: what the log says behind it stays."""
        later = [found for found in self._found if found[0] > index] if keeps_log else []
        self._become([(index, members), *later])


def voters(members: Members) -> list[str]:
    return [name for name, member in members.items() if member.is_voter]


def with_member(members: Members, name: str, *, peer: str, client: str) -> Members:
    """A configuration with one more, which learns at first. Raises MembershipError."""
    if name in members:
        raise MembershipError(
            f"{name} is a member already, at {members[name].peer}. To move it to another address, change the cluster "
            "files; to give it an empty disk, run `raftpay node rebuild` on it"
        )
    taken = {address: other for other, member in members.items() for address in (member.peer, member.client)}
    for address in (peer, client):
        if address in taken:
            raise MembershipError(f"{address} is {taken[address]}'s, expected addresses of its own for {name}")
    if len(members) >= VOTERS_MAX:
        raise MembershipError(f"there are {len(members)} members, at most {VOTERS_MAX} can be; remove one first")
    return {**members, name: Member(peer, client, is_voter=False, incarnation=0, command_version=0)}


def without_member(members: Members, name: str) -> Members:
    """A configuration with one less. Raises MembershipError."""
    if name not in members:
        raise MembershipError(f"{name} is no member; the members are {', '.join(members)}")
    left = {other: member for other, member in members.items() if other != name}
    if len(voters(left)) < VOTERS_MIN:
        raise MembershipError(
            f"without {name} there would be {len(voters(left))} voter, expected {VOTERS_MIN} at least: "
            "add another node first (`raftpay member add`)"
        )
    return left


def as_met(members: Members, met: Mapping[str, Hello]) -> Members | None:
    """The configuration that says of one member what it said of itself; None if all is as they said.

    Another incarnation than the one that counts has forgotten what that one promised: it learns from the beginning.
    """
    for name, hello in met.items():
        member = members.get(name)
        if member is None or (member.incarnation, member.command_version) == (hello.incarnation, hello.command_version):
            continue
        is_voter = member.is_voter and member.incarnation == hello.incarnation
        changed = msgspec.structs.replace(
            member, is_voter=is_voter, incarnation=hello.incarnation, command_version=hello.command_version
        )
        return {**members, name: changed}
    return None


def with_voter(members: Members, name: str) -> Members:
    """The configuration in which a learner votes."""
    return {**members, name: msgspec.structs.replace(members[name], is_voter=True)}


def founded(founders: Iterable[str], hellos: Mapping[str, Hello], clients: Mapping[str, str]) -> Members:
    """The first configuration: the founders as they said they are."""
    return {
        name: Member(
            hellos[name].address,
            clients.get(name, ""),
            is_voter=True,
            incarnation=hellos[name].incarnation,
            command_version=hellos[name].command_version,
        )
        for name in sorted(founders)
    }
