"""The whole road with nothing simulated: three node processes, a file, and everything killed on the way."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftpay.client import Client
from raftpay.ops.local import LocalCluster
from raftpay.ops.pay import Acknowledgement, Noun, PayOptions, PayRun, Summary, check_file, pay_file
from raftpay.ops.sample import Sample, SampleOptions, write_sample

WAIT_S = 30.0
PAYMENTS = 4000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as started:
        started.wait_ready()
        yield started


def sample(folder: Path, cluster: LocalCluster, *, seed: int) -> Sample:
    made = write_sample(folder, SampleOptions(accounts=200, payments=PAYMENTS, seed=seed))
    loaded = pay_file(PayOptions(made.accounts, cluster.addresses, noun=Noun.ACCOUNTS))
    assert (loaded.created, loaded.ending) == (200, "done")
    return made


def posted(client: Client) -> dict[str, int]:
    """What all accounts have been debited, by currency; the same as they have been credited."""
    totals = client.trial_balance().totals
    assert all(total.debits_posted == total.credits_posted for total in totals)
    return {total.currency: total.debits_posted for total in totals}


def assert_paid_once(cluster: LocalCluster, path: Path, before: dict[str, int]) -> None:
    """The ledger has moved by exactly what the file says, and every node has the same books."""
    wanted = {currency: total.amount_minor for currency, total in check_file(PayOptions(path)).totals.items()}
    with Client(cluster.addresses) as client:
        moved = {currency: amount - before.get(currency, 0) for currency, amount in posted(client).items()}
        index = max(client.status(address=address).commit_index for address in cluster.addresses)
        digests = {wait_digest(client, address, index) for address in cluster.addresses}
    assert moved == wanted
    assert len(digests) == 1


def wait_digest(client: Client, address: str, index: int) -> str:
    """The digest of a node once it has applied up to index. Nothing is written any more, so it stays."""
    give_up_at = time.monotonic() + WAIT_S
    while client.status(address=address).applied_index < index:
        assert time.monotonic() < give_up_at, f"{address} does not reach index {index}"
    return client.state_digest(address=address).digest


def pay_and_break(options: PayOptions, cluster: LocalCluster) -> Summary:
    """Pay, kill a worker at a quarter of the file and the leading node at half of it."""
    lines = 0

    def acknowledged(answer: Acknowledgement) -> None:
        nonlocal lines
        before, lines = lines, lines + answer.lines
        if before < PAYMENTS // 4 <= lines:
            run.processes[0].kill()
        if before < PAYMENTS // 2 <= lines:
            cluster.kill(cluster.wait_leader())

    run = PayRun(options, on_acknowledged=acknowledged)
    return asyncio.run(run.pay())


def test_a_killed_worker_and_a_killed_leader_lose_nothing_and_double_nothing(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    made = sample(tmp_path, cluster, seed=1)
    with Client(cluster.addresses) as client:
        before = posted(client)

    summary = pay_and_break(PayOptions(made.payments, cluster.addresses, workers=2, batch=50), cluster)
    cluster.start()
    cluster.wait_ready()

    assert (summary.lines, summary.rejected, summary.ending) == (PAYMENTS, 0, "done")
    assert summary.workers_replaced == 1
    assert_paid_once(cluster, made.payments, before)


def test_a_killed_parent_is_resumed_by_running_it_again(cluster: LocalCluster, tmp_path: Path) -> None:
    made = sample(tmp_path, cluster, seed=2)
    # Without the column of ids, so that they are made from the lines.
    path = tmp_path / "no-ids.csv"
    path.write_text("".join(line.partition(",")[2] for line in made.payments.read_text().splitlines(keepends=True)))
    command = ["--config", str(cluster.config_path), "pay", str(path), "--workers", "2", "--batch", "20"]
    with Client(cluster.addresses) as client:
        before = posted(client)
        parent = subprocess.Popen([sys.executable, "-m", "raftpay_cli", *command], stderr=subprocess.PIPE)
        give_up_at = time.monotonic() + WAIT_S
        while posted(client) == before:
            assert time.monotonic() < give_up_at, "nothing is paid"
        parent.kill()
        parent.communicate(timeout=WAIT_S)

    summary = pay_file(PayOptions(path, cluster.addresses, workers=2))

    assert (summary.lines, summary.rejected) == (PAYMENTS, 0)
    assert summary.exists > 0
    assert summary.created > 0
    assert_paid_once(cluster, path, before)
