"""The id index against a dict: it never misses an id, whatever is added, merged, saved and read again."""

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftpay.archive.ids import IdIndex, Key, Run, merged, run_of
from raftpay.archive.pages import CONTENT_BYTES, PAGE_BYTES, Paged, PageDamagedError, PagedFile
from raftpay.archive.runs import covering, encode_run, read_run, run_name
from raftpay.errors import CorruptionError
from raftpay.storage.sim_disk import SimDisk

STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
IDS = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64), max_size=60)


@settings(STEADY, max_examples=200)
@given(ids=IDS, seed=st.integers(0, 2**64 - 1))
def test_one_id_has_the_same_fingerprint_alone_and_among_others(ids: list[str], seed: int) -> None:
    key = Key(seed)
    named = [id_ for id_ in ids if id_]

    assert key.fingerprints(named).tolist() == [key.fingerprint(id_) for id_ in named]


def test_fingerprints_follow_the_key() -> None:
    assert Key(1).fingerprint("alice") != Key(2).fingerprint("alice")


def test_ids_that_differ_little_have_fingerprints_that_differ_everywhere() -> None:
    key = Key(3)
    fingerprints = key.fingerprints([f"t{number}" for number in range(20_000)])

    assert len(np.unique(fingerprints)) == len(fingerprints)
    # Sorted by their highest bits they fill all of a thousand equal parts.
    assert len(np.unique(fingerprints >> np.uint64(54))) == 1024


@settings(STEADY, max_examples=60)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_the_index_answers_as_a_dict_does(seed: int, sizes: list[int]) -> None:
    dice, key = Random(seed), Key(seed)
    index, twin, ordinal = IdIndex(key), {}, 0
    for segment, size in enumerate(sizes):
        ids = [dice.choice((f"id-{ordinal + place}", f"{ordinal + place}" * 9, ""))[:64] for place in range(size)]
        index.add(run_of(key, ids, segment, ordinal))
        twin |= {id_: ordinal + place for place, id_ in enumerate(ids) if id_}
        ordinal += size
        while group := index.to_merge():
            index.add(merged(group))
    asked = [*dice.sample(list(twin), min(len(twin), 40)), *(f"other{number}" for number in range(40))]

    for some in (asked, asked[:5], asked[-1:], []):
        assert {id_ for id_ in some if id_ in twin} <= set(index.may_contain(some))
        assert index.candidates(some) == {id_: [twin[id_]] for id_ in some if id_ in twin}
    assert len(index) == len(twin)


def test_few_ids_that_are_not_there_pass_the_filter() -> None:
    key = Key(5)
    index = IdIndex(key, [run_of(key, [f"t{number}" for number in range(50_000)], 0, 0)])

    asked = [f"new{number}" for number in range(20_000)]

    assert len(index.may_contain(asked)) < 400
    assert index.candidates(asked) == {}


def test_all_ids_of_one_fingerprint_are_found() -> None:
    fingerprint = Key(6).fingerprint("a")
    index = IdIndex(Key(6))
    for segment in range(3):
        fingerprints = np.array([1, fingerprint, fingerprint, 2**64 - 1], np.uint64)
        index.add(Run((segment, segment), segment * 4, np.sort(fingerprints), np.arange(4, dtype=np.uint32)))

    assert len(index.candidates(["a"])["a"]) == 6
    assert len(index.candidates(["a"] + [f"b{number}" for number in range(50)])["a"]) == 6


@pytest.mark.parametrize("piece", [1, 3, 64, 1 << 18])
@pytest.mark.parametrize(
    "sizes", [(0, 5), (5, 0), (0, 0), (1, 1), (200, 40), (64, 64), (7, 300), (20, 0, 20, 21), (90, 5, 5, 1, 1)]
)
def test_merged_runs_have_the_ids_of_all_in_order(
    monkeypatch: pytest.MonkeyPatch, piece: int, sizes: tuple[int, ...]
) -> None:
    monkeypatch.setattr("raftpay.archive.ids._MERGED_IDS", piece)
    random, runs, all_ids = Random(sum(sizes)), [], []
    for number, count in enumerate(sizes):
        # Few different ones, so that some are in several.
        made = np.array(sorted(random.choices(range(1, 2 * sum(sizes)), k=count)), np.uint64)
        runs.append(Run((number, number), len(all_ids), made, np.arange(count, dtype=np.uint32)))
        all_ids += made.tolist()

    run = merged(runs)

    assert run.segments == (0, len(sizes) - 1)
    assert run.fingerprints.tolist() == sorted(all_ids)
    found = zip(run.offsets.tolist(), run.fingerprints.tolist(), strict=True)
    assert dict(found) == dict(enumerate(all_ids))


def test_ids_that_no_transfer_can_have_are_in_no_index() -> None:
    key = Key(7)
    index = IdIndex(key, [run_of(key, ["a", "b"], 0, 0)])
    odd = ["ä", "x" * 65, "", *(f"c{number}" for number in range(40)), "a"]

    assert index.may_contain(odd) == ["a"]
    assert index.may_contain(odd[:3]) == []


def test_runs_are_few_and_seldom_written_again_and_the_index_small() -> None:
    key, index, written = Key(8), IdIndex(Key(8)), 0
    for segment in range(64):
        index.add(run_of(key, [f"{segment}-{number}" for number in range(1000)], segment, segment * 1000))
        while group := index.to_merge():
            index.add(merged(group))
            written += len(index.runs[-1])
        assert len(index.runs) <= 9

    assert len(index.runs) == 1
    assert written <= 3 * len(index)
    assert index.size_bytes <= 16 * len(index)


def test_runs_of_any_sizes_become_few() -> None:
    key, ordinal = Key(12), 0
    runs = []
    for segment, size in enumerate([64, 8, 8, 1, 0, 30, 4, *[1] * 60]):
        runs.append(run_of(key, [f"{segment}-{number}" for number in range(size)], segment, ordinal))
        ordinal += size
    index = IdIndex(key, runs)

    while group := index.to_merge():
        index.add(merged(group))

    assert len(index) == ordinal
    assert len(index.runs) <= 4


def saved(disk: SimDisk, run: Run, key: Key) -> str:
    name = run_name(run)
    disk.create(name).pwrite(b"".join(encode_run(run, key, b"d" * 32)), 0)
    return name


def test_a_run_is_read_as_it_was_saved() -> None:
    key, disk = Key(9), SimDisk()
    run = run_of(key, [f"t{number}" for number in range(5000)], 3, 70)

    again, seed, digest = read_run(disk, saved(disk, run, key))

    assert (again.segments, again.base, seed, digest) == ((3, 3), 70, 9, b"d" * 32)
    assert again.fingerprints.tolist() == run.fingerprints.tolist()
    assert again.offsets.tolist() == run.offsets.tolist()


@settings(STEADY, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_run_is_noticed(place: float, bit: int) -> None:
    key, disk = Key(10), SimDisk()
    run = run_of(key, [f"t{number}" for number in range(2000)], 0, 0)
    name = saved(disk, run, key)
    disk.flip_bit(name, int(place * disk.open(name).size()), bit)

    try:
        again, seed, _ = read_run(disk, name)
    except CorruptionError:
        return
    # Only what fills up the last page may differ, and that is part of no run; its crc says so all the same.
    assert seed == 10
    assert again.fingerprints.tolist() == run.fingerprints.tolist()


def test_a_run_that_is_cut_short_is_noticed() -> None:
    key, disk = Key(11), SimDisk()
    name = saved(disk, run_of(key, [f"t{number}" for number in range(2000)], 0, 0), key)
    disk.open(name).truncate(2 * PAGE_BYTES)

    with pytest.raises(CorruptionError):
        read_run(disk, name)


@pytest.mark.parametrize(
    ("spans", "count", "chosen"),
    [
        ([(0, 0), (1, 1), (0, 1)], 2, [(0, 1)]),
        ([(0, 1), (2, 2), (3, 3), (2, 3)], 4, [(0, 1), (2, 3)]),
        ([(0, 1), (3, 3)], 4, [(0, 1)]),
        ([(1, 1)], 2, []),
        ([(0, 3)], 2, []),
        ([], 2, []),
    ],
)
def test_the_runs_that_cover_the_most_are_chosen(
    spans: list[tuple[int, int]], count: int, chosen: list[tuple[int, int]]
) -> None:
    names = {span: f"index/ids-{span[0]:08d}-{span[1]:08d}.run" for span in spans}

    assert covering([*names.values(), "index/other.lookup"], count) == [names[span] for span in chosen]


@settings(STEADY, max_examples=100)
@given(size=st.integers(0, 20_000), offset=st.integers(0, 20_000), length=st.integers(0, 9000))
def test_any_part_of_paged_bytes_is_read_back(size: int, offset: int, length: int) -> None:
    data, disk = Random(size).randbytes(size), SimDisk()
    disk.create("a/b").pwrite(b"".join(Paged(data)), 0)
    offset = min(offset, size)

    assert PagedFile(disk.open("a/b")).read(min(length, size - offset), offset) == data[offset : offset + length]


def test_pages_that_changed_places_are_not_believed() -> None:
    data, disk = b"".join(Paged(Random(1).randbytes(3 * PAGE_BYTES))), SimDisk()
    disk.create("a/b").pwrite(data[PAGE_BYTES : 2 * PAGE_BYTES] + data[:PAGE_BYTES] + data[2 * PAGE_BYTES :], 0)

    with pytest.raises(PageDamagedError, match="a/b: the page at byte 0 is not what was written"):
        PagedFile(disk.open("a/b")).read(10, 0)


def test_a_page_of_another_file_in_the_same_place_is_not_believed() -> None:
    """Seed 2101571 of the simulator: a disk wrote a page of one run into the file of another, where it was believed."""
    ours, others = (b"".join(Paged(head, bytes(2 * PAGE_BYTES))) for head in (b"ours", b"others"))
    disk = SimDisk()
    disk.create("a/b").pwrite(ours[:PAGE_BYTES] + others[PAGE_BYTES : 2 * PAGE_BYTES] + ours[2 * PAGE_BYTES :], 0)
    file = PagedFile(disk.open("a/b"))

    assert file.read(4, 0) == b"ours"
    with pytest.raises(PageDamagedError, match=f"a/b: the page at byte {PAGE_BYTES} is not what was written"):
        file.read(PAGE_BYTES, CONTENT_BYTES)
