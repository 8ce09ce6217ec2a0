"""Between bytes and the books: requests are checked and spliced into commands, committed commands are applied.

A log entry is one version byte and a msgpack `Command`. The leader checks each request once when it arrives
(`check_…`), keeps its bytes as they came, and splices them into a command (`build_command`) without encoding them anew;
every node, the leader included, then decodes what is in the log and applies that (`Machine.apply`). No socket, clock or
file lives here. Called by `node`; `raft` knows `Machine` only as a `StateMachine`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from raftpay.errors import CorruptionError, FormatVersionError, ProtocolError
from raftpay.ledger import Ledger, Results
from raftpay.ledger.image import LedgerImage
from raftpay.ledger.image_format import ImageVersionError
from raftpay.ledger.types import Account, Command, OperatorAction, Transfer
from raftpay.storage.snapshots import StateFile

# The newest version of commands, and the oldest that this release can still write while others know no newer one.
COMMAND_VERSION: Final = 1
COMMAND_VERSION_MIN: Final = 1
_VERSION_BYTE: Final = bytes((COMMAND_VERSION,))

Buffer = bytes | memoryview


class _StrictAccount(Account, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """An account at the door, where a field too many is an error.

    Were it let into the log, today's nodes would pass over it, and a later release that has given the field a meaning
    would replay another history than the one that was answered.
    """


class _StrictTransfer(Transfer, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A transfer at the door, for the same reason."""


_accounts_decoder: Final = msgspec.msgpack.Decoder(list[_StrictAccount])
_transfers_decoder: Final = msgspec.msgpack.Decoder(list[_StrictTransfer])
_command_decoder: Final = msgspec.msgpack.Decoder(Command)
_raw_list_decoder: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_string_decoder: Final = msgspec.msgpack.Decoder(str)
_encoder: Final = msgspec.msgpack.Encoder()

# The form of msgspec's complaints: "Expected `int | null`, got `float` - at `$[0][3]`".
_COMPLAINT: Final = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_PATH: Final = re.compile(r"\[(\d+)\](?:\[(\d+)\])?")


class CheckedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request of the form that apply takes for granted.

    encoded: the msgpack of a `Request`, size_bytes long, ready to be spliced into a command.
    event_count: how many timestamps it uses, at least 1.
    """

    encoded: msgspec.Raw
    size_bytes: int
    event_count: int


def check_create_accounts(events: Buffer) -> CheckedRequest:
    """Check a batch of accounts, a msgpack array. Raises ProtocolError that names the event and the field."""
    try:
        count = len(_accounts_decoder.decode(events))
    except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors and UnicodeDecodeError
        raise ProtocolError(_explain(error, events, Account)) from error
    return _checked(b"\x92\x01" + events, count)


def check_create_transfers(events: Buffer) -> CheckedRequest:
    """Check a batch of transfers, a msgpack array. Raises ProtocolError that names the event and the field."""
    try:
        count = len(_transfers_decoder.decode(events))
    except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors and UnicodeDecodeError
        raise ProtocolError(_explain(error, events, Transfer)) from error
    return _checked(b"\x92\x02" + events, count)


def check_operate(action: int, account_id: str, overdraft_limit: int) -> CheckedRequest:
    """Check an operator's act. Raises ProtocolError that names the field."""
    if action not in list(OperatorAction):
        expected = ", ".join(f"{choice.value} ({choice.name.lower()})" for choice in OperatorAction)
        raise ProtocolError(f"action: expected one of {expected}, found {action}")
    return _checked(_encoder.encode((3, action, account_id, overdraft_limit)), 1)


def build_command(time: int, requests: list[CheckedRequest], *, version: int = COMMAND_VERSION) -> bytes:
    """The payload of a log entry that asks for these requests, in order, at that time. No requests: a sweep.

    version: the newest that every member can apply.
    """
    return bytes((version,)) + _encoder.encode((time, [request.encoded for request in requests]))


class SealedFile(Protocol):
    """A file of sealed history. sha256: of its size_bytes."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> bytes: ...


class SealedFiles(Protocol):
    """The archive, as far as a machine knows of it: the files that belong to its state without being in its images."""

    @property
    def files(self) -> Sequence[SealedFile]: ...

    def take_in(self) -> Iterator[None]:
        """Let those count that were fetched. May run beside the loop."""
        ...


class StateImage:
    """An image of the ledger, and the immutable files that belong to it: those of sealed history."""

    def __init__(self, ledger: LedgerImage, files: Sequence[StateFile] = ()) -> None:
        self.files = files
        self.chunks, self.release = ledger.chunks, ledger.release


class Machine:
    """The replicated state machine: applies the log's commands to a ledger, one after the other.

    sealed: where rows are that the ledger no longer holds; None where it holds them all.
    on_applied: called behind each command.
    """

    def __init__(self, ledger: Ledger, sealed: SealedFiles | None = None) -> None:
        self._ledger, self._sealed = ledger, sealed
        self.on_applied: Callable[[], None] | None = None

    def apply(self, index: int, payload: bytes) -> list[Results]:
        """Apply the command of the entry at that index and return its results, one for each request.

        Raises FormatVersionError or CorruptionError for a payload that this release cannot have written. The node must
        stop then: to pass over an entry would be to part from the other nodes.
        """
        if payload[:1] != _VERSION_BYTE:
            found = f"version {payload[0]}" if payload else "no version (it is empty)"
            raise FormatVersionError(
                f"log entry {index}: the command has {found}, this release knows version {COMMAND_VERSION}; "
                "the node stops rather than pass over it. Run the release that wrote it on this node"
            )
        try:
            command = _command_decoder.decode(memoryview(payload)[1:])
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors and UnicodeDecodeError
            raise CorruptionError(
                f"log entry {index}: the command of version {payload[0]} ({len(payload)} bytes) cannot be decoded "
                f"({error}); the node stops rather than pass over it. Rebuild it from a healthy node"
            ) from error
        results = self._ledger.apply(command)
        if self.on_applied is not None:
            self.on_applied()
        return results

    def image(self) -> "StateImage":
        """The state behind the last applied entry, to be written out while later ones are applied."""
        files = () if self._sealed is None else self._sealed.files
        return StateImage(self._ledger.image(), [StateFile(file.name, file.size_bytes, file.sha256) for file in files])

    def take_in(self) -> Iterator[None]:
        """Make use of files of the state that were fetched, before `load`. May run beside the loop."""
        return iter(()) if self._sealed is None else self._sealed.take_in()

    def load(self, chunks: Iterable[bytes]) -> Callable[[], object]:
        """Make the state that `image` has given as chunks. Changes nothing; may run beside the loop.

        What it returns, called on the loop, puts that state in the place of the present one, which it returns.
        Raises FormatVersionError or CorruptionError.
        """
        try:
            return self._ledger.load(chunks)
        except ImageVersionError as error:
            raise FormatVersionError(f"snapshot: {error}. Run the release that wrote it on this node") from error
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors and UnicodeDecodeError
            raise CorruptionError(f"snapshot: {error}. It is not used; an older one or a peer has to serve") from error


def word_complaint(error: Exception) -> tuple[str, str]:
    """Where msgspec found something wrong, as a path such as "[0][3]" ("" for the whole), and what, in our words."""
    if not isinstance(error, msgspec.ValidationError):
        return "", f"not msgpack ({error})"
    complaint = _COMPLAINT.fullmatch(str(error))
    assert complaint is not None, "the pattern matches any text"
    what = complaint["what"].replace("`", "").replace(", got None", ", got null")
    what = what.replace(", got ", ", found ").replace(" | ", " or ")
    return complaint["path"] or "", what[:1].lower() + what[1:]


def _checked(encoded: bytes, event_count: int) -> CheckedRequest:
    if event_count == 0:
        raise ProtocolError("events: found none, expected at least one")
    return CheckedRequest(msgspec.Raw(encoded), len(encoded), event_count)


def _explain(error: Exception, events: Buffer, kind: type[Account | Transfer]) -> str:
    """Word msgspec's complaint about a batch for whoever sent it."""
    if isinstance(error, UnicodeDecodeError):
        return f"{_place_of_bad_text(events, kind)}: the text is not UTF-8"
    path, what = word_complaint(error)
    place = _PATH.fullmatch(path)
    if place is None:
        return f"events: {what}"
    field = "" if place[2] is None else f".{kind.__struct_fields__[int(place[2])]}"
    return f"events[{place[1]}]{field}: {what}"


def _place_of_bad_text(events: Buffer, kind: type[Account | Transfer]) -> str:
    """Find the field that msgspec does not name when its bytes are not UTF-8."""
    for number, event in enumerate(_raw_list_decoder.decode(events)):
        for name, field in zip(kind.__struct_fields__, _raw_list_decoder.decode(event), strict=False):
            try:
                _string_decoder.decode(field)
            except UnicodeDecodeError:
                return f"events[{number}].{name}"
            except msgspec.ValidationError:
                continue  # a number
    return "events"
