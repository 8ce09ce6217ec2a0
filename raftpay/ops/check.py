"""`raftpay check`: do the books balance on every node, and are they the same books?

Every node is asked by itself, from its own state: a question to the cluster would be answered by the leader alone.
Digests say something only at an equal applied index, so the nodes are asked again and again, all at once, until every
one that answers has been seen at one index; on a busy cluster this takes a few rounds.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from raftpay.client.answers import MEMBERS, STATE_DIGEST, TRIAL_BALANCE, StateDigest, TrialBalance
from raftpay.errors import NotCommitted, ProtocolError
from raftpay.ledger.records import CurrencyTotals
from raftpay.ops.probe import ask, ask_all, probe

# Summing the books of a large ledger takes a node a while.
ANSWER_TIMEOUT_S: Final = 5.0
_PAUSE_MIN_S: Final = 0.02
_PAUSE_MAX_S: Final = 0.5


@dataclass(slots=True)
class NodeBooks:
    """What was seen of one node. digests: by applied index, all rounds. problem: why it could not be asked, or None."""

    name: str
    address: str
    totals: TrialBalance | None = None
    digests: dict[int, str] = field(default_factory=dict)
    problem: str | None = None

    @property
    def unbalanced(self) -> list[CurrencyTotals]:
        """The currencies whose debits and credits differ."""
        totals = [] if self.totals is None else self.totals.totals
        return [line for line in totals if not is_balanced(line)]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome. index: the applied index at which the nodes in `digests` (by name) were compared."""

    nodes: list[NodeBooks]
    index: int
    digests: dict[str, str]

    @property
    def unreachable(self) -> list[str]:
        return [node.name for node in self.nodes if node.problem is not None]

    @property
    def is_balanced(self) -> bool:
        return not any(node.unbalanced for node in self.nodes)

    @property
    def has_equal_digests(self) -> bool:
        return len(set(self.digests.values())) == 1

    @property
    def is_good(self) -> bool:
        return self.is_balanced and self.has_equal_digests


def is_balanced(line: CurrencyTotals) -> bool:
    """Double entry: what is debited somewhere is credited elsewhere, posted and pending each."""
    return line.debits_posted == line.credits_posted and line.debits_pending == line.credits_pending


def members_of(addresses: Mapping[str, str]) -> dict[str, str]:
    """The client addresses of the present members, by name, as the leader has them; those given where none leads.

    A node that was removed keeps the books of that day, and a node that was added may be missing in a cluster file.
    """
    seen = [status for status in ask_all(addresses, lambda address: probe(address)).values() if status is not None]
    leaders = [status for status in seen if status.is_ready and status.has_quorum]
    for leader in sorted(leaders, key=lambda status: status.term, reverse=True):
        found = None
        if leader.leader_address is not None:
            found = ask(leader.leader_address, "members", [], MEMBERS, timeout_s=ANSWER_TIMEOUT_S)
        if found is not None:
            return {member.name: member.client for member in found.members}
    return dict(addresses)


def check_books(addresses: Mapping[str, str], *, deadline_s: float) -> Check:
    """Compare the books of the nodes at these client addresses (by name).

    Nodes that do not answer are left out and reported. Raises NotCommitted when none answers, or when the nodes that do
    were not seen at one applied index before the deadline.
    """
    deadline = time.monotonic() + deadline_s
    pause_s = _PAUSE_MIN_S
    nodes = {name: NodeBooks(name, address) for name, address in addresses.items()}
    while True:
        _look(nodes, timeout_s=min(ANSWER_TIMEOUT_S, deadline_s))
        reached = [node for node in nodes.values() if node.problem is None]
        if not reached:
            raise NotCommitted(f"no node answers: {', '.join(f'{n.name} ({n.address})' for n in nodes.values())}")
        if common := set.intersection(*(set(node.digests) for node in reached)):
            index = max(common)
            return Check(list(nodes.values()), index, {node.name: node.digests[index] for node in reached})
        if time.monotonic() >= deadline:
            seen = ", ".join(f"{node.name} {max(node.digests)}" for node in reached)
            raise NotCommitted(
                f"the nodes were not seen at one applied index within {deadline_s:g} s (last: {seen}): "
                "a node lags far behind, or the cluster is too busy; try again, or with a longer --deadline"
            )
        time.sleep(pause_s)
        pause_s = min(_PAUSE_MAX_S, pause_s * 2)


def _look(nodes: Mapping[str, NodeBooks], *, timeout_s: float) -> None:
    """Ask all nodes once. A node that answered before and now does not is unreachable."""
    addresses = {name: node.address for name, node in nodes.items()}
    totals = ask_all(addresses, lambda address: _totals(address, timeout_s=timeout_s))
    digests = ask_all(addresses, lambda address: _digest(address, timeout_s=timeout_s))
    for name, node in nodes.items():
        sums, digest = totals[name], digests[name]
        node.problem = next((answer for answer in (sums, digest) if isinstance(answer, str)), None)
        if isinstance(sums, TrialBalance) and isinstance(digest, StateDigest):
            node.totals = sums
            node.digests[digest.index] = digest.digest


def _totals(address: str, *, timeout_s: float) -> TrialBalance | str:
    try:
        return ask(address, "trial_balance", ["local"], TRIAL_BALANCE, timeout_s=timeout_s) or "no answer"
    except ProtocolError as error:
        return str(error)


def _digest(address: str, *, timeout_s: float) -> StateDigest | str:
    try:
        return ask(address, "state_digest", [], STATE_DIGEST, timeout_s=timeout_s) or "no answer"
    except ProtocolError as error:
        return str(error)
