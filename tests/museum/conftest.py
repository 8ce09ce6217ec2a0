"""Our halves of the halls are tried as the rules are."""

from tests.raft.conftest import clock, lab

__all__ = ["clock", "lab"]
