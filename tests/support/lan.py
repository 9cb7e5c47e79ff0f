"""A network of nodes in namespaces of their own, joined by a switch; root makes it with ``ip``.

Nothing of it can be seen or reached from outside. Each namespace lives as long as a process that
does nothing else; the kernel removes it, and all links in it, with the last process.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

INTERFACE = "eth0"
BRIDGE = "switch"
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""Whatever ends the tests ends what they have started."""
COMMAND_TIMEOUT = 30.0
TOOLS = ("ip", "nsenter", "unshare", "setpriv", "mount")


@functools.cache
def lacking() -> str:
    """What this machine lacks to make such networks; empty: nothing."""
    if os.geteuid() != 0:
        return "root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"the programs {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "type", "veth"],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    return f"namespaces or veth ({tried.stderr.strip()})" if tried.returncode else ""


class Namespace:
    """A network namespace."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [*DIE_WITH_US, "unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._holder.stdout.close()

    @property
    def path(self) -> str:
        """Where the kernel shows it."""
        return f"/proc/{self._holder.pid}/ns/net"

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` in it; ends when this process ends."""
        return [*DIE_WITH_US, "nsenter", f"--net={self.path}", "--", *command]

    def ip(self, *lines: str) -> None:
        """Configure the network in it."""
        run(self.inside("ip", "-batch", "-"), "\n".join(lines))

    def close(self) -> None:
        """Let go of it."""
        self._holder.kill()
        self._holder.wait()


@dataclass(frozen=True)
class Node:
    """A host on the network.

    Attributes:
        port: Its cable's other end, in the switch.
        addresses: Of its interface, with the length of the prefix.
    """

    name: str
    port: str
    addresses: tuple[str, ...]
    namespace: Namespace

    def address(self, version: int) -> str:
        """The first of one IP version."""
        found = [a.partition("/")[0] for a in self.addresses]
        return next(a for a in found if ipaddress.ip_address(a).version == version)

    def holds(self, address: str) -> bool:
        """Whether the interface has an address."""
        shown = run(self.namespace.inside("ip", "-json", "address", "show"))
        return any(a["local"] == address for link in json.loads(shown) for a in link["addr_info"])

    def plug(self, switch: Namespace) -> None:
        """Give it its interface, and the other end to the switch."""
        self.namespace.ip(
            f"link add {INTERFACE} type veth peer name {self.port} netns {switch.path}",
            *(
                f"address add {a} dev {INTERFACE}" + (" nodad" if ":" in a else "")
                for a in self.addresses
            ),
            f"link set {INTERFACE} up",
        )
        switch.ip(f"link set {self.port} master {BRIDGE} up")

    def unplug(self) -> None:
        """Take the interface away, cable and all."""
        self.namespace.ip(f"link delete {INTERFACE}")


class Lan:
    """A switch, which is a host of the network as well, and what is plugged into it."""

    def __init__(self, *addresses: str) -> None:
        self.switch = Namespace()
        self.nodes: list[Node] = []
        self.switch.ip(
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            *(f"address add {a} dev {BRIDGE}" + (" nodad" if ":" in a else "") for a in addresses),
            f"link set {BRIDGE} up",
        )

    def add(self, name: str, *addresses: str) -> Node:
        """One more node."""
        node = Node(name, f"port{len(self.nodes)}", addresses, Namespace())
        self.nodes.append(node)
        node.namespace.ip("link set lo up")
        node.plug(self.switch)
        return node

    def holders(self, address: str) -> list[str]:
        """Names of the nodes that have an address."""
        return [node.name for node in self.nodes if node.holds(address)]

    def cut(self, node: Node) -> None:
        """Pull a node's cable: its interface loses the carrier."""
        self.switch.ip(f"link set {node.port} down")

    def mend(self, node: Node) -> None:
        """Plug it in again."""
        self.switch.ip(f"link set {node.port} up")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for namespace in (self.switch, *(node.namespace for node in self.nodes)):
            namespace.close()


def run(command: Sequence[str | Path], text: str = "") -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )
    assert done.returncode == 0, f"{command} {text}: {done.stdout}{done.stderr}"
    return done.stdout
