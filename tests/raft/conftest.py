"""What the tests of the rules share: a group of real engines on a simulated clock."""

from collections.abc import Iterator

import pytest

from tests.raft.lab import Clock, Lab, simulated_clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    with simulated_clock() as clock:
        yield clock


@pytest.fixture
def lab(clock: Clock) -> Lab:
    return Lab(clock)
