"""Everything an end-to-end test needs: a management plane with Kamaji, and nodes with containers.

All of it lives in namespaces of its own; a test outside reaches the management API, and runs what
must reach virtual IPs inside.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from dpucluster.localplane import files, process, release, signals, stack, world
from dpucluster.localplane.kamaji import addresses, objects
from dpucluster.localplane.kamaji import stack as kamaji_stack
from tests.e2e import container_node, images
from tests.e2e.packages import Packages

REGISTRY = Path(__file__).with_name("registry.py")
REGISTRY_PORT = 5000
NODES = 2
OLDER_VERSION = "v1.30.1"
"""The same programs under another tag: Kamaji compares versions, and asks nobody what runs."""
VERSIONS = (OLDER_VERSION, "v1.30.2")


class Rack:
    """A context manager, which starts it all.

    Attributes:
        plane: The management plane and Kamaji.
        nodes: The nodes.
        timings: What took how long, in seconds.
    """

    def __init__(self, directory: Path, packages: Packages, programs: Mapping[str, Path]) -> None:
        self.directory = files.make_private_directory(directory)
        self._programs = programs
        self._packages = packages
        self.timings: dict[str, float] = {}
        wanted = kamaji_stack.Wanted(nodes=0, audit=True)
        self.plane = kamaji_stack.KamajiStack(directory / "plane", programs, wanted)
        self.nodes = [
            container_node.ContainerNode(
                number, directory / f"node-{number}", self.world, packages, programs
            )
            for number in range(1, NODES + 1)
        ]
        self._store = directory / "images"
        self._registry = world.Inside(
            "the registry",
            [
                *(sys.executable, "-I", str(REGISTRY)),
                *(str(self._store), addresses.GATEWAY, str(REGISTRY_PORT)),
            ],
            self.world,
            log=directory / "registry.log",
            cwd=directory,
        )

    @property
    def world(self) -> world.World:
        """The namespaces around everything."""
        return self.plane.world

    def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises:
            PlaneError: something did not start; what did start is still to be closed.
        """
        self._timed("images", self._build_images)
        self._timed("management plane", self.plane.__enter__)
        self._timed("nodes", self._start_nodes)

    @property
    def holders_of_namespaces(self) -> list[int]:
        """The processes that keep the namespaces open."""
        return [self.world.pid, *(pid for node in self.nodes for pid in node.first_process)]

    def controllers(self, *roles: str, log: Path, kubeconfig: Path) -> process.Program:
        """``dpucluster run`` with ``roles`` (and flags), inside."""
        return world.Inside(
            "the controllers",
            [
                *(sys.executable, "-m", "dpucluster", "run", *roles),
                *("--kubeconfig", str(kubeconfig)),
                *("--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
            ],
            self.world,
            log=log,
            cwd=self.directory,
            env=stack.python_environment(),
        )

    def start_inside(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a program inside; its output is a pipe."""
        return subprocess.Popen(
            self.world.inside(command), stdout=subprocess.PIPE, text=True, process_group=0
        )

    def holders(self, address: str) -> list[str]:
        """The nodes that have this address."""
        return [node.name for node in self.nodes if node.holds(address)]

    def node(self, name: str) -> container_node.ContainerNode:
        """One of the nodes."""
        return next(node for node in self.nodes if node.name == name)

    def check(self) -> None:
        """Raise ``PlaneError`` if something that was started is gone."""
        self.plane.check()
        self._registry.check()
        for node in self.nodes:
            node.check()

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.close()
        self._registry.kill()
        self.plane.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with signals.handled(signals.ignore):
            self.close()

    def _timed(self, what: str, work: Callable[[], object]) -> None:
        begin = time.monotonic()
        work()
        self.timings[what] = time.monotonic() - begin

    def _build_images(self) -> None:
        made = [
            images.pause(self._packages),
            images.keepalived(self._packages),
            *(images.kubernetes(self._programs[name], VERSIONS) for name in release.TENANT),
        ]
        for image in made:
            images.build(image, self._store)

    def _start_nodes(self) -> None:
        self._registry.start()
        api = self.plane.management.endpoint
        url = f"http://{addresses.GATEWAY}:{REGISTRY_PORT}"
        for node in self.nodes:
            api.apply(f"/api/v1/nodes/{node.name}", objects.node(node.name))
            node.start(self.plane.management, url)
        for node in self.nodes:
            node.wait_ready(api)
        self.check()
