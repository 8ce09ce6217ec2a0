"""SQL over sealed history: what the views say, that nothing but reading is possible, and what is told of mistakes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from raftpay.archive.archive import Archive
from raftpay.archive.shelf import Shelf
from raftpay.archive.sql import ask
from raftpay.errors import QueryError
from raftpay.ledger.transfers import EXPIRY, PENDING, POST, REVERSAL, VOID
from raftpay.storage.directory import DataDirectory
from raftpay.storage.disk import RealDisk
from raftpay_cli.root import root
from tests.archive.histories import STORE, HistoryMaker, run
from tests.ledger.sealed_in_memory import SealedInMemory

CLUSTER = "pay-1"
KINDS = {0: "transfer", PENDING: "pending", POST: "post", VOID: "void", REVERSAL: "reversal", EXPIRY: "expiry"}


class Sealed:
    """A data directory with three segments, and the same rows in a list."""

    def __init__(self, path: Path) -> None:
        self.path, self.plain, self.maker = path, SealedInMemory(), HistoryMaker(Random(1))
        directory = DataDirectory.open(path, cluster_id=CLUSTER, node_name="n1")
        archive = Archive.open(directory.disk, CLUSTER, STORE)
        for rows in (40, 0, 50):
            segment = self.maker.segment(rows, failed=2, accounts=2)
            run(archive.seal(segment))
            self.plain.seal(segment)
        archive.close()
        directory.close()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        cuts = Shelf(RealDisk(self.path), STORE).cuts(CLUSTER)
        return list(ask(self.path, cuts, query).rows)

    def contents(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.path.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return Sealed(tmp_path_factory.mktemp("sql") / "n1")


def test_transfers_are_the_rows_with_the_ids_of_their_accounts(sealed: Sealed) -> None:
    ids, currencies = sealed.maker.books.account_ids, sealed.maker.books.currencies

    found = sealed.ask(
        "SELECT row, id, kind, debit_account, credit_account, amount, currency, code, reference, target_row, timestamp "
        "FROM transfers ORDER BY row"
    )

    assert found == [
        (
            known.row,
            known.id,
            KINDS[known.flags],
            ids[known.debit],
            ids[known.credit],
            known.amount,
            currencies[known.debit],
            known.code,
            known.reference,
            known.link if known.target_id or known.flags & EXPIRY else None,
            known.timestamp,
        )
        for known in sealed.plain.movements
    ]


def test_each_transfer_is_posted_to_both_accounts_with_the_balances_after_it(sealed: Sealed) -> None:
    ids = sealed.maker.books.account_ids

    found = sealed.ask(
        "SELECT account, row, direction, debits_pending, debits_posted, credits_pending, credits_posted "
        "FROM postings ORDER BY account, row"
    )

    expected = [
        (ids[number], row.movement.row, "debit" if row.movement.debit == number else "credit", *row.balances)
        for number, rows in sealed.plain.histories.items()
        for row in rows
    ]
    assert found == sorted(expected)


def test_accounts_have_their_balances_at_the_end_of_what_is_sealed(sealed: Sealed) -> None:
    books = sealed.maker.books

    found = sealed.ask(
        "SELECT id, currency, debits_pending, debits_posted, credits_pending, credits_posted FROM accounts "
        "ORDER BY number"
    )

    assert found == list(zip(books.account_ids, books.currencies, *books.balances, strict=True))


def test_failed_ids_and_segments_can_be_asked_for(sealed: Sealed) -> None:
    assert [id_ for _, id_ in sealed.ask("SELECT * FROM failed ORDER BY number")] == sealed.plain.failed
    assert sealed.ask("SELECT number, first_row, rows, failed FROM segments") == [
        (0, 0, 40, 2),
        (1, 40, 0, 2),
        (2, 40, 50, 2),
    ]


def test_ordinary_questions_pass(sealed: Sealed) -> None:
    for query in (
        "DESCRIBE transfers",
        "SHOW TABLES",
        "SUMMARIZE accounts",
        "FROM transfers LIMIT 1",
        "VALUES (1)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
        "SELECT * FROM range(3), unnest([1, 2])",
        "SELECT kind, count(*) FROM transfers GROUP BY ALL HAVING count(*) > 1 ORDER BY 2 DESC",
        "SELECT row, sum(amount) OVER (ORDER BY row) FROM transfers UNION SELECT 1, 2",
        "FROM transfers PIVOT (sum(amount) FOR kind IN ('post', 'void'))",
    ):
        assert sealed.ask(query)


def writing(victim: Path, elsewhere: Path) -> Iterator[str]:
    copy = f"COPY (SELECT 1 AS x) TO '{victim}' (FORMAT parquet, USE_TMP_FILE false)"
    yield copy
    yield f"EXPLAIN ANALYZE {copy}"
    yield f"WITH c AS ({copy}) SELECT * FROM c"
    yield f"SELECT * FROM (WITH c AS ({copy}) SELECT * FROM c)"
    yield f"SELECT (WITH c AS ({copy}) SELECT count(*) FROM c)"
    yield f"SELECT * FROM query('WITH c AS ({copy.replace(chr(39), chr(39) * 2)}) SELECT * FROM c')"
    inner = f"WITH c AS ({copy}) SELECT * FROM c".replace("'", "''")
    yield f"SELECT * FROM json_execute_serialized_sql(json_serialize_sql('{inner}'))"
    yield f"COPY transfers TO '{elsewhere}'"
    yield f"EXPORT DATABASE '{elsewhere}'"
    yield f"ATTACH '{elsewhere}'"
    yield "CREATE TABLE t AS SELECT 1"
    yield "WITH c AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM c"
    yield "DROP VIEW transfers"
    yield "SELECT 1; DROP VIEW transfers"
    yield "SET enable_external_access = true"
    yield "PRAGMA database_list"
    yield "INSTALL httpfs"
    yield "LOAD httpfs"
    yield "CHECKPOINT"
    yield ""


def reading_elsewhere(elsewhere: Path) -> Iterator[str]:
    for source in (elsewhere, "/etc/hostname", "http://127.0.0.1:9/x.parquet"):
        for function in ("read_text", "read_blob", "read_csv", "read_parquet", "parquet_metadata", "glob", "sniff_csv"):
            yield f"SELECT * FROM {function}('{source}')"
        yield f"SELECT * FROM '{source}'"
    yield "SELECT getenv('HOME')"


def test_nothing_can_be_written(sealed: Sealed, tmp_path: Path) -> None:
    victim = next((sealed.path / "archive").glob("*transfers.parquet"))
    before = sealed.contents()

    for query in writing(victim, tmp_path / "elsewhere"):
        with pytest.raises(QueryError):
            sealed.ask(query)

    assert sealed.contents() == before
    assert list(tmp_path.iterdir()) == []


def test_no_other_file_can_be_read(sealed: Sealed, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")

    for query in reading_elsewhere(secret):
        with pytest.raises(QueryError):
            sealed.ask(query)


def test_a_mistake_is_explained(sealed: Sealed) -> None:
    with pytest.raises(QueryError, match=r"(?s)Table with name transfer does not exist.*There are transfers, postings"):
        sealed.ask("SELECT * FROM transfer")
    with pytest.raises(QueryError, match="syntax error"):
        sealed.ask("SELECT FROM WHERE")
    with pytest.raises(QueryError, match="one SELECT is expected, found DROP: history is only read"):
        sealed.ask("DROP VIEW transfers")


def test_an_empty_history_has_empty_views(tmp_path: Path) -> None:
    for view in ("transfers", "postings", "accounts", "failed", "segments"):
        assert list(ask(tmp_path, [], f"SELECT * FROM {view}").rows) == []


def test_columns_of_one_name_are_told_apart(sealed: Sealed) -> None:
    cuts = Shelf(RealDisk(sealed.path), STORE).cuts(CLUSTER)

    assert ask(sealed.path, cuts, "SELECT 1 AS a, 2 AS b, 3 AS a").columns == ["a", "b", "a_2"]


def raftpay(*words: str) -> Any:
    return CliRunner().invoke(root, words)


def test_the_command_prints_a_table_or_json_and_says_how_far_it_reaches(sealed: Sealed) -> None:
    query = "SELECT count(*) AS rows, sum(amount) AS total, max(time) AS last FROM transfers"

    shown = raftpay("sql", query, "--data", str(sealed.path))
    as_json = raftpay("sql", query, "--data", str(sealed.path), "--json")

    total = sum(movement.amount for movement in sealed.plain.movements)
    assert shown.exit_code == 0
    assert str(total) in shown.stdout
    assert "3 segments, the first 90 rows" in shown.stderr
    (line,) = json.loads(as_json.stdout)
    assert (line["rows"], line["total"]) == (90, total)


def test_the_command_ends_with_2_for_a_bad_question_and_names_what_is_no_data_directory(
    sealed: Sealed, tmp_path: Path
) -> None:
    bad = raftpay("sql", "DELETE FROM transfers", "--data", str(sealed.path))
    nothing = raftpay("sql", "SELECT 1", "--data", str(tmp_path))

    assert (bad.exit_code, bad.stdout) == (2, "")
    assert "one SELECT is expected, found DELETE" in bad.stderr
    assert nothing.exit_code == 3
    assert "it is no data directory of a node" in nothing.stderr


def test_a_question_that_takes_too_long_can_be_interrupted(sealed: Sealed) -> None:
    query = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE hash(a.range, b.range) = 3"
    script = (
        "import os, signal, sys, threading; from pathlib import Path; from raftpay.archive.sql import ask\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "ask(Path(sys.argv[1]), [], sys.argv[2])"
    )

    # To its end it would take years.
    ended = subprocess.run(
        [sys.executable, "-c", script, str(sealed.path), query], capture_output=True, timeout=60, check=False
    )

    assert ended.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in ended.stderr


def test_history_that_is_not_whole_is_no_answer(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path / "n1")
    query = ("sql", "SELECT count(*) FROM transfers", "--data", str(sealed.path))
    (first,) = sealed.path.glob("archive/00000000-*-transfers.parquet")
    (last,) = sealed.path.glob("archive/00000002-*-transfers.parquet")

    data = last.read_bytes()
    last.write_bytes(data[: len(data) // 2])
    cut_short = raftpay(*query)
    last.write_bytes(data)
    first.unlink()
    lacking = raftpay(*query)

    assert [(done.exit_code, done.stdout) for done in (cut_short, lacking)] == [(3, "")] * 2
    assert last.name in cut_short.stderr
    assert "segment 0 is not whole" in lacking.stderr
    assert "though segment 2 is there" in lacking.stderr
    for done in (cut_short, lacking):
        assert "`raftpay check --deep` tells what is damaged" in done.stderr


def test_amounts_beyond_64_bits_are_summed_exactly(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "n1", cluster_id=CLUSTER, node_name="n1")
    archive = Archive.open(directory.disk, CLUSTER, STORE)
    maker = HistoryMaker(Random(3), amount_max=2**52)
    run(archive.seal(maker.segment(300)))
    directory.close()
    expected = sum(maker.books.amounts)

    result = raftpay(
        "sql", "SELECT sum(amount * 4096::HUGEINT) AS s FROM transfers", "--data", str(tmp_path / "n1"), "--json"
    )

    assert json.loads(result.stdout) == [{"s": expected * 4096}]
