"""The client library: AsyncClient and its blocking twin Client. Programs import both from `raftpay` itself.

It speaks the client protocol of raftpay.wire.rpc to any node, finds the leader, repeats what may be repeated, and says
of everything else whether it happened.
"""

from raftpay.client.answers import (
    MemberInfo,
    MemberList,
    NodeStatus,
    Outcome,
    Outcomes,
    PeerInfo,
    Read,
    StateDigest,
    TrialBalance,
)
from raftpay.client.async_client import AsyncClient
from raftpay.client.ids import new_id
from raftpay.client.sync_client import Client
from raftpay.errors import ClientError, NotCommitted, OutcomeUnknown, Rejected

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "MemberInfo",
    "MemberList",
    "NodeStatus",
    "NotCommitted",
    "Outcome",
    "OutcomeUnknown",
    "Outcomes",
    "PeerInfo",
    "Read",
    "Rejected",
    "StateDigest",
    "TrialBalance",
    "new_id",
]
