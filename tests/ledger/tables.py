"""Reads the scenario tables of tests/ledger/scenarios and plays them to a ledger. No expectation is here.

A file is a theme, a `##` heading with a sentence and a table under it is a scenario, a row is a step with what must
come of it. The rows under the heading `## Given` come first in every scenario of their file. The columns:

when    `10s`, `10s+3ns`, `MAX-1ns`: a new command at that time. Empty: a new command, 1 ns after the last event.
        `+`: one more event in the batch of the row above. `&`: one more request in the command of the row above.
step    `account ID [CURRENCY] [FLAG…] [code= ref= limit= at= flags=]`; the currency is EUR unless given.
        `transfer ID DEBIT -> CREDIT AMOUNT [FLAG…] [code= ref= currency= target= timeout= at= flags=]`
        `post ID of TARGET [AMOUNT] […]`, `void …`, `reverse …`: without AMOUNT, debit=, credit= these are empty.
        `freeze ID`, `unfreeze ID`, `limit ID AMOUNT`; `sweep`: a command without requests.
        `{1..9}` repeats a step in one batch; `x*64` is a character so many times, `<7f>` one by number, MAX 2^63-1.
        Questions: `balances of ID [at TIME]`, `see account ID`, `see transfer ID`, `transfers of ID [query]`,
        `history of ID [query]`, `transfers [query]`, `accounts [query]`, `trial CURRENCY`, `next expiry`, `counts`.
result  an event: the name of its result. A question: fields and values (balances not named are zero), or ids.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raftpay.ledger import (
    AMOUNT_MAX,
    Account,
    AccountFlag,
    AccountQuery,
    AccountsQuery,
    BalanceRecord,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    Transfer,
    TransferFlag,
    TransferQuery,
)
from tests.ledger.twin_books import BALANCES

FOLDER = Path(__file__).parent / "scenarios"
UNITS = {"ns": 1, "ms": 10**6, "s": 10**9}
SHORT_NAMES = {"ref": "reference", "limit": "overdraft_limit", "at": "timestamp", "target": "target_id"}
SHORT_NAMES |= {"timeout": "timeout_s", "debit": "debit_account", "credit": "credit_account"}
SHORT_NAMES |= {"from": "time_from", "to": "time_to", "newest": "newest_first", "created": "created_at"}
TIMES = ("timestamp", "time_from", "time_to", "created_at")
TEXTS = ("id", "reference", "currency", "debit_account", "credit_account", "target_id", "status", "pending_status")
TEXTS += ("direction", "prefix", "transfer_id")
FROM_TARGET = {"post": TransferFlag.POST_PENDING, "void": TransferFlag.VOID_PENDING, "reverse": TransferFlag.REVERSAL}
ACTS = {"freeze": OperatorAction.FREEZE, "unfreeze": OperatorAction.UNFREEZE}
KINDS = {"account": "account", "transfer": "transfer", **dict.fromkeys(FROM_TARGET, "transfer")}
KINDS |= {"freeze": "operator", "unfreeze": "operator", "limit": "operator"}


class Questions(Protocol):
    """What a row can ask of either ledger."""

    def lookup_account(self, account_id: str) -> Any: ...
    def lookup_transfer(self, transfer_id: str) -> Any: ...
    def account_transfers(self, query: AccountQuery) -> list[Any]: ...
    def account_balances(self, query: AccountQuery) -> list[Any]: ...
    def balance_at(self, account_id: str, time: int) -> Any: ...
    def query_transfers(self, query: TransferQuery) -> list[Any]: ...
    def list_accounts(self, query: AccountsQuery) -> list[Any]: ...
    def trial_balance(self) -> list[Any]: ...
    def next_expiry(self) -> int | None: ...
    def counts(self) -> dict[str, int]: ...


class Side(Protocol):
    """A ledger that answers with names: the real one or the twin."""

    time: int

    def apply(self, command: Command) -> list[tuple[int, list[str]]]: ...

    @property
    def books(self) -> Questions: ...


@dataclass(frozen=True)
class Row:
    place: str  # file:line
    when: str
    words: tuple[str, ...]
    expected: str

    @property
    def kind(self) -> str:
        """account, transfer or operator for an event; sweep; empty for a question."""
        if self.words[0] in ("transfer", "account") and len(self.words) < 2:
            raise ValueError(f"{self.place}: a step without an id")
        return "sweep" if self.words == ("sweep",) else KINDS.get(self.words[0], "")


@dataclass(frozen=True)
class Scenario:
    name: str
    place: str
    rows: tuple[Row, ...]


class ScenarioFailure(AssertionError):
    """What came is not what the table says. The message begins with file:line."""


# Reading.


def read_scenarios(folder: Path = FOLDER) -> list[Scenario]:
    return [scenario for path in sorted(folder.glob("*.md")) for scenario in read_file(path)]


def read_file(path: Path) -> Iterator[Scenario]:
    """Yields the scenarios of a file. Raises ValueError with the place of a row that cannot be read."""
    title, place, has_sentence = "", "", False
    given: list[Row] = []
    rows: list[Row] = []
    for number, line in enumerate([*path.read_text().splitlines(), "## "], start=1):
        here = f"{path.name}:{number}"
        if line.startswith("## "):
            if title == "Given":
                given = rows
            elif title:
                if not rows or not has_sentence:
                    raise ValueError(f"{place}: a scenario needs a sentence and a table")
                yield Scenario(f"{path.stem}: {title}", place, (*given, *rows))
            title, place, has_sentence, rows = line[3:].strip(), here, False, []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) != 3:
                raise ValueError(f"{here}: a row has the columns when, step and result")
            if cells[0] != "when" and set(cells[0] + cells[1]) != {"-"}:
                rows += read_row(here, *cells)
        elif line.strip():
            has_sentence = True


def read_row(place: str, when: str, step: str, expected: str) -> Iterator[Row]:
    repeat = re.search(r"\{(\d+)\.\.(\d+)\}", step)
    if repeat is None:
        yield Row(place, when, tuple(shlex.split(step)), expected)
        return
    for i in range(int(repeat[1]), int(repeat[2]) + 1):
        one = step.replace(repeat[0], str(i))
        yield Row(place, when if i == int(repeat[1]) else "+", tuple(shlex.split(one)), expected)


def read_text(text: str) -> str:
    text = re.sub(r"<([0-9a-f]{2,4})>", lambda match: chr(int(match[1], 16)), text)
    repeated = re.fullmatch(r"(.)\*(\d+)", text)
    return repeated[1] * int(repeated[2]) if repeated else text


def read_number(text: str) -> int | None:
    """nil, a sum of numbers with an optional unit of time, MAX among them: `MAX-5`, `10s+3ns`."""
    if text == "nil":
        return None
    text = text.replace(" ", "")
    terms = re.findall(r"([+-]?)(MAX|\d+)(ns|ms|s)?", text)
    if "".join("".join(term) for term in terms) != text or not terms:
        raise ValueError(f"{text!r} is not a number")
    return sum(
        (-1 if sign == "-" else 1) * (AMOUNT_MAX if digits == "MAX" else int(digits)) * UNITS[unit or "ns"]
        for sign, digits, unit in terms
    )


def read_options(words: tuple[str, ...]) -> dict[str, Any]:
    """key=value words; the long names of fields, and values of the fields' types."""
    options: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        name = SHORT_NAMES.get(key, key)
        if name == "newest_first":
            options[name] = True
        else:
            options[name] = read_text(value) if name in TEXTS else read_number(value)
    return options


# Playing.


def read_event(row: Row) -> Account | Transfer | Operate:
    verb, event_id, *rest = row.words
    event_id = read_text(event_id)
    if verb in ACTS:
        return Operate(ACTS[verb], event_id)
    if verb == "limit":
        return Operate(OperatorAction.SET_OVERDRAFT_LIMIT, event_id, read_number(rest[0]) or 0)
    flag_type = AccountFlag if verb == "account" else TransferFlag
    flags = sum(flag_type[word] for word in rest if word in flag_type.__members__)
    options = read_options(tuple(word for word in rest if "=" in word))
    plain = [word for word in rest if word not in flag_type.__members__ and "=" not in word]
    flags |= options.pop("flags", 0)
    if verb == "account":
        return Account(event_id, **{"currency": plain[0] if plain else "EUR", "flags": flags, **options})
    if verb == "transfer":
        debit, arrow, credit, amount = plain
        assert arrow == "->"
        accounts = {"debit_account": read_text(debit), "credit_account": read_text(credit)}
        return Transfer(event_id, **{**accounts, "amount": read_number(amount), "flags": flags, **options})
    of, target, *amounts = plain
    assert of == "of"
    from_target = {"debit_account": "", "credit_account": "", "target_id": read_text(target)}
    from_target["amount"] = read_number(amounts[0]) if amounts else None
    return Transfer(event_id, **{**from_target, "flags": flags | FROM_TARGET[verb], **options})


def commands(rows: tuple[Row, ...]) -> Iterator[list[list[Row]]]:
    """The rows as commands of requests of events; a question stands alone."""
    current: list[list[Row]] = []
    for row in rows:
        if row.when == "+":
            current[-1].append(row)
        elif row.when == "&":
            current.append([row])
        else:
            if current:
                yield current
            current = [[row]]
    yield current


def play(scenario: Scenario, side: Side) -> None:
    """Raises ScenarioFailure at the first row whose result is another."""
    for command in commands(scenario.rows):
        first = command[0][0]
        try:
            if first.kind:
                play_command(command, side)
            else:
                expect(first, answer(first, side.books))
        except ScenarioFailure:
            raise
        except Exception as error:
            raise ScenarioFailure(f"{first.place}: {' '.join(first.words)}: {error!r}") from error
    for line in side.books.trial_balance():
        if line.debits_posted != line.credits_posted or line.debits_pending != line.credits_pending:
            raise ScenarioFailure(f"{scenario.place}: the books do not balance at the end: {line}")


def play_command(command: list[list[Row]], side: Side) -> None:
    when = command[0][0].when
    time = read_number(when) if when else side.time + 1
    requests: list[Any] = []
    for rows in command:
        events = [read_event(row) for row in rows if row.kind != "sweep"]
        if rows[0].kind == "account":
            requests.append(CreateAccounts(events))
        elif rows[0].kind == "transfer":
            requests.append(CreateTransfers(events))
        else:
            requests += events
    answers = side.apply(Command(time or 0, requests))
    for rows, (timestamp, names) in zip(command, answers, strict=False):
        if timestamp != time:
            raise ScenarioFailure(f"{rows[0].place}: the request began at {timestamp}, not at {time}")
        for row, name in zip(rows, names, strict=True):
            expect(row, name)
        time += len(names)


def expect(row: Row, got: str) -> None:
    wanted = row.expected
    if got != wanted:
        raise ScenarioFailure(f"{row.place}: {' '.join(row.words)}\n  expected {wanted!r}\n  got      {got!r}")


def answer(row: Row, books: Questions) -> str:
    """The answer to a question, written as the table would write it."""
    match row.words:
        case ("balances", "of", account_id):
            return show_balances(books.lookup_account(read_text(account_id)))
        case ("balances", "of", account_id, "at", time):
            return show_balances(books.balance_at(account_id, read_number(time) or 0))
        case ("see", "account", account_id):
            return show_fields(row, books.lookup_account(read_text(account_id)))
        case ("see", "transfer", transfer_id):
            return show_fields(row, books.lookup_transfer(read_text(transfer_id)))
        case ("transfers", "of", account_id, *options):
            query = AccountQuery(account_id, **read_options(tuple(options)))
            return show_ids(books.account_transfers(query))
        case ("history", "of", account_id, *options):
            records = books.account_balances(AccountQuery(account_id, **read_options(tuple(options))))
            return "; ".join(f"{record.transfer_id}: {show_balances(record)}" for record in records) or "none"
        case ("transfers", *options):
            return show_ids(books.query_transfers(TransferQuery(**read_options(tuple(options)))))
        case ("accounts", *options):
            return show_ids(books.list_accounts(AccountsQuery(**read_options(tuple(options)))))
        case ("trial", currency):
            lines = [line for line in books.trial_balance() if line.currency == currency]
            return " ".join(f"accounts={line.accounts} {show_balances(line)}" for line in lines) or "none"
        case ("next", "expiry"):
            time = books.next_expiry()
            return row.expected if row.expected != "none" and time == read_number(row.expected) else str(time).lower()
        case ("counts",):
            return " ".join(f"{name}={count}" for name, count in books.counts().items())
    raise ValueError(f"{row.place}: no such step")


def show_ids(records: list[Any]) -> str:
    return " ".join(record.id for record in records) or "none"


def show_balances(record: BalanceRecord | None) -> str:
    """The balances that are not zero. Amounts near 2^63 are written against MAX."""
    if record is None:
        return "none"
    shown = {name: getattr(record, name) for name in BALANCES}
    return " ".join(f"{name}={show_amount(value)}" for name, value in shown.items() if value) or "zero"


def show_amount(amount: int) -> str:
    distance = AMOUNT_MAX - amount
    if not 0 <= distance < 10**6:
        return str(amount)
    return f"MAX-{distance}" if distance else "MAX"


def show_fields(row: Row, record: Any) -> str:
    """Exactly the expected words if they are all true, else the record's own values."""
    if record is None:
        return "none"
    if row.expected == "none":
        return str(record)
    wanted = read_options(tuple(shlex.split(row.expected)))
    found = {name: getattr(record, name) for name in wanted}
    return row.expected if found == wanted else str(found)
