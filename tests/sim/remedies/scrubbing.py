"""Removals: what scrubbing takes for damage, and how that is put right."""

from typing import Final

from tests.sim.remedies.edits import Edit
from tests.sim.remedies.removal import Removal

REMOVALS: Final = (
    Removal(
        "mended-is-unsynced",
        "rot",
        "an entry that was written again counts as synced at once",
        (Edit("self.synced_index = max(self.first_index - 1, min(self.synced_index, index - 1))", "pass",
              "_write_again"),),
        faults=("rot", "unreadable", "misdirect"),
    ),
    Removal(
        "mended-header-is-unsynced",
        "seed 3000051",
        "the entries behind a header that was written again count as synced at once",
        (Edit("index = min(segment.first_index, segment.last_index)", "index = segment.last_index"),),
        faults=("unreadable",),
    ),
    Removal(
        "end-of-what-is-synced",
        "seed 3000003",
        "what is not synced yet of a segment that is full counts as room that has to be zero",
        (Edit("and segment.last_index <= self.synced_index", "", "Journal.reading"),),
        faults=("slow", "power", "rot"),
    ),
)  # fmt: skip
