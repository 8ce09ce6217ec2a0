"""What happened in a run: a hash of all of it, and the last events in full, to be shown when something is wrong."""

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator

from raftpay.raft.messages import AppendEntries, decode

EVENTS_KEPT = 400
# Many small pieces cost more one by one.
HASHED_AT_ONCE = 256
_DOUBLE = struct.Struct("<d").pack


class ViolationError(BaseException):
    """A promise was broken. name: which one. No Exception: nothing under test may catch it."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name, self.what = name, what


class Trace:
    """now: gives simulated seconds. on_line: told every line, as it happens, where all of them are wanted."""

    def __init__(self, now: Callable[[], float], on_line: Callable[[str], None] | None = None) -> None:
        self._now, self._on_line = now, on_line
        self._hash = hashlib.blake2b(digest_size=16)
        self._unhashed: list[bytes] = []
        self._events: deque[tuple[float, str, str, bytes | None]] = deque(maxlen=EVENTS_KEPT)
        # The first one; kept here too because a task of the node may end with it and tell nobody.
        self.violation: ViolationError | None = None

    def violated(self, name: str, what: str) -> ViolationError:
        """Note a broken promise; the caller raises what this returns."""
        error = ViolationError(name, what)
        if self.violation is None:
            self.violation = error
        return error

    def note(self, kind: str, *details: object) -> None:
        text = f"{kind} {' '.join(map(str, details))}"
        self._add(text, "", None)

    def message(self, sender: str, receiver: str, payload: bytes) -> None:
        self._add(sender, receiver, payload)

    def _add(self, text: str, receiver: str, payload: bytes | None) -> None:
        now_s = self._now()
        event = (now_s, text, receiver, payload)
        self._events.append(event)
        self._unhashed += (_DOUBLE(now_s), f"{text}>{receiver} ".encode(), payload or b"")
        if len(self._unhashed) >= HASHED_AT_ONCE:
            self._hash_all()
        if self._on_line is not None:
            self._on_line(_line(event))

    def _hash_all(self) -> None:
        self._hash.update(b"".join(self._unhashed))
        self._unhashed.clear()

    def digest(self) -> str:
        """Equal for runs in which the same things happened at the same times."""
        self._hash_all()
        return self._hash.hexdigest()

    def last_lines(self, count: int) -> Iterator[str]:
        for event in list(self._events)[-count:]:
            yield _line(event)


def _line(event: tuple[float, str, str, bytes | None]) -> str:
    now_s, text, receiver, payload = event
    if payload is None:
        return f"{now_s:10.6f}  {text}"
    message = decode(payload)
    if isinstance(message, AppendEntries):
        entries = " ".join(f"{entry.index}@{entry.term}" for entry in message.entries)
        said = (
            f"AppendEntries(term={message.term}, commit={message.commit_index}, prev={message.prev_index}"
            f"@{message.prev_term}, round={message.round}, [{entries}])"
        )
    else:
        said = str(message)
    return f"{now_s:10.6f}  {text} -> {receiver}  {said}"
