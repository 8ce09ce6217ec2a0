"""What calls of the client give back, and how it is read from the wire. Values only: no sockets, no decisions."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Generic, Literal, TypeVar, overload

import msgspec
from msgspec import Meta, Struct

from raftpay.ledger import (
    AccountRecord,
    BalanceRecord,
    CreateAccountResult,
    CreateTransferResult,
    CurrencyTotals,
    OperatorResult,
    Page,
    Result,
    TransferRecord,
)

Read = Literal["linearizable", "local"]
ResultKind = TypeVar("ResultKind", bound=Result)
OutcomeKind = TypeVar("OutcomeKind", bound=Result, covariant=True)


class Outcome(Struct, Generic[OutcomeKind], frozen=True, gc=False):
    """What became of one event.

    result: its number, name, class, and a sentence that tells what to do.
    timestamp: the event's time in nanoseconds since the epoch; of `exists`, that of this retry.
    """

    result: OutcomeKind
    timestamp: int

    @property
    def is_ok(self) -> bool:
        """Whether the event is in effect: by this request, or by an earlier one under the same id."""
        return self.result.is_ok


class ResultTable(Generic[ResultKind]):
    """Result numbers, as they come over the wire, and their meaning."""

    def __init__(self, kind: type[ResultKind]) -> None:
        self.members: Final[tuple[ResultKind, ...]] = tuple(sorted(kind, key=int))
        assert [int(member) for member in self.members] == list(range(len(self.members)))
        self._known: Final = bytes(range(len(self.members)))
        self._ok: Final = bytes(int(member) for member in self.members if member.is_ok)

    def unknown_in(self, numbers: bytes) -> bytes:
        """The numbers that this release has no name for."""
        return numbers.translate(None, self._known)

    def are_ok(self, numbers: bytes) -> bool:
        return not numbers.translate(None, self._ok)


ACCOUNT_RESULTS: Final = ResultTable(CreateAccountResult)
TRANSFER_RESULTS: Final = ResultTable(CreateTransferResult)
OPERATOR_RESULTS: Final = ResultTable(OperatorResult)


class Outcomes(Sequence[Outcome[ResultKind]]):
    """One Outcome for each event sent, in order. Holds a byte an event; an Outcome is made when it is asked for."""

    __slots__ = ("_numbers", "_starts", "_table", "_timestamps")

    def __init__(self, table: ResultTable[ResultKind], parts: Sequence[tuple[int, bytes]]) -> None:
        """parts: of each request that the events went in, the time of its first event and its result numbers."""
        self._table = table
        self._numbers = parts[0][1] if len(parts) == 1 else b"".join(numbers for _, numbers in parts)
        # Position of each part's first event, and that event's time.
        self._starts: list[int] = []
        self._timestamps: list[int] = []
        start = 0
        for timestamp, numbers in parts or [(0, b"")]:
            self._starts.append(start)
            self._timestamps.append(timestamp)
            start += len(numbers)

    @property
    def numbers(self) -> bytes:
        """The result numbers, a byte each: for those who count them or pass them on."""
        return self._numbers

    @property
    def are_ok(self) -> bool:
        """Whether every event is in effect. Costs next to nothing, whatever the number of events."""
        return self._table.are_ok(self._numbers)

    def refused(self) -> Iterator[tuple[int, Outcome[ResultKind]]]:
        """The events that are not in effect: position in the request, and why."""
        if not self.are_ok:
            yield from ((index, outcome) for index, outcome in enumerate(self) if not outcome.is_ok)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Outcome[ResultKind]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Outcome[ResultKind]]: ...
    def __getitem__(self, index: int | slice) -> Outcome[ResultKind] | list[Outcome[ResultKind]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        number = self._numbers[index]
        position = index if index >= 0 else index + len(self._numbers)
        part = bisect_right(self._starts, position) - 1
        return Outcome(self._table.members[number], self._timestamps[part] + position - self._starts[part])

    def __iter__(self) -> Iterator[Outcome[ResultKind]]:
        members = self._table.members
        ends = [*self._starts[1:], len(self._numbers)]
        for start, end, timestamp in zip(self._starts, ends, self._timestamps, strict=True):
            for offset, number in enumerate(self._numbers[start:end]):
                yield Outcome(members[number], timestamp + offset)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a sequence that equals lists is as unhashable as they are

    def __repr__(self) -> str:
        return f"Outcomes({list(self)!r})"


class TrialBalance(Struct, frozen=True):
    """index: the log index it was taken at. totals: a line for each currency."""

    index: int
    totals: list[CurrencyTotals]


class StateDigest(Struct, frozen=True):
    """index: the log index it was taken at. digest: hex; nodes with the same index have the same digest."""

    index: int
    digest: str


class PeerInfo(Struct, frozen=True):
    """Another node, as seen by the one that was asked. match_index: how far its log is known to agree.

    is_voter: its vote and its acknowledgements count; else it learns.
    """

    name: str
    connected: bool
    match_index: int | None = None
    is_voter: bool = True


class ScrubInfo(Struct, frozen=True, kw_only=True):
    """What a node has found by reading again what lies on its disk, since its start.

    passes: over all of it. last_pass_ended: nanoseconds since the epoch, 0 for never; last_pass_bytes: that it read.
    found, repaired: how many damaged files. damaged: those that are not repaired yet, each with why.
    """

    passes: int = 0
    last_pass_ended: int = 0
    last_pass_bytes: int = 0
    found: int = 0
    repaired: int = 0
    damaged: list[str] = []


class NodeStatus(Struct, frozen=True, kw_only=True):
    """How one node sees itself and the cluster. Indexes are those of the log; see the Raft paper for their meaning.

    leader, leader_address: the name and the client address of the node that leads, as far as this one knows.
    is_ready: it leads, and takes writes. is_voter: it counts for majorities; else it learns, or is no member.
    snapshot_index: the last entry in the newest snapshot on its disk; 0 for none.
    command_version: of new log entries: the newest that every member can apply. members_index: of the entry that says
    who the members are; 0 while the node knows of none: it is new, or being rebuilt.
    ledger_time: of the last event applied, nanoseconds since the epoch.
    scrub: what it found damaged on its disk.
    """

    name: str
    cluster_id: str
    version: str
    role: str
    is_ready: bool = False
    is_voter: bool = True
    leader: str | None
    leader_address: str | None
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    synced_index: int
    snapshot_index: int = 0
    command_version: int = 0
    members_index: int = 1
    ledger_time: int
    accounts: int
    transfers: int
    pendings: int
    uptime_s: float
    has_quorum: bool
    peers: list[PeerInfo]
    scrub: ScrubInfo = ScrubInfo()
    data_directory: str
    pid: int


class MemberInfo(Struct, frozen=True):
    """A member of the cluster. peer, client: its addresses. connected, match_index: as the node that was asked sees it.

    is_voter: it counts for majorities; else it learns.
    """

    name: str
    peer: str
    client: str
    is_voter: bool
    connected: bool
    match_index: int | None


class MemberList(Struct, frozen=True):
    """index: of the log entry that says who the members are."""

    index: int
    leader: str | None
    members: list[MemberInfo]


class MembersChanged(Struct, frozen=True):
    """index: of the log entry that says who the members are now."""

    index: int


# Decoders are made once: building one costs more than using it.
BATCH_ANSWER: Final[msgspec.msgpack.Decoder[tuple[int, bytes]]] = msgspec.msgpack.Decoder(tuple[int, bytes])
OPERATE_ANSWER: Final[msgspec.msgpack.Decoder[tuple[int, int]]] = msgspec.msgpack.Decoder(
    tuple[int, Annotated[int, Meta(ge=0, le=255)]]
)
ACCOUNTS: Final[msgspec.msgpack.Decoder[list[AccountRecord | None]]] = msgspec.msgpack.Decoder(
    list[AccountRecord | None]
)
TRANSFERS: Final[msgspec.msgpack.Decoder[list[TransferRecord | None]]] = msgspec.msgpack.Decoder(
    list[TransferRecord | None]
)
ACCOUNT_PAGE: Final[msgspec.msgpack.Decoder[Page[AccountRecord]]] = msgspec.msgpack.Decoder(Page[AccountRecord])
TRANSFER_PAGE: Final[msgspec.msgpack.Decoder[Page[TransferRecord]]] = msgspec.msgpack.Decoder(Page[TransferRecord])
BALANCE_PAGE: Final[msgspec.msgpack.Decoder[Page[BalanceRecord]]] = msgspec.msgpack.Decoder(Page[BalanceRecord])
BALANCE: Final[msgspec.msgpack.Decoder[BalanceRecord | None]] = msgspec.msgpack.Decoder(BalanceRecord | None)
TRIAL_BALANCE: Final[msgspec.msgpack.Decoder[TrialBalance]] = msgspec.msgpack.Decoder(TrialBalance)
STATE_DIGEST: Final[msgspec.msgpack.Decoder[StateDigest]] = msgspec.msgpack.Decoder(StateDigest)
STATUS: Final[msgspec.msgpack.Decoder[NodeStatus]] = msgspec.msgpack.Decoder(NodeStatus)
MEMBERS: Final[msgspec.msgpack.Decoder[MemberList]] = msgspec.msgpack.Decoder(MemberList)
MEMBERS_CHANGED: Final[msgspec.msgpack.Decoder[MembersChanged]] = msgspec.msgpack.Decoder(MembersChanged)
