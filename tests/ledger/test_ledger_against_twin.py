"""The real ledger against the naive twin: the same random commands, the same questions, the same answers.

Both kinds of run are the same each time, so that a failure is never a matter of luck. To look further with fresh
seeds, for as long as there is patience: RAFTPAY_LEDGER_EXAMPLES=20000 pytest tests/ledger/test_ledger_against_twin.py
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterable
from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from raftpay.ledger import Command, CreateAccountResult, CreateTransferResult, OperatorResult, Request
from raftpay.ledger.window import WindowSizes
from tests.ledger.random_commands import CommandMaker
from tests.ledger.side_by_side import SideBySide

EXAMPLES_ASKED = int(os.environ.get("RAFTPAY_LEDGER_EXAMPLES", "0"))
EXAMPLES = EXAMPLES_ASKED or 200
STEPS = 40
SEEDS = range(60)
SEED_COMMANDS = 50
SIZES = ((1, 1), (3, 7), (8, 30))
FRESH_SEEDS = [secrets.randbits(48) for _ in range(EXAMPLES_ASKED)]
ENUMS = {"account": CreateAccountResult, "transfer": CreateTransferResult, "operator": OperatorResult}

dice = st.randoms(use_true_random=False)


class LedgerAgainstTwin(RuleBasedStateMachine):
    """Hypothesis chooses which kinds of command come, and shrinks a failure to the few that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = SideBySide(WindowSizes(3, 7))
        self.maker = CommandMaker(has_long_batches=False)

    def apply(self, dice: Random, requests: Iterable[Request]) -> None:
        command = Command(self.maker.later(dice), list(requests))
        note(repr(command))
        self.pair.apply(command)
        self.pair.tell(self.maker)

    @initialize()
    def open_accounts(self) -> None:
        self.pair.apply(self.maker.first_command())
        self.pair.tell(self.maker)

    @rule(dice=dice)
    def create_transfers(self, dice: Random) -> None:
        self.apply(dice, [self.maker.transfers(dice)])

    @rule(dice=dice)
    def create_transfers_in_two_requests(self, dice: Random) -> None:
        self.apply(dice, [self.maker.transfers(dice), self.maker.transfers(dice)])

    @rule(dice=dice)
    def create_accounts(self, dice: Random) -> None:
        self.apply(dice, [self.maker.accounts(dice)])

    @rule(dice=dice)
    def import_events(self, dice: Random) -> None:
        self.apply(dice, [self.maker.imports(dice)])

    @rule(dice=dice)
    def operate(self, dice: Random) -> None:
        self.apply(dice, [self.maker.act(dice)])

    @rule(dice=dice)
    def send_anything(self, dice: Random) -> None:
        self.apply(dice, [self.maker.request(dice) for _ in range(dice.choice((1, 2, 3)))])

    @rule(dice=dice)
    def retry_a_request(self, dice: Random) -> None:
        self.apply(dice, [dice.choice(self.maker.requests[-12:])] if self.maker.requests else [])

    @rule(dice=dice)
    def sweep(self, dice: Random) -> None:
        self.apply(dice, [])

    @rule(dice=dice)
    def ask(self, dice: Random) -> None:
        self.pair.ask(dice)

    @rule()
    def restore_from_an_image(self) -> None:
        self.pair.restore()

    @rule(dice=dice)
    def seal_and_drop(self, dice: Random) -> None:
        self.pair.drop(dice)

    @rule(dice=dice)
    def change_one_event_of_the_past(self, dice: Random) -> None:
        self.pair.check_fork(dice)

    def teardown(self) -> None:
        self.pair.ask_everything()
        self.pair.check_replay(Random(len(self.pair.commands)))
        self.pair.check_images()


LedgerAgainstTwin.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=not EXAMPLES_ASKED,
    database=None,
    deadline=None,
    # Not the phase that explains: a shrunk list of commands says enough, and explaining one takes minutes.
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLedgerAgainstTwin = LedgerAgainstTwin.TestCase


@cache
def counts_of_run(seed: int) -> Counter[str]:
    """Plays a run of commands drawn with the seed, longer batches among them, and counts the results."""
    dice, maker = Random(seed), CommandMaker(has_long_batches=True)
    pair = SideBySide(WindowSizes(*dice.choice(SIZES)))
    pair.apply(maker.first_command())
    for number in range(SEED_COMMANDS):
        pair.tell(maker)
        pair.apply(maker.command(dice))
        pair.ask(dice)
        pair.drop(dice)
        if (number + seed) % 12 == 0:
            pair.restore()
    pair.ask_everything()
    pair.check_replay(dice)
    pair.check_images()
    pair.check_fork(dice)
    return pair.counts


@pytest.mark.parametrize("seed", [*SEEDS, *FRESH_SEEDS])
def test_a_run_of_commands_is_answered_as_the_twin_answers_it(seed: int) -> None:
    counts = counts_of_run(seed)

    assert counts["transfer created"] > 0
    assert counts["segments dropped"] > 0


@pytest.mark.parametrize("kind", ENUMS)
def test_the_runs_reach_every_result(kind: str) -> None:
    counts = sum((counts_of_run(seed) for seed in SEEDS), Counter())

    missing = [result.name.lower() for result in ENUMS[kind] if not counts[f"{kind} {result.name.lower()}"]]
    assert missing == []
    assert kind != "transfer" or counts["transfer created"] > sum(counts.values()) // 5
