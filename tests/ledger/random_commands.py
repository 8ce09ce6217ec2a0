"""Makes commands that collide: few accounts, ids that come again, chains, expiries, reversals, imports, closings.

A maker remembers what it sent, so that it can retry it, change it a little, or aim at it. All its dice are one Random,
which may be Hypothesis's own. It knows no rule of the ledger and expects no result.
"""

from random import Random
from typing import Any

from msgspec import structs

from raftpay.ledger import (
    AMOUNT_MAX,
    TIME_MAX,
    Account,
    AccountFlag,
    Command,
    CreateAccounts,
    CreateTransfers,
    Operate,
    OperatorAction,
    Request,
    Transfer,
    TransferFlag,
)

SECOND = 10**9
NEEDS_FUNDS = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
NEEDS_DEBITS = int(AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS)
LINKED = int(TransferFlag.LINKED)
PENDING = int(TransferFlag.PENDING)
POST = int(TransferFlag.POST_PENDING)
VOID = int(TransferFlag.VOID_PENDING)
REVERSAL = int(TransferFlag.REVERSAL)
IMPORTED = int(TransferFlag.IMPORTED)
BALANCING = (int(TransferFlag.BALANCING_DEBIT), int(TransferFlag.BALANCING_CREDIT))
CLOSING = (int(TransferFlag.CLOSING_DEBIT), int(TransferFlag.CLOSING_CREDIT))

FIRST_ACCOUNTS = (
    Account("a", "EUR"),
    Account("b", "EUR", code=1, reference="r"),
    Account("bank", "EUR"),
    Account("poor", "EUR", flags=NEEDS_FUNDS),
    Account("over", "EUR", flags=NEEDS_FUNDS, overdraft_limit=100),
    Account("full", "EUR", flags=NEEDS_DEBITS),
    Account("ice", "EUR"),
    Account("u1", "USD"),
    Account("u2", "USD"),
    Account("m1", "EUR"),
    Account("m2", "EUR"),
    Account("m3", "EUR"),
    Account("m4", "EUR", flags=NEEDS_FUNDS, overdraft_limit=AMOUNT_MAX),
)
EVERYDAY = ("a", "b", "bank", "poor", "over", "full", "ice")
DOLLARS = ("u1", "u2")
MIGHTY = ("m1", "m2", "m3", "m4")
LATER = ("late", "later", "shut", "debtor")
NOBODY = ("nobody", "")

SMALL = (0, 1, 2, 5, 10, 50, 100)
HUGE = (AMOUNT_MAX, AMOUNT_MAX - 1, AMOUNT_MAX - 50, 2**62, 2**62 - 1, 10)
LONG_TIMEOUTS = (AMOUNT_MAX // SECOND, 2**40)
REFERENCES = ("", "", "r", "rent")
CODES = (0, 0, 1, 2)

ACCOUNT_CHANGES: dict[str, tuple[Any, ...]] = {
    "id": ("", "x" * 65, "a b"),
    "currency": ("USD", "eur", ""),
    "code": (-1, 3, 65536),
    "reference": ("other", "x" * 141),
    "overdraft_limit": (-1, 7, AMOUNT_MAX + 1),
    "timestamp": (5, TIME_MAX, TIME_MAX + 1),
}
ACCOUNT_FLAG_CHANGES = (1, 2, 4, 6, 8, 16, 32)
TRANSFER_CHANGES: dict[str, tuple[Any, ...]] = {
    "id": ("", "x" * 65, "a b"),
    "debit_account": (*NOBODY, "a b", *EVERYDAY),
    "credit_account": (*NOBODY, "a b", *EVERYDAY),
    "amount": (-1, 0, 3, AMOUNT_MAX, AMOUNT_MAX + 1, None),
    "code": (-1, 0, 3, 65536),
    "reference": ("other", "x" * 141),
    "currency": ("EUR", "USD", "eur", ""),
    "target_id": ("", "x" * 65, "nothing"),
    "timeout_s": (0, 1, *LONG_TIMEOUTS),
    "timestamp": (0, 5, TIME_MAX, TIME_MAX + 1),
}
TRANSFER_FLAG_CHANGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def is_lucky(dice: Random, percent: int) -> bool:
    return dice.randrange(100) < percent


class CommandMaker:
    """Makes the commands of one run. What is told to it of the ledger serves only to hit more often.

    has_long_batches: now and then a batch of dozens, as a client sends them that groups what waits.
    """

    def __init__(self, *, has_long_batches: bool) -> None:
        self.has_long_batches = has_long_batches
        self.requests: list[Request] = []
        self.sent: dict[str, Transfer] = {}
        self.ids_made = 0
        # Told before each command: the ledger's time, its next expiry, what is in its books.
        self.time = 0
        self.next_expiry: int | None = None
        self.created: list[Transfer] = []
        self.pending: list[Transfer] = []
        self.last_account = FIRST_ACCOUNTS[0]

    # Commands.

    def first_command(self) -> Command:
        return Command(SECOND, [CreateAccounts(list(FIRST_ACCOUNTS))])

    def command(self, dice: Random) -> Command:
        """Any command at all; one in twenty is a sweep."""
        count = 0 if is_lucky(dice, 5) else dice.choice((1, 1, 1, 2, 3))
        return Command(self.later(dice), [self.request(dice) for _ in range(count)])

    def request(self, dice: Random) -> Request:
        kind = dice.randrange(100)
        if kind < 8:
            return self.accounts(dice)
        if kind < 18:
            return self.act(dice)
        if kind < 28 and self.requests:
            return dice.choice(self.requests[-12:])
        return self.imports(dice) if kind < 36 else self.transfers(dice)

    def later(self, dice: Random) -> int:
        """A time after the ledger's; often an expiry falls on one of the command's events."""
        if self.next_expiry is not None and is_lucky(dice, 30):
            return max(self.time + 1, self.next_expiry - dice.choice((3, 2, 1, 0, 0, -1)))
        return self.time + dice.choice((1, 1, 2, 10, SECOND // 2, SECOND, SECOND, 2 * SECOND, 60 * SECOND))

    # Requests.

    def accounts(self, dice: Random) -> CreateAccounts:
        events = [self.account(dice) for _ in range(dice.choice((0, 1, 1, 2, 3)))]
        return self.remember(CreateAccounts(self.linked(dice, events)))

    def transfers(self, dice: Random) -> CreateTransfers:
        count = dice.choice((0, 1, 1, 2, 2, 3, 4, 5))
        if self.has_long_batches and is_lucky(dice, 5):
            count = dice.choice((20, 40, 70))
            if is_lucky(dice, 70):
                # Plain transfers and nothing else, which an implementation may have a way of its own for.
                return self.remember(CreateTransfers(self.plain_but_one(dice, count)))
        return self.remember(CreateTransfers(self.linked(dice, [self.transfer(dice) for _ in range(count)])))

    def plain_but_one(self, dice: Random, count: int) -> list[Transfer]:
        events = [self.movement(dice, 99) for _ in range(count)]
        odd = dice.randrange(count)
        if self.sent and is_lucky(dice, 30):
            events[odd] = structs.replace(events[odd], id=dice.choice(list(self.sent)))
        elif is_lucky(dice, 50):
            events[odd] = self.changed(dice, events[odd])
        return events

    def imports(self, dice: Random) -> Request:
        """A batch of imported events, timestamps mostly in order from the last one on."""
        is_of_accounts = is_lucky(dice, 25)
        last_transfer_at = self.created[-1].timestamp if self.created else 0
        at = max(0, (self.last_account.timestamp if is_of_accounts else last_transfer_at) - is_lucky(dice, 15))
        if is_lucky(dice, 30):
            # About the time of the youngest account, of the ledger, or after it.
            at = max(at, dice.choice((self.last_account.timestamp, self.time - 10, self.time + 90 * SECOND)) - 1)
        events: list[Any] = []
        for _ in range(dice.choice((1, 2, 3))):
            event: Any = self.account(dice) if is_of_accounts else self.transfer(dice)
            at += dice.choice((0, 1, 1, 1, 2))
            if is_lucky(dice, 92):
                imported = int(AccountFlag.IMPORTED if is_of_accounts else TransferFlag.IMPORTED)
                event = structs.replace(event, flags=event.flags | imported, timestamp=at)
            if isinstance(event, Transfer):
                event = self.aged(dice, event)
            events.append(event)
        events = self.linked(dice, events)
        return self.remember(CreateAccounts(events) if is_of_accounts else CreateTransfers(events))

    def aged(self, dice: Random, event: Transfer) -> Transfer:
        """Imports have no timeouts, save a few; some touch the youngest account."""
        event = event if is_lucky(dice, 20) else structs.replace(event, timeout_s=0)
        if not event.debit_account or is_lucky(dice, 50):
            return event
        side = dice.choice(("debit_account", "credit_account", "credit_account"))
        return structs.replace(event, **{side: self.last_account.id})

    def act(self, dice: Random) -> Operate:
        action = dice.choice((OperatorAction.FREEZE, OperatorAction.UNFREEZE, OperatorAction.SET_OVERDRAFT_LIMIT))
        if action == OperatorAction.SET_OVERDRAFT_LIMIT:
            limit = dice.choice((0, 0, 1, 50, 100, 200, AMOUNT_MAX, AMOUNT_MAX + 1, -1))
            return Operate(action, dice.choice(("poor", "over", "over", "a", "m4", "nobody")), limit)
        return Operate(action, dice.choice(("ice", "ice", "poor", "shut", "nobody")))

    def remember(self, request: Any) -> Any:
        self.requests.append(request)
        for event in request.events:
            if isinstance(event, Transfer):
                self.sent.setdefault(event.id, event)
        return request

    def linked(self, dice: Random, events: list[Any]) -> list[Any]:
        """Some batches hold a chain; a few leave it open at their end."""
        if not events or not is_lucky(dice, 30):
            return events
        first = dice.randrange(len(events))
        last = min(len(events) - 1, first + dice.choice((0, 1, 1, 2, 3)))
        is_open = last == len(events) - 1 and is_lucky(dice, 15)
        return [
            structs.replace(event, flags=event.flags | LINKED) if first <= i < last + is_open else event
            for i, event in enumerate(events)
        ]

    # Events.

    def account(self, dice: Random) -> Account:
        known = {account.id: account for account in FIRST_ACCOUNTS}
        self.ids_made += 1
        account_id = dice.choice((f"new{self.ids_made}",) * 10 + LATER * 3 + tuple(known))
        flags = {"shut": int(AccountFlag.CLOSED), "debtor": NEEDS_FUNDS}.get(account_id, 0)
        account = known.get(account_id, Account(account_id, "EUR", flags=flags))
        if is_lucky(dice, 35):
            if is_lucky(dice, 35):
                return structs.replace(account, flags=account.flags ^ dice.choice(ACCOUNT_FLAG_CHANGES))
            name = dice.choice(tuple(ACCOUNT_CHANGES))
            return structs.replace(account, **{name: dice.choice(ACCOUNT_CHANGES[name])})
        return account

    def transfer(self, dice: Random) -> Transfer:
        if self.sent and is_lucky(dice, 12):
            event = dice.choice(list(self.sent.values())[-25:])
            return self.changed(dice, event) if is_lucky(dice, 60) else event
        kind = dice.randrange(100)
        if kind < 65:
            event = self.movement(dice, kind)
        elif kind < 88:
            event = self.settlement(dice, POST if kind < 80 else VOID)
        else:
            event = self.reversal(dice)
        return self.changed(dice, event) if is_lucky(dice, 12) else event

    def changed(self, dice: Random, event: Transfer) -> Transfer:
        if is_lucky(dice, 25):
            return structs.replace(event, flags=event.flags ^ dice.choice(TRANSFER_FLAG_CHANGES))
        if is_lucky(dice, 10):
            # It names itself, or one account twice.
            return structs.replace(
                event, **dice.choice(({"target_id": event.id}, {"debit_account": event.credit_account}))
            )
        name = dice.choice(tuple(TRANSFER_CHANGES))
        return structs.replace(event, **{name: dice.choice(TRANSFER_CHANGES[name])})

    def movement(self, dice: Random, kind: int) -> Transfer:
        """One step, or the first of two; balancing and closing among them."""
        purse = dice.choice((EVERYDAY, EVERYDAY, EVERYDAY + LATER, DOLLARS, MIGHTY))
        debit = dice.choice(purse)
        credit = dice.choice([account for account in purse if account != debit])
        flags, amount = 0, dice.choice(HUGE if purse is MIGHTY else SMALL)
        if kind < 25:
            flags = PENDING
        elif kind < 32:
            flags = PENDING | dice.choice(CLOSING)
        elif kind < 42:
            flags = dice.choice((*BALANCING, sum(BALANCING), BALANCING[0] | PENDING))
            amount = dice.choice((amount, 10, 1000))
        return Transfer(
            self.new_id(dice),
            debit,
            credit,
            amount,
            code=dice.choice(CODES),
            flags=flags,
            reference=dice.choice(REFERENCES),
            currency=dice.choice(("", "", "", "", "", "EUR")),
            timeout_s=dice.choice((0, 1, 1, 2, 5)) if flags & PENDING else 0,
        )

    def settlement(self, dice: Random, kind: int) -> Transfer:
        """The second of two steps: a post or a void, mostly of something that was pending once."""
        tried = [event for event in self.sent.values() if event.flags & PENDING]
        open_or_tried = self.pending if self.pending and is_lucky(dice, 70) else tried
        if not open_or_tried or is_lucky(dice, 8):
            return Transfer(self.new_id(dice), "", "", None, flags=kind, target_id=self.any_id(dice))
        target = dice.choice(open_or_tried[-6:])
        event = Transfer(
            self.new_id(dice),
            "",
            "",
            dice.choice((None, None, target.amount, *(SMALL if kind == POST else SMALL[:3]))),
            flags=kind,
            reference=dice.choice(REFERENCES),
            target_id=target.id,
        )
        if is_lucky(dice, 75):
            return event
        said = {name: getattr(target, name) for name in ("debit_account", "credit_account", "currency", "code")}
        if is_lucky(dice, 30):
            said |= dice.choice(({"debit_account": "m1"}, {"credit_account": "m2"}, {"currency": "USD"}, {"code": 9}))
        return structs.replace(event, **said)

    def reversal(self, dice: Random) -> Transfer:
        return Transfer(
            self.new_id(dice),
            "",
            "",
            dice.choice((None, None, 1, 2, 5)),
            code=dice.choice(CODES),
            flags=REVERSAL,
            currency=dice.choice(("", "", "EUR", "USD")),
            target_id=self.any_id(dice),
        )

    def new_id(self, dice: Random) -> str:
        """A new one, save now and then, when it names another transfer than the first time."""
        if is_lucky(dice, 4):
            return self.any_id(dice)
        self.ids_made += 1
        return f"t{self.ids_made}"

    def any_id(self, dice: Random) -> str:
        """Mostly of a transfer that was created, else of one that was tried, or of none."""
        if self.created and is_lucky(dice, 75):
            return dice.choice(self.created[-12:]).id
        if not self.sent or is_lucky(dice, 10):
            return "nothing"
        return dice.choice(list(self.sent)[-12:])
