"""The demo itself, step by step: a fresh cluster, a town of accounts, payments, a kill on the way, the proof.

`run_demo` is what `raftpay demo` calls. It pays through `raftpay.ops.pay`, as `raftpay pay` does, and believes none
of what that says: the proof is in books.py. Whatever ends it, no process is left behind.
"""

import datetime
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from raftpay.errors import ConfigError, LocalClusterError, NotCommitted, RaftpayError
from raftpay.ops.demo.books import observe, prove, read_refused, read_sheet
from raftpay.ops.demo.failover import Failover, Moments
from raftpay.ops.demo.folder import CLUSTER_NAME, PICTURE_NAME, REFUSED_NAME, RESULT_NAME, taken
from raftpay.ops.demo.result import Result, Setting, Story, conclude
from raftpay.ops.demo.svg import render
from raftpay.ops.demo.timeline import Ack
from raftpay.ops.local import LocalCluster
from raftpay.ops.pay.run import Acknowledgement, Noun, PayOptions, Summary, pay_file
from raftpay.ops.sample import Sample, SampleOptions, write_sample

PAYMENTS_MIN: Final = 300
PAYMENTS_MAX: Final = 5_000_000
# Few enough for an acknowledgement every few milliseconds: the gap is then the cluster's, not that of the batches.
BATCH_DEFAULT: Final = 250
WORKERS_DEFAULT: Final = 2
# One payment in so many is flawed on purpose; no divisor of the sample's cycle of four faults.
_FLAWED_EVERY: Final = 4_321
_FLAWED_MIN: Final = 7
_ACCOUNTS_BATCH: Final = 2_000
_PAY_PATIENCE_S: Final = 20.0
_BOOKS_DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """out: the folder, made or taken over from an earlier demo. nodes: 3 or 5. seed: of the accounts and payments.
    is_kept: the nodes' data stay, to be looked at; their logs always do.
    """

    out: Path
    payments: int = 100_000
    nodes: int = 3
    seed: int = 1
    accounts: int = 10_000
    workers: int = WORKERS_DEFAULT
    batch: int = BATCH_DEFAULT
    is_kept: bool = False

    @property
    def flawed(self) -> int:
        """How many of the payments the sample spoils on purpose."""
        return max(_FLAWED_MIN, self.payments // _FLAWED_EVERY)

    def check(self) -> None:
        """Raises ConfigError that names what is out of range."""
        if not PAYMENTS_MIN <= self.payments <= PAYMENTS_MAX:
            raise ConfigError(f"payments is {self.payments}: expected {PAYMENTS_MIN} to {PAYMENTS_MAX}")
        if self.batch * 6 > self.payments:
            raise ConfigError(f"batch is {self.batch}: expected at most a sixth of the {self.payments} payments")


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told. say: a line of progress. paid: how many payments are answered, of how many."""

    say: Callable[[str], None]
    paid: Callable[[int, int], None]


@dataclass(slots=True)
class _Paying:
    """Collects the answers as they come. seen: monotonic time, payments and latency of each batch."""

    total: int
    failover: Failover
    audience: Audience
    answered: int = 0
    seen: list[Ack] = field(default_factory=list)

    def on_acknowledged(self, answer: Acknowledgement) -> None:
        self.seen.append(Ack(time.monotonic(), answer.lines, answer.latency_s))
        self.answered += answer.lines
        self.failover.acknowledged(self.answered)
        self.audience.paid(self.answered, self.total)


def run_demo(options: DemoOptions, audience: Audience) -> Result:
    """Play the whole demo and return its result, which is in the folder too, with the picture.

    Raises ConfigError (nothing was started) or another RaftpayError; then the audience is told where the logs are.
    """
    options.check()
    with taken(options.out) as folder:
        audience.say(f"making {options.accounts:,} accounts and {options.payments:,} payments (seed {options.seed})")
        size = SampleOptions(options.accounts, options.payments, options.seed, options.flawed)
        sample = write_sample(folder, size)
        try:
            result = _play(options, audience, sample, folder / CLUSTER_NAME)
        except RaftpayError:
            logs = ", ".join(str(log) for log in sorted((folder / CLUSTER_NAME).glob("*.log")))
            audience.say(f"the nodes' logs: {logs or 'none'}")
            raise
        (folder / RESULT_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
        (folder / PICTURE_NAME).write_text(picture(result), encoding="utf-8")
        if result.is_good and not options.is_kept:
            _remove_data(folder / CLUSTER_NAME)
        return result


def picture(result: Result) -> str:
    """The SVG of a result."""
    count, gap = result.setting.payments, result.longest_gap_ms
    overall = result.payments_per_s.overall or 0.0
    verdict = "books balanced · digests equal" if result.is_good else "CHECKS FAILED"
    return render(
        result.throughput,
        result.marks,
        result.failover.silence,
        title=f"The leader is killed while {count:,} payments are made",
        subtitle=f"raftpay, {result.setting.nodes} nodes · {overall:,.0f} payments/s · longest gap "
        f"{'-' if gap is None else f'{gap:.0f} ms'} · lost {result.lost} · doubled {result.doubled} · {verdict}",
    )


def _play(options: DemoOptions, audience: Audience, sample: Sample, directory: Path) -> Result:
    began_at = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
    audience.say(f"starting {options.nodes} nodes in {directory}")
    with LocalCluster(directory, nodes=options.nodes) as cluster:
        leader = cluster.wait_ready()
        audience.say(f"{leader} leads; opening {options.accounts:,} accounts")
        _open_accounts(options, cluster, sample)
        audience.say(f"paying {sample.payments} with {options.workers} workers, {options.batch} payments a request")
        paying, moments, summary = _pay(options, audience, cluster, sample)
        audience.say("all answered; proving the books from the file")
        sheet = read_sheet(sample.accounts, sample.payments)
        addresses = {name: cluster.address(name) for name in cluster.names}
        # The one that was killed is gone through: it has the most to explain.
        observed = observe(addresses, sheet.ids, asked=moments.killed, deadline_s=_BOOKS_DEADLINE_S)
        proof = prove(sheet, read_refused(summary.report), observed, flawed=options.flawed)
        audience.say("stopping the nodes")
    processors = os.cpu_count() or 1
    setting = Setting(
        nodes=options.nodes,
        payments=options.payments,
        accounts=options.accounts,
        seed=options.seed,
        workers=options.workers,
        batch=options.batch,
        processors=processors,
    )
    story = Story(setting, began_at, paying.seen, moments, summary.rejected, options.flawed)
    return conclude(story, proof, observed.books)


def _open_accounts(options: DemoOptions, cluster: LocalCluster, sample: Sample) -> None:
    report = sample.accounts.with_name(f"accounts-{REFUSED_NAME}")
    opening = PayOptions(sample.accounts, cluster.addresses, Noun.ACCOUNTS, batch=_ACCOUNTS_BATCH, report=report)
    opened = pay_file(opening)
    if opened.created != options.accounts:
        raise LocalClusterError(
            f"{opened.created} of {options.accounts} accounts were opened ({opened.ending} {opened.trouble})".rstrip()
        )


def _pay(
    options: DemoOptions, audience: Audience, cluster: LocalCluster, sample: Sample
) -> tuple[_Paying, Moments, Summary]:
    """Pay the file while the leader dies and comes back; returns when all is answered and the node has caught up."""
    failover = Failover(cluster, kill_at=options.payments // 3, start_at=options.payments * 2 // 3)
    paying = _Paying(options.payments, failover, audience)
    orders = PayOptions(
        sample.payments,
        cluster.addresses,
        workers=options.workers,
        batch=options.batch,
        patience_s=_PAY_PATIENCE_S,
        report=sample.payments.with_name(REFUSED_NAME),
    )
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="raftpay-failover") as thread:
        try:
            # Within the `try`: Ctrl-C may come when the thread runs and its future is not in our hands yet.
            playing = thread.submit(failover.run)
            summary = pay_file(orders, on_acknowledged=paying.on_acknowledged, on_notice=audience.say)
            if summary.ending != "done":
                if playing.done():
                    # What went wrong with the nodes explains it better than the payer can.
                    playing.result()
                raise NotCommitted(f"only {summary.lines} of {options.payments} lines were answered: {summary.trouble}")
            return paying, playing.result(), summary
        finally:
            failover.abandon()


def _remove_data(directory: Path) -> None:
    """The nodes' journals, which take the most room; logs and configuration stay."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
