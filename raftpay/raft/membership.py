"""Whose votes and acknowledgements count, and what a leader itself changes about the members. Owned by the engine.

Configurations are the log's (members.py); here they meet what the peers say of themselves when they connect. No
sockets and no PySyncObj; no messages are sent from here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from raftpay.raft.log import RaftLog
from raftpay.raft.members import FOUNDING_INDEX, Members, as_met, founded, voters, with_voter
from raftpay.raft.messages import PROTOCOL_VERSION, Hello
from raftpay.raft.options import RaftOptions


@dataclass(slots=True)
class Round:
    """One round of a learner's catch-up (thesis 4.2.1): to reach what the log had when the round began."""

    target_index: int
    began_s: float


class Membership:
    """hellos: what each peer last said of itself. heard: those whose connection to us is open."""

    def __init__(self, options: RaftOptions, log: RaftLog) -> None:
        self._options, self._log = options, log
        self._name = options.name
        self.hellos: dict[str, Hello] = {}
        self.heard: set[str] = set()
        self._rounds: dict[str, Round] = {}
        self._seen = -1
        # The other voters whose memory is the one that the configuration counts, and whether this node is such a one.
        self._counted: frozenset[str] = frozenset()
        self._counts_self = False
        self._voters_count = 0
        # The newest that every member can apply.
        self.command_version = 0

    # ---- what is in force

    @property
    def members(self) -> Members:
        return self._log.configurations.members

    @property
    def index(self) -> int:
        return self._log.configurations.index

    @property
    def others(self) -> list[str]:
        """All but this node, learners too; as the cluster file says while no configuration is known."""
        known = self.members or self._options.peers
        return sorted(name for name in known if name != self._name)

    @property
    def other_voters(self) -> list[str]:
        return [name for name in voters(self.members) if name != self._name] if self.members else self.others

    def addresses(self, commit_index: int) -> dict[str, str]:
        """Where the others are dialled: those of every configuration that may be in force.

        A removal that is not committed may be undone, by the removed node as leader; whoever hung up on it would not
        hear of that (thesis 4.1). The cluster file is the operator's word, and goes first.
        """
        possible = self._log.configurations.since(commit_index)
        found = {name: member.peer for members in possible for name, member in members.items()}
        known = {name: self._options.peers.get(name, peer) for name, peer in found.items()} or self._options.peers
        return {name: address for name, address in known.items() if name != self._name}

    def has_changed(self) -> bool:
        """Whether another configuration is in force than at the last call."""
        if self._seen == self._log.configurations.generation:
            return False
        self._seen = self._log.configurations.generation
        self._count()
        return True

    def hello(self, receiver: str) -> Hello:
        options, log = self._options, self._log
        return Hello(
            PROTOCOL_VERSION,
            options.cluster_id,
            self._name,
            receiver,
            options.peers[self._name],
            log.incarnation,
            log.is_fresh,
            self.index,
            options.command_version,
        )

    def met(self, hello: Hello) -> bool:
        """A peer has said who it is. Returns whether it is another incarnation than before."""
        before = self.hellos.get(hello.sender)
        self.hellos[hello.sender] = hello
        self.heard.add(hello.sender)
        self._count()
        return before is not None and before.incarnation != hello.incarnation

    # ---- who counts

    def _count(self) -> None:
        voting = voters(self.members)
        met = [member.command_version for member in self.members.values() if member.incarnation]
        self.command_version = min(met, default=0)
        self._voters_count = len(voting)
        self._counts_self = self._name in voting and self.members[self._name].incarnation == self._log.incarnation
        self._counted = frozenset(
            name
            for name in voting
            if name in self.hellos and self.hellos[name].incarnation == self.members[name].incarnation
        )

    @property
    def counts_self(self) -> bool:
        """Whether this node is a voter with the memory that the configuration means. No other may stand for election.

        A node never gets the entry that removes it (the leader sends it nothing from then on), so that the thesis'
        case of a leader outside its own configuration (4.2.2) does not come up; it removes itself only by handing over.
        """
        return self._counts_self

    def is_member(self, peer: str) -> bool:
        return not self.members or peer in self.members

    def is_majority(self, names: Iterable[str]) -> bool:
        """Whether these others, and this node if it counts, are a majority of the voters."""
        count = len(self._counted.intersection(names)) + self._counts_self
        return self._voters_count > 0 and count > self._voters_count // 2

    def reached_by_majority(self, own: int, others: Iterable[tuple[str, int]]) -> int:
        """The highest number that a majority of the voters has reached; 0 for those that do not count."""
        reached = [number for name, number in others if name in self._counted]
        if self._counts_self:
            reached.append(own)
        needed = self._voters_count // 2 + 1
        return sorted(reached, reverse=True)[needed - 1] if len(reached) >= needed else 0

    # ---- what a leader changes by itself

    def next_change(self, matches: dict[str, int], last_index: int, now_s: float) -> Members | None:
        """A configuration to propose now; None where all is as it should be. At most one member differs."""
        met = {name: self.hellos[name] for name in sorted(self.heard) if name in self.hellos}
        met[self._name] = self.hello(self._name)
        changed = as_met(self.members, met)
        if changed is not None:
            return changed
        for name, member in self.members.items():
            if member.is_voter or member.incarnation == 0 or name not in self.heard:
                self._rounds.pop(name, None)
            elif self._has_caught_up(name, matches.get(name, 0), last_index, now_s):
                return with_voter(self.members, name)
        return None

    def _has_caught_up(self, name: str, match_index: int, last_index: int, now_s: float) -> bool:
        """Whether a learner gets what is new within an election timeout: as a voter it would not be waited for."""
        round_ = self._rounds.setdefault(name, Round(last_index, now_s))
        if match_index < round_.target_index:
            return False
        if now_s - round_.began_s < self._options.election_timeout_min_s:
            return True
        self._rounds[name] = Round(last_index, now_s)
        return False

    def begin_term(self) -> None:
        self._rounds.clear()

    # ---- the foundation

    def to_found(self) -> Members | None:
        """The first configuration, where this node may found the cluster now.

        The first founder by name may, with an empty directory, once every other founder has told it of an empty one: a
        node that lost its disk hears from others that theirs are not, and joins.
        """
        founders = sorted(self._options.founders)
        others = [name for name in founders if name != self._name]
        if founders[:1] != [self._name] or not self._log.is_fresh:
            return None
        if not all(name in self.heard and self.hellos[name].is_fresh for name in others):
            return None
        hellos = {**self.hellos, self._name: self.hello(self._name)}
        return founded(founders, hellos, self._options.clients)

    @property
    def awaited(self) -> list[str]:
        """The founders that this node has yet to hear, while it knows of no configuration."""
        missing = [name for name in sorted(self._options.founders) if name not in self.heard and name != self._name]
        return [] if self.members else missing

    def is_unfounded(self, peer: str) -> bool:
        """Whether a founder should be told of the foundation."""
        hello, member = self.hellos.get(peer), self.members.get(peer)
        return (
            self.index == FOUNDING_INDEX
            and hello is not None
            and member is not None
            and hello.is_fresh
            and hello.incarnation == member.incarnation
        )

    def accepts(self, members: Members) -> bool:
        """Whether this node may begin with a foundation that it is told of."""
        me = members.get(self._name)
        return self._log.is_fresh and me is not None and me.incarnation == self._log.incarnation
