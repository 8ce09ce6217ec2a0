"""What simulated clients want: money moved, accounts opened, questions asked, spread over the time of a run.

Requests that meet in one command, chains, pending transfers that are posted, voided or left to expire. Who asks, and
how, is clients.py's business. Called by run.py.
"""

import random
from typing import Final

import msgspec

from raftpay.ledger.types import Account, AccountFlag, Transfer, TransferFlag
from raftpay.machine import check_create_accounts, check_create_transfers
from raftpay.sim.clients import Client, Operation, Process
from raftpay.sim.history import History
from raftpay.sim.loop import Schedule
from raftpay.sim.member import Member

ACCOUNTS: Final = 12
PROCESSES: Final = 8
CLIENTS_EACH: Final = 10
# Clients begin operations at multiples of one of these, so that requests meet in one command, as under load.
BEATS_S: Final = (0.1, 0.15, 0.25)
# The clients hurry, as if the cluster served half of the time that is left: there are faults.
HURRY: Final = 0.4

_encode = msgspec.msgpack.Encoder().encode


class Workload:
    """All clients.

    requests: how many operations there are in all, asked over about spread_s seconds: faster after a time in which
    nothing was answered. is_done: all are answered.
    """

    def __init__(
        self,
        schedule: Schedule,
        rng: random.Random,
        members: list[Member],
        history: History,
        *,
        requests: int,
        spread_s: float,
    ) -> None:
        self.schedule, self.rng = schedule, rng
        self.left, self._spread_s = requests, spread_s
        self.answered = 0
        self.is_closed = False
        # Clients that wait for an answer.
        self.busy = 0
        self._number = 0
        self._beat_s = rng.choice(BEATS_S)
        # Pending transfers that were answered and not yet posted or voided, as far as we know.
        self._pendings: list[str] = []
        self._clients: list[Client] = []
        for _ in range(PROCESSES):
            process = Process(self, schedule, rng, members, history)
            self._clients += [Client(process) for _ in range(CLIENTS_EACH)]
        self._accounts = [f"a{number}" for number in range(ACCOUNTS)]

    @property
    def is_done(self) -> bool:
        return self.busy == 0 and (self.left <= 0 or self.is_closed)

    def start(self) -> None:
        self.busy += 1
        self._clients[0].begin(self._opening())
        for client in self._clients[1:]:
            self.schedule.after(self.rng.uniform(0.3, 1.0), client.next)

    def next_beat_s(self) -> float:
        """How long a client waits before it goes on."""
        now_s, beat_s = self.schedule.now_s, self._beat_s
        # All clients together ask what is left in the time that is left.
        mean_s = HURRY * len(self._clients) * max(0.0, self._spread_s - now_s) / max(1, self.left) - beat_s / 2
        think_s = self.rng.expovariate(1 / mean_s) if mean_s > 0 else 0.0
        return (int((now_s + think_s) / beat_s) + 1) * beat_s - now_s

    def close(self) -> None:
        """Begin nothing new."""
        self.is_closed = True

    def one_more(self) -> None:
        """A write by an idle client, to see that the cluster serves."""
        self.busy += 1
        self._clients[0].begin(self._transfers([self._single()]))

    # ---- what they want

    def _opening(self) -> Operation:
        flags = [0, 0, AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS]
        accounts = [
            Account(name, "EUR", flags=flags[place % 3], overdraft_limit=400 if place % 3 == 2 else 0)
            for place, name in enumerate(self._accounts)
        ]
        return Operation(accounts[0].id, check_create_accounts(_encode(accounts)), is_accounts=True)

    def next_operation(self) -> Operation | None:
        """What an idle client shall want; None once there is nothing more."""
        if self.left <= 0 or self.is_closed:
            return None
        self.left -= 1
        self.busy += 1
        return self._draw()

    def _draw(self) -> Operation:
        rng, choice = self.rng, self.rng.random()
        if choice < 0.20:
            return Operation("", None, accounts=self._two_accounts())
        if choice < 0.22:
            account = Account(f"x{self._next_number()}", "EUR")
            return Operation(account.id, check_create_accounts(_encode([account])), is_accounts=True)
        if choice < 0.72:
            return self._transfers([self._single()])
        if choice < 0.79:
            return self._transfers([self._single() for _ in range(rng.randint(2, 5))])
        if choice < 0.85:
            chain = [self._single(TransferFlag.LINKED) for _ in range(rng.randint(1, 3))]
            return self._transfers([*chain, self._single()])
        if choice < 0.92 or not self._pendings:
            pending = self._single(TransferFlag.PENDING, timeout_s=rng.choice([0, 0, 1, 2]))
            return self._transfers([pending], pending=pending.id)
        target = self._pendings.pop(rng.randrange(len(self._pendings)))
        flag = rng.choice([TransferFlag.POST_PENDING, TransferFlag.VOID_PENDING])
        return self._transfers([Transfer(self._next_number(), "", "", None, flags=flag, target_id=target)])

    def _next_number(self) -> str:
        self._number += 1
        return f"t{self._number}"

    def _single(self, flags: int = 0, timeout_s: int = 0) -> Transfer:
        debit, credit = self._two_accounts()
        amount = 1 + int(100 * self.rng.random())
        return Transfer(self._next_number(), debit, credit, amount, flags=flags, timeout_s=timeout_s)

    def _two_accounts(self) -> list[str]:
        """Two different ones. Random.sample takes four times as long."""
        first, step = int(ACCOUNTS * self.rng.random()), 1 + int((ACCOUNTS - 1) * self.rng.random())
        return [self._accounts[first], self._accounts[(first + step) % ACCOUNTS]]

    def _transfers(self, transfers: list[Transfer], pending: str = "") -> Operation:
        return Operation(transfers[0].id, check_create_transfers(_encode(transfers)), pending=pending)

    def note_answer(self, operation: Operation) -> None:
        self.answered += 1
        self.busy -= 1
        if operation.pending:
            self._pendings.append(operation.pending)
