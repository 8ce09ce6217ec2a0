"""What a client may ask of a node: the methods of the MessagePack-RPC front, their parameters and their answers.

Parameters are decoded here with a type for each method, and refused with the field's name. What a write means is the
machine's and the ledger's business, when it is done the group commit's; questions go to the ledger directly.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

import raftpay
from raftpay.config import ClusterConfig, address_complaint, name_complaint
from raftpay.errors import DiskFullError, EngineStoppedError, NotLeaderError, ProtocolError, RaftError
from raftpay.ledger import BATCH_EVENTS_MAX, QUERY_LIMIT_MAX, AccountQuery, AccountsQuery, Ledger, TransferQuery
from raftpay.machine import CheckedRequest, check_create_accounts, check_create_transfers, check_operate, word_complaint
from raftpay.node.calls import (
    INVALID,
    METHOD_NOT_FOUND,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    UNKNOWN,
    Call,
    Refusals,
)
from raftpay.node.group_commit import GroupCommit
from raftpay.node.reads import LinearizableReads
from raftpay.node.scrubbing import Scrubbing
from raftpay.raft.node import RaftNode
from raftpay.wire.rpc import array_length, encode_response

# LINEARIZABLE sees every write answered before it was asked; LOCAL is what this node knows, at once.
LINEARIZABLE: Final = "linearizable"
LOCAL: Final = "local"
Read = Literal["linearizable", "local"]
Ids = Annotated[list[str], Meta(max_length=QUERY_LIMIT_MAX)]


class _Params(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The parameters of a method by position."""


class _Operate(_Params, frozen=True):
    action: int
    account_id: str
    overdraft_limit: int = 0


class _Lookup(_Params, frozen=True):
    ids: Ids
    read: Read = LINEARIZABLE


class _AccountQuestion(_Params, frozen=True):
    query: AccountQuery
    read: Read = LINEARIZABLE


class _TransferQuestion(_Params, frozen=True):
    query: TransferQuery
    read: Read = LINEARIZABLE


class _AccountsQuestion(_Params, frozen=True):
    query: AccountsQuery
    read: Read = LINEARIZABLE


class _BalanceAt(_Params, frozen=True):
    account_id: str
    time: Annotated[int, Meta(ge=0)]
    read: Read = LINEARIZABLE


class _TrialBalance(_Params, frozen=True):
    read: Read = LINEARIZABLE


class _StateDigest(_Params, frozen=True):
    index: Annotated[int, Meta(ge=0)] | None = None


class _AddMember(_Params, frozen=True):
    name: str
    peer: str
    client: str


class _RemoveMember(_Params, frozen=True):
    name: str


class _Nothing(_Params, frozen=True):
    """Of a method without parameters."""


P = TypeVar("P", bound=_Params)


class _ParamsDecoder:
    """Decodes the parameters of one method, and names the one that is wrong."""

    def __init__(self, kind: type[P]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._names = kind.__struct_fields__

    def decode(self, params: msgspec.Raw) -> Any:  # Any: the kind; each handler names it where it reads it
        try:
            return self._decoder.decode(params)
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors and UnicodeDecodeError
            path, what = word_complaint(error)
            number, bracket, rest = path.removeprefix("[").partition("]")
            place = f"{self._names[int(number)]}{rest}" if bracket else "params"
            raise ProtocolError(f"{place}: {what}") from error


_Handler = Callable[[Call, msgspec.Raw], None]


class Methods:
    """The table of methods. Everything a handler raises on purpose becomes a refusal of its call."""

    def __init__(
        self,
        config: ClusterConfig,
        name: str,
        raft: RaftNode,
        ledger: Ledger,
        *,
        refusals: Refusals,
        group_commit: GroupCommit,
        reads: LinearizableReads,
        scrubbing: Scrubbing,
    ) -> None:
        self._config, self._name = config, name
        self._raft, self._ledger = raft, ledger
        self._refusals, self._group_commit, self._reads = refusals, group_commit, reads
        self._scrubbing = scrubbing
        self._started = time.monotonic()
        self._table: dict[str, _Handler] = {
            "create_accounts": self._create(check_create_accounts),
            "create_transfers": self._create(check_create_transfers),
            "operate": self._operate,
            "lookup_accounts": self._question(_Lookup, lambda p: ledger.lookup_accounts(p.ids)),
            "lookup_transfers": self._question(_Lookup, lambda p: ledger.lookup_transfers(p.ids)),
            "account_transfers": self._question(_AccountQuestion, lambda p: ledger.account_transfers(p.query)),
            "account_balances": self._question(_AccountQuestion, lambda p: ledger.account_balances(p.query)),
            "query_transfers": self._question(_TransferQuestion, lambda p: ledger.query_transfers(p.query)),
            "list_accounts": self._question(_AccountsQuestion, lambda p: ledger.list_accounts(p.query)),
            "balance_at": self._question(_BalanceAt, lambda p: ledger.balance_at(p.account_id, p.time)),
            "trial_balance": self._question(
                _TrialBalance, lambda p: {"index": raft.applied_index, "totals": ledger.trial_balance()}
            ),
            "state_digest": self._state_digest,
            "status": self._status,
            "members": self._members,
            "add_member": self._add_member,
            "remove_member": self._remove_member,
        }
        # Changes of the members under way; a task that nothing holds may be collected.
        self._changes: set[asyncio.Task[None]] = set()

    def dispatch(self, call: Call, method: str, params: msgspec.Raw) -> None:
        """Begin a request. Its call is answered or refused, now or later."""
        handler = self._table.get(method)
        if handler is None:
            call.refuse(METHOD_NOT_FOUND, f"there is no method {method!r}; there are {', '.join(self._table)}")
            return
        try:
            handler(call, params)
        except (ProtocolError, NotLeaderError) as error:
            self._refusals.refuse(call, error)

    # ---- writes -----------------------------------------------------------------------------------------------------

    def _create(self, check: Callable[[memoryview], CheckedRequest]) -> _Handler:
        def handle(call: Call, params: msgspec.Raw) -> None:
            # First, for it costs nothing: a follower decodes no batch that it cannot take.
            self._group_commit.check_leads()
            events = _events_of(params)
            count = _count(events)
            if count > BATCH_EVENTS_MAX:
                call.refuse(TOO_LARGE, f"events: found {count}, expected at most {BATCH_EVENTS_MAX} in one request")
                return
            self._group_commit.submit(call, check(events))

        return handle

    _operate_params: Final = _ParamsDecoder(_Operate)

    def _operate(self, call: Call, params: msgspec.Raw) -> None:
        self._group_commit.check_leads()
        asked: _Operate = self._operate_params.decode(params)
        request = check_operate(asked.action, asked.account_id, asked.overdraft_limit)
        self._group_commit.submit(call, request, is_single=True)

    # ---- questions --------------------------------------------------------------------------------------------------

    # Any: the parameters' struct, and what the ledger answers; the lambdas in the table are its only users.
    def _question(self, kind: type[P], ask: Callable[[Any], object]) -> _Handler:
        decoder = _ParamsDecoder(kind)

        def handle(call: Call, params: msgspec.Raw) -> None:
            asked = decoder.decode(params)
            if asked.read == LOCAL:
                self._answer(call, ask, asked)
            else:
                self._reads.submit(call, lambda call: self._answer(call, ask, asked))

        return handle

    def _answer(self, call: Call, ask: Callable[[Any], object], asked: object) -> None:  # Any: as in _question
        if call.outlet.is_full:
            call.refuse(OVERLOADED, "this connection has taken too few of its answers; read them, then ask again")
            return
        try:
            result = ask(asked)
        except ValueError as error:
            # The ledger's word for a question that is out of range; it names the field.
            call.refuse(INVALID, f"query.{error}")
            return
        response = encode_response(call.message_id, result)
        if len(response) > self._config.limits.message_bytes_max:
            call.refuse(
                TOO_LARGE,
                f"the answer has {len(response)} bytes, at most {self._config.limits.message_bytes_max} are sent "
                "(message_bytes_max): ask for fewer at once",
            )
            return
        call.answer_encoded(response)

    _digest_params: Final = _ParamsDecoder(_StateDigest)

    def _state_digest(self, call: Call, params: msgspec.Raw) -> None:
        """Always of this node's own state: it is for comparing nodes with each other."""
        asked: _StateDigest = self._digest_params.decode(params)
        applied = self._raft.applied_index
        if asked.index is not None and applied < asked.index:
            call.refuse(UNAVAILABLE, f"this node has applied {applied}, not yet {asked.index}; ask again")
            return
        call.answer({"index": applied, "digest": self._ledger.state_digest()})

    # ---- members ----------------------------------------------------------------------------------------------------

    _members_params: Final = _ParamsDecoder(_Nothing)

    def _members(self, call: Call, params: msgspec.Raw) -> None:
        """The configuration that this node goes by, with what the leader knows of each."""
        self._members_params.decode(params)
        peers = {peer.name: peer for peer in self._raft.peers()}
        found = []
        for name, member in sorted(self._raft.members.items()):
            peer = peers.get(name)
            found.append(
                {
                    "name": name,
                    "peer": self._config.nodes[name].peer if name in self._config.nodes else member.peer,
                    "client": self._refusals.client_address(name) or "",
                    "is_voter": member.is_voter,
                    "connected": peer is None or peer.is_connected,
                    "match_index": self._raft.last_index if peer is None else peer.match_index,
                }
            )
        call.answer({"index": self._raft.members_index, "leader": self._raft.leader, "members": found})

    _add_params: Final = _ParamsDecoder(_AddMember)

    def _add_member(self, call: Call, params: msgspec.Raw) -> None:
        asked: _AddMember = self._add_params.decode(params)
        complaints = {
            "name": name_complaint(asked.name),
            "peer": address_complaint(asked.peer),
            "client": address_complaint(asked.client),
        }
        for field, complaint in complaints.items():
            if complaint:
                raise ProtocolError(f"{field}: {complaint}")
        self._change(call, self._raft.add_member(asked.name, peer=asked.peer, client=asked.client))

    _remove_params: Final = _ParamsDecoder(_RemoveMember)

    def _remove_member(self, call: Call, params: msgspec.Raw) -> None:
        asked: _RemoveMember = self._remove_params.decode(params)
        self._change(call, self._raft.remove_member(asked.name))

    def _change(self, call: Call, change: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                async with asyncio.timeout(self._config.limits.request_timeout_s):
                    await change
            except EngineStoppedError as error:
                call.refuse(UNKNOWN, f"{error}; look at the members, then try again")
            except (RaftError, DiskFullError) as error:
                self._refusals.refuse(call, error)
            except TimeoutError:
                call.refuse(UNKNOWN, "no majority has taken the change in time; look at the members, then try again")
            else:
                call.answer({"index": self._raft.members_index})

        task = asyncio.get_running_loop().create_task(run())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    _status_params: Final = _ParamsDecoder(_Nothing)

    def _status(self, call: Call, params: msgspec.Raw) -> None:
        self._status_params.decode(params)
        call.answer(self.status())

    def status(self) -> dict[str, object]:
        """What this node knows of itself and its cluster; the keys are those of the client protocol."""
        raft, ledger = self._raft, self._ledger
        leader = raft.leader
        return {
            "name": self._name,
            "cluster_id": self._config.cluster_id,
            "version": raftpay.__version__,
            "role": raft.role,
            "is_ready": raft.is_ready,
            "is_voter": raft.is_voter,
            "leader": leader,
            "leader_address": None if leader is None else self._refusals.client_address(leader),
            "term": raft.term,
            "commit_index": raft.commit_index,
            "applied_index": raft.applied_index,
            "last_index": raft.last_index,
            "synced_index": raft.synced_index,
            "snapshot_index": raft.snapshot_index,
            "command_version": raft.command_version,
            "members_index": raft.members_index,
            "ledger_time": ledger.time,
            "accounts": ledger.account_count,
            "transfers": ledger.transfer_count,
            "pendings": ledger.pending_count,
            "uptime_s": time.monotonic() - self._started,
            "has_quorum": raft.has_quorum,
            "peers": [
                {
                    "name": peer.name,
                    "is_voter": peer.is_voter,
                    "connected": peer.is_connected,
                    "match_index": peer.match_index,
                }
                for peer in raft.peers()
            ],
            "scrub": {**dataclasses.asdict(self._scrubbing.report), "damaged": self._scrubbing.damaged},
            "data_directory": str(self._config.nodes[self._name].data),
            "pid": os.getpid(),
        }


_bin_decoder: Final = msgspec.msgpack.Decoder(memoryview)
# The first bytes of msgpack's bin 8, 16 and 32.
_BIN: Final = (0xC4, 0xC5, 0xC6)


def _events_of(params: msgspec.Raw) -> memoryview:
    """The encoded array of events: inside a bin as our client sends it, or in the open as any msgpack client would."""
    data = memoryview(params)
    if len(data) < 2 or data[0] != 0x91:
        raise ProtocolError("params: expected an array of one, [events]")
    events = data[1:]
    try:
        return _bin_decoder.decode(events) if events[0] in _BIN else events
    except msgspec.DecodeError as error:
        raise ProtocolError(f"events: {error}") from error


def _count(events: memoryview) -> int:
    try:
        return array_length(events)
    except ProtocolError as error:
        raise ProtocolError(f"events: {error}") from error
