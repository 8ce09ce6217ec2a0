"""What peers say to each other, as typed msgpack structs: decoding is the check, nothing malformed reaches the engine.

A message is an array whose first element tells its kind. Stock PySyncObj unpickles whatever it receives.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from raftpay.errors import ProtocolError
from raftpay.storage.snapshots import StateFile

# Raised when a message changes its meaning; peers of another version are refused at the hello.
PROTOCOL_VERSION: Final = 2


# Terms and rounds begin at 0, indexes at 1.
Count = Annotated[int, Meta(ge=0)]
Index = Annotated[int, Meta(ge=1)]


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """Opens a connection. The dialer says who it is and whom it wants; `sender` speaks on it, `receiver` listens.

    address: where the sender is to be dialled. incarnation: of its data directory. is_fresh: that is empty.
    members_index: of the configuration that it goes by, 0 for none. command_version: the newest that it can apply.
    """

    version: int
    cluster_id: str
    sender: str
    receiver: str
    address: str
    incarnation: Index
    is_fresh: bool
    members_index: Count
    command_version: Count


class HelloReply(Struct, frozen=True, array_like=True, tag=2):
    """Accepts a connection (refusal empty) or says why not."""

    refusal: str


class RequestVote(Struct, frozen=True, array_like=True, tag=3):
    """Raft paper 5.2 and 5.4.1."""

    term: Count
    last_log_index: Index
    last_log_term: Count


class Vote(Struct, frozen=True, array_like=True, tag=4):
    """A granted vote. A refused one is not answered."""

    term: Count


class PreVote(Struct, frozen=True, array_like=True, tag=5):
    """Raft thesis 9.6: would you vote for me in this term? Nothing is promised and no term changes."""

    term: Count
    last_log_index: Index
    last_log_term: Count


class PreVoteReply(Struct, frozen=True, array_like=True, tag=6):
    """term: the term asked for if granted, else the voter's own, which a candidate that fell behind adopts."""

    term: Count
    granted: bool


class LogEntry(Struct, frozen=True, array_like=True, gc=False):
    index: Index
    term: Count
    payload: bytes


class AppendEntries(Struct, frozen=True, array_like=True, tag=7):
    """Raft paper 5.3. round: grows with each confirmation of leadership asked for, and comes back in the reply."""

    term: Count
    commit_index: Index
    prev_index: Index
    prev_term: Count
    round: Count
    entries: list[LogEntry]


class AppendReply(Struct, frozen=True, array_like=True, tag=8):
    """The answer to AppendEntries, in the term of the answering node, so that a late one cannot count in another term.

    matched: True: the log equals the leader's up to match_index, and is fsynced up to there.
             False: the log differs at prev_index of the request; match_index + 1 is where to try next.
    """

    term: Count
    matched: bool
    match_index: Count
    prev_index: Index
    round: Count


class TimeoutNow(Struct, frozen=True, array_like=True, tag=9):
    """Raft thesis 3.10: the leader asks its successor to stand for election at once."""

    term: Count


class ReadIndex(Struct, frozen=True, array_like=True, tag=10):
    """A follower asks its leader from which index on its state is new enough for a read (Raft thesis 6.4)."""

    number: Count


class ReadIndexReply(Struct, frozen=True, array_like=True, tag=11):
    """read_index: the leader's commit index when it was asked, its leadership confirmed since; 0: it does not lead."""

    number: Count
    read_index: Count


# SHA-256.
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class SnapshotOffer(Struct, frozen=True, array_like=True, tag=12):
    """Raft paper 7: the leader's log no longer reaches back to what the follower needs; this stands for its prefix.

    index, snapshot_term: of the last entry in it. size_bytes, digest: of the file. files: what belongs to it besides.
    """

    term: Count
    index: Index
    snapshot_term: Count
    size_bytes: Count
    digest: Digest
    files: list[StateFile]


class SnapshotFetch(Struct, frozen=True, array_like=True, tag=13):
    """The follower asks for a piece of it. part: the digest of the snapshot itself or of one of its files."""

    term: Count
    digest: Digest
    part: Digest
    offset: Count
    size_bytes: Index


class SnapshotChunk(Struct, frozen=True, array_like=True, tag=14):
    """The piece. Its crc is that of the frame it comes in; the whole is verified by its digest."""

    term: Count
    digest: Digest
    part: Digest
    offset: Count
    data: bytes


class Founding(Struct, frozen=True, array_like=True, tag=15):
    """To a node with an empty directory: the cluster is founded with these members, and its incarnation is one of them.

    members: a configuration (members.py).
    """

    members: bytes


# Of a file of sealed history; "" stands for an entry of the log.
CopyName = Annotated[str, Meta(pattern=r"^(archive/[0-9A-Za-z][0-9A-Za-z._-]*)?$")]


class CopyFetch(Struct, frozen=True, array_like=True, tag=16):
    """A node asks any other for what is damaged on its own disk, from a byte on: a file, or an entry of a term.

    No term of a leader takes part: what is asked for is the same on all nodes that have it.
    """

    name: CopyName
    index: Count
    entry_term: Count
    offset: Count


class CopyChunk(Struct, frozen=True, array_like=True, tag=17):
    """A piece of it. total_bytes: of the whole, 0 where the node has none that it could vouch for."""

    name: CopyName
    index: Count
    entry_term: Count
    offset: Count
    total_bytes: Count
    data: bytes


Message = (
    Hello
    | HelloReply
    | RequestVote
    | Vote
    | PreVote
    | PreVoteReply
    | AppendEntries
    | AppendReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | SnapshotOffer
    | SnapshotFetch
    | SnapshotChunk
    | Founding
    | CopyFetch
    | CopyChunk
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the message as the payload of a frame."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Message:
    """Return the message in a frame's payload. Raises ProtocolError naming the field that is wrong."""
    try:
        message: Message = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a peer message of {len(payload)} bytes cannot be read: {error}") from error
    return message
