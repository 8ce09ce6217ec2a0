"""The report of rejected lines: whole after a whole run, readable after a broken one, no reason lost between them."""

from pathlib import Path

import pytest

from raftpay.errors import ConfigError
from raftpay.ops.pay.lines import Rejection
from raftpay.ops.pay.report import COLUMNS, Report

POOR = Rejection(7, "p7", "exceeds_credits", "AM04", "Not enough funds,\nsays the ledger")
FAILED_BEFORE = Rejection(7, "p7", "id_already_failed", None, "Use a new id")
WRONG = Rejection(9, "", "line_malformed", "FF01", 'it has a "quote"')
WRONG_ROW = '9,,line_malformed,FF01,"it has a ""quote"""'


def rows(path: Path) -> str:
    return path.read_text()


def test_lines_are_in_the_partial_file_until_the_run_is_through(tmp_path: Path) -> None:
    report = Report(tmp_path / "r.csv")

    report.add([POOR])
    meanwhile = rows(tmp_path / "r.csv.partial")
    report.add([WRONG])
    finished = report.finish()

    assert meanwhile.startswith(",".join(COLUMNS))
    assert "p7,exceeds_credits,AM04" in meanwhile
    assert finished == tmp_path / "r.csv"
    assert rows(finished).count("\n") == 4
    assert '"it has a ""quote"""' in rows(finished)
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


def test_a_reason_found_by_a_broken_run_is_in_the_report_of_the_next(tmp_path: Path) -> None:
    broken = Report(tmp_path / "r.csv")
    broken.add([POOR, WRONG])
    broken.close()

    following = Report(tmp_path / "r.csv")
    following.add([following.explain(FAILED_BEFORE._replace(line=8))])
    following.finish()

    text = rows(tmp_path / "r.csv")
    assert text.count("exceeds_credits") == 1
    assert "8,p7,exceeds_credits,AM04" in text
    assert "line_malformed" not in text


def test_a_reason_survives_two_broken_runs(tmp_path: Path) -> None:
    for _ in range(2):
        broken = Report(tmp_path / "r.csv")
        broken.add([broken.explain(POOR)])
        broken.close()

    assert Report(tmp_path / "r.csv").explain(FAILED_BEFORE) == POOR


def test_a_line_that_was_cut_off_when_a_run_was_killed_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "r.csv.partial").write_text(",".join(COLUMNS) + '\r\n7,p7,exceeds_credits,AM04,Why\r\n8,p8,"exce')

    report = Report(tmp_path / "r.csv")

    assert report.explain(FAILED_BEFORE).result == "exceeds_credits"
    assert report.explain(FAILED_BEFORE._replace(id="p8")).result == "id_already_failed"
    report.add([WRONG])
    report.close()
    assert rows(tmp_path / "r.csv.partial").splitlines()[1:] == ["7,p7,exceeds_credits,AM04,Why", WRONG_ROW]


@pytest.mark.parametrize("name", ["r.csv", "r.csv.partial"])
def test_an_empty_file_in_its_place_is_no_hindrance(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")

    report = Report(tmp_path / "r.csv")
    report.add([WRONG])

    assert report.finish() == tmp_path / "r.csv"
    assert rows(tmp_path / "r.csv").splitlines() == [",".join(COLUMNS), WRONG_ROW]


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    assert Report(tmp_path / "r.csv").explain(FAILED_BEFORE) == FAILED_BEFORE


@pytest.mark.parametrize("name", ["r.csv", "r.csv.partial"])
@pytest.mark.parametrize("content", ["notes\n", "line,id\n1,2\n"])
def test_a_foreign_file_is_left_as_it_is(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(ConfigError) as error:
        Report(tmp_path / "r.csv")

    assert f"{name} is no report of rejected lines" in str(error.value)
    assert rows(tmp_path / name) == content
