"""The nodes of a stack, as processes."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dpucluster import errors
from dpucluster.localplane import endpoint, files, plane, stack, world
from dpucluster.localplane.kamaji import addresses
from dpucluster.localplane.node import images

READY_TIMEOUT = 60.0
POLL = 0.1
STOP_GRACE = 5.0
GROUP = "system:nodes"
PROXY_USER = "system:kube-proxy"


class Node:
    """One node: its process, its cable, its pods.

    Attributes:
        name: Of the Node object.
        address: Its IP address on the bridge.
        interface: Its network interface.
    """

    def __init__(
        self, number: int, directory: Path, inside: world.World, catalogue: images.Catalogue
    ) -> None:
        self._plan = addresses.node(number)
        self.name = self._plan.name
        self.address = self._plan.ip
        self._directory = files.make_private_directory(directory)
        self._world = inside
        self._catalogue = catalogue
        self.program = world.Inside(
            self.name,
            [sys.executable, "-m", "dpucluster.localplane.node", str(directory / "plan.json")],
            inside,
            log=directory / "node.log",
            cwd=directory,
            env=stack.python_environment(),
            apart=True,
        )

    @property
    def logs(self) -> Path:
        """The directory of its pods' logs, ``<namespace>_<pod>.log``."""
        return self._directory / "logs"

    def start(self, management: plane.ControlPlane) -> None:
        """Start it without waiting; its Node object must be there."""
        own, proxy = self._directory / "node.conf", self._directory / "proxy.conf"
        server = management.inside_server
        user = f"system:node:{self.name}"
        files.write(own, management.client_kubeconfig(user=user, groups=(GROUP,), server=server))
        text = management.client_kubeconfig(user=PROXY_USER, groups=(), server=server)
        files.write(proxy, text)
        plan: dict[str, Any] = {
            "network": dataclasses.asdict(self._plan),
            "outside": self._world.network,
            "kubeconfig": str(own),
            "proxy_kubeconfig": str(proxy),
            "directory": str(self._directory),
            "hosts": str(self._world.hosts),
            "catalogue": dataclasses.asdict(self._catalogue),
        }
        files.write(self._directory / "plan.json", json.dumps(plan))
        self.program.start()

    def wait_ready(self, api: endpoint.Endpoint, tick: Callable[[], object] = lambda: None) -> None:
        """Wait until the node is Ready.

        Raises:
            PlaneError: its process ended, or it is not in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready(api):
            self.program.check()
            if time.monotonic() > deadline:
                raise errors.PlaneError(f"{self.name} is not Ready in time\n{self.program.tail()}")
            tick()
            time.sleep(POLL)

    def stop(self) -> None:
        """End it and all its pods; their objects stay."""
        self.program.stop(grace=STOP_GRACE)

    def run(self, command: Sequence[str]) -> str:
        """Run ``command`` in the node's network to its end; what it prints.

        Raises:
            PlaneError: it failed; with what it said.
        """
        return world.run(world.script("enter", str(self.program.pid), *command))

    def has_address(self, address: str) -> bool:
        """Whether ``address`` is on the node now."""
        return f" {address}/" in self.run(["ip", "-oneline", "address"])

    def cut_link(self) -> None:
        """Pull its cable: it and its pods reach nobody, and its interface has no carrier."""
        self._world.run(["ip", "link", "set", self.name, "down"])

    def restore_link(self) -> None:
        """Plug the cable in again."""
        self._world.run(["ip", "link", "set", self.name, "up"])

    def _is_ready(self, api: endpoint.Endpoint) -> bool:
        try:
            node = json.loads(api.get(f"/api/v1/nodes/{self.name}").body)
        except (errors.PlaneError, ValueError):
            return False
        conditions = node.get("status", {}).get("conditions", [])
        is_tainted = any("not-ready" in t["key"] for t in node.get("spec", {}).get("taints", []))
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return ready and not is_tainted
