"""Quick questions to one node, blocking, one attempt, a short timeout: is it there, what does it think it is?

For supervisors, tables and checks, which ask every node by itself and take no answer for an answer. Programs that want
the cluster's answer use raftpay.client.
"""

import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from raftpay.client.answers import STATUS, NodeStatus
from raftpay.errors import ProtocolError
from raftpay.wire.rpc import RpcDecoder, RpcResponse, decode_value, encode_request

TIMEOUT_S: Final = 1.0
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_MESSAGE_ID: Final = 1

_RAW: Final = msgspec.msgpack.Decoder(Raw)

T = TypeVar("T")


def probe(address: str, *, timeout_s: float = TIMEOUT_S) -> NodeStatus | None:
    """The status of the node at "host:port", or None when it does not answer in time."""
    return ask(address, "status", [], STATUS, timeout_s=timeout_s)


def is_serving(address: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the node at this address answers a linearizable read: a majority stands behind a leader."""
    return ask(address, "lookup_accounts", [[], "linearizable"], _RAW, timeout_s=timeout_s) is not None


def ask(
    address: str, method: str, params: list[object], decoder: msgspec.msgpack.Decoder[T], *, timeout_s: float
) -> T | None:
    """The decoded result, or None: no connection, no answer in time, or a refusal.

    Raises ProtocolError when whoever listens there is no node of this release.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout_s
    received = RpcDecoder(ANSWER_BYTES_MAX)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            connection.sendall(encode_request(_MESSAGE_ID, method, params))
            while data := connection.recv(_RECEIVE_BYTES):
                for message in received.feed(data):
                    if not isinstance(message, RpcResponse):
                        raise ProtocolError(f"{address} sent a request, expected the response to {method}")
                    return None if message.error is not None else decode_value(decoder, message.result)
                # Not zero, which would mean not to wait at all; the next round ends it.
                connection.settimeout(max(0.001, deadline - time.monotonic()))
    except OSError:
        return None
    return None


def ask_all(addresses: Mapping[str, str], question: Callable[[str], T]) -> dict[str, T]:
    """Put a question to all nodes at once. addresses, and what comes back: by name, in the same order."""
    with ThreadPoolExecutor(max_workers=max(1, len(addresses))) as threads:
        return dict(zip(addresses, threads.map(question, addresses.values()), strict=True))
