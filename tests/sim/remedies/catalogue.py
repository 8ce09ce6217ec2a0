"""All removals, and the remedies that no fault of the simulator shows the lack of."""

from typing import Final

from tests.sim.remedies import disk, leadership, members, replication, scrubbing, snapshots
from tests.sim.remedies.out_of_reach import OUT_OF_REACH
from tests.sim.remedies.removal import Removal

__all__ = ["OUT_OF_REACH", "REMOVALS"]

REMOVALS: Final[tuple[Removal, ...]] = (
    *replication.REMOVALS,
    *leadership.REMOVALS,
    *members.REMOVALS,
    *snapshots.REMOVALS,
    *disk.REMOVALS,
    *scrubbing.REMOVALS,
)
