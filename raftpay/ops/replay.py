"""The books of a node, made again from its snapshot and its journal as a start makes them: the part of `raftpay check
--deep` that looks at what is not sealed yet. Nothing on the disk is changed; of a running node it is what lies there
at the moment.

Which entries at the journal's end are committed no disk says: a node learns it from its leader. All are replayed, as
they would be if a leader committed them; what is compared with sealed rows lies below, but for one case: a node that
was stopped while it fetched sealed history from a peer, with entries of its own that nobody committed, and so many of
them that they end a segment.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Final

from raftpay.archive.archive import Archive
from raftpay.archive.chain import Cut, segments_in
from raftpay.archive.columns import Ints, segment_of
from raftpay.archive.deep import balance_differences
from raftpay.archive.history import SealedFiles
from raftpay.archive.parquet import Store
from raftpay.errors import CorruptionError, RaftpayError
from raftpay.ledger import Ledger
from raftpay.ledger.sealed import BalanceColumns
from raftpay.ledger.window import WindowSizes
from raftpay.machine import Machine
from raftpay.ops.check import is_balanced
from raftpay.raft.catch_up import restore
from raftpay.raft.members import MEMBERS
from raftpay.raft.stock_engine import NO_OP, REGULAR
from raftpay.storage.journal import Entry, Journal, JournalOptions
from raftpay.storage.overlay import OverlayDisk
from raftpay.storage.snapshots import SnapshotStore

_READ_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Replay:
    """What has come out. ledger: as it is behind the last entry; None where it could not be made.

    snapshot_index: where it began; 0 for the beginning of the log. first_index, terms, prints: of the entries in the
    journal, with a hash of each. committed_index: up to it they are known to be committed: by the snapshot, or because
    their rows are sealed. made_at: the entry that ended each segment, by the number of the segment. compared: how many
    cuts were compared with sealed rows. common: term of the common entry, and the digest of the state behind it; None
    where it is not among those replayed.
    """

    problems: list[str] = field(default_factory=list)
    ledger: Ledger | None = None
    snapshot_index: int = 0
    first_index: int = 1
    terms: "array[int]" = field(default_factory=lambda: array("Q"))
    prints: "array[int]" = field(default_factory=lambda: array("Q"))
    committed_index: int = 0
    made_at: dict[int, int] = field(default_factory=dict)
    compared: int = 0
    common: tuple[int, str] | None = None

    @property
    def last_index(self) -> int:
        return max(self.snapshot_index, self.first_index + len(self.terms) - 1)

    def beside(self, cut: Cut, closing: Sequence[Ints]) -> Iterator[str]:
        """What a sealed segment says otherwise than the ledger. closing: the balances that its rows come to."""
        if self.ledger is None:
            return
        for segment in self.ledger.segments():
            if segment.number == cut.number and segment_of(segment.rows()).digest(cut.previous) != cut.digest:
                yield f"its rows are not those that {self._origin(cut.number)} give"
        for known in self.ledger.cuts:
            if known.number == cut.number + 1:
                self.compared += 1
                yield from self._differences(cut, known.balances, closing)

    def _differences(self, cut: Cut, found: BalanceColumns, closing: Sequence[Ints]) -> Iterator[str]:
        assert self.ledger is not None
        if len(found[0]) != len(closing[0]):
            yield f"{len(closing[0])} accounts are open at its end, {len(found[0])} by {self._origin(cut.number)}"
            return
        for wrong in balance_differences(found, closing):
            yield (
                f"the {wrong.kind} of {wrong.count} accounts at its end are not those that its rows come to, the first "
                f"of them {self.ledger.account_ids[wrong.account]!r}: {wrong.found} by {self._origin(cut.number)}, "
                f"{wrong.expected} by the rows"
            )

    def _origin(self, number: int) -> str:
        """Where the ledger has its cut behind the segment from."""
        if number in self.made_at:
            return f"the journal up to entry {self.made_at[number]}"
        return f"the snapshot of entry {self.snapshot_index}"


def replay(path: Path, cluster_id: str, store: Store, sizes: WindowSizes, *, common_index: int) -> Replay:
    """Start as a node starts, in memory, and apply all that is in the journal.

    Where a node writes there meanwhile, what is seen may not fit together; then it does when looked at again.

    common_index: the entry behind which the digest of the state is wanted. What is wrong is not raised but said in
    `problems`.
    """
    disk, made = OverlayDisk(path), Replay()
    journal = archive = None
    try:
        journal = Journal.open(disk, JournalOptions(cluster_id=cluster_id, reserve_bytes=0))
        made.first_index = journal.first_index
        snapshots = SnapshotStore.open(disk, cluster_id)
        made.problems += [reason for _, reason in snapshots.damaged]
        archive = Archive.open(disk, cluster_id, store)
        _check_files(archive, snapshots, made)
        ledger = Ledger(SealedFiles(archive), sizes=sizes)
        machine = Machine(ledger, archive)
        restore(journal, snapshots, machine)
        made.first_index = journal.first_index
        made.snapshot_index = made.committed_index = 0 if snapshots.newest is None else snapshots.newest.index
        _apply_all(journal, machine, ledger, made, sealed=archive.segments, common_index=common_index)
        made.ledger = ledger
        made.problems += [
            f"debits and credits of {line.currency} differ behind entry {made.last_index}: "
            f"{line.debits_posted} and {line.credits_posted} posted, "
            f"{line.debits_pending} and {line.credits_pending} pending"
            for line in ledger.trial_balance()
            if not is_balanced(line)
        ]
    except RaftpayError as error:
        made.problems.append(f"snapshot and journal cannot be replayed: {error}")
    finally:
        if archive is not None:
            archive.close()
        if journal is not None:
            journal.close()
    return made


def last_entry(path: Path, cluster_id: str) -> int:
    """The index of the last entry in the journal; 0 where it cannot be read, which its replay will say."""
    try:
        journal = Journal.open(OverlayDisk(path), JournalOptions(cluster_id=cluster_id, reserve_bytes=0))
    except RaftpayError:
        return 0
    journal.close()
    return journal.last_index


def _check_files(archive: Archive, snapshots: SnapshotStore, made: Replay) -> None:
    """A snapshot lists the files of all segments that were sealed when it was made: the first so many."""
    for info in (snapshots.newest, snapshots.previous):
        if info is None:
            continue
        listed = {file.name for file in info.header.files}
        count = len(segments_in(listed))
        sealed = {file.name for header in archive.sealed.headers[:count] for file in header.files}
        made.problems += [f"{info.name} lists {name}, which is not sealed here" for name in sorted(listed - sealed)]
        made.problems += [f"{info.name} does not list {name}" for name in sorted(sealed - listed)]


def _apply_all(
    journal: Journal, machine: Machine, ledger: Ledger, made: Replay, *, sealed: int, common_index: int
) -> None:
    index = journal.first_index
    while index <= journal.last_index:
        for entry in journal.entries(index, journal.last_index, bytes_max=_READ_BYTES):
            made.terms.append(entry.term)
            made.prints.append(int.from_bytes(blake2b(entry.payload, digest_size=8).digest()))
            if entry.index > made.snapshot_index:
                number = ledger.cuts[-1].number
                _apply(entry, machine)
                if ledger.cuts[-1].number > number:
                    made.made_at[number] = entry.index
                    made.committed_index = entry.index if number < sealed else made.committed_index
                if entry.index == common_index:
                    made.common = entry.term, ledger.state_digest()
            index = entry.index + 1


def _apply(entry: Entry, machine: Machine) -> None:
    kind = entry.payload[:1]
    if kind == REGULAR:
        try:
            machine.apply(entry.index, entry.payload[1:])
        except AssertionError as error:
            raise CorruptionError(
                f"log entry {entry.index} does not go on from the books before it: {error}"
            ) from error
    elif kind not in (NO_OP, MEMBERS):
        raise CorruptionError(f"log entry {entry.index} is of the unknown type {kind!r}")


def different_entries(replays: dict[str, Replay]) -> Iterator[str]:
    """Two logs that have an entry of one index and term have the same one there (log matching, Raft paper 5.3)."""
    for (name, one), (other_name, other) in combinations(replays.items(), 2):
        first = max(one.first_index, other.first_index)
        count = min(one.first_index + len(one.terms), other.first_index + len(other.terms)) - first
        if count <= 0:
            continue
        pairs = zip(_entries(one, first, count), _entries(other, first, count), strict=True)
        wrong = [(index, a[0]) for index, (a, b) in enumerate(pairs, first) if a[0] == b[0] and a[1] != b[1]]
        if wrong:
            yield (
                f"{len(wrong)} entries of one index and term are not the same on {name} and {other_name}, "
                f"the first of them entry {wrong[0][0]} of term {wrong[0][1]}"
            )


def _entries(made: Replay, first: int, count: int) -> Iterator[tuple[int, int]]:
    """Term and hash of each."""
    place = first - made.first_index
    return zip(made.terms[place : place + count], made.prints[place : place + count], strict=True)


def different_states(replays: dict[str, Replay], common_index: int) -> Iterator[str]:
    """Behind one entry of one term, the log before it is the same, and so must be the books (Raft paper 5.3)."""
    digests: dict[int, dict[str, list[str]]] = {}
    for name, each in replays.items():
        if each.common is not None:
            term, digest = each.common
            digests.setdefault(term, {}).setdefault(digest, []).append(name)
    for term, found in digests.items():
        if len(found) > 1:
            sides = " and ".join(", ".join(names) for names in found.values())
            yield f"the books behind entry {common_index} of term {term} are not the same on {sides}"
