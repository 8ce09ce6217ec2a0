"""What the command line says and ends with when a node drops, holds, or does not know the outcome of a request."""

import json
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from raftpay_cli.exits import ExitCode
from raftpay_cli.root import root
from tests.ops.scripted_node import Fate, ScriptedNode

END_S = 20.0


def transfer(node: ScriptedNode, *words: str) -> Result:
    options = ["--address", node.address, "--deadline", "0.5"]
    return CliRunner().invoke(root, [*options, "transfer", "bank", "alice", "12.34", "EUR", *words])


@pytest.mark.parametrize(
    ("fate", "code"),
    [
        (Fate.UNAVAILABLE, ExitCode.NOT_COMMITTED),
        (Fate.DROP_BEFORE, ExitCode.OUTCOME_UNKNOWN),
        (Fate.HOLD_BEFORE, ExitCode.OUTCOME_UNKNOWN),
        (Fate.UNKNOWN, ExitCode.OUTCOME_UNKNOWN),
        (Fate.INVALID, ExitCode.REFUSED),
    ],
    ids=lambda value: value.name.lower(),
)
def test_each_way_of_failing_has_its_code_and_one_message(fate: Fate, code: ExitCode) -> None:
    with ScriptedNode(lambda _: fate) as node:
        failed = transfer(node)

    assert failed.exit_code == code
    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: ")
    assert "Traceback" not in failed.stderr


def test_an_unknown_outcome_names_the_id_under_which_to_run_it_again() -> None:
    with ScriptedNode(lambda _: Fate.HOLD_BEFORE) as node:
        failed = transfer(node)
        given = transfer(node, "--id", "invoice-7")

    made = re.search(r"raftpay transfer show (\S+);", failed.stderr)
    assert made is not None
    assert f"run it again with --id {made[1]}" in failed.stderr
    assert "run it again with --id invoice-7" in given.stderr


def test_an_answer_lost_on_the_way_is_asked_for_again_by_itself() -> None:
    with ScriptedNode(lambda number: Fate.DROP_AFTER if number == 1 else Fate.ANSWER) as node:
        words = ["--address", node.address, "account", "create", "alice", "EUR", "--json"]
        done = CliRunner().invoke(root, words)

    assert done.exit_code == ExitCode.OK
    assert json.loads(done.stdout)["result"] == "exists"


def test_ctrl_c_while_waiting_says_that_it_may_have_happened_and_how_to_find_out() -> None:
    with ScriptedNode(lambda _: Fate.HOLD_BEFORE) as node:
        options = ["--address", node.address, "transfer", "bank", "alice", "12.34", "EUR", "--id", "invoice-7"]
        command = [sys.executable, "-m", "raftpay_cli", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
            node.wait(lambda: node.held_events == 1, "the transfer has arrived")

            waiting.send_signal(signal.SIGINT)
            stdout, stderr = waiting.communicate(timeout=END_S)

    assert waiting.returncode == ExitCode.INTERRUPTED
    assert stdout == ""
    assert "It may have happened." in stderr
    assert "raftpay transfer show invoice-7" in stderr
    assert "Traceback" not in stderr
