"""The network of a node: its link to the others, and a namespace with an address for each pod.

A node is joined to the world's bridge by one cable, the interface ``eth0``; its pods hang on a
bridge of its own and are routed through it. So whoever pulls the cable has cut the node and its
pods, and keepalived sees its interface lose the carrier, as with a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import sandbox, world

INTERFACE = "eth0"
"""Of nodes and of pods."""
POD_BRIDGE = "pods"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True)
class Plan:
    """The addresses of one node; also what its process is told as JSON.

    Attributes:
        name: Of the node, and of the far end of its cable.
        address: Of the node, with the length of the prefix.
        gateway: The world's own address on the bridge.
        pods: The subnet of its pods; its first address is the node's.
        services: The range of cluster IPs, all of which lead to the node itself.
        bridge: The world's.
    """

    name: str
    address: str
    gateway: str
    pods: str
    services: str
    bridge: str

    @property
    def ip(self) -> str:
        """The node's address."""
        return self.address.partition("/")[0]


class Network:
    """What the node's process does to its own network namespace.

    ``outside`` is the path of the world's.
    """

    def __init__(self, plan: Plan, outside: str) -> None:
        self._plan = plan
        self._outside = outside
        subnet = ipaddress.ip_network(plan.pods)
        self._gateway = str(subnet[1])
        self._free = [str(address) for address in list(subnet.hosts())[1:]]
        self._free.reverse()
        self._prefix = subnet.prefixlen

    def set_up(self) -> None:
        """Plug in the cable.

        Raises:
            PlaneError: it cannot be done; with what ``ip`` said.
        """
        plan = self._plan
        with contextlib.suppress(errors.PlaneError):  # of a process that was killed just now
            world.run(world.script("enter", self._outside, "ip", "link", "del", plan.name))
        _ip(
            "link set lo up",
            f"link add {INTERFACE} type veth peer name {plan.name} netns {self._outside}",
            f"addr add {plan.address} dev {INTERFACE}",
            f"link set {INTERFACE} up",
            f"route add default via {plan.gateway}",
            f"route add local {plan.services} dev lo",
            f"link add {POD_BRIDGE} type bridge",
            f"addr add {self._gateway}/{self._prefix} dev {POD_BRIDGE}",
            f"link set {POD_BRIDGE} up",
        )
        FORWARDING.write_text("1", encoding="utf-8")
        lines = (
            f"link set {plan.name} master {plan.bridge} up",
            f"route replace {plan.pods} via {plan.ip}",
        )
        world.run(world.script("enter", self._outside, "ip", "-batch", "-"), "\n".join(lines))

    async def add_pod(self) -> PodNetwork:
        """A namespace for a pod, connected and with an address.

        Raises:
            PlaneError: it cannot be done.
        """
        return await asyncio.to_thread(self._add_pod)

    def _add_pod(self) -> PodNetwork:
        if not self._free:
            raise errors.PlaneError(f"no address is free in {self._plan.pods}")
        address = self._free.pop()
        namespace = _new_namespace()
        path = f"/proc/{os.getpid()}/fd/{namespace}"
        link = f"p{int(ipaddress.ip_address(address)) & 0xFFFF}"
        _ip(
            f"link add {link} type veth peer name {INTERFACE} netns {path}",
            f"link set {link} master {POD_BRIDGE} up",
        )
        lines = (
            "link set lo up",
            f"addr add {address}/{self._prefix} dev {INTERFACE}",
            f"link set {INTERFACE} up",
            f"route add default via {self._gateway}",
        )
        world.run(world.script("enter", path, "ip", "-batch", "-"), "\n".join(lines))
        return PodNetwork(address, namespace, path)

    def remove_pod(self, network: PodNetwork) -> None:
        """Let go of a pod's namespace; the kernel removes its link."""
        os.close(network.descriptor)
        self._free.insert(0, network.address)


@dataclass(frozen=True)
class PodNetwork:
    """A pod's address, and the namespace that is there as long as the descriptor is open."""

    address: str
    descriptor: int
    path: str


def _ip(*lines: str) -> None:
    world.run(["ip", "-batch", "-"], "\n".join(lines))


def _new_namespace() -> int:
    """A new network namespace, as an open descriptor."""
    made: list[int] = []

    def make() -> None:
        # Namespaces are a thread's: this one ends, and nothing else of the process has moved.
        sandbox.call("unshare", sandbox.CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise errors.PlaneError("no network namespace can be made for a pod")
    return made[0]
