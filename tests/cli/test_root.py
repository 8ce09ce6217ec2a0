"""The root of the command line: global options, exit codes, one message for each error, and quick help."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from raftpay import errors
from raftpay_cli.commands import COMMANDS
from raftpay_cli.exits import MEANINGS, ExitCode, exit_code_of
from raftpay_cli.root import root

ROOT = Path(__file__).resolve().parents[2]
DOCS = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))

GOOD_TOML = """
[cluster]
id = "test"
[nodes.n1]
peer = "127.0.0.1:7101"
client = "127.0.0.1:7201"
data = "n1"
[nodes.n2]
peer = "127.0.0.1:7102"
client = "127.0.0.1:7202"
data = "n2"
[nodes.n3]
peer = "127.0.0.1:7103"
client = "127.0.0.1:7203"
data = "n3"
"""


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFTPAY_CONFIG", raising=False)
    return tmp_path


def raftpay(*words: str) -> Result:
    return CliRunner().invoke(root, words)


def all_commands() -> list[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    found: list[tuple[str, ...]] = []
    with click.Context(root) as context:
        for name in COMMANDS:
            command = root.get_command(context, name)
            if isinstance(command, click.Group):
                found += [(name, inner) for inner in command.list_commands(context)]
            else:
                found.append((name,))
    return found


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), ExitCode.USAGE),
        (errors.Rejected("x"), ExitCode.REFUSED),
        (errors.NotCommitted("x"), ExitCode.NOT_COMMITTED),
        (errors.OutcomeUnknown("x"), ExitCode.OUTCOME_UNKNOWN),
        (errors.LocalClusterError("x"), ExitCode.NODE_FAILED),
        (errors.CorruptionError("x"), ExitCode.NODE_FAILED),
        (errors.EngineStoppedError("x"), ExitCode.NODE_FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_exit_code(error: errors.RaftpayError, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_exit_codes_are_told_by_help_and_by_the_docs() -> None:
    help_text = " ".join(raftpay("--help").stdout.split())

    for code in ExitCode:
        assert f"{int(code)} {MEANINGS[code]}" in help_text
        assert f"| {int(code)} | {MEANINGS[code]} |" in DOCS


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_explains_itself_and_takes_the_global_options(words: tuple[str, ...]) -> None:
    shown = raftpay(*words, "--help")

    assert shown.exit_code == ExitCode.OK
    assert all(option in shown.stdout for option in ("--config", "--address", "--deadline", "--json"))
    assert f"raftpay {' '.join(words)}" in DOCS


def test_help_loads_no_command_and_no_table_library() -> None:
    program = (
        "import sys, click.testing; from raftpay_cli.root import root;"
        "click.testing.CliRunner().invoke(root, ['--help']);"
        "print(sorted({'rich', 'msgspec', 'pysyncobj', 'raftpay.client', 'raftpay_cli.up'} & set(sys.modules)))"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_an_unknown_command_names_the_one_that_was_meant() -> None:
    refused = raftpay("stauts")

    assert refused.exit_code == ExitCode.USAGE
    assert "stauts" in refused.stderr
    assert "status" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "--colour"], "--colour"),
        (["--deadline", "0", "status"], "--deadline"),
        (["--deadline", "soon", "status"], "--deadline"),
        (["up", "--nodes", "4"], "--nodes"),
        (["up", "--base-port", "70000"], "--base-port"),
        (["node", "run"], "--name"),
        (["account", "create", "alice"], "CURRENCY"),
        (["account", "create", "alice", "EUR", "--code", "65536"], "--code"),
        (["history", "alice", "--from", "yesterday"], "yesterday"),
        (["--address", "localhost", "status"], "HOST:PORT"),
        (["--address", "127.0.0.1:0", "status"], "HOST:PORT"),
        (["--address", "127.0.0.1:99999", "status"], "HOST:PORT"),
        (["--json", "status", "--watch", "--address", "127.0.0.1:1"], "--watch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_named_and_nothing_is_done(words: list[str], said: str) -> None:
    refused = raftpay(*words)

    assert refused.exit_code == ExitCode.USAGE
    assert said in refused.stderr
    assert refused.stdout == ""
    assert list(Path.cwd().iterdir()) == []


def test_without_a_cluster_the_message_says_how_to_name_one() -> None:
    refused = raftpay("status")

    assert refused.exit_code == ExitCode.USAGE
    assert "--config" in refused.stderr
    assert "--address" in refused.stderr
    assert "raftpay up" in refused.stderr


def test_a_missing_file_is_named() -> None:
    refused = raftpay("--config", "nowhere.toml", "status")

    assert refused.exit_code == ExitCode.USAGE
    assert "nowhere.toml" in refused.stderr


def test_an_unknown_key_of_the_file_is_named_with_the_nearest_one(empty_directory: Path) -> None:
    (empty_directory / "cluster.toml").write_text(GOOD_TOML + "[raft]\nheartbeet_s = 0.1\n")

    refused = raftpay("status")

    assert refused.exit_code == ExitCode.USAGE
    assert "heartbeet_s" in refused.stderr
    assert "heartbeat_s" in refused.stderr


def test_a_node_that_the_file_does_not_have_is_named_with_those_it_has(empty_directory: Path) -> None:
    (empty_directory / "cluster.toml").write_text(GOOD_TOML)

    refused = raftpay("node", "run", "--name", "n9")

    assert refused.exit_code == ExitCode.USAGE
    assert "n9" in refused.stderr
    assert "n1, n2, n3" in refused.stderr


def test_the_environment_names_the_file_and_the_option_wins(
    empty_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_directory / "one.toml").write_text("one")
    (empty_directory / "two.toml").write_text("two")
    monkeypatch.setenv("RAFTPAY_CONFIG", "one.toml")

    by_environment = raftpay("status")
    by_option = raftpay("status", "--config", "two.toml")
    by_option_before = raftpay("--config", "two.toml", "status")

    assert "one.toml" in by_environment.stderr
    assert "two.toml" in by_option.stderr
    assert "two.toml" in by_option_before.stderr


@pytest.mark.parametrize("words", [["--json", "status"], ["status", "--json"]], ids=" ".join)
def test_global_options_stand_before_or_after_the_command(words: list[str], empty_directory: Path) -> None:
    (empty_directory / "cluster.toml").write_text(GOOD_TOML.replace(":72", ":1"))

    shown = raftpay(*words, "--deadline", "0.5")

    assert shown.exit_code == ExitCode.NODE_FAILED
    value = json.loads(shown.stdout)
    assert value["leader"] is None
    assert [(node["name"], node["is_up"]) for node in value["nodes"]] == [("n1", False), ("n2", False), ("n3", False)]


def test_what_is_piped_has_no_colours(empty_directory: Path) -> None:
    (empty_directory / "cluster.toml").write_text(GOOD_TOML.replace(":72", ":1"))

    piped = subprocess.run([sys.executable, "-m", "raftpay_cli", "status"], capture_output=True, text=True, check=False)

    assert piped.returncode == ExitCode.NODE_FAILED
    assert "no node leads" in piped.stdout
    assert "\x1b" not in piped.stdout + piped.stderr


def test_a_reader_that_goes_away_is_no_error(empty_directory: Path) -> None:
    (empty_directory / "cluster.toml").write_text(GOOD_TOML.replace(":72", ":1"))
    program = f"{sys.executable} -m raftpay_cli status | true; exit ${{PIPESTATUS[0]}}"

    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)

    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr
