"""The hard state: term and vote, which a node must never forget (Raft, figure 2). One small file, replaced as a whole.

Made once with a directory, and kept in it: the incarnation, a random number by which the others tell this memory from
one that began anew (an empty disk has forgotten whom it voted for and what it acknowledged), and the configuration that
the cluster was founded with, as bytes of raft's.

raftpay/raft saves it before any vote or message of the new term leaves. A file that cannot be read is an error, never
"no vote": taken for that, a node votes twice in a term. It is absent only in a directory whose journal has no entries
yet.
"""

import secrets
import struct
from collections.abc import Callable

import msgspec
from crc32c import crc32c

from raftpay.errors import CorruptionError, DataDirectoryError, DiskFullError, FormatVersionError, StorageError
from raftpay.storage.disk import Disk
from raftpay.storage.records import REBUILD_ADVICE, SEGMENT_HEADER_BYTES
from raftpay.storage.reserve import save_durably, temporary_name
from raftpay.storage.segment import segment_number

HARD_STATE_NAME = "hard_state"
FORMAT_VERSION = 2
# magic, format version, length of the body, crc32c of magic to length (seeding) and body
_HEAD = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_MAGIC = b"raftpayH"


def draw_incarnation() -> int:
    """From 1 to 2**63 - 1; 0 stands for none that is known."""
    return secrets.randbelow(2**63 - 1) + 1


class _Body(msgspec.Struct, frozen=True, array_like=True):
    term: int
    voted_for: str | None
    cluster_id: str
    incarnation: int
    founding: bytes


class HardStateFile:
    """term: never goes back. voted_for: the node that got this one's vote in the term, None if none did; never changed
    to another within a term. incarnation: of this directory. founding: b"" until the cluster is founded, and for good
    in a directory that joined later.
    """

    def __init__(self, disk: Disk, body: _Body) -> None:
        self._disk = disk
        self._body = body
        self._failure: StorageError | None = None

    @property
    def term(self) -> int:
        return self._body.term

    @property
    def voted_for(self) -> str | None:
        return self._body.voted_for

    @property
    def incarnation(self) -> int:
        return self._body.incarnation

    @property
    def founding(self) -> bytes:
        return self._body.founding

    @classmethod
    def open(cls, disk: Disk, *, cluster_id: str, draw: Callable[[], int] = draw_incarnation) -> "HardStateFile":
        """Read it; in a fresh directory, make it with term 0, no vote and an incarnation from `draw`.

        Raises CorruptionError if it is damaged, or missing beside a journal with entries; FormatVersionError;
        DataDirectoryError if it belongs to another cluster; StorageError.
        """
        if disk.exists(temporary_name(HARD_STATE_NAME)):
            disk.remove(temporary_name(HARD_STATE_NAME))
        if disk.exists(HARD_STATE_NAME):
            file = disk.open(HARD_STATE_NAME)
            try:
                data = file.pread(file.size(), 0)
            finally:
                file.close()
            body = _decode(data, cluster_id)
            # A process killed between the rename and its fsync leaves a file that a power loss takes back; from now on
            # this term is acted upon.
            disk.fsync_folder("")
            return cls(disk, body)
        if _journal_has_entries(disk):
            raise CorruptionError(f"{HARD_STATE_NAME} is missing, but the journal has entries. {REBUILD_ADVICE}")
        body = _Body(0, None, cluster_id, draw(), b"")
        save_durably(disk, HARD_STATE_NAME, _encode(body))
        return cls(disk, body)

    def save(self, term: int, voted_for: str | None) -> None:
        """Replace term and vote; durable on return.

        Raises DiskFullError if there is no room: then nothing has changed. After another StorageError it refuses for
        good.
        """
        assert term >= self.term, (term, self.term)
        assert term > self.term or self.voted_for in (None, voted_for), (term, self.voted_for, voted_for)
        self._replace(msgspec.structs.replace(self._body, term=term, voted_for=voted_for))

    def found(self, founding: bytes) -> None:
        """Note what the cluster was founded with; durable on return. Raises as `save`."""
        assert not self.founding, "a cluster is founded once"
        self._replace(msgspec.structs.replace(self._body, founding=founding))

    def _replace(self, body: _Body) -> None:
        if self._failure is not None:
            raise StorageError(f"the hard state is not saved after an error: {self._failure}")
        try:
            save_durably(self._disk, HARD_STATE_NAME, _encode(body))
        except DiskFullError:
            raise
        except StorageError as error:
            self._failure = error
            raise
        self._body = body


def _encode(state: _Body) -> bytes:
    body = msgspec.msgpack.encode(state)
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, len(body))
    return b"".join((head, _CRC.pack(crc32c(body, crc32c(head))), body))


def _decode(data: bytes, cluster_id: str) -> _Body:
    body = data[_HEAD.size + _CRC.size :]
    if len(data) < _HEAD.size + _CRC.size:
        raise _damaged(f"{len(data)} bytes found, at least {_HEAD.size + _CRC.size} expected")
    magic, version, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise _damaged("byte 0 does not begin a hard state")
    if crc32c(body, crc32c(data[: _HEAD.size])) != _CRC.unpack_from(data, _HEAD.size)[0] or length != len(body):
        raise _damaged(f"the crc at byte {_HEAD.size} is wrong")
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"{HARD_STATE_NAME}: format version {version} found, {FORMAT_VERSION} expected. "
            "Run the release that wrote it, or a newer one"
        )
    state = msgspec.msgpack.decode(body, type=_Body)
    if state.cluster_id != cluster_id:
        raise DataDirectoryError(
            f"{HARD_STATE_NAME}: belongs to cluster {state.cluster_id!r}, {cluster_id!r} expected. "
            "Point this node to its own data directory"
        )
    return state


def _damaged(reason: str) -> CorruptionError:
    return CorruptionError(
        f"{HARD_STATE_NAME}: {reason}; without term and vote this node might vote twice. {REBUILD_ADVICE}"
    )


def _journal_has_entries(disk: Disk) -> bool:
    for name in disk.list("journal"):
        if segment_number(name) is not None:
            file = disk.open(f"journal/{name}")
            try:
                if any(file.pread(64, SEGMENT_HEADER_BYTES)):
                    return True
            finally:
                file.close()
    return False
