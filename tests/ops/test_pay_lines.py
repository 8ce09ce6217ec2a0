"""Payment files as they come: a defect costs its own line, is said with its number, and never moves a border."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftpay.errors import ConfigError
from raftpay.ledger import Account, AccountFlag, Transfer, TransferFlag
from raftpay.ops.pay import Noun, PayOptions, Rejection, check_file
from raftpay.ops.pay.forms import AccountForm, PaymentForm
from raftpay.ops.pay.lines import Batch, Sheet
from raftpay.ops.pay.records import RECORD_BYTES_MAX, Place, Records, scan

HEADER = b"id,debit_account,credit_account,amount,currency,code,reference,pending,timeout_s\n"
GOOD_LINE = b"p1,alice,bob,12.34,EUR,7,Rent,,\n"


def read(
    data: bytes, *, batch_lines: int = 1000, may_ignore_columns: bool = False, is_accounts: bool = False
) -> list[Batch]:
    form = AccountForm() if is_accounts else PaymentForm("test")
    file = io.BytesIO(data)
    return list(Sheet(file, "f.csv", form, batch_lines=batch_lines, may_ignore_columns=may_ignore_columns))


def events(batches: list[Batch]) -> list[Transfer | Account]:
    return [event for batch in batches for event in batch.events]


def rejections(batches: list[Batch]) -> list[Rejection]:
    return [rejection for batch in batches for rejection in batch.rejections]


def test_a_line_is_a_transfer_of_its_columns() -> None:
    batches = read(HEADER + b"p1,alice,bob,12.34,EUR,7,Rent, yes ,3600\n")

    assert events(batches) == [
        Transfer("p1", "alice", "bob", 1234, 7, TransferFlag.PENDING, "Rent", "EUR", timeout_s=3600),
    ]
    assert batches[0].lines == [2]


def test_columns_are_found_by_name_in_any_order_and_case() -> None:
    batches = read(b"Currency, AMOUNT,credit_account,debit_account\nJPY,500,bob,alice\n")

    (event,) = events(batches)
    assert isinstance(event, Transfer)
    assert (event.debit_account, event.credit_account, event.amount, event.currency) == ("alice", "bob", 500, "JPY")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (HEADER + GOOD_LINE * 2, [2, 3]),
        ((HEADER + GOOD_LINE * 2).replace(b"\n", b"\r\n"), [2, 3]),
        (b"\xef\xbb\xbf" + HEADER + GOOD_LINE, [2]),
        (HEADER + GOOD_LINE.rstrip(b"\n"), [2]),
        (HEADER + b"\n\n" + GOOD_LINE + b"\r\n,,,,,,,,\n" + GOOD_LINE, [4, 7]),
        (HEADER + GOOD_LINE.replace(b"Rent", b'"Rent,\nNovember"') + GOOD_LINE, [2, 4]),
        (HEADER + GOOD_LINE.replace(b"Rent", b'"Rent,\r\n""Nov"""') + GOOD_LINE, [2, 4]),
        (HEADER.replace(b"\n", b"\r\n") + GOOD_LINE.replace(b"alice", b'"alice"'), [2]),
        (HEADER + GOOD_LINE.replace(b"Rent", b'5" pipe') + GOOD_LINE, [2, 3]),
        (HEADER, []),
    ],
    ids=["lf", "crlf", "bom", "no end of line", "blank", "newline", "quotes", "quoted", "stray quote", "no lines"],
)
def test_line_ends_blank_lines_and_quotes_do_not_shift_line_numbers(data: bytes, lines: list[int]) -> None:
    batches = read(data)

    assert rejections(batches) == []
    assert [line for batch in batches for line in batch.lines] == lines


def test_a_quoted_field_keeps_its_newlines_and_quotes() -> None:
    (event,) = events(read(HEADER + GOOD_LINE.replace(b"Rent", b'"Rent,\n""Nov"""')))

    assert isinstance(event, Transfer)
    assert event.reference == 'Rent,\n"Nov"'


DEFECTS = [
    (b"p1,alice,bob,12.345,EUR,,,,\n", "amount_invalid", "amount: '12.345' has 3 decimal(s), EUR has at most 2"),
    (b'p1,alice,bob,"12,34",EUR,,,,\n', "amount_invalid", "with a point before the decimals"),
    (b"p1,alice,bob,,EUR,,,,\n", "amount_invalid", "it is empty"),
    (b"p1,alice,bob,-1.00,EUR,,,,\n", "amount_invalid", "amounts are not negative"),
    (b"p1,alice,bob,1.00,eur,,,,\n", "currency_invalid", "currency is 'eur': expected 1-12 of A-Z 0-9 . _ -, like EUR"),
    (b"p1,alice,bob,1.00,,,,,\n", "currency_invalid", "currency is empty"),
    (b"p1,,bob,1.00,EUR,,,,\n", "debit_account_id_invalid", "debit_account is empty"),
    (b"p1,alice,b ob,1.00,EUR,,,,\n", "credit_account_id_invalid", "credit_account is 'b ob'"),
    (b"p1,alice," + b"b" * 65 + b",1.00,EUR,,,,\n", "credit_account_id_invalid", "has 65 characters"),
    (b"p1,alice,alice,1.00,EUR,,,,\n", "accounts_must_be_different", "both 'alice'"),
    ("é1,alice,bob,1.00,EUR,,,,\n".encode(), "id_invalid", "id is 'é1'"),
    (b"p1,alice,bob,1.00,EUR,65536,,,\n", "code_invalid", "code is '65536': expected a whole number from 0 to 65535"),
    (b"p1,alice,bob,1.00,EUR,1.5,,,\n", "code_invalid", "code is '1.5'"),
    (
        b"p1,alice,bob,1.00,EUR,," + b"r" * 141 + b",,\n",
        "reference_invalid",
        "reference has 141 characters, at most 140",
    ),
    (b"p1,alice,bob,1.00,EUR,,,maybe,\n", "line_malformed", "pending is 'maybe': expected true or false"),
    (b"p1,alice,bob,1.00,EUR,,,true,1h\n", "line_malformed", "timeout_s is '1h': expected whole seconds"),
    (b"p1,alice,bob,1.00,EUR,,,,60\n", "timeout_reserved_for_pending_transfer", "pending is not true"),
    (b"p1,alice,bob,1.00\n", "line_malformed", "it has 4 fields, the header has 9"),
    (b"p1,alice,bob,1,000.00,EUR,,,,\n", "line_malformed", "10 fields, the header has 9: put a field that has a comma"),
    (
        b"p1,alice,bob,1.00,EUR,,Caf\xe9,,\n",
        "line_malformed",
        "byte 0xe9 at position 27 is not UTF-8: save the file as UTF",
    ),
    (b"p1,alice,bob,1.00,EUR,,a\0b,,\n", "line_malformed", "it contains a NUL byte"),
    (b"p1,alice,bob,1.00,EUR,,a\rb,,\n", "line_malformed", "a carriage return inside"),
    (b'p1,alice,bob,1.00,EUR,,"a"b,,\n', "line_malformed", "it is not sound CSV"),
    (b"p1," + b"x" * RECORD_BYTES_MAX + b"\n", "line_malformed", f"at most {RECORD_BYTES_MAX} are accepted"),
    (
        b'p1,"' + b"x" * 3 * RECORD_BYTES_MAX + b'",,,,,,,\n',
        "line_malformed",
        f"at most {RECORD_BYTES_MAX} are accepted",
    ),
]


@pytest.mark.parametrize(("line", "result", "reason"), DEFECTS, ids=[reason[:40] for _, _, reason in DEFECTS])
def test_a_defect_costs_its_own_line_only_and_is_named(line: bytes, result: str, reason: str) -> None:
    batches = read(HEADER + GOOD_LINE + line + GOOD_LINE)

    (rejection,) = rejections(batches)
    assert (rejection.line, rejection.result) == (3, result)
    assert reason in rejection.reason
    assert [line for batch in batches for line in batch.lines] == [2, 4]


def test_a_quote_that_never_closes_costs_all_lines_behind_it_and_says_so() -> None:
    batches = read(HEADER + GOOD_LINE + GOOD_LINE.replace(b"Rent", b'"Rent') + GOOD_LINE * 5000)

    (rejection,) = rejections(batches)
    assert rejection.line == 3
    assert 'a quote (") opens here and never closes: lines 3-5003 are not read' in rejection.reason
    assert len(events(batches)) == 1


def test_a_quoted_field_that_is_too_long_cannot_smuggle_in_a_payment() -> None:
    smuggled = b"\nevil,alice,mallory,1000.00,EUR,,,,\n"
    reference = b'"' + b"x" * 2 * RECORD_BYTES_MAX + smuggled * 100 + b'"'

    batches = read(HEADER + GOOD_LINE.replace(b"Rent", reference) + GOOD_LINE)

    assert [event.id for event in events(batches)] == ["p1"]
    assert [rejection.line for rejection in rejections(batches)] == [2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f.csv is empty: expected a header line like debit_account,credit_account,amount,currency"),
        (b"\xef\xbb\xbf", "f.csv is empty"),
        (b"\n\n\n", "f.csv is empty"),
        ("id,amount\n".encode("utf-16"), "f.csv is UTF-16: expected UTF-8"),
        (b"debit_account,amount,currency\n", "line 1: the header lacks credit_account; it has debit_account, amount"),
        (b"debit_account;credit_account;amount;currency\n", "separated by ';': separate by commas"),
        (b"alice,bob,12.34,EUR\n", "the header lacks debit_account, credit_account, amount, currency; it has alice"),
        (
            HEADER.replace(b"reference", b"refrence"),
            "has a column 'refrence' that means nothing here: did you mean refer",
        ),
        (HEADER.replace(b"reference", b"memo"), "a column 'memo' that means nothing here: expected debit_account"),
        (HEADER.replace(b"reference", b"id"), "the header has id more than once"),
        (HEADER.replace(b"\n", b"\r"), "line 1, the header: it has a carriage return inside"),
        (HEADER.replace(b"code", b"c\xf6de"), "line 1, the header: byte 0xf6"),
        (b'"' + HEADER, "line 1, the header: a quote"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(data)

    assert message in str(error.value)


def test_unknown_columns_are_passed_over_on_request() -> None:
    data = b"memo,debit_account,credit_account,amount,currency,memo\nx,alice,bob,1.00,EUR,y\n"

    batches = read(data, may_ignore_columns=True)

    assert [event.id != "" for event in events(batches)] == [True]


def test_an_account_file_gives_accounts() -> None:
    header = b"id,currency,code,reference,flags,overdraft_limit\n"
    line = b"alice,EUR,1,Alice,debits_must_not_exceed_credits | closed,250.00\n"

    batches = read(header + line + b"bob,JPY,,,,\n", is_accounts=True)

    flags = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CLOSED
    assert events(batches) == [Account("alice", "EUR", 1, flags, "Alice", 25000), Account("bob", "JPY")]


@pytest.mark.parametrize(
    ("line", "result", "reason"),
    [
        (b",EUR,,,,\n", "id_invalid", "id is empty"),
        (
            b"a,EUR,,,linked,\n",
            "line_malformed",
            "flags has 'linked': expected debits_must_not_exceed_credits, credits_",
        ),
        (b"a,EUR,,,,1.234\n", "overdraft_limit_invalid", "overdraft_limit: '1.234' has 3 decimal(s)"),
    ],
)
def test_a_wrong_account_line_is_named(line: bytes, result: str, reason: str) -> None:
    (rejection,) = rejections(read(b"id,currency,code,reference,flags,overdraft_limit\n" + line, is_accounts=True))

    assert rejection.result == result
    assert reason in rejection.reason


def test_batches_hold_so_many_lines_good_and_bad_together() -> None:
    data = HEADER + GOOD_LINE * 3 + b"broken\n" + GOOD_LINE * 3

    batches = read(data, batch_lines=2)

    assert [(batch.number, batch.lines, [r.line for r in batch.rejections]) for batch in batches] == [
        (1, [2, 3], []),
        (2, [4], [5]),
        (3, [6, 7], []),
        (4, [8], []),
    ]
    assert batches[-1].position == len(data)


def test_checking_a_file_counts_without_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(HEADER + GOOD_LINE * 3 + b"broken\n")

    summary = check_file(PayOptions(path))

    assert (summary.created, summary.rejected, summary.rejected_by_result) == (3, 1, {"line_malformed": 1})
    assert (summary.totals["EUR"].lines, summary.totals["EUR"].amount_minor) == (3, 3702)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0: expected 1 to 8190"),
        ({"batch": 8191}, "batch is 8191"),
        ({"workers": 0}, "workers is 0: expected 1 to 64"),
        ({"patience_s": 0.0}, "must be above 0"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        check_file(PayOptions(tmp_path / "f.csv", **options))  # type: ignore[arg-type]  # a table of some of them

    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"), [("missing.csv", "No such file"), (".", "cannot be read"), ("fifo", "is no regular file")]
)
def test_a_file_that_cannot_be_read_twice_is_refused(name: str, message: str, tmp_path: Path) -> None:
    path = Path("/dev/null") if name == "fifo" else tmp_path / name

    with pytest.raises(ConfigError) as error:
        check_file(PayOptions(path, noun=Noun.ACCOUNTS))

    assert message in str(error.value)


FIELD = st.text(alphabet='ab ,"\n\r;é\t', max_size=8)


@given(
    st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=8), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
)
@example([["a\r\nb", '"']], csv.QUOTE_ALL)
def test_what_the_csv_module_writes_is_read_back(rows: list[list[str]], quoting: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting).writerows(rows)  # type: ignore[arg-type]  # one of the two above

    records = list(Records(io.BytesIO(text.getvalue().encode()), "f"))

    assert [record.problem for record in records] == [""] * len(records)
    assert [record.fields for record in records] == [row for row in rows if any(row)]


@given(st.binary(max_size=300) | st.text(alphabet='a,"\n\r', max_size=60).map(str.encode))
def test_any_bytes_are_records_or_problems_and_every_line_is_counted(data: bytes) -> None:
    try:
        records = Records(io.BytesIO(data), "f")
    except ConfigError:
        return
    found = list(records)

    assert records.position == len(data)
    assert records.line == data.count(b"\n") + (not data.endswith(b"\n") and data not in (b"", b"\xef\xbb\xbf"))
    assert [record.line for record in found] == sorted({record.line for record in found})


@given(st.binary(max_size=40), st.integers(0, 40))
def test_a_scan_may_be_cut_anywhere(data: bytes, cut: int) -> None:
    whole = scan(data, Place.FIELD_START)

    assert scan(data[cut:], scan(data[:cut], Place.FIELD_START)) is whole
