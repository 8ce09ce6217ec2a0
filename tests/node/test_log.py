"""The log of a node: one line an event, whatever is in it."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from raftpay.node.log import LineFormatter, log_line, log_to


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger("raftpay")
    before = (root.level, root.propagate)
    handler = log_to(stream)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before[0])
    root.propagate = before[1]


def test_a_line_has_time_level_room_message_and_fields(logged: io.StringIO) -> None:
    log_line(logging.getLogger("raftpay.node"), logging.INFO, "started", node="n1", term=3, data="/a b")

    line = logged.getvalue()

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO node started node=n1 term=3 data=\"/a b\"\n", line
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", '""'), ("a\nb", '"a\\nb"'), ('say "no"', '"say \\"no\\""'), ("k=v", '"k=v"'), ("n1", "n1"), (1.5, "1.5")],
)
def test_a_value_is_quoted_where_it_would_be_misread(logged: io.StringIO, value: object, shown: str) -> None:
    log_line(logging.getLogger("raftpay.node"), logging.WARNING, "x", value=value)

    assert logged.getvalue().endswith(f" x value={shown}\n")


def test_lines_of_other_rooms_come_in_the_same_form(logged: io.StringIO) -> None:
    logging.getLogger("raftpay.raft").info("role=%s", "leader")

    assert logged.getvalue().endswith("Z INFO raft role=leader\n")


def test_a_traceback_stays_on_its_line(logged: io.StringIO) -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        logging.getLogger("raftpay.node").critical("broken", exc_info=True)

    assert logged.getvalue().count("\n") == 1
    assert "RuntimeError: two" in logged.getvalue()


def test_a_level_that_is_off_costs_no_line(logged: io.StringIO) -> None:
    log_line(logging.getLogger("raftpay.node"), logging.DEBUG, "detail", secret="x")

    assert logged.getvalue() == ""


def test_a_plain_record_is_formatted_too() -> None:
    record = logging.LogRecord("other", logging.ERROR, __file__, 1, "a %s", ("b",), None)

    assert LineFormatter().format(record).endswith("Z ERROR other a b")
