"""A network of one's own on one machine: a namespace with nothing but loopback, where each node has an address.

Packets from one address to another are dropped by a routing rule (`ip rule … blackhole`), which needs nothing but the
kernel and iproute2: the sender's TCP sees them as lost and sends again, as on a cut cable. Everything ends with the
process that holds the namespace. Only processes started by `inside` can be reached, and only from inside.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import permutations

NODE_HOST = "127.0.0.1{}"


def is_permitted() -> bool:
    """Whether this machine lets us have a namespace, and has the tools."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = subprocess.run([*_UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0


_UNSHARE = ["unshare", "--net", "--mount", "--propagation", "private"]


def command_inside(arguments: Sequence[str]) -> list[str]:
    """The command that runs `python -m tests.faults` with these arguments in a namespace of its own."""
    return [*_UNSHARE, sys.executable, "-m", "tests.faults", "--inside", *arguments]


def set_up() -> None:
    """Within a new namespace: bring loopback up, and let our rules be asked before the table of local addresses."""
    _ip("link", "set", "lo", "up")
    _ip("rule", "add", "pref", "100", "lookup", "local")
    _ip("rule", "del", "pref", "0")


class Cuts:
    """What is cut between the nodes now. hosts: by node."""

    def __init__(self, hosts: dict[str, str]) -> None:
        self._hosts = hosts
        self._ways: set[tuple[str, str]] = set()

    def cut(self, sender: str, receiver: str) -> None:
        """Lose every packet from one node to another; what comes back the other way arrives."""
        if (sender, receiver) not in self._ways:
            self._rule("add", sender, receiver)
            self._ways.add((sender, receiver))

    def isolate(self, name: str) -> None:
        """Cut a node from all others, both ways."""
        for sender, receiver in permutations(self._hosts, 2):
            if name in (sender, receiver):
                self.cut(sender, receiver)

    def heal(self) -> None:
        for sender, receiver in sorted(self._ways):
            self._rule("del", sender, receiver)
        self._ways.clear()

    def _rule(self, act: str, sender: str, receiver: str) -> None:
        _ip("rule", act, "pref", "10", "from", self._hosts[sender], "to", self._hosts[receiver], "blackhole")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
