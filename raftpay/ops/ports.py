"""Free TCP ports for the nodes of a local cluster, on loopback.

A node keeps its port over restarts, so the port must still be free after the node was down for a while. Ports that the
kernel hands out by itself (bind to 0, or the near end of any outgoing connection) do not qualify: while a node is down,
anybody's connection may sit on them, and a peer that keeps dialling such a port ends up connected to itself. So ports
are taken from below that range, and tried by binding.
"""

import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from raftpay.errors import ConfigError

_EPHEMERAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_ROOM_MIN: Final = 2_000
_TRIES: Final = 2_000
LOOPBACK: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` different ports on loopback that nobody listens on now, in rising order."""
    below = _ephemeral_low()
    # A machine that gives away nearly all ports by itself leaves no better choice than the kernel's own.
    candidates = iter([0] * _TRIES)
    if below - _LOWEST >= _ROOM_MIN:
        candidates = iter(random.SystemRandom().sample(range(_LOWEST, below), min(_TRIES, below - _LOWEST)))
    with ExitStack() as held:
        # All are held until the last is found: none is given twice.
        found: list[int] = []
        for candidate in candidates:
            bound = _try_bind(candidate)
            if bound is not None:
                held.enter_context(bound)
                found.append(bound.getsockname()[1])
            if len(found) == count:
                return sorted(found)
    raise ConfigError(f"found only {len(found)} free ports of {count} on {LOOPBACK} after {_TRIES} tries")


def fixed_ports(base_port: int, nodes: int) -> list[tuple[int, int]]:
    """(peer port, client port) of each node: base+1 … for peers and base+101 … for clients. Raises ConfigError."""
    highest = base_port + 100 + nodes
    if base_port < 1 or highest > 65535:
        raise ConfigError(
            f"base port {base_port}: expected 1 to {65535 - 100 - nodes}, since ports up to +{100 + nodes} are used"
        )
    pairs = [(base_port + number, base_port + 100 + number) for number in range(1, nodes + 1)]
    with ExitStack() as held:
        for port in (port for pair in pairs for port in pair):
            bound = _try_bind(port)
            if bound is None:
                raise ConfigError(f"port {port} on {LOOPBACK} is in use or not allowed: choose another base port")
            held.enter_context(bound)
    return pairs


def free_pairs(nodes: int) -> list[tuple[int, int]]:
    """(peer port, client port) of each node, free ones."""
    ports = free_ports(2 * nodes)
    return list(zip(ports[:nodes], ports[nodes:], strict=True))


def _ephemeral_low() -> int:
    try:
        return int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        # The range that IANA reserves for this, where the kernel does not say.
        return 49_152


def _try_bind(port: int) -> socket.socket | None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: connections of an earlier owner that linger do not count, listeners do.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
        # Two sockets with SO_REUSEADDR may share a port until one of them listens.
        probe.listen(1)
    except OSError:
        probe.close()
        return None
    return probe
