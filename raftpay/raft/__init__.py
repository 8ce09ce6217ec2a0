"""Consensus: PySyncObj behind one facade. Carries bytes; what they mean is the state machine's business."""

from raftpay.raft.node import PeerStatus, RaftNode
from raftpay.raft.options import RaftOptions
from raftpay.raft.snapshots import Image, SnapshotOptions, SnapshotParts, StateMachine

__all__ = ["Image", "PeerStatus", "RaftNode", "RaftOptions", "SnapshotOptions", "SnapshotParts", "StateMachine"]
