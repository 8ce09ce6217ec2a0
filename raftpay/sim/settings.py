"""What differs from run to run besides the faults: configured values, drawn from the seed. Called by run.py.

Sizes are small, so that a run rolls over, compacts, seals, reads back from disk and fills up.
"""

import random
from dataclasses import dataclass, replace
from typing import Final, Self

from raftpay.config import ScrubConfig
from raftpay.ledger.window import WindowSizes
from raftpay.node.group_commit import GroupCommitOptions
from raftpay.raft.snapshots import SnapshotOptions
from raftpay.storage.journal import JournalOptions

CLUSTER: Final = "sim"
REQUEST_TIMEOUT_S: Final = 1.0
JOURNAL_OPTIONS: Final = JournalOptions(
    segment_bytes=16 * 1024, first_segment_bytes=4 * 1024, reserve_bytes=16 * 1024, cluster_id=CLUSTER
)
# So that a log consists of many files, one of which has just been begun whatever else happens.
SHORT_SEGMENTS: Final = replace(JOURNAL_OPTIONS, segment_bytes=4 * 1024, first_segment_bytes=2 * 1024)
# So that every run makes several, and whoever was away for a second needs one.
SNAPSHOT_OPTIONS: Final = SnapshotOptions(
    log_bytes_max=12 * 1024, tail_bytes=3 * 1024, chunk_bytes=1500, rate_bytes_s=1 << 20, pin_log_bytes_max=64 * 1024
)
# Several segments are sealed in a run, or none.
SEALED: Final = WindowSizes(block_entries=32, segment_entries=256)
UNSEALED: Final = WindowSizes(block_entries=512, segment_entries=1 << 16)
GROUP_COMMIT_OPTIONS: Final = GroupCommitOptions(
    commands_in_flight_max=1,
    command_events_max=64,
    entry_bytes_max=64 * 1024,
    queue_requests_max=256,
    queue_bytes_max=1 << 20,
    request_timeout_s=REQUEST_TIMEOUT_S,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one run. heartbeat_s: the configured one, or a slower one, with fewer events between two elections.

    journal: what followers lack is mostly in memory, or mostly read from the disk. snapshots: in some runs more fall
    behind, and nothing is kept for them. group_commit: with one command in flight an isolated leader leaves one entry
    behind that conflicts with those of the next, with more it leaves many. window: history is sealed, or stays. scrub:
    disks are read again for damage, or not.
    """

    heartbeat_s: float
    journal: JournalOptions
    snapshots: SnapshotOptions
    group_commit: GroupCommitOptions
    window: WindowSizes
    scrub: ScrubConfig

    @classmethod
    def draw(cls, rng: random.Random, scrub: ScrubConfig) -> Self:
        few = replace(SNAPSHOT_OPTIONS, log_bytes_max=5 * 1024, tail_bytes=0)
        return cls(
            rng.choice([0.05, 0.08, 0.095]),
            replace(
                rng.choice([JOURNAL_OPTIONS, SHORT_SEGMENTS]), cache_bytes=rng.choice([24 * 1024, 24 * 1024, 1024])
            ),
            rng.choice([SNAPSHOT_OPTIONS, SNAPSHOT_OPTIONS, few]),
            replace(GROUP_COMMIT_OPTIONS, commands_in_flight_max=rng.choice([1, 1, 4, 16, 16])),
            rng.choice([SEALED, UNSEALED, UNSEALED]),
            scrub,
        )
