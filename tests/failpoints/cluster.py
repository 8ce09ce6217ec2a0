"""A cluster whose nodes are told where to end, and the load on it: what test_steps.py is made of."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from raftpay.archive.deep import check_archive
from raftpay.archive.parquet import ColumnStore
from raftpay.client import Client
from raftpay.config import load, render_local
from raftpay.ledger import CreateTransferResult
from raftpay.ledger.types import Account, Transfer
from raftpay.ops.check import check_books
from raftpay.ops.ports import free_pairs
from raftpay.ops.probe import probe
from raftpay.storage.disk import RealDisk
from tests.failpoints.steps import ARMED_NAME, DONE_NAME

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 60.0
ACCOUNTS = 20
BATCH = 50
# Long ones, so that the log grows faster than the books.
REFERENCE = "r" * 140


class LauncherNode:
    """A node, by the launcher of its lives (process.py). folder: of the whole cluster."""

    def __init__(self, folder: Path, name: str, config: Path, *, is_thorough: bool) -> None:
        self.name, self.log, self.steps = name, folder / f"{name}.log", folder / f"{name}-steps"
        self.steps.mkdir()
        command = [sys.executable, "-m", "tests.failpoints.process", str(config), name, str(self.log), str(self.steps)]
        command += ["thorough"] if is_thorough else []
        self._launcher = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # Of the life under way, readable once it has ended; None between two.
        self._life: int | None = None

    def begin(self) -> None:
        """Begin a life."""
        assert self._life is None
        assert self._launcher.stdin is not None
        self._launcher.stdin.write("\n")
        self._launcher.stdin.flush()
        self._life = os.pidfd_open(int(self._line()))

    def has_ended(self) -> bool:
        return self._life is None or bool(select.select([self._life], [], [], 0)[0])

    def end(self, number: signal.Signals) -> int:
        """End the life by this signal, if it has not ended itself; returns how it ended: -9 by SIGKILL."""
        assert self._life is not None
        with contextlib.suppress(ProcessLookupError):  # ended, and seen by the launcher
            signal.pidfd_send_signal(self._life, number)
        os.close(self._life)
        self._life = None
        return int(self._line())

    def close(self) -> None:
        if self._life is not None:
            self.end(signal.SIGKILL)
        with self._launcher:  # which closes its pipes, and waits for it
            pass

    def arm(self, *, is_armed: bool) -> None:
        """Let it end at the next step that it has not ended at, or let it live."""
        armed = self.steps / ARMED_NAME
        armed.touch() if is_armed else armed.unlink(missing_ok=True)

    def steps_done(self) -> list[str]:
        done = self.steps / DONE_NAME
        return done.read_text().splitlines() if done.exists() else []

    def log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def _line(self) -> str:
        assert self._launcher.stdout is not None
        line = self._launcher.stdout.readline()
        assert line, f"the launcher of {self.name} has ended"
        return line


class FailpointCluster:
    """Three nodes, of which one, the victim, is ended again and again; a client that pays, and knows what it paid.

    is_thorough: more steps are told from each other (steps.py).
    """

    def __init__(self, folder: Path, *, is_thorough: bool = False) -> None:
        path = folder / "cluster.toml"
        path.write_text(render_local(cluster_id="failpoints", ports=free_pairs(3)))
        self.config = load(path)
        self.addresses = {name: node.client for name, node in self.config.nodes.items()}
        self.nodes = {name: LauncherNode(folder, name, path, is_thorough=is_thorough) for name in self.addresses}
        self.victim = self.nodes["n3"]
        self.client = Client(list(self.addresses.values()), deadline_s=DEADLINE_S)
        self.paid = 0

    def __enter__(self) -> Self:
        try:
            for node in self.nodes.values():
                node.begin()
            self.client.create_accounts([Account(f"a{number}", "EUR") for number in range(ACCOUNTS)])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        for node in self.nodes.values():
            node.close()

    def pay(self) -> None:
        """One batch that must be acknowledged, whatever happens to the victim."""
        batch = [self.transfer(number) for number in range(self.paid, self.paid + BATCH)]
        for outcome in self.client.create_transfers(batch):
            # A batch whose answer was lost with the victim has been sent again.
            assert outcome.result in (CreateTransferResult.CREATED, CreateTransferResult.EXISTS), outcome
        self.paid += BATCH
        if self.paid % (4 * BATCH) == 0:
            # So that a segment is more than one file.
            self.client.create_accounts([Account(f"later{self.paid}", "EUR")])

    def transfer(self, number: int) -> Transfer:
        debit, credit = number % ACCOUNTS, (number * 7 + 3) % ACCOUNTS
        credit = credit if credit != debit else (credit + 1) % ACCOUNTS
        return Transfer(f"t{number}", f"a{debit}", f"a{credit}", number % 1000 + 1, reference=REFERENCE)

    # ---- what is to be seen

    def applied(self, name: str) -> int:
        """How far the node has applied; -1 where it does not answer."""
        status = probe(self.addresses[name])
        return -1 if status is None else status.applied_index

    def healthy(self) -> list[str]:
        return [name for name in self.nodes if name != self.victim.name]

    def first_indexes(self) -> list[int]:
        """Where the journals of the healthy nodes begin."""
        return [_first_index(self.config.nodes[name].data) for name in self.healthy()]

    def is_level(self) -> bool:
        return self.applied(self.victim.name) >= max(self.applied(name) for name in self.healthy())

    def check(self) -> None:
        """All nodes answer, and have the same books, which balance."""
        books = check_books(self.addresses, deadline_s=DEADLINE_S)
        assert (books.unreachable, books.is_balanced, books.has_equal_digests) == ([], True, True), (
            self.victim.log_end()
        )

    def files(self, name: str, pattern: str) -> set[str]:
        """The node's files, by their paths in its data directory."""
        data = self.config.nodes[name].data
        return {str(path.relative_to(data)) for path in data.glob(pattern)}

    def check_all(self) -> None:
        """Every acknowledged transfer is on every node, once, and nothing else; the archives are the same and whole."""
        for name, address in self.addresses.items():
            for first in range(0, self.paid, 1000):
                numbers = range(first, min(first + 1000, self.paid))
                found = self.client.lookup_transfers(
                    [f"t{number}" for number in numbers], address=address, read="local"
                )
                for number, record in zip(numbers, found, strict=True):
                    sent = self.transfer(number)
                    assert record is not None, f"{name} lacks the acknowledged transfer t{number}"
                    assert (record.debit_account, record.credit_account, record.amount) == (
                        sent.debit_account,
                        sent.credit_account,
                        sent.amount,
                    )
            assert self.client.status(address=address).transfers == self.paid, "one that nobody sent, or one twice"
            cuts = list(check_archive(RealDisk(self.config.nodes[name].data), self.config.cluster_id, ColumnStore()))
            assert cuts, f"{name} has sealed nothing"
            assert [cut.problems for cut in cuts] == [[]] * len(cuts), name


def _first_index(data: Path) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            head = min((data / "journal").glob("*.seg")).read_bytes()[:512]
            return int.from_bytes(head[28:36], "little")


def until(what: str) -> Iterator[None]:
    """Go round until the caller leaves; fail at the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        yield
        time.sleep(0.002)  # between two looks
    raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")
