"""New ids are UUIDs of version 7, unique over threads, forks and a clock that is set back."""

import os
import threading
import time
import uuid

import pytest

from raftpay import new_id
from raftpay.client.ids import IdSource
from raftpay.ledger import ID_LENGTH_MAX


def test_an_id_is_a_uuid_of_version_7_with_the_present_time() -> None:
    before = time.time_ns() // 1_000_000

    made = uuid.UUID(text := new_id())

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before - 1 <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1
    assert str(made) == text
    assert len(text) <= ID_LENGTH_MAX


def test_ids_increase_within_a_process() -> None:
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_of_several_threads_are_unique() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(new_id() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({one for into in made for one in into}) == 20_000
    assert all(into == sorted(into) for into in made)


def test_a_clock_that_is_set_back_does_not_take_the_ids_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    first = source.new()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)

    later = [source.new() for _ in range(100)]

    assert [first, *later] == sorted([first, *later])
    assert len({first, *later}) == 101


def test_ids_go_on_increasing_when_the_tail_runs_over(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    before = source.new()
    source._tail = 2**74 - 1

    ids = [before, source.new(), source.new()]

    assert ids == sorted(ids)
    assert all(uuid.UUID(one).version == 7 for one in ids)


def test_a_fork_does_not_repeat_the_ids_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    source.new()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, source.new().encode())
        os._exit(0)

    of_parent = source.new()
    os.waitpid(child, 0)
    of_child = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert of_child != of_parent
    assert of_child[-12:] != of_parent[-12:]
