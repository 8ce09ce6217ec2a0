"""Ports for local clusters: free, different, and not among those that the kernel gives away by itself."""

import contextlib
import socket
from pathlib import Path

import pytest

from raftpay.errors import ConfigError
from raftpay.ops.ports import fixed_ports, free_pairs, free_ports


def test_free_ports_are_different_and_can_be_listened_on() -> None:
    ports = free_ports(10)

    assert len(set(ports)) == 10
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_free_ports_are_none_that_an_outgoing_connection_could_sit_on() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(port < low for port in free_ports(10))


def test_each_node_gets_two_ports_of_its_own() -> None:
    pairs = free_pairs(5)

    assert len({port for pair in pairs for port in pair}) == 10


def free_base() -> int:
    """A base port whose followers are free as well."""
    for base in free_ports(20):
        with contextlib.suppress(ConfigError):
            fixed_ports(base, 3)
            return base
    raise AssertionError("no room for six ports in a row of a hundred, tried twenty times")


def test_fixed_ports_lie_behind_the_base_port() -> None:
    base = free_base()

    assert fixed_ports(base, 3) == [(base + 1, base + 101), (base + 2, base + 102), (base + 3, base + 103)]


def test_a_fixed_port_in_use_is_named() -> None:
    base = free_base()
    with (
        socket.create_server(("127.0.0.1", base + 102)),
        pytest.raises(ConfigError, match=f"port {base + 102} on 127.0.0.1 is in use"),
    ):
        fixed_ports(base, 3)


@pytest.mark.parametrize("base", [0, -1, 65_433, 70_000])
def test_a_base_port_without_room_above_it_is_refused(base: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 65432"):
        fixed_ports(base, 3)
