"""The table of commands: name, where it lives, and the line that `raftpay --help` shows.

A command's module is imported only when it is called, so that help is quick; therefore the line is written here.
To add one: write a module with a click command or group (`cls=Command` or `cls=Group` of command.py), add its line.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("raftpay_cli.demo", "demo", "Kill the leader under load; prove that nothing is lost or doubled."),
    "account": Entry("raftpay_cli.account", "account", "Open accounts, look at them, freeze them, set limits."),
    "transfer": Entry("raftpay_cli.transfer", "transfer", "Move money; post, void, reverse; look at a transfer."),
    "pay": Entry("raftpay_cli.pay", "pay", "Pay every line of a CSV file exactly once, however often it is run."),
    "history": Entry("raftpay_cli.history", "history", "Show an account's transfers and the balance after each."),
    "statement": Entry(
        "raftpay_cli.statement", "statement", "Print an account statement of a period, opening to closing balance."
    ),
    "sql": Entry("raftpay_cli.sql", "sql", "Ask the sealed history of a node in SQL; nothing is changed."),
    "status": Entry("raftpay_cli.status", "status", "Show every node: role, term, log positions, lag, up or down."),
    "check": Entry("raftpay_cli.check", "check", "Check that the books balance and are the same on every node."),
    "member": Entry("raftpay_cli.member", "member", "List the members of the cluster; add one, remove one."),
    "up": Entry("raftpay_cli.up", "up", "Run a local cluster of three or five node processes."),
    "down": Entry("raftpay_cli.up", "down", "Stop a local cluster from another terminal."),
    "node": Entry("raftpay_cli.node", "node", "Run one node of a cluster; rebuild one whose disk was lost."),
    "local": Entry("raftpay_cli.local", "local", "Kill, stop, start, pause or resume a node of a local cluster."),
    "sim": Entry("raftpay_cli.sim", "sim", "Simulate a cluster under faults, from a seed; check every promise."),
    "sample": Entry("raftpay_cli.sample", "sample", "Make files of accounts and payments to try things with."),
}
