"""`raftpay pay` as it is typed: exit codes, what is printed and written, signals, and a parent that is killed."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftpay.ledger import Account, AccountFlag, Command, CreateAccounts
from raftpay_cli.root import run
from tests.ops.scripted_node import WAIT_S, Fate, ScriptedNode

HEADER = "id,debit_account,credit_account,amount,currency\n"
LINES = 40


def payments(folder: Path, *more: str) -> Path:
    path = folder / "payments.csv"
    rows = [f"p{number},alice,bob,{number}.00,EUR\n" for number in range(1, LINES + 1)]
    path.write_text(HEADER + "".join([*rows, *(line + "\n" for line in more)]))
    return path


def opened(node: ScriptedNode) -> ScriptedNode:
    poor = Account("poor", "EUR", flags=AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
    accounts = [Account("alice", "EUR"), Account("bob", "EUR"), poor]
    node.ledger.apply(Command(1, [CreateAccounts(accounts)]))
    return node


def report(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def start(node: ScriptedNode, path: Path, *options: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    # Small batches: a worker may put two of them into one request, and some are to be left at the end.
    arguments = ["--address", node.address, "pay", str(path), "--batch", "2", *options]
    # A process group of its own stands for a terminal's: a Ctrl-C goes to all of it.
    return subprocess.Popen(
        [sys.executable, "-m", "raftpay_cli", *arguments], stdout=subprocess.PIPE, stderr=stderr, process_group=0
    )


def test_all_paid_is_exit_code_0_and_json_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode()) as node:
        code = run(["--address", node.address, "pay", str(path), "--json"])

    printed = capsys.readouterr()
    value = json.loads(printed.out)
    assert code == 0
    assert {key: value[key] for key in ("lines", "created", "exists", "rejected", "ending", "run", "report")} == {
        "lines": LINES,
        "created": LINES,
        "exists": 0,
        "rejected": 0,
        "ending": "done",
        "run": "payments.csv",
        "report": None,
    }
    assert value["totals"] == {"EUR": {"lines": LINES, "amount": "820.00", "amount_minor": 82000}}
    assert printed.err == ""


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_new_run_name_is_proposed_only_where_ids_were_made(
    with_ids: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "payments.csv"
    lines = [HEADER, "p1,alice,bob,1.00,EUR\n", "p2,alice,bob,2.00,EUR\n"]
    if not with_ids:
        lines = [line.split(",", 1)[1] for line in lines]
    with opened(ScriptedNode()) as node:
        path.write_text("".join(lines[:2]))
        run(["--address", node.address, "pay", str(path)])
        path.write_text("".join(lines))
        run(["--address", node.address, "pay", str(path)])

    assert ("--run NAME" in capsys.readouterr().out) == (not with_ids)


def test_rejected_lines_are_exit_code_1_and_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = payments(tmp_path, "x1,alice,nobody,1.00,EUR", "x2,alice,bob,1.234,EUR", "x3,poor,bob,5.00,EUR")
    with opened(ScriptedNode()) as node:
        code = run(["--address", node.address, "pay", str(path), "--workers", "2", "--batch", "10"])

    printed = capsys.readouterr().out
    rows = report(tmp_path / "payments.rejected.csv")
    assert code == 1
    assert rows[0] == ["line", "id", "result", "iso_reason", "reason"]
    assert [row[:4] for row in rows[1:]] == [
        ["42", "x1", "credit_account_not_found", "AC03"],
        ["43", "x2", "amount_invalid", "AM12"],
        ["44", "x3", "exceeds_credits", "AM04"],
    ]
    assert rows[3][4] == "The debit account has not enough funds: fund it or send less, under a new id."
    assert "'1.234' has 3 decimal(s)" in rows[2][4]
    for shown in ("credit_account_not_found", "x3", "AM04", "rejected.csv"):
        assert shown in printed
    assert not (tmp_path / "payments.rejected.csv.partial").exists()


def test_the_reason_of_a_refusal_survives_later_runs(tmp_path: Path) -> None:
    path = payments(tmp_path, "x3,poor,bob,5.00,EUR")
    with opened(ScriptedNode()) as node:
        command = ["--address", node.address, "pay", str(path)]
        codes = [run(command), run(command), run(command)]

    rows = report(tmp_path / "payments.rejected.csv")
    assert codes == [1, 1, 1]
    assert [row[:3] for row in rows[1:]] == [["42", "x3", "exceeds_credits"]]


def test_a_report_of_lines_that_are_mended_goes_away(tmp_path: Path) -> None:
    path = payments(tmp_path, "x1,alice,bob,1.234,EUR")
    with opened(ScriptedNode()) as node:
        command = ["--address", node.address, "pay", str(path)]
        first = run(command)
        path.write_text(path.read_text().replace("1.234", "1.23"))
        second = run(command)

    assert (first, second) == (1, 0)
    assert not (tmp_path / "payments.rejected.csv").exists()


def test_a_file_that_is_no_report_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = payments(tmp_path)
    foreign = tmp_path / "payments.rejected.csv"
    foreign.write_text("my,own,notes\n")
    with opened(ScriptedNode()) as node:
        code = run(["--address", node.address, "pay", str(path)])

        assert node.requests == 0
    assert code == 2
    assert "is no report of rejected lines" in capsys.readouterr().err
    assert foreign.read_text() == "my,own,notes\n"


@pytest.mark.parametrize(("fate", "code"), [(Fate.UNAVAILABLE, 4), (Fate.UNKNOWN, 5)])
def test_without_a_majority_the_exit_code_tells_whether_it_may_have_happened(
    fate: Fate, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = payments(tmp_path)
    monkeypatch.setattr(sys, "argv", ["raftpay", "pay", "my payments.csv"])
    with opened(ScriptedNode(lambda _: fate)) as node:
        found = run(["--address", node.address, "pay", str(path), "--patience", "0.4"])

    said = capsys.readouterr().err
    assert found == code
    assert "no majority took anything for 0.4 s" in said
    assert "To resume, run the same command again, nothing is done twice:\n  raftpay pay 'my payments.csv'" in said
    assert ("may be in the ledger as well" in said) == (code == 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "missing.csv cannot be read: No such file"),
        (["payments.csv", "--batch", "9000"], "batch is 9000: expected 1 to 8190"),
        (["payments.csv", "--strict"], "has 1 malformed lines, and nothing was sent. The first is line 42"),
        (["payments.csv", "--exponent", "EUR=3"], "ISO 4217 gives EUR 2 decimals"),
        (["payments.csv", "--exponent", "BTC"], "expected CODE=N"),
        (["payments.csv", "--report", "nowhere/r.csv"], "cannot be written in that folder"),
    ],
)
def test_what_cannot_be_used_is_exit_code_2_and_nothing_is_sent(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payments(tmp_path, "x1,alice,bob,1.234,EUR")
    monkeypatch.chdir(tmp_path)
    with opened(ScriptedNode()) as node:
        code = run(["--address", node.address, "pay", *arguments])

        assert node.requests == 0
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_check_needs_no_cluster_and_lists_what_is_malformed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = payments(tmp_path, "x1,alice,bob,1.234,EUR")
    monkeypatch.delenv("RAFTPAY_CONFIG", raising=False)

    code = run(["pay", str(path), "--check", "--json", "--report", str(tmp_path / "r.csv")])

    value = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (value["sendable"], value["rejected"], value["first_rejections"][0]["line"]) == (LINES, 1, 42)
    assert [row[0] for row in report(tmp_path / "r.csv")] == ["line", "42"]


def test_accounts_are_loaded_by_their_own_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("id,currency,overdraft_limit,flags\nc1,JPY,500,debits_must_not_exceed_credits\nc2,EUR,,\n")
    with ScriptedNode() as node:
        code = run(["--address", node.address, "account", "load", str(path)])

        assert node.ledger.account_count == 2
    assert code == 0
    assert "opened" in capsys.readouterr().out


def test_a_sample_is_made_and_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(["sample", str(tmp_path), "--accounts", "50", "--payments", "70", "--seed", "3", "--json"])
    written = json.loads(capsys.readouterr().out)

    checked = run(["pay", written["payments"], "--check"])

    assert (made, checked) == (0, 0)


def test_ctrl_c_stops_in_good_order_and_the_same_command_resumes(tmp_path: Path) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode(lambda number: Fate.HOLD_BEFORE if number > 2 else Fate.ANSWER)) as node:
        process = start(node, path)
        node.wait(lambda: node.held_events > 0, "a batch is on its way")
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        # The parent has taken notice: only then is the batch let go.
        assert b"stopping: answers on their way are waited for" in process.stderr.readline()
        node.release()
        out, err = process.communicate(timeout=WAIT_S)
        paid = len(node.created)

        node.script = lambda _: Fate.ANSWER
        resumed = run(["--address", node.address, "pay", str(path)])

        assert process.returncode == 130
        assert f"{paid} lines are in the ledger, 0 were rejected. To resume, run the same command" in err.decode()
        assert re.search(rf"paid +{paid}\n", re.sub(r" +\n", "\n", out.decode()))
        assert 4 < paid < LINES
        assert resumed == 0
        assert len(node.created) == len(set(node.created)) == LINES
        node.wait(lambda: node.connections == 0, "no worker is left")


def test_workers_leave_when_their_parent_is_killed_and_a_second_run_pays_the_rest(tmp_path: Path) -> None:
    path = payments(tmp_path)
    with opened(ScriptedNode(lambda number: Fate.HOLD_AFTER if number > 2 else Fate.ANSWER)) as node:
        process = start(node, path, "--workers", "2")
        node.wait(lambda: node.held_events > 0, "a batch took effect, and its answer is on its way")
        process.kill()
        process.communicate(timeout=WAIT_S)
        node.wait(lambda: node.connections == 0, "the workers have gone by themselves")
        paid = len(node.created)

        node.script = lambda _: Fate.ANSWER
        resumed = run(["--address", node.address, "pay", str(path), "--workers", "2"])

        assert resumed == 0
        assert 0 < paid < LINES
        assert len(node.created) == len(set(node.created)) == LINES


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    path = payments(tmp_path)
    terminal, other = pty.openpty()
    with opened(ScriptedNode()) as node:
        process = start(node, path, stderr=other)
        os.close(other)
        shown = b""
        while data := _read(terminal):
            shown += data
        process.communicate(timeout=WAIT_S)
    os.close(terminal)

    assert process.returncode == 0
    assert b"payments.csv" in shown
    assert b"100%" in shown
    assert b"40 lines" in shown


def _read(terminal: int) -> bytes:
    """What a terminal shows next; nothing when the program has left it."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
