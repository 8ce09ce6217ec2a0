"""Accounts, transfers, statements, status and check from the command line, against a real cluster."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from raftpay.client import Client, new_id
from raftpay.ledger import BalanceRecord
from raftpay.ops.local import LocalCluster
from raftpay_cli.exits import ExitCode
from raftpay_cli.root import root


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    running = LocalCluster(tmp_path_factory.mktemp("cli") / "data")
    try:
        running.start()
        running.wait_ready()
        yield running
    finally:
        running.kill_all()


@pytest.fixture(autouse=True)
def this_cluster(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAFTPAY_CONFIG", str(cluster.config_path))


def raftpay(*words: str) -> Result:
    return CliRunner().invoke(root, words)


def answer(*words: str) -> Any:
    """The JSON of a command that is expected to end with 0."""
    done = raftpay("--json", *words)
    assert done.exit_code == ExitCode.OK, done.stderr
    return json.loads(done.stdout)


def refusal(*words: str) -> tuple[str, str]:
    """The result's name and the message of a command that is expected to end with 1."""
    done = raftpay("--json", *words)
    assert done.exit_code == ExitCode.REFUSED, done.stdout
    return json.loads(done.stdout)["result"], done.stderr


def open_account(currency: str = "EUR", *options: str) -> str:
    account_id = f"account:{new_id()}"
    assert answer("account", "create", account_id, currency, *options)["result"] == "created"
    return account_id


def balances(account_id: str) -> tuple[int, int, int, int]:
    shown = answer("account", "show", account_id)
    return (shown["debits_pending"], shown["debits_posted"], shown["credits_pending"], shown["credits_posted"])


# ---- accounts


def test_an_account_is_opened_once_and_shown_with_all_it_was_given() -> None:
    words = [
        "account",
        "create",
        "users:alice",
        "EUR",
        "--code",
        "7",
        "--reference",
        "Alice",
        "--overdraft-limit",
        "5.00",
    ]

    first = answer(*words)
    again = answer(*words)
    shown = answer("account", "show", "users:alice")

    assert (first["result"], first["is_ok"], first["class"]) == ("created", True, "ok")
    assert again["result"] == "exists"
    assert first["timestamp"] == shown["created_at"]
    assert (shown["currency"], shown["code"], shown["reference"], shown["status"]) == ("EUR", 7, "Alice", "open")
    assert (shown["overdraft_limit"], shown["flags"]) == (500, ["debits_must_not_exceed_credits"])


@pytest.mark.parametrize(
    ("words", "result", "reason"),
    [
        (["bad id", "EUR"], "id_invalid", "AC01"),
        (["good", "euro"], "currency_invalid", "AC09"),
        (["good", "EUR", "--reference", "x" * 141], "reference_invalid", ""),
        (["good", "EUR", "--no-overdraft", "--no-surplus"], "flags_are_mutually_exclusive", ""),
    ],
    ids=["id", "currency", "reference", "flags"],
)
def test_what_the_ledger_refuses_is_said_with_its_sentence(words: list[str], result: str, reason: str) -> None:
    name, message = refusal("account", "create", *words)
    plain = raftpay("account", "create", *words)

    assert name == result
    assert f"{words[0]}: {result}" in message
    assert reason in message
    assert plain.exit_code == ExitCode.REFUSED
    assert plain.stdout == ""
    assert plain.stderr == message


def test_what_does_not_exist_ends_with_1_and_json_null() -> None:
    for noun in ("account", "transfer"):
        missing = raftpay(noun, "show", "nobody", "--json")

        assert missing.exit_code == ExitCode.REFUSED
        assert missing.stdout == "null\n"
        assert f"there is no {noun} 'nobody'" in missing.stderr
    assert raftpay("history", "nobody").exit_code == ExitCode.REFUSED
    assert raftpay("account", "limit", "nobody", "1.00").exit_code == ExitCode.REFUSED


def test_accounts_are_listed_by_prefix_currency_and_status() -> None:
    for name, currency in (("list:a", "EUR"), ("list:b", "USD"), ("list:c", "EUR")):
        answer("account", "create", name, currency)
    answer("account", "freeze", "list:c")

    def listed(*words: str) -> list[str]:
        return [account["id"] for account in answer("account", "list", "--prefix", "list:", *words)["accounts"]]

    assert listed() == ["list:a", "list:b", "list:c"]
    assert listed("--currency", "USD") == ["list:b"]
    assert listed("--status", "frozen") == ["list:c"]
    assert listed("--limit", "2") == ["list:a", "list:b"]
    assert answer("account", "list", "--prefix", "list:", "--limit", "2")["has_more"] is True
    table = raftpay("account", "list", "--prefix", "list:", "--limit", "2")
    assert "list:a" in table.stdout
    assert "There are more than 2" in table.stderr


def test_the_operator_freezes_unfreezes_and_sets_limits() -> None:
    bank, alice = open_account(), open_account("EUR", "--no-overdraft")

    assert answer("account", "freeze", alice)["action"] == "freeze"
    assert refusal("transfer", bank, alice, "1.00")[0] == "credit_account_frozen"
    assert answer("account", "unfreeze", alice)["is_ok"]
    assert refusal("transfer", alice, bank, "5.00")[0] == "exceeds_credits"
    assert raftpay("account", "limit", alice, "5.00").stdout == f"{alice} is allowed to go 5.00 EUR below zero\n"
    assert answer("transfer", alice, bank, "5.00")["result"] == "created"
    assert refusal("account", "limit", alice, "0")[0] == "overdraft_limit_below_use"
    assert refusal("account", "limit", bank, "1.00")[0] == "overdraft_limit_invalid"
    assert refusal("account", "freeze", "nobody")[0] == "account_not_found"


# ---- transfers


def test_a_transfer_moves_money_once_whatever_is_repeated() -> None:
    bank, alice = open_account(), open_account()
    words = ["transfer", bank, alice, "12.34", "EUR", "--id", new_id(), "--code", "3", "--reference", "rent"]

    first = answer(*words)
    again = answer(*words)
    changed = refusal(*(word.replace("12.34", "12.35") for word in words))

    assert first["result"] == "created"
    assert again["result"] == "exists"
    assert changed[0] == "exists_with_different_amount"
    assert first["transfer"] == again["transfer"] == answer("transfer", "show", first["id"])
    assert first["transfer"]["amount"] == 1234
    assert (first["transfer"]["code"], first["transfer"]["reference"]) == (3, "rent")
    assert (balances(bank), balances(alice)) == ((0, 1234, 0, 0), (0, 0, 0, 1234))


@pytest.mark.parametrize(
    ("currency", "amount", "options", "minor_units"),
    [("EUR", "0.05", (), 5), ("EUR", "5", ("--minor",), 5), ("JPY", "1200", (), 1200), ("KWD", "1.5", (), 1500)],
)
def test_amounts_are_read_by_the_accounts_currency(
    currency: str, amount: str, options: tuple[str, ...], minor_units: int
) -> None:
    bank, alice = open_account(currency), open_account(currency)

    made = answer("transfer", bank, alice, amount, *options)

    assert made["transfer"]["amount"] == minor_units
    assert made["transfer"]["currency"] == currency


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1234"], "could mean 1234.00 EUR or 12.34 EUR"),
        (["12.345"], "EUR has at most 2"),
        (["-1.00"], "No such option"),
        (["--", "-1.00"], "not negative"),
        (["1,000.00"], "separators"),
        (["12.34", "--minor"], "digits only"),
        (["12.34", "EUR", "--currency", "USD"], "EUR or --currency USD"),
        ([], "expected DEBIT CREDIT AMOUNT"),
        (["1.00", "EUR", "more"], "expected DEBIT CREDIT AMOUNT"),
        (["1.00", "--timeout", "-1"], "--timeout"),
        (["1.00", "--post", "a"], "the target gives the accounts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_amount_or_word_with_two_meanings_sends_nothing(words: list[str], said: str) -> None:
    bank, alice = open_account(), open_account()

    refused = raftpay("transfer", bank, alice, *words)

    assert refused.exit_code == ExitCode.USAGE
    assert said in refused.stderr
    assert balances(alice) == (0, 0, 0, 0)


def test_targets_exclude_each_other_and_void_takes_all() -> None:
    assert "exclude each other" in raftpay("transfer", "--post", "a", "--void", "b").stderr
    assert "takes all of the target" in raftpay("transfer", "--void", "b", "1.00").stderr


def test_a_currency_that_the_accounts_do_not_have_is_refused_by_the_ledger() -> None:
    bank, alice = open_account(), open_account()

    name, _ = refusal("transfer", bank, alice, "1.00", "USD")

    assert name == "transfer_must_have_the_same_currency_as_accounts"


def test_accounts_that_do_not_exist_are_refused_with_or_without_a_currency() -> None:
    unknown = raftpay("transfer", "nobody", "noone", "1.00")

    assert refusal("transfer", "nobody", "noone", "1.00", "EUR")[0] == "debit_account_not_found"
    assert unknown.exit_code == ExitCode.REFUSED
    assert "there is no account 'nobody' or 'noone'" in unknown.stderr


def test_a_pending_transfer_is_posted_in_part_and_then_no_more() -> None:
    bank, alice = open_account(), open_account()
    pending = answer("transfer", bank, alice, "10.00", "--pending", "--timeout", "3600")

    reserved = balances(bank)
    posted = answer("transfer", "--post", pending["id"], "4.00")
    again = refusal("transfer", "--post", pending["id"])

    assert pending["transfer"]["pending_status"] == "pending"
    assert pending["transfer"]["timeout_s"] == 3600
    assert reserved == (1000, 0, 0, 0)
    assert posted["transfer"]["amount"] == 400
    assert again[0] == "pending_transfer_already_posted"
    assert balances(bank) == (0, 400, 0, 0)
    assert answer("transfer", "show", pending["id"])["pending_status"] == "posted"


def test_a_pending_transfer_is_voided() -> None:
    bank, alice = open_account(), open_account()
    pending = answer("transfer", bank, alice, "10.00", "--pending")

    assert answer("transfer", "--void", pending["id"])["result"] == "created"
    assert balances(bank) == (0, 0, 0, 0)


def test_a_posted_transfer_is_reversed_in_parts_up_to_its_amount() -> None:
    bank, alice = open_account(), open_account()
    paid = answer("transfer", bank, alice, "10.00")

    part = answer("transfer", "--reverse", paid["id"], "4.00")
    rest = refusal("transfer", "--reverse", paid["id"])

    assert (part["transfer"]["debit_account"], part["transfer"]["amount"]) == (alice, 400)
    assert rest[0] == "exceeds_reversible_amount"
    assert balances(alice) == (0, 400, 0, 1000)


def test_a_balancing_transfer_tells_what_it_moved() -> None:
    bank, alice = open_account(), open_account("EUR", "--no-overdraft")
    answer("transfer", bank, alice, "7.00")

    swept = answer("transfer", alice, bank, "100.00", "--balancing-debit")

    assert swept["transfer"]["amount"] == 700


def test_a_closing_transfer_closes_the_account() -> None:
    bank, alice = open_account(), open_account()

    answer("transfer", alice, bank, "0.00", "--pending", "--closing-debit")

    assert answer("account", "show", alice)["status"] == "closed"
    assert refusal("transfer", bank, alice, "1.00")[0] == "credit_account_already_closed"


def test_accounts_called_like_commands_are_reached_by_the_long_form() -> None:
    answer("account", "create", "show", "EUR")
    answer("account", "create", "create", "EUR")

    made = answer("transfer", "create", "show", "create", "1.00")

    assert (made["transfer"]["debit_account"], made["transfer"]["credit_account"]) == ("show", "create")


# ---- statements


def test_history_shows_each_change_with_the_balance_after_it() -> None:
    bank, alice = open_account(), open_account()
    paid = answer("transfer", bank, alice, "10.00", "--reference", "salary")
    held = answer("transfer", alice, bank, "3.00", "--pending", "--code", "9")
    posted = answer("transfer", "--post", held["id"])

    lines = answer("history", alice)["lines"]
    oldest = answer("history", alice, "--oldest-first", "--limit", "1")
    table = raftpay("history", alice).stdout

    assert [line["transfer"]["id"] for line in lines] == [posted["id"], held["id"], paid["id"]]
    assert [line["balances"]["debits_posted"] for line in lines] == [300, 0, 0]
    assert [line["transfer"]["id"] for line in oldest["lines"]] == [paid["id"]]
    assert oldest["has_more"] is True
    assert [line["transfer"]["id"] for line in answer("history", alice, "--direction", "credit")["lines"]] == [
        paid["id"]
    ]
    assert answer("history", alice, "--to", "2020-01-01")["lines"] == []
    assert len(answer("history", alice, "--from", "2020-01-01T00:00:00+01:00")["lines"]) == 3
    assert "salary" in table
    assert "pending, posted" in table
    assert "7.00" in table


def test_a_statement_leads_from_the_opening_to_the_closing_balance() -> None:
    bank, alice = open_account(), open_account()
    paid = answer("transfer", bank, alice, "10.00", "--reference", "salary\n\x1b[2J")
    held = answer("transfer", alice, bank, "3.00", "--pending", "--code", "9")
    posted = answer("transfer", "--post", held["id"])
    answer("transfer", alice, bank, "2.00", "--pending")

    whole = answer("statement", alice)
    past = answer("statement", alice, "--to", "2020-01-31")
    later = answer("statement", alice, "--from", "2100-01-01", "--to", "2100-01-31")
    text = raftpay("statement", alice).stdout

    assert [(line["transfer"]["id"], line["direction"], line["balance"]) for line in whole["lines"]] == [
        (paid["id"], "credit", 1000),
        (posted["id"], "debit", 700),
    ]
    assert (whole["opening"]["balance"], whole["closing"]["balance"], whole["is_good"]) == (0, 700, True)
    assert (whole["debits"], whole["credits"], whole["line_count"]) == (300, 1000, 2)
    assert (past["lines"], past["to"], past["closing"]["balance"]) == ([], 1580515200 * 10**9, 0)
    assert (later["lines"], later["opening"]["balance"], later["closing"]["balance"]) == ([], 700, 700)
    assert "opening balance" in text
    assert "totals, closing balance" in text
    assert r"salary\n\x1b[2J" in text
    assert "2 lines. Pending at the end: 2.00 out, 0.00 in." in text


def test_a_statement_that_does_not_add_up_says_so_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, alice = open_account(), open_account()
    answer("transfer", bank, alice, "10.00")
    told = Client.balance_at

    def damaged(client: Client, account_id: str, time: int) -> BalanceRecord | None:
        balances = told(client, account_id, time)
        return balances and structs.replace(balances, credits_posted=balances.credits_posted - 40)

    monkeypatch.setattr(Client, "balance_at", damaged)
    as_text, as_json = raftpay("statement", alice), raftpay("--json", "statement", alice)

    assert [done.exit_code for done in (as_text, as_json)] == [ExitCode.REFUSED] * 2
    for done in (as_text, as_json):
        assert f"the statement of {alice} does not add up" in done.stderr
        assert "by 0 minor units of debits and 40 of credits, expected 0" in done.stderr
    assert json.loads(as_json.stdout)["is_good"] is False


def test_a_statement_of_nobody_or_of_no_time_is_refused() -> None:
    alice = open_account()

    assert raftpay("statement", "nobody").exit_code == ExitCode.REFUSED
    for words, said in (
        (["--from", "2026-02-01", "--to", "2026-01-31"], "has no instant in it"),
        (["--from", "2026-02-01", "--to", "2026-02-01T00:00:00"], "has no instant in it"),
        (["--to", "yesterday"], "'--to': 'yesterday' is no time such as 2026-01-31"),
    ):
        refused = raftpay("statement", alice, *words)
        assert refused.exit_code == ExitCode.USAGE
        assert said in refused.stderr


# ---- the cluster


def test_status_shows_all_nodes_and_who_leads(cluster: LocalCluster) -> None:
    value = answer("status")
    table = raftpay("status")

    assert value["leader"] in cluster.names
    assert [node["name"] for node in value["nodes"]] == cluster.names
    assert all(node["is_up"] for node in value["nodes"])
    assert "3 of 3 nodes up" in table.stdout
    assert all(address in table.stdout for address in cluster.addresses)


def test_one_address_is_enough_to_pay(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAFTPAY_CONFIG")
    leader = cluster.wait_leader()
    follower = next(name for name in cluster.names if name != leader)

    made = answer("--address", cluster.address(follower), "account", "create", new_id(), "EUR")

    assert made["result"] == "created"


def test_check_finds_the_books_balanced_and_equal(cluster: LocalCluster) -> None:
    bank, alice = open_account("CHF"), open_account("CHF")
    answer("transfer", bank, alice, "12.34")

    value = answer("check")
    table = raftpay("check")

    assert (value["is_good"], value["unreachable"]) == (True, [])
    assert len({node["digest"] for node in value["nodes"]}) == 1
    francs = [total for node in value["nodes"] for total in node["totals"] if total["currency"] == "CHF"]
    assert [(total["debits_posted"], total["credits_posted"]) for total in francs] == [(1234, 1234)] * 3
    assert "Books balanced; 3 nodes compared, digests equal." in table.stdout


def test_check_and_status_go_on_without_a_node_and_name_it(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()
    down = next(name for name in cluster.names if name != leader)
    cluster.kill(down)

    checked = answer("check")
    status = answer("status")
    table = raftpay("check").stdout
    cluster.start_node(down)
    cluster.wait_ready()

    assert checked["is_good"]
    assert checked["unreachable"] == [down]
    assert f"Not checked, for they do not answer: {down}." in table
    assert [node["name"] for node in status["nodes"] if not node["is_up"]] == [down]
    assert answer("check")["unreachable"] == []


def test_without_a_majority_writes_are_not_committed_and_status_says_so(cluster: LocalCluster) -> None:
    followers = [name for name in cluster.names if name != cluster.wait_leader()]
    for name in followers:
        cluster.pause(name)

    status = raftpay("status")
    created = raftpay("account", "create", new_id(), "EUR", "--deadline", "1")
    for name in followers:
        cluster.resume(name)
    cluster.wait_ready()

    assert "1 of 3 nodes up" in status.stdout
    assert created.exit_code in (ExitCode.NOT_COMMITTED, ExitCode.OUTCOME_UNKNOWN)
    assert "Traceback" not in created.stderr


def test_when_no_node_answers_nothing_has_happened() -> None:
    words = ["--address", "127.0.0.1:1", "--deadline", "0.5"]

    for command in (["account", "create", "x", "EUR"], ["account", "show", "x"], ["check"]):
        failed = raftpay(*words, *command)

        assert failed.exit_code == ExitCode.NOT_COMMITTED
        assert "127.0.0.1:1" in failed.stderr
        assert failed.stdout == ""
