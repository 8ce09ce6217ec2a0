"""What a removal is: one remedy of docs/engine.md, and the edits that take it out. Pure: nothing is run from here."""

from dataclasses import dataclass

from tests.sim.remedies.edits import Edit


@dataclass(frozen=True, slots=True)
class Removal:
    """name: as given to the command. defects: what comes back without it, by the ids of docs/engine.md, the section of
    the Raft paper ("5.4.2"), or the seed by which the simulator has found it. taken_out: what the engine does then.
    nodes: the smallest cluster in which it can matter. remark: why it takes many seeds, "" if it does not. faults: the
    kinds to run with, all of them if none is named.
    """

    name: str
    defects: str
    taken_out: str
    edits: tuple[Edit, ...]
    nodes: int = 3
    remark: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """A remedy that faults in the simulator cannot show the lack of. reason: why. held_by: file::test."""

    defects: str
    remedy: str
    reason: str
    held_by: tuple[str, ...]
