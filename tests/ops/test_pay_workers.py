"""Files paid by real worker processes that are killed, and by a node that fails as told: every line once, none lost."""

import asyncio
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raftpay.errors import ConfigError, OutcomeUnknown, Rejected
from raftpay.ledger import Account, AccountFlag, Command, CreateAccounts
from raftpay.ops.pay import Acknowledgement, Noun, PayOptions, PayRun, Summary, crew, pay_file
from tests.ops.scripted_node import WAIT_S, Fate, ScriptedNode

LINES = 60


def payments(folder: Path, lines: int = LINES) -> Path:
    """alice pays bob 0.01, 0.02, 0.03 …, without ids."""
    path = folder / "payments.csv"
    rows = "".join(f"alice,bob,{number // 100}.{number % 100:02d},EUR\n" for number in range(1, lines + 1))
    path.write_text("debit_account,credit_account,amount,currency\n" + rows)
    return path


def opened(node: ScriptedNode) -> ScriptedNode:
    node.ledger.apply(Command(1, [CreateAccounts([Account("alice", "EUR"), Account("bob", "EUR")])]))
    return node


def options(path: Path, node: ScriptedNode, *, workers: int = 2, patience_s: float = WAIT_S) -> PayOptions:
    return PayOptions(path, [node.address], workers=workers, batch=5, patience_s=patience_s)


def paid_to_bob(node: ScriptedNode) -> int:
    (bob,) = node.ledger.lookup_accounts(["bob"])
    assert bob is not None
    return bob.credits_posted


def assert_paid_once(node: ScriptedNode, lines: int = LINES) -> None:
    assert len(node.created) == len(set(node.created)) == lines
    assert paid_to_bob(node) == lines * (lines + 1) // 2


class Paying:
    """A run in a thread of its own, so that the test can wait for the node meanwhile."""

    def __init__(self, wanted: PayOptions) -> None:
        self.notices: list[str] = []
        self.answers: list[Acknowledgement] = []
        self._noticed = threading.Condition()
        self.run = PayRun(wanted, on_notice=self._notice, on_acknowledged=self.answers.append)
        executor = ThreadPoolExecutor(1)
        self._summary = executor.submit(lambda: asyncio.run(self.run.pay()))
        executor.shutdown(wait=False)

    def _notice(self, text: str) -> None:
        with self._noticed:
            self.notices.append(text)
            self._noticed.notify_all()

    def wait_notice(self, part: str) -> None:
        with self._noticed:
            assert self._noticed.wait_for(lambda: any(part in notice for notice in self.notices), WAIT_S), part

    def summary(self) -> Summary:
        return self._summary.result(WAIT_S)


def test_a_file_is_paid_and_paying_it_again_pays_nothing(tmp_path: Path) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode()) as node:
        first = pay_file(options(path, node))
        again = pay_file(options(path, node))

        assert (first.created, first.exists, first.rejected, first.ending) == (LINES, 0, 0, "done")
        assert (again.created, again.exists, again.rejected, again.ending) == (0, LINES, 0, "done")
        assert first.totals == again.totals
        assert first.totals["EUR"].amount_minor == paid_to_bob(node)
        assert_paid_once(node)
    assert [found.name for found in tmp_path.iterdir()] == ["payments.csv"]


def test_accounts_are_loaded_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("id,currency\n" + "".join(f"a{number},EUR\n" for number in range(12)) + "a3,USD\n")
    with ScriptedNode() as node:
        summary = pay_file(PayOptions(path, [node.address], noun=Noun.ACCOUNTS, batch=5))

        assert (summary.created, summary.rejected) == (12, 1)
        assert summary.first_rejections[0].line == 14
        assert summary.first_rejections[0].result == "exists_with_different_currency"
        assert node.ledger.account_count == 12


def test_one_worker_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    # Each account can pay on only what it has received by the line before.
    path = tmp_path / "chain.csv"
    rows = "".join(f"a{number},a{number + 1},5.00,EUR\n" for number in range(40))
    path.write_text("debit_account,credit_account,amount,currency\n" + rows)
    limit = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    with ScriptedNode(lambda number: Fate.DROP_BEFORE if number % 5 == 0 else Fate.ANSWER) as node:
        accounts = [Account("a0", "EUR"), *(Account(f"a{number}", "EUR", flags=limit) for number in range(1, 41))]
        node.ledger.apply(Command(1, [CreateAccounts(accounts)]))

        summary = pay_file(PayOptions(path, [node.address], workers=1, batch=3))

    assert (summary.created, summary.rejected) == (40, 0)


@pytest.mark.parametrize("fate", [Fate.HOLD_BEFORE, Fate.HOLD_AFTER], ids=["before", "after"])
def test_workers_killed_with_batches_in_hand_lose_nothing_and_double_nothing(fate: Fate, tmp_path: Path) -> None:
    with opened(ScriptedNode(lambda number: fate if number > 3 else Fate.ANSWER)) as node:
        paying = Paying(options(payments(tmp_path), node))
        node.wait(lambda: node.held_events >= 20, "both workers have two batches of five on their way")
        killed = list(paying.run.processes)

        node.script = lambda _: Fate.ANSWER
        for process in killed:
            process.kill()
        node.release()
        summary = paying.summary()

        assert len(killed) == 2
        assert summary.workers_replaced == 2
        assert (summary.lines, summary.rejected, summary.ending) == (LINES, 0, "done")
        assert_paid_once(node)
        assert sum(answer.lines for answer in paying.answers) == LINES
        assert [process.poll() is not None for process in killed] == [True, True]
        assert any("another takes over its 2 unanswered batches" in notice for notice in paying.notices)


def test_workers_killed_one_after_the_other_are_all_replaced(tmp_path: Path) -> None:
    with opened(ScriptedNode()) as node:
        paying: list[Paying] = []
        kills = threading.Semaphore(4)

        def kill_at_times(number: int) -> Fate:
            # Some requests are sent anew after a kill, so the numbers go past the number of batches.
            if number % 5 == 3 and paying and kills.acquire(blocking=False):
                for process in paying[0].run.processes[:1]:
                    process.kill()
            return Fate.ANSWER

        node.script = kill_at_times
        paying.append(Paying(options(payments(tmp_path, 300), node)))
        summary = paying[0].summary()

        assert (summary.lines, summary.rejected) == (300, 0)
        assert_paid_once(node, 300)


@pytest.mark.parametrize("fate", [Fate.DROP_BEFORE, Fate.DROP_AFTER, Fate.UNAVAILABLE, Fate.UNKNOWN])
def test_a_node_that_drops_or_refuses_now_and_then_costs_nothing(fate: Fate, tmp_path: Path) -> None:
    with opened(ScriptedNode(lambda number: fate if number % 3 == 0 else Fate.ANSWER)) as node:
        summary = pay_file(options(payments(tmp_path), node, workers=1))

        assert (summary.lines, summary.rejected, summary.ending) == (LINES, 0, "done")
        assert_paid_once(node)


@pytest.mark.parametrize("fate", [Fate.UNAVAILABLE, Fate.UNKNOWN])
def test_without_a_majority_the_run_ends_after_its_patience_and_can_be_resumed(fate: Fate, tmp_path: Path) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode(lambda number: Fate.ANSWER if number <= 3 else fate)) as node:
        paying = Paying(options(path, node, workers=1, patience_s=0.5))
        stopped = paying.summary()
        paid_before = len(node.created)
        node.script = lambda _: Fate.ANSWER
        resumed = pay_file(options(path, node))

        assert stopped.ending == "no_majority"
        # "unavailable" did not happen, but the last question may have been open when its time was up.
        assert stopped.may_have_happened or fate is Fate.UNAVAILABLE
        assert stopped.created == paid_before == 15
        assert "as the script says" in stopped.trouble
        assert any("no majority took anything for" in notice for notice in paying.notices)
        assert (resumed.created, resumed.exists) == (LINES - paid_before, paid_before)
        assert_paid_once(node)


def test_where_nobody_listens_nothing_may_have_happened(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        stopped = pay_file(PayOptions(payments(tmp_path), [f"{host}:{port}"], workers=1, batch=5, patience_s=0.5))

    assert (stopped.ending, stopped.may_have_happened, stopped.created) == ("no_majority", False, 0)


def test_ctrl_c_while_the_event_loop_is_made_takes_effect_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[asyncio.AbstractEventLoop] = []
    get_loop = asyncio.Runner.get_loop

    def interrupted(runner: asyncio.Runner) -> asyncio.AbstractEventLoop:
        signal.raise_signal(signal.SIGINT)
        made.append(get_loop(runner))
        return made[-1]

    monkeypatch.setattr(asyncio.Runner, "get_loop", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pay_file(PayOptions(payments(tmp_path), ["127.0.0.1:1"]))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)

    assert len(made) == 1
    made[0].close()


def test_a_node_that_comes_back_within_patience_is_waited_for(tmp_path: Path) -> None:
    with opened(ScriptedNode(lambda number: Fate.UNAVAILABLE)) as node:
        paying = Paying(
            PayOptions(payments(tmp_path), [node.address], workers=2, batch=5, deadline_s=0.2, patience_s=WAIT_S)
        )
        paying.wait_notice("no majority took anything for")

        node.script = lambda _: Fate.ANSWER
        summary = paying.summary()

        # An answer that comes after the short deadline of its question is asked for again, and then "exists".
        assert (summary.lines, summary.rejected, summary.ending) == (LINES, 0, "done")
        assert_paid_once(node)


def test_stop_waits_for_what_is_on_its_way_and_sends_no_more(tmp_path: Path) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode(lambda number: Fate.HOLD_BEFORE if number > 2 else Fate.ANSWER)) as node:
        paying = Paying(options(path, node, workers=1))
        node.wait(lambda: node.requests >= 3, "the third batch is on its way")

        paying.run.stop()
        node.release()
        summary = paying.summary()

        assert (summary.ending, summary.created, summary.may_have_happened) == ("stopped", 15, False)
        assert len(node.created) == 15
        node.wait(lambda: node.connections == 0, "the workers have gone")


def test_a_run_that_is_stopped_with_no_answer_in_time_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "STOP_GRACE_S", 0.2)
    with opened(ScriptedNode(lambda number: Fate.HOLD_AFTER)) as node:
        paying = Paying(options(payments(tmp_path), node, workers=1))
        node.wait(lambda: node.requests >= 1, "the first batch is on its way")

        paying.run.stop()
        summary = paying.summary()

        assert (summary.ending, summary.created, summary.may_have_happened) == ("stopped", 0, True)
        node.wait(lambda: node.connections == 0, "the worker has gone, with its batch unanswered")


def test_a_worker_that_is_stuck_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "STUCK_AFTER_S", 1.0)
    with opened(ScriptedNode(lambda _: Fate.HOLD_AFTER)) as node:
        paying = Paying(PayOptions(payments(tmp_path), [node.address], batch=5, deadline_s=0.5))
        node.wait(lambda: node.held_events > 0, "the first batch is on its way")

        (stuck,) = paying.run.processes
        stuck.send_signal(signal.SIGSTOP)
        node.script = lambda _: Fate.ANSWER
        summary = paying.summary()

        assert stuck.poll() == -signal.SIGKILL
        assert (summary.lines, summary.ending) == (LINES, "done")
        assert_paid_once(node)


def test_workers_that_cannot_live_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "DEATHS_IN_ROW_MAX", 2)
    with opened(ScriptedNode()) as node:
        paying: list[Paying] = []
        started = threading.Event()

        def kill_all(_number: int) -> Fate:
            started.wait(WAIT_S)
            for process in paying[0].run.processes:
                process.kill()
            return Fate.HOLD_BEFORE

        node.script = kill_all
        paying.append(Paying(options(payments(tmp_path), node, workers=1)))
        started.set()

        with pytest.raises(OutcomeUnknown) as error:
            paying[0].summary()

    assert "3 worker processes ended one after the other (signal 9)" in str(error.value)


def test_a_request_that_the_cluster_refuses_as_such_ends_the_run(tmp_path: Path) -> None:
    with opened(ScriptedNode(lambda number: Fate.INVALID)) as node, pytest.raises(Rejected) as error:
        pay_file(options(payments(tmp_path), node, workers=1))

    assert "lines 2-6" in str(error.value)
    assert "as the script says" in str(error.value)


def test_strict_sends_nothing_if_a_line_is_malformed(tmp_path: Path) -> None:
    path = payments(tmp_path)
    path.write_text(path.read_text() + "alice,bob,1.234,EUR\nalice,bob\n")
    with opened(ScriptedNode()) as node:
        with pytest.raises(ConfigError) as error:
            pay_file(PayOptions(path, [node.address], is_strict=True))

        assert f"has 2 malformed lines, and nothing was sent. The first is line {LINES + 2}: amount" in str(error.value)
        assert node.requests == 0


def test_answers_tell_when_and_how_much(tmp_path: Path) -> None:
    path = payments(tmp_path)
    path.write_text(path.read_text() + "alice,nobody,1.00,EUR\n")
    with opened(ScriptedNode()) as node:
        paying = Paying(options(path, node))
        summary = paying.summary()

    answers = paying.answers
    assert [answer.seconds for answer in answers] == sorted(answer.seconds for answer in answers)
    assert sum(answer.created for answer in answers) == LINES
    assert sum(answer.rejected for answer in answers) == 1
    assert answers[-1].position == answers[-1].size == path.stat().st_size
    assert 0 < summary.longest_gap_s <= summary.seconds
    assert summary.rate == pytest.approx((LINES + 1) / summary.seconds)
