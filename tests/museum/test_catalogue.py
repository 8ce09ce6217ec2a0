"""The list of exhibits in docs/engine.md is complete, and every name in it exists."""

import re
from pathlib import Path

from tests.museum.exhibits import ROOT, STOCK, exhibits

CATALOGUE = (ROOT / "docs" / "engine.md").read_text().partition("## The museum")[2]
ROWS = {row[1]: row[0] for row in re.finditer(r"^\| ([SD]\d+|open) \| .*$", CATALOGUE, re.MULTILINE)}
# There is no D2: the number was given back before the list was closed.
DEFECTS = {*(f"S{number}" for number in range(1, 24)), "D1", *(f"D{number}" for number in range(3, 17)), "open"}


def halls() -> list[str]:
    return sorted(path.stem for path in STOCK.glob("[a-z]*.py") if path.stem != "lab")


def names_of_tests(folder: Path) -> set[str]:
    return {
        name for path in folder.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }


def test_every_defect_has_a_row_with_an_exhibit_and_a_test_of_ours() -> None:
    assert ROWS.keys() == DEFECTS
    for defect, row in ROWS.items():
        stock, ours = row.split("|")[2:4]
        assert re.search(rf"`{defect.lower()}_\w+`", stock), row
        assert re.search(r"`test_\w+`", ours), row


def test_every_exhibit_is_in_the_list_and_has_a_hall_that_shows_it() -> None:
    shown = {f"{hall}: `{exhibit}`" for hall in halls() for exhibit in exhibits(hall)}

    assert set(re.findall(r"\w+: `(?:[sd]\d+|open)_\w+`", CATALOGUE)) == shown
    for hall in halls():
        assert f'show("{hall}", exhibit, tmp_path)' in (STOCK.parent / f"test_{hall}.py").read_text()


def test_every_test_in_the_list_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", CATALOGUE))

    assert named - names_of_tests(ROOT / "tests") == set()
