"""What was sent back of each transfer: against a dict, and what images have of it does not change."""

from random import Random

import pytest

from raftpay.ledger.reversed_amounts import ReversedAmounts, pairs_of


@pytest.mark.parametrize("rows", [5, 40_000])
def test_parts_are_those_of_the_moment_when_they_were_shared(rows: int) -> None:
    dice, kept, twin = Random(rows), ReversedAmounts(), dict[int, int]()
    images: list[tuple[list[dict[int, int]], dict[int, int]]] = []
    for _ in range(5000):
        row = dice.randrange(rows)
        amount = dice.choice((0, 1, 7)) if row not in twin or dice.random() < 0.5 else -twin[row]
        kept.add(row, amount)
        twin[row] = twin.get(row, 0) + amount
        if not twin[row]:
            del twin[row]
        if dice.random() < 0.01:
            images.append((kept.shared_parts(), dict(twin)))

    assert dict(kept) == twin
    assert [kept.of(row) for row in range(rows)] == [twin.get(row, 0) for row in range(rows)]
    assert len(images) > 20
    for parts, then in images:
        assert dict(pairs_of(parts)) == then
        again = ReversedAmounts()
        again.update(pairs_of(parts))
        assert dict(again) == then
