"""The server: one member of a cluster, its front for clients, and its life as a process."""

from raftpay.node.node import Node
from raftpay.node.run import run_node, run_node_process

__all__ = ["Node", "run_node", "run_node_process"]
