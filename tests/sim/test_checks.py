"""The simulator can fail: with a remedy taken out of the engine, or a history that no ledger gives, it says so."""

from dataclasses import replace

import msgspec
import pytest

from raftpay.ledger.types import Account
from raftpay.ledger.window import WindowSizes
from raftpay.machine import build_command, check_create_accounts
from raftpay.raft.copies import Copies
from raftpay.raft.engine import LEADER, Engine
from raftpay.raft.log import RaftLog
from raftpay.raft.messages import CopyFetch, PreVoteReply
from raftpay.raft.reads import Reads
from raftpay.sim.history import History
from raftpay.sim.invariants import Committed
from raftpay.sim.run import Outcome, Plan, check_kinds, shrink, simulate
from raftpay.sim.trace import Trace, ViolationError
from raftpay.storage.journal import Journal
from raftpay.storage.sim_disk import SimDisk


def first_failure(seeds: range, like: Plan) -> Outcome:
    outcomes = (simulate(replace(like, seed=seed)) for seed in seeds)
    return next(outcome for outcome in outcomes if outcome.violation)


def test_an_acknowledgement_before_the_fsync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_durable_index", lambda engine: engine._verified[2])

    outcome = first_failure(range(3), Plan(0, requests=100))

    assert outcome.violation == "persist before you send"


def test_a_leader_that_counts_what_it_has_not_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def quorum_index(engine: Engine) -> int:
        matches = [progress.match_index for progress in engine._progress.values()]
        return sorted([engine.last_index, *matches])[len(matches) // 2]

    monkeypatch.setattr(Engine, "_quorum_index", quorum_index)

    outcome = first_failure(range(10), Plan(0, requests=300))

    assert outcome.violation == "commit only what a majority has fsynced"


def test_a_vote_that_is_not_saved_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftLog, "setCurrentTerm", lambda log, term, voted_for: None)

    outcome = first_failure(range(3), Plan(0, requests=100))

    assert outcome.violation == "persist before you send"


def test_a_read_without_a_round_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    confirm = Reads.confirm
    monkeypatch.setattr(
        Reads, "confirm", lambda reads, round_, read_index, confirmed: confirm(reads, 0, read_index, confirmed)
    )

    outcome = first_failure(range(60), Plan(0, requests=1000, kinds=("partition", "oneway", "pause")))

    assert outcome.violation == "linearizability"


def test_a_leader_that_is_ready_before_its_own_entry_is_applied_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "is_ready", property(lambda engine: engine.role == LEADER))

    outcome = first_failure(range(20), Plan(0, requests=1000))

    assert outcome.violation in ("linearizability", "the engine runs on", "no exception")


def test_a_name_that_was_not_fsynced_is_found_without_a_power_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimDisk, "fsync_folder", lambda disk, folder="": None)

    outcome = first_failure(range(1), Plan(0, requests=100, kinds=()))

    assert outcome.violation == "durability"


def test_a_pre_vote_against_a_leader_that_is_heard_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Engine,
        "_on_pre_vote",
        lambda engine, peer, message: engine._send(peer, PreVoteReply(message.term, granted=True)),
    )

    outcome = first_failure(range(20), Plan(0, requests=300))

    assert outcome.violation == "no vote against a leader that is heard"


def test_an_entry_that_is_mended_with_other_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Journal.payload_in_memory
    monkeypatch.setattr(
        Journal,
        "payload_in_memory",
        lambda journal, index: None if (payload := known(journal, index)) is None else payload[::-1],
    )

    outcome = first_failure(range(40), Plan(0, requests=1000, kinds=("unreadable",)))

    assert outcome.violation == "what is put right is right"


def test_a_peer_that_gives_another_entry_and_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(copies: Copies, message: CopyFetch) -> tuple[bytes, int]:
        payload = copies.journal.entry(message.index).payload[::-1]
        return payload[message.offset : message.offset + copies.chunk_bytes], len(payload)

    monkeypatch.setattr(Copies, "_entry", entry)

    outcome = first_failure(range(40), Plan(0, requests=1000, kinds=("unreadable",)))

    assert outcome.violation == "what is put right is right"


def test_damage_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftpay.storage.scrub._is_zero", lambda file, start, stop: False)

    outcome = first_failure(range(10), Plan(0, requests=1000, kinds=()))

    assert outcome.violation == "scrubbing finds damage only"


def test_damage_that_is_passed_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftpay.node.scrubbing.items_of", lambda parts: [])

    outcome = first_failure(range(40), Plan(0, requests=1000, kinds=("unreadable",)))

    assert outcome.violation == "what is damaged is put right"


def test_a_failing_run_is_shortened_and_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "is_ready", property(lambda engine: engine.role == LEADER))
    failed = first_failure(range(30), Plan(0, requests=400))

    shortest = shrink(failed, runs_max=16)

    assert shortest.violation == failed.violation
    assert len(shortest.faults) < len(failed.faults)
    assert "--only" in shortest.plan.command()
    assert shortest.last_events


# ---- the history


def history() -> History:
    return History(Trace(lambda: 0.0), WindowSizes())


def opened(time: int, name: str) -> Committed:
    payload = build_command(time, [check_create_accounts(msgspec.msgpack.encode([Account(name, "EUR")]))])
    return Committed(1, b"\0" + payload)


def test_a_history_that_the_log_gives_passes() -> None:
    told = history()
    write = told.attempt("a")
    told.answered(write, (10, b"\0"))
    question = told.question(["a", "b"])
    told.answered(question, (10, [(0, 0, 0, 0), None]))

    assert told.audit({2: opened(10, "a")}, {}).account_count == 1


def test_a_question_answered_from_an_old_state_is_found() -> None:
    told = history()
    told.answered(told.attempt("a"), (10, b"\0"))

    with pytest.raises(ViolationError, match="linearizability"):
        told.answered(told.question(["a"]), (9, [None]))


def test_a_write_that_took_effect_before_an_earlier_answer_is_found() -> None:
    told = history()
    told.answered(told.attempt("a"), (10, b"\0"))

    with pytest.raises(ViolationError, match="linearizability"):
        told.answered(told.attempt("b"), (10, b"\0"))


def test_a_balance_that_no_ledger_shows_is_found() -> None:
    told = history()
    told.answered(told.attempt("a"), (10, b"\0"))
    told.answered(told.question(["a"]), (10, [(0, 0, 0, 1)]))

    with pytest.raises(ViolationError, match="linearizability"):
        told.audit({2: opened(10, "a")}, {})


def test_an_answer_that_is_not_in_the_log_is_found() -> None:
    told = history()
    told.answered(told.attempt("a"), (10, b"\0"))

    with pytest.raises(ViolationError, match="no acknowledged command lost"):
        told.audit({}, {})


def test_a_refused_write_that_took_effect_is_found() -> None:
    told = history()
    told.refused(told.attempt("a"), is_unknown=False)

    with pytest.raises(ViolationError, match="errors are rightly classed"):
        told.audit({2: opened(10, "a")}, {})


def test_a_write_of_unknown_outcome_may_have_taken_effect_or_not() -> None:
    told = history()
    told.refused(told.attempt("a"), is_unknown=True)

    assert told.audit({}, {}).account_count == 0
    assert told.audit({2: opened(10, "a")}, {}).account_count == 1


def test_kinds_are_named_in_any_order_and_unknown_ones_refused() -> None:
    assert check_kinds(["pause", "kill"]) == ("kill", "pause")
    assert check_kinds(["none"]) == ()

    with pytest.raises(ValueError, match="bogus"):
        check_kinds(["bogus"])
