"""The index of all sealed ids, in memory: 12 bytes an id, and 1.5 to 3 of a filter that answers for most new ones.

An id stands as a fingerprint of 64 bits under a key that only this node knows, so that nobody can choose ids that
collide; what is found is compared with the id itself in the segment's file by whoever asks. A *run* holds the
fingerprints of consecutive segments, sorted; each new segment makes one, and some of like size are merged. runs.py
keeps them on the disk. One thread adds, any may ask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from raftpay.ledger.types import ID_LENGTH_MAX

# Below so many the interpreter alone is faster than numpy's calls.
_FEW: Final = 12
_WORD_BYTES: Final = 8
_WORDS_MAX: Final = ID_LENGTH_MAX // _WORD_BYTES
_MASK: Final = 2**64 - 1
_ODD: Final = 0x9E3779B97F4A7C15
_FILTER_BITS_MIN: Final = 12
_FILTER_WORDS_MIN_LOG2: Final = 10
# Texts are packed so many at a time: it holds the interpreter.
_PIECE_IDS: Final = 8192
_MERGED_IDS: Final = 1 << 18
_MERGED_RATIO: Final = 3
_HALF: Final = np.uint64(32)
_PLACE: Final = np.uint64(63)
_SHIFTS: Final = (np.uint64(6), np.uint64(12), np.uint64(18))
_ONE: Final = np.uint64(1)

Fingerprints = NDArray[np.uint64]


class Key:
    """Makes fingerprints. seed: 64 bits that clients do not know."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        made = _scrambled(seed)
        self._first = [next(made) | 1 for _ in range(_WORDS_MAX)]
        self._second = [next(made) | 1 for _ in range(_WORDS_MAX)]
        self._last = next(made) | 1
        self._first_array = np.array(self._first, np.uint64)
        self._second_array = np.array(self._second, np.uint64)

    def fingerprints(self, ids: Sequence[str]) -> Fingerprints:
        """Of ids of at most 64 ASCII characters."""
        if len(ids) <= _PIECE_IDS:
            return self._piece(ids)
        return np.concatenate(
            [self._piece(ids[first : first + _PIECE_IDS]) for first in range(0, len(ids), _PIECE_IDS)]
        )

    def _piece(self, ids: Sequence[str]) -> Fingerprints:
        count = max(1, -(-max(map(len, ids), default=0) // _WORD_BYTES))
        words = np.array(ids, f"S{count * _WORD_BYTES}").view("<u8").reshape(len(ids), count)
        total = np.zeros(len(ids), np.uint64)
        for place in range(count):
            mixed = words[:, place] * self._first_array[place]
            mixed ^= mixed >> _HALF
            mixed *= self._second_array[place]
            total += mixed
        total ^= total >> _HALF
        total *= np.uint64(self._last)
        total ^= total >> _HALF
        return total

    def fingerprint(self, id_: str) -> int:
        """The same of one id."""
        data, total = id_.encode(), 0
        places = range(0, len(data), _WORD_BYTES)
        for place, first, second in zip(places, self._first, self._second, strict=False):
            mixed = int.from_bytes(data[place : place + _WORD_BYTES], "little") * first & _MASK
            total += (mixed ^ mixed >> 32) * second
        total &= _MASK
        total = (total ^ total >> 32) * self._last & _MASK
        return total ^ total >> 32


def _scrambled(seed: int) -> Iterator[int]:
    """Numbers of 64 bits that follow from the seed (splitmix64)."""
    while True:
        seed = (seed + _ODD) & _MASK
        mixed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
        yield mixed ^ mixed >> 31


@dataclass(frozen=True, slots=True)
class Run:
    """The ids of some consecutive segments.

    segments: first and last of them. base: the ordinal of the first id, as the ids of all segments are counted.
    fingerprints: ascending. offsets: of each, its ordinal less the base.
    """

    segments: tuple[int, int]
    base: int
    fingerprints: Fingerprints
    offsets: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.fingerprints)

    def ordinals(self, fingerprints: Fingerprints) -> Iterator[tuple[int, int]]:
        """Of ids that have one of these fingerprints, ascending: the place of the fingerprint, and the id's ordinal."""
        starts = np.searchsorted(self.fingerprints, fingerprints)
        places = np.flatnonzero(starts < len(self))
        while len(places):
            places = places[self.fingerprints[starts[places]] == fingerprints[places]]
            ordinals = self.offsets[starts[places]].astype(np.int64) + self.base
            yield from zip(places.tolist(), ordinals.tolist(), strict=True)
            # Two ids of one fingerprint lie beside each other.
            starts[places] += 1
            places = places[starts[places] < len(self)]


def run_of(key: Key, ids: Sequence[str], segment: int, base: int) -> Run:
    """Of one segment. ids: all of them, in order; an empty one is left out, but counted."""
    fingerprints = key.fingerprints(ids)
    offsets = np.argsort(fingerprints).astype(np.uint32)
    if "" in ids:
        empty = [place for place, id_ in enumerate(ids) if not id_]
        offsets = offsets[~np.isin(offsets, np.array(empty, np.uint32))]
    return Run((segment, segment), base, fingerprints[offsets], offsets)


def merged(runs: Sequence[Run]) -> Run:
    """One run of several of consecutive segments, oldest first. Made piece by piece: of the whole, what numpy needs
    beside would be as much memory again.
    """
    for older, newer in pairwise(runs):
        assert older.segments[1] + 1 == newer.segments[0]
    size, base = sum(map(len, runs)), runs[0].base
    fingerprints, offsets = np.empty(size, np.uint64), np.empty(size, np.uint32)
    # The pieces end at fingerprints of the longest run; the same one lies in one piece, whatever run has it.
    longest = max(runs, key=len).fingerprints
    step = max(1, _MERGED_IDS * len(longest) // max(1, size))
    limits = longest[step::step]
    ends = [[*np.searchsorted(run.fingerprints, limits).tolist(), len(run)] for run in runs]
    begins, done = [0] * len(runs), 0
    for piece_ends in zip(*ends, strict=True):
        spans = [slice(begin, end) for begin, end in zip(begins, piece_ends, strict=True)]
        found = np.concatenate([run.fingerprints[span] for run, span in zip(runs, spans, strict=True)])
        # A stable sort makes use of what is in order already.
        order = np.argsort(found, kind="stable")
        later = [run.offsets[span] + np.uint32(run.base - base) for run, span in zip(runs, spans, strict=True)]
        piece = slice(done, done + len(order))
        fingerprints[piece], offsets[piece] = found[order], np.concatenate(later)[order]
        begins, done = list(piece_ends), piece.stop
    return Run((runs[0].segments[0], runs[-1].segments[1]), base, fingerprints, offsets)


class _Filter:
    """For a set of fingerprints: whether one may be in it. Of those that are not, some in a hundred are said to be.

    A fingerprint has four bits in one word of 64: the word by its highest bits, the bits by its lowest.
    """

    def __init__(self, count: int) -> None:
        wanted = count * _FILTER_BITS_MIN // 64
        self.log2 = max(_FILTER_WORDS_MIN_LOG2, wanted.bit_length())
        self.words = np.zeros(1 << self.log2, np.uint64)
        self._view = memoryview(self.words.data)

    def has_room(self, count: int) -> bool:
        return count * _FILTER_BITS_MIN <= 64 << self.log2

    def add(self, fingerprints: Fingerprints) -> None:
        """fingerprints: ascending. Done in parts that stay in the processor's cache."""
        shift = np.uint64(64 - self.log2)
        for first in range(0, len(fingerprints), 1 << 16):
            part = fingerprints[first : first + (1 << 16)]
            places = (part >> shift).astype(np.int64)
            starts = np.flatnonzero(np.diff(places, prepend=-1))
            places = places[starts]
            self.words[places] |= np.bitwise_or.reduceat(_bits(part), starts)

    def may_have(self, fingerprints: Fingerprints) -> NDArray[np.bool_]:
        bits = _bits(fingerprints)
        words = self.words[(fingerprints >> np.uint64(64 - self.log2)).view(np.int64)]
        words &= bits
        is_there: NDArray[np.bool_] = words == bits
        return is_there

    def may_have_one(self, fingerprint: int) -> bool:
        bits = 1 << (fingerprint & 63) | 1 << (fingerprint >> 6 & 63)
        bits |= 1 << (fingerprint >> 12 & 63) | 1 << (fingerprint >> 18 & 63)
        found: int = self._view[fingerprint >> 64 - self.log2]
        return found & bits == bits


def _bits(fingerprints: Fingerprints) -> Fingerprints:
    bits = _ONE << (fingerprints & _PLACE)
    for shift in _SHIFTS:
        bits |= _ONE << (fingerprints >> shift & _PLACE)
    return bits


@dataclass(frozen=True, slots=True)
class _Held:
    """What is known at one moment. runs: of consecutive segments, oldest first."""

    runs: tuple[Run, ...]
    filter: _Filter


class IdIndex:
    """All sealed ids. key: of the fingerprints."""

    def __init__(self, key: Key, runs: Sequence[Run] = ()) -> None:
        self.key = key
        made = _Filter(sum(map(len, runs)))
        for run in runs:
            made.add(run.fingerprints)
        self._held = _Held(tuple(runs), made)

    def __len__(self) -> int:
        return sum(map(len, self._held.runs))

    @property
    def runs(self) -> tuple[Run, ...]:
        return self._held.runs

    @property
    def size_bytes(self) -> int:
        held = self._held
        return held.filter.words.nbytes + sum(run.fingerprints.nbytes + run.offsets.nbytes for run in held.runs)

    def add(self, run: Run) -> None:
        """Takes a run in; it follows on the last one, or stands for the last ones. What is asked meanwhile is answered
        from the runs before.
        """
        held = self._held
        kept = [known for known in held.runs if known.segments[1] < run.segments[0]]
        assert (kept[-1].segments[1] + 1 if kept else 0) == run.segments[0]
        runs, made = (*kept, run), held.filter
        count = sum(map(len, runs))
        if made.has_room(count):
            # The ids of those for which it stands are in the filter.
            if len(kept) == len(held.runs):
                made.add(run.fingerprints)
            assert len(kept) == len(held.runs) or run.segments[1] == held.runs[-1].segments[1]
        else:
            made = _Filter(2 * count)
            for known in runs:
                made.add(known.fingerprints)
        self._held = _Held(runs, made)

    def to_merge(self) -> tuple[Run, ...]:
        """The last runs, where they should become one; else none.

        A run is merged with those behind it when they have become three times as many ids. So an id is written again
        each time its run has grown fourfold, and there are at most some three runs of a size.
        """
        runs, behind = self._held.runs, 0
        chosen: tuple[Run, ...] = ()
        for place in range(len(runs) - 1, -1, -1):
            if 0 < behind >= _MERGED_RATIO * len(runs[place]):
                chosen = runs[place:]
            behind += len(runs[place])
        return chosen

    def may_contain(self, ids: Sequence[str]) -> list[str]:
        """Those that may be in it, one in a hundred of those that are not."""
        if not self._held.runs:
            return []
        return [ids[place] for place in self._places(ids)[0]]

    def candidates(self, ids: Sequence[str], *, segments: int | None = None) -> dict[str, list[int]]:
        """Of each id that has any, the ordinals of ids with its fingerprint: nearly always one, and its own.

        segments: runs that begin behind the first so many are left out.
        """
        runs = [run for run in self._held.runs if segments is None or run.segments[0] < segments]
        places, fingerprints = self._places(ids)
        found: dict[str, list[int]] = {}
        order = sorted(range(len(places)), key=fingerprints.__getitem__)
        wanted = np.array([fingerprints[at] for at in order], np.uint64)
        for run in runs:
            for at, ordinal in run.ordinals(wanted):
                found.setdefault(ids[places[order[at]]], []).append(ordinal)
        return found

    def _places(self, ids: Sequence[str]) -> tuple[list[int], list[int]]:
        """Which of the ids may be in it, by their places, and their fingerprints."""
        held = self._held
        if len(ids) < _FEW:
            found = [
                (place, fingerprint)
                for place, id_ in enumerate(ids)
                if _is_packable(id_) and held.filter.may_have_one(fingerprint := self.key.fingerprint(id_))
            ]
            return [place for place, _ in found], [fingerprint for _, fingerprint in found]
        if "".join(ids).isascii() and max(map(len, ids)) <= ID_LENGTH_MAX:
            fingerprints = self.key.fingerprints(ids)
            places = np.flatnonzero(held.filter.may_have(fingerprints))
            return places.tolist(), fingerprints[places].tolist()
        # Ids that no transfer can have; rare, for they are nobody's but a mistake's.
        packable = [place for place, id_ in enumerate(ids) if _is_packable(id_)]
        some, fingerprints_of_some = self._places([ids[place] for place in packable])
        return [packable[place] for place in some], fingerprints_of_some


def _is_packable(id_: str) -> bool:
    return id_.isascii() and 0 < len(id_) <= ID_LENGTH_MAX
