"""Sealed rows are answered for from files as they are from a list: every question, against the plainest version."""

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftpay.archive.archive import Archive
from raftpay.archive.history import SealedFiles
from raftpay.archive.ids import Key
from raftpay.ledger.sealed import FailedId, RowQuery
from raftpay.storage.sim_disk import SimDisk
from tests.archive.histories import CODES, CURRENCIES, PLAIN, REFERENCES, HistoryMaker, run
from tests.ledger.sealed_in_memory import SealedInMemory

STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class SideBySide:
    """The same segments on a disk and in a list."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.disk = SimDisk()
        self.archive = Archive.open(self.disk, "pay-1", PLAIN)
        self.plain = SealedInMemory()
        self.maker = HistoryMaker(dice)

    def seal(self, count: int, rows_max: int) -> None:
        for _ in range(count):
            segment = self.maker.segment(
                self.dice.randint(0, rows_max),
                failed=self.dice.choice((0, 0, 1, 5)),
                accounts=self.dice.choice((0, 0, 1, 4)),
                is_overtaken=self.dice.random() < 0.3,
            )
            run(self.archive.seal(segment))
            self.plain.seal(segment)

    @property
    def files(self) -> SealedFiles:
        return SealedFiles(self.archive)

    def query(self, *, of_account: bool) -> RowQuery:
        dice, end = self.dice, len(self.plain.movements)
        times = [movement.timestamp for movement in self.plain.movements] or [0]
        first, last = sorted((dice.randint(0, end), dice.randint(0, end)))
        return RowQuery(
            dice.choice((0, first)),
            dice.choice((end, last)),
            dice.choice((0, 1, 2, 10, 1000)),
            newest_first=dice.random() < 0.5,
            code=dice.choice((None, None, *CODES)),
            reference=dice.choice((None, None, *REFERENCES, "nowhere")),
            currency=dice.choice((None, None, *CURRENCIES)),
            direction=dice.choice(("", "debit", "credit")) if of_account else "",
            time_from=dice.choice((0, dice.choice(times))),
            time_to=dice.choice((2**63 - 1, dice.choice(times))),
            with_balances=True,
        )


def check_ids(pair: SideBySide) -> None:
    known = list(pair.plain.by_id)
    asked = [*pair.dice.sample(known, min(len(known), 50)), "nobody", "t" * 64, "ä", "x" * 65]
    for ids in (asked, asked[:3], asked[-1:], known):
        maybe = pair.files.may_contain(ids, segments=pair.archive.segments)
        found = pair.files.find(ids)

        assert {id_ for id_ in ids if id_ in pair.plain.by_id} <= set(maybe)
        for count in range(pair.archive.segments + 1):
            early = {id_ for id_ in ids if pair.plain.segments_of.get(id_, count) < count}
            assert early <= set(pair.files.may_contain(ids, segments=count)) <= early | (set(maybe) - set(known))
        assert found == pair.plain.find(ids)


def check_rows(pair: SideBySide) -> None:
    for _ in range(10):
        query = pair.query(of_account=False)
        assert pair.files.rows(query) == pair.plain.rows(query), query


def check_accounts(pair: SideBySide) -> None:
    for _ in range(20):
        account = pair.dice.randrange(len(pair.maker.books.account_ids) + 1)
        query, looked_at_max = pair.query(of_account=True), pair.dice.choice((0, 1, 7, 1000))
        found = pair.files.account_rows(account, query, looked_at_max=looked_at_max)
        assert found == pair.plain.account_rows(account, query, looked_at_max=looked_at_max), (account, query)
        last, time = query.last, pair.dice.choice((query.time_from, query.time_to))
        answer = pair.files.last_account_row(account, last=last, time=time)
        assert answer == pair.plain.last_account_row(account, last=last, time=time), (account, last, time)


@settings(STEADY, max_examples=40)
@given(seed=st.integers(0, 2**32), segments=st.integers(1, 4), rows_max=st.sampled_from((0, 3, 40, 400)))
def test_every_question_is_answered_as_from_a_list(seed: int, segments: int, rows_max: int) -> None:
    pair = SideBySide(Random(seed))
    pair.seal(segments, rows_max)

    check_ids(pair)
    check_rows(pair)
    check_accounts(pair)


def test_the_answers_are_the_same_after_a_restart() -> None:
    pair = SideBySide(Random(5))
    pair.seal(9, 60)

    pair.archive = Archive.open(pair.disk, "pay-1", PLAIN)

    assert pair.archive.segments == 9
    check_ids(pair)
    check_rows(pair)
    check_accounts(pair)


def test_ids_of_one_fingerprint_are_told_apart_by_what_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    of_many, of_one = Key.fingerprints, Key.fingerprint
    monkeypatch.setattr(Key, "fingerprints", lambda key, ids: of_many(key, ids) & np.uint64(7))
    monkeypatch.setattr(Key, "fingerprint", lambda key, id_: of_one(key, id_) & 7)
    pair = SideBySide(Random(9))
    pair.seal(3, 60)
    asked = [*pair.plain.by_id, *(f"nobody{number}" for number in range(60))]

    for ids in (asked, asked[:3], asked[-3:]):
        assert set(ids) <= set(pair.files.may_contain(asked, segments=3))
        assert pair.files.find(ids) == pair.plain.find(ids)


def test_rows_before_a_time_are_counted_over_all_segments() -> None:
    pair = SideBySide(Random(6))
    for rows in (30, 0, 1, 50):
        segment = pair.maker.segment(rows, failed=1)
        run(pair.archive.seal(segment))
        pair.plain.seal(segment)
    times = [movement.timestamp for movement in pair.plain.movements]

    for time in (0, times[0], times[0] + 1, times[30], times[31], times[50], times[-1], times[-1] + 1):
        assert pair.files.count_before(time) == pair.plain.count_before(time)


def test_segments_before_an_account_was_opened_are_not_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SideBySide(Random(8))
    for accounts in (5, 0, 0, 1):
        run(pair.archive.seal(pair.maker.segment(30, accounts=accounts)))
    asked: list[int] = []
    lookup = pair.archive.lookup
    monkeypatch.setattr(pair.archive, "lookup", lambda number: asked.append(number) or lookup(number))

    for account, read in ((4, {0, 1, 2, 3}), (5, {3}), (6, set())):
        asked.clear()
        pair.files.account_rows(account, RowQuery(0, 120, 1000), looked_at_max=1000)
        assert set(asked) == read
        asked.clear()
        pair.files.last_account_row(account, last=120, time=2**63 - 1)
        assert set(asked) <= read


def test_an_id_that_failed_has_the_number_of_its_failure() -> None:
    pair = SideBySide(Random(7))
    for _ in range(3):
        segment = pair.maker.segment(4, failed=2)
        run(pair.archive.seal(segment))

    assert pair.files.find(segment.failed) == {segment.failed[0]: FailedId(4), segment.failed[1]: FailedId(5)}


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_lookup_file_is_made_again_from_its_segment(seed: int) -> None:
    pair = SideBySide(Random(seed))
    pair.seal(3, 200)
    name = next(name for name in pair.disk.list("index") if name.endswith(".lookup"))
    # Behind the header, which is read at the start only.
    pair.disk.flip_bit(f"index/{name}", 4096 + 50 + seed)

    check_ids(pair)
    check_rows(pair)
    check_accounts(pair)


def test_a_lookup_file_that_cannot_be_read_is_made_again_from_its_segment() -> None:
    """Seed 536864343 of the simulator: a node stopped at the row that it could not read, at each start."""
    pair = SideBySide(Random(4))
    pair.seal(3, 200)
    for name in pair.disk.list("index"):
        if name.endswith(".lookup"):
            pair.disk.fail_sectors(f"index/{name}", 4096, 4096)

    check_ids(pair)
    check_rows(pair)
    check_accounts(pair)
