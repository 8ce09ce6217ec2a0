"""How `raftpay local …` speaks to the supervisor that holds the processes: one JSON line each way on a unix socket.

The socket lies in the cluster's directory. Its path may be longer than the 108 bytes that the kernel takes, so both
ends name it through an open handle of the directory. What the orders do is in supervisor.py.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from raftpay.errors import ConfigError, LocalClusterError

SOCKET_NAME: Final = "local.sock"
LINE_BYTES_MAX: Final = 64 * 1024
# A graceful stop of all nodes is the longest order.
ANSWER_TIMEOUT_S: Final = 60.0

Action = Literal["list", "ready", "kill", "stop", "start", "pause", "resume", "down"]


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """What the supervisor is asked to do. node: a name, or "leader"; empty for list, ready and down."""

    action: Action
    node: str = ""


class NodeLine(Struct, frozen=True):
    """One node's process. state: as in raftpay.ops.local.NodeState. pid: None when it does not run."""

    name: str
    state: str
    pid: int | None
    client: str
    log: str


class Answer(Struct, frozen=True):
    """What came of an order.

    error: why it was not done, or None. is_misuse: the order itself was wrong.
    node: the one that was meant. message: a sentence for people.
    nodes: all processes as they are now. leader: with "ready", the node that leads.
    """

    error: str | None = None
    is_misuse: bool = False
    node: str = ""
    message: str = ""
    leader: str | None = None
    nodes: list[NodeLine] = []


_encoder: Final = msgspec.json.Encoder()
_order_decoder: Final = msgspec.json.Decoder(Order)
_answer_decoder: Final = msgspec.json.Decoder(Answer)


def encode(message: Order | Answer) -> bytes:
    return _encoder.encode(message) + b"\n"


def decode_order(line: bytes) -> Order:
    """Raises LocalClusterError for a line that is no order."""
    try:
        return _order_decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise LocalClusterError(f"this is no order: {error}") from error


@contextlib.contextmanager
def socket_path(directory: Path) -> Iterator[str]:
    """A short path of the control socket in this directory, good while the context lasts."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)


def listen(directory: Path) -> socket.socket:
    """The supervisor's end. Call it only while holding the directory: what lies there is of a dead supervisor."""
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_path(directory) as path:
            listener.bind(path)
        # Whoever may write here may kill the nodes: that is the owner.
        (directory / SOCKET_NAME).chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def send(directory: Path, order: Order, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
    """Send one order to the supervisor of a directory, and return its answer.

    Raises LocalClusterError when none runs there or it refuses, ConfigError when the order names no node.
    """
    try:
        with socket_path(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(encode(order))
            with connection.makefile("rb") as stream:
                line = stream.readline(LINE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise LocalClusterError(
            f"no local cluster runs in {directory}: start one with `raftpay up --data {directory}`"
        ) from error
    except OSError as error:
        raise LocalClusterError(f"the supervisor in {directory} does not answer: {error.strerror or error}") from error
    if not line:
        raise LocalClusterError(f"the supervisor in {directory} ended before it answered")
    answer = _answer_decoder.decode(line)
    if answer.error is not None:
        raise ConfigError(answer.error) if answer.is_misuse else LocalClusterError(answer.error)
    return answer
