"""Which addresses a stack has. They are its own: no two networks of different stacks ever meet."""

from __future__ import annotations

from dpucluster.localplane.node import network

BRIDGE = "br0"
GATEWAY = "10.88.0.1"
"""The bridge's: the management API, the data store, Kamaji."""
PREFIX = 16
SERVICES = "10.96.0.0/16"
BALANCERS = "10.88.200.0/24"
VIPS = 200
"""Addresses that nothing uses unless a keepalived does."""
NODES = 9


def vip(number: int) -> str:
    """An address on the bridge's subnet that is free to be a virtual IP; numbers begin with 1.

    Raises:
        ValueError: there are no more.
    """
    if not 1 <= number <= VIPS:
        raise ValueError(f"there are virtual IPs 1 to {VIPS}, not {number}")
    return f"10.88.100.{number}"


def node(number: int) -> network.Plan:
    """The node ``number``; numbers begin with 1."""
    return network.Plan(
        name=f"node-{number}",
        address=f"10.88.0.{10 + number}/{PREFIX}",
        gateway=GATEWAY,
        pods=f"10.89.{number}.0/24",
        services=SERVICES,
        bridge=BRIDGE,
    )


def set_up() -> str:
    """What ``ip -batch`` is told in a new world."""
    lines = (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"addr add {GATEWAY}/{PREFIX} dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add local {SERVICES} dev lo",
        f"route add local {BALANCERS} dev lo",
    )
    return "\n".join(lines)
