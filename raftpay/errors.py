"""The one tree of exceptions. Rooms raise these and map foreign ones to them at their border.

RaftpayError
├── ConfigError              a TOML file, flag or environment that cannot be used
├── QueryError               a question in SQL that cannot be answered
├── LocalClusterError        the local cluster: a node process died, none runs, or another supervisor has it
├── StorageError             the disk, or what is on it
│   ├── DataDirectoryError   the directory belongs to another node or cluster, or is in use
│   ├── CorruptionError      what is read back is not what was written
│   │   └── UnreadableError  the disk gives nothing back
│   ├── FormatVersionError   written by a version that this one does not know
│   └── DiskFullError        no room; the write did not happen
├── WireError                bytes from the network that break the protocol
│   ├── FrameError           length, crc or size of a frame is wrong
│   └── ProtocolError        a well-framed message that is not of the expected form
├── RaftError                the consensus engine
│   ├── NotLeaderError       this node does not lead; knows who might
│   ├── LeadershipLostError  the entry was sent, its fate is open
│   ├── MembershipError      a change of the members that cannot be made, or not now
│   └── EngineStoppedError   the engine met something it must not survive
└── ClientError              what a caller of the client library sees
    ├── NotCommitted         it did not happen: safe to send again
    ├── OutcomeUnknown       it may have happened: send the same request again, under the same ids
    └── Rejected             it did not happen and never will as sent
"""


class RaftpayError(Exception):
    """Base of all errors that raftpay raises on purpose."""


class ConfigError(RaftpayError):
    """A configuration that cannot be used. The message names the key, what was found and what was expected."""


class QueryError(RaftpayError):
    """A question in SQL that cannot be answered, or asks for more than reading. Nothing was read or changed."""


class LocalClusterError(RaftpayError):
    """A node process of the local cluster died or did not start, no cluster runs there, or one runs already."""


class StorageError(RaftpayError):
    """The disk refused, or what is on it is wrong. The node stops acknowledging at once."""


class DataDirectoryError(StorageError):
    """The data directory belongs to another node or cluster, or another process uses it."""


class CorruptionError(StorageError):
    """What was read back is not what was written. The node does not start as a voter until it is rebuilt."""


class UnreadableError(CorruptionError):
    """The disk cannot read what was written (EIO). As good as not there: what holds for damaged bytes holds for it."""


class FormatVersionError(StorageError):
    """The file was written by a format version that this release does not know."""


class DiskFullError(StorageError):
    """There is no room. The write did not happen; reads go on."""


class WireError(RaftpayError):
    """Bytes from the network that break the protocol. The connection they came on is closed."""


class FrameError(WireError):
    """The length, crc or size of a frame is wrong."""


class ProtocolError(WireError):
    """A message that is not of the expected form."""


class RaftError(RaftpayError):
    """The consensus engine could not do what was asked."""


class NotLeaderError(RaftError):
    """This node does not lead. Nothing was written.

    leader: the name of the node that leads as far as this one knows, or None.
    """

    def __init__(self, leader: str | None) -> None:
        super().__init__("no leader is known" if leader is None else f"{leader} leads")
        self.leader = leader


class LeadershipLostError(RaftError):
    """The entry was appended here, then leadership was lost: it may be committed or not."""


class MembershipError(RaftError):
    """The members cannot be changed like that, or not now. Nothing was written; the message says what to do.

    is_passing: the same may be taken a moment later.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class EngineStoppedError(RaftError):
    """The engine met something it must not survive (a failed apply, a conflict below the commit index) and stopped."""


class ClientError(RaftpayError):
    """What a caller of the client library sees. Each subclass answers first: did it happen?"""


class NotCommitted(ClientError):
    """It did not happen. The same request may be sent again."""


class OutcomeUnknown(ClientError):
    """It may have happened. Send the same request again, with the same ids: it takes effect at most once."""


class Rejected(ClientError):
    """It did not happen, and never will as sent: the request itself is wrong. The message names the field."""
