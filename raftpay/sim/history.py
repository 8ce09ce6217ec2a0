"""What clients did and heard, and the proof that it is linearizable.

The ledger's time numbers the log: every command has a later one than all before it. An answered write names the time
at which it took effect, an answered question the time of the state that it saw. Put all answered operations in the
order of these times (questions after the write of their time). Two things are then checked:

1. As they happen: an operation that began after another had been answered comes later in that order (a question not
   earlier). So the order respects real time.
2. At the end: a fresh ledger that applies the committed commands in this order gives every write the answer it got,
   and every question the balances it saw. So the order is one that a single ledger could have produced.

An order with both properties is what linearizability asks for (Herlihy and Wing 1990), so what passes is linearizable;
no search is needed because the log says which order it is. The check is stricter than needed: it also rejects a stale
answer that some other order would excuse, because a promise is broken either way. An attempt without an answer may take
effect at any later time or never, but not twice; one that was refused never does.
"""

from collections.abc import Callable

import msgspec

from raftpay.ledger import Ledger
from raftpay.ledger.types import Command, CreateAccounts, CreateTransfers, Request
from raftpay.ledger.window import WindowSizes
from raftpay.raft.stock_engine import REGULAR
from raftpay.sim.invariants import Committed
from raftpay.sim.trace import Trace

# CreateAccountResult and CreateTransferResult both begin with it.
CREATED = 0

_decode_command = msgspec.msgpack.Decoder(Command).decode

OPEN, ANSWERED, REFUSED, UNKNOWN = "open", "answered", "refused", "unknown"

Balances = list[tuple[int, int, int, int] | None]


# Structs: they are made much faster than dataclasses, and there are thousands in a run.
class Attempt(msgspec.Struct, eq=False):
    """One sending of a write. floor: the latest time among all that had been answered when it began."""

    key: str
    floor: int
    outcome: str = OPEN
    time: int = 0
    results: bytes = b""


class Question(msgspec.Struct, eq=False):
    accounts: list[str]
    floor: int
    outcome: str = OPEN
    time: int = 0
    balances: Balances = []


class History:
    """All attempts of all clients, in the order they began. sizes: of all ledgers of the run."""

    def __init__(self, trace: Trace, sizes: WindowSizes) -> None:
        self._trace, self._sizes = trace, sizes
        # The latest time among all answered operations: what begins now must not be earlier.
        self.floor = 0
        self.attempts: list[Attempt] = []
        self.questions: list[Question] = []

    def attempt(self, key: str) -> Attempt:
        made = Attempt(key, self.floor)
        self.attempts.append(made)
        return made

    def question(self, accounts: list[str]) -> Question:
        made = Question(accounts, self.floor)
        self.questions.append(made)
        return made

    def answered(self, operation: Attempt | Question, result: object) -> None:
        assert isinstance(result, tuple)
        assert operation.outcome == OPEN, "an attempt has one outcome"
        operation.outcome = ANSWERED
        operation.time = result[0]
        if isinstance(operation, Attempt):
            operation.results = result[1]
            is_late_enough = operation.time > operation.floor
        else:
            operation.balances = result[1]
            is_late_enough = operation.time >= operation.floor
        if not is_late_enough:
            raise self._trace.violated(
                "linearizability",
                f"{operation} began when time {operation.floor} had been answered, and is of time {operation.time}",
            )
        self.floor = max(self.floor, operation.time)

    def refused(self, operation: Attempt | Question, *, is_unknown: bool) -> None:
        assert operation.outcome == OPEN, "an attempt has one outcome"
        operation.outcome = UNKNOWN if is_unknown else REFUSED

    # ---- at the end

    def audit(self, committed: dict[int, Committed], restored: dict[int, str]) -> Ledger:
        """Replay the log and compare with it every answer and every state restored, by index; returns the ledger."""
        audit = _Audit(self._trace, self.attempts, self.questions, self._sizes)
        for index in sorted(committed):
            payload = committed[index].payload
            if payload[:1] == REGULAR:
                audit.replay(_decode_command(payload[2:]))
            if index in restored and audit.ledger.state_digest() != restored[index]:
                raise self._trace.violated(
                    "digests are equal", f"a snapshot of entry {index} held other books than the log gives"
                )
        audit.conclude()
        return audit.ledger


def balances_of(ledger: Ledger, accounts: list[str]) -> Balances:
    """The four balances of each account, None where there is none."""
    return [
        None
        if record is None
        else (record.debits_pending, record.debits_posted, record.credits_pending, record.credits_posted)
        for record in ledger.lookup_accounts(accounts)
    ]


class _Audit:
    def __init__(self, trace: Trace, attempts: list[Attempt], questions: list[Question], sizes: WindowSizes) -> None:
        self._trace = trace
        self.ledger = Ledger(sizes=sizes)
        self._by_key: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            self._by_key.setdefault(attempt.key, []).append(attempt)
        # How often each write is in the log, and the answers it got there, by time.
        self._seen: dict[str, int] = {}
        self._answers: dict[tuple[str, int], bytes] = {}
        self._created: set[str] = set()
        answered = [question for question in questions if question.outcome == ANSWERED]
        self._questions = sorted(answered, key=lambda question: question.time, reverse=True)

    def replay(self, command: Command) -> None:
        self._ask(lambda question: question.time < command.time)
        for request, results in zip(command.requests, self.ledger.apply(command), strict=True):
            key = _key(request)
            self._seen[key] = self._seen.get(key, 0) + 1
            self._answers[key, results.timestamp] = bytes(results.results)
            if results.results[0] == CREATED:
                if key in self._created:
                    raise self._trace.violated("at most once", f"{key} was created again at {results.timestamp}")
                self._created.add(key)

    def _ask(self, is_due: Callable[[Question], bool]) -> None:
        while self._questions and is_due(self._questions[-1]):
            question = self._questions.pop()
            found = balances_of(self.ledger, question.accounts)
            if found != question.balances or question.time != self.ledger.time:
                raise self._trace.violated(
                    "linearizability", f"{question} was answered, the log gives {found} at time {self.ledger.time}"
                )

    def conclude(self) -> None:
        self._ask(lambda _question: True)
        for key, attempts in self._by_key.items():
            self._check(key, attempts)
        for line in self.ledger.trial_balance():
            if (line.debits_posted, line.debits_pending) != (line.credits_posted, line.credits_pending):
                raise self._trace.violated("books balance", str(line))

    def _check(self, key: str, attempts: list[Attempt]) -> None:
        answered = 0
        for attempt in attempts:
            if attempt.outcome == ANSWERED:
                answered += 1
                found = self._answers.get((key, attempt.time))
                if found != attempt.results:
                    what = "is not in the log" if found is None else f"has the answer {list(found)} in the log"
                    raise self._trace.violated(
                        "no acknowledged command lost",
                        f"{key} was answered {list(attempt.results)} at {attempt.time}; it {what}",
                    )
        possible = sum(attempt.outcome in (OPEN, UNKNOWN) for attempt in attempts)
        seen = self._seen.get(key, 0)
        if not answered <= seen <= answered + possible:
            raise self._trace.violated(
                "errors are rightly classed",
                f"{key} is in the log {seen} times; of its {len(attempts)} attempts {answered} were answered and "
                f"{possible} have an unknown outcome, so the others, which were refused, took effect",
            )


def _key(request: Request) -> str:
    assert isinstance(request, CreateAccounts | CreateTransfers)
    return request.events[0].id
