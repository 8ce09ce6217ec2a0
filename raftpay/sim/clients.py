"""Simulated clients: each wants one operation at a time, and tries it again under its ids until it is answered.

Clients of one process share its connections and what it knows of the leader: what they send in one moment travels
together, and so does what they hear. They believe what nodes answer and know nothing else: no log, no faults. What they
want is workload.py's business, what may follow from the answers is history.py's.
"""

import random
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from raftpay.machine import CheckedRequest
from raftpay.node.calls import NOT_LEADER, UNKNOWN, Call
from raftpay.sim.history import Attempt, History, Question, balances_of
from raftpay.sim.loop import Schedule
from raftpay.sim.member import Letter, Life, Member

# A client that hears nothing for so long asks elsewhere; the node gives up after REQUEST_TIMEOUT_S.
PATIENCE_S: Final = 1.5
WAY_S: Final = (0.0002, 0.0015)


class _NoOutlet:
    """Simulated calls send no bytes."""

    is_full = False

    def send(self, response: bytes) -> None:
        raise AssertionError("a simulated call answers by itself")


_NO_OUTLET = _NoOutlet()


class SimCall(Call):
    """A request on its way through a node. Its one outcome goes back to the client, from the node's side."""

    __slots__ = ("_attempt", "_client")

    def __init__(self, client: "Client", attempt: Attempt | Question) -> None:
        super().__init__(_NO_OUTLET, 0)
        self._client, self._attempt = client, attempt

    def answer(self, result: object) -> None:
        assert self.is_open, "a call is answered once"
        self.is_open = False
        self._client.process.hear(self._client.answered, self._attempt, result)

    def refuse(self, code: str, message: str, *, leader: str | None = None) -> None:
        assert self.is_open, "a call is answered once"
        self.is_open = False
        self._client.process.hear(self._client.refused, self._attempt, code, leader)

    def lose(self) -> None:
        """The process of the node has ended, and the connection is reset: nobody will answer."""
        if self.is_open:
            self._client.process.hear(self._client.lost, self._attempt)


class Operation(msgspec.Struct, eq=False):
    """What a client wants: a write (key: the first of its ids) or a question about accounts."""

    key: str
    request: CheckedRequest | None
    accounts: list[str] = []
    is_accounts: bool = False
    pending: str = ""


class Work(Protocol):
    """Where clients learn what to do."""

    def next_operation(self) -> Operation | None:
        """What a client that is idle shall want now, None for nothing more."""
        ...

    def note_answer(self, operation: Operation) -> None: ...

    def next_beat_s(self) -> float:
        """How long a client waits before it goes on."""
        ...


class Process:
    """One program with clients in it. target: the node that it takes for the leader."""

    def __init__(
        self, work: Work, schedule: Schedule, rng: random.Random, members: list[Member], history: History
    ) -> None:
        self.work, self.schedule, self.rng, self.members, self.history = work, schedule, rng, members, history
        self.target = rng.choice(members)
        # What is on its way to each node, and to the clients.
        self._sent: dict[str, list[tuple[Client, Attempt | Question]]] = {}
        self._heard: list[tuple[Callable[..., None], tuple[object, ...]]] = []

    def send(self, client: "Client", attempt: Attempt | Question, member: Member) -> None:
        """Send a request to a node, together with what the other clients send it before it has arrived."""
        sent = self._sent.setdefault(member.name, [])
        if not sent:
            self.schedule.after(self._way_s(), self._arrive, member)
        sent.append((client, attempt))

    def _arrive(self, member: Member) -> None:
        sent = self._sent.pop(member.name)
        letters = [client.letter(attempt, member) for client, attempt in sent if client.awaited is attempt]
        if letters and not member.take(letters):
            for client, attempt in sent:
                if client.awaited is attempt:
                    self.hear(client.refused, attempt, "nobody listens", None)

    def hear(self, act: Callable[..., None], *args: object) -> None:
        """What a node has to say arrives after a while."""
        if not self._heard:
            self.schedule.after(self._way_s(), self._hear_all)
        self._heard.append((act, args))

    def _hear_all(self) -> None:
        heard, self._heard = self._heard, []
        for act, args in heard:
            act(*args)

    def _way_s(self) -> float:
        low, high = WAY_S
        return low + (high - low) * self.rng.random()


class Client:
    """One client: one operation at a time. awaited: the attempt that is waited for."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.operation: Operation | None = None
        self.awaited: Attempt | Question | None = None
        # Of whom it is asked, and until when; answers to earlier attempts are heard by the history alone.
        self._asked = process.target
        self._patience_end_s = 0.0
        self._is_watching = False
        self._failures = 0

    def next(self) -> None:
        if self.operation is None:
            operation = self.process.work.next_operation()
            if operation is not None:
                self.begin(operation)

    def begin(self, operation: Operation) -> None:
        self.operation = operation
        self._failures = 0
        self._try(operation)

    def _try(self, operation: Operation) -> None:
        process = self.process
        self._asked = process.target
        if operation.request is None:
            if process.rng.random() < 0.5:
                self._asked = process.rng.choice(process.members)  # Questions go to followers too.
            attempt: Attempt | Question = process.history.question(operation.accounts)
        else:
            attempt = process.history.attempt(operation.key)
        self.awaited = attempt
        process.send(self, attempt, self._asked)
        self._patience_end_s = process.schedule.now_s + PATIENCE_S
        if not self._is_watching:
            self._is_watching = True
            process.schedule.at(self._patience_end_s, self._watch)

    def _watch(self) -> None:
        """One timer for all attempts: nearly all of them are answered long before."""
        schedule = self.process.schedule
        self._is_watching = False
        if self.awaited is None:
            return
        if schedule.now_s >= self._patience_end_s:
            self.lost(self.awaited)
        else:
            self._is_watching = True
            schedule.at(self._patience_end_s, self._watch)

    def letter(self, attempt: Attempt | Question, member: Member) -> Letter:
        """The request as it is handed to a node."""
        operation, call = self.operation, SimCall(self, attempt)
        assert operation is not None
        if operation.request is not None:
            return Letter(call, call.lose, operation.request)
        accounts = operation.accounts
        return Letter(call, call.lose, lambda call: _look(call, member, accounts))

    # ---- outcomes; each may come for an attempt that is not waited for any more

    def answered(self, attempt: Attempt | Question, result: object) -> None:
        process, operation = self.process, self.operation
        process.history.answered(attempt, result)
        if attempt is not self.awaited or operation is None:
            return
        self.awaited = self.operation = None
        process.work.note_answer(operation)
        process.schedule.after(process.work.next_beat_s(), self.next)

    def refused(self, attempt: Attempt | Question, code: str, leader: str | None) -> None:
        process, operation = self.process, self.operation
        process.history.refused(attempt, is_unknown=code == UNKNOWN)
        if attempt is not self.awaited or operation is None:
            return
        if code != NOT_LEADER or leader is None:
            self._elsewhere(attempt)
            return
        process.target = next(member for member in process.members if member.name == leader)
        self._failures += 1
        if self._failures == 1:
            self._try(operation)
        else:
            process.schedule.after(0.001 * 2 ** min(self._failures, 6), self._try_again, attempt)

    def lost(self, attempt: Attempt | Question) -> None:
        """No answer came: it may have happened."""
        if attempt is self.awaited:
            self._elsewhere(attempt)

    def _elsewhere(self, attempt: Attempt | Question) -> None:
        process = self.process
        if process.target is self._asked:  # Else another client has moved on already.
            process.target = process.rng.choice([member for member in process.members if member is not self._asked])
        self._failures += 1
        pause_s = 0.02 * 2 ** min(self._failures, 5) * process.rng.uniform(0.5, 1.0)
        process.schedule.after(pause_s, self._try_again, attempt)

    def _try_again(self, attempt: Attempt | Question) -> None:
        if attempt is self.awaited and self.operation is not None:
            self._try(self.operation)


def _look(call: Call, member: Member, accounts: list[str]) -> None:
    """On the node's loop, once its state is known to be new enough: the ledger's time, and the balances."""
    life: Life | None = member.life
    assert life is not None
    call.answer((life.ledger.time, balances_of(life.ledger, accounts)))
