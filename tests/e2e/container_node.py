"""A node with containers: containerd, runc, CNI, kubelet and kube-proxy in namespaces of its own.

One process holds the namespaces, among them one of processes: when it ends, whatever ended it,
everything in the node ends, down to the last container, and the kernel removes networks and
mounts. Only the cgroups are left to be removed.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpucluster import errors
from dpucluster.localplane import endpoint, files, launcher, plane, process, world
from dpucluster.localplane.kamaji import addresses
from dpucluster.localplane.node import network
from tests.e2e import cgroups, node_config
from tests.e2e.packages import Packages

HOLDER = Path(__file__).with_name("holder.sh")
READY_TIMEOUT = 90.0
POLL = 0.05
OVERLAY_MAGIC = "overlayfs"


class ContainerNode:
    """One node.

    Attributes:
        name: Of the Node object.
        address: Its IP address on the bridge.
        cgroup: What everything in it is in.
    """

    def __init__(
        self,
        number: int,
        directory: Path,
        inside: world.World,
        packages: Packages,
        programs: Mapping[str, Path],
    ) -> None:
        self._plan = addresses.node(number)
        self.name = self._plan.name
        self.address = self._plan.ip
        self.cgroup = cgroups.name_of(self.name)
        self._directory = files.make_private_directory(directory)
        self._world = inside
        self._packages = packages
        self._programs = programs
        self._place = node_config.Place(self._plan, directory, self.cgroup, _snapshotter(directory))
        self._holder = world.Inside(
            f"the holder of {self.name}",
            [
                *("unshare", "--mount", "--uts", "--pid", "--net", "--fork", "--mount-proc"),
                *("--kill-child", "--propagation", "private"),
                *("sh", str(HOLDER), self.name, str(directory)),
            ],
            inside,
            log=directory / "holder.log",
            cwd=directory,
        )
        self._daemons: list[process.Program] = []

    @property
    def first_process(self) -> list[int]:
        """The process with which the node ends; empty when it has."""
        # What was started is ``unshare``, of which this is the child.
        return launcher.children_of(self._holder.pid)

    def start(self, management: plane.ControlPlane, registry: str) -> None:
        """Start everything without waiting for the node to be Ready; its Node object is there."""
        cgroups.create(self.cgroup)
        self._hold()
        self._connect()
        self._configure(management, registry)
        directory, packages = self._directory, self._packages
        self._daemon(
            "containerd", packages.program("containerd"), f"--config={directory}/containerd.toml"
        )
        self._wait_for_containerd()
        self._daemon(
            "kubelet",
            self._programs["kubelet"],
            f"--config={directory}/kubelet.json",
            f"--kubeconfig={directory}/kubelet.conf",
            f"--root-dir={directory}/kubelet",
            f"--cert-dir={directory}/certificates",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        )
        self._daemon(
            "kube-proxy", self._programs["kube-proxy"], f"--config={directory}/kube-proxy.json"
        )

    def wait_ready(self, api: endpoint.Endpoint) -> None:
        """Wait until the node is Ready and takes pods."""
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready(api):
            self.check()
            if time.monotonic() > deadline:
                told = "\n".join(program.tail() for program in self._daemons)
                raise errors.PlaneError(f"{self.name} is not Ready in time\n{told}")
            time.sleep(POLL)

    def check(self) -> None:
        """Raise ``PlaneError`` if something that was started is gone."""
        for program in (self._holder, *self._daemons):
            program.check()

    def run(self, *command: str | Path, timeout: float = 30.0) -> str:
        """Run a command in the node to its end; what it prints."""
        done = subprocess.run(
            [*self._entering(), *map(str, command)],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise errors.PlaneError(f"{self.name}: {' '.join(map(str, command))}: {said}")
        return done.stdout

    def holds(self, address: str) -> bool:
        """Whether one of its interfaces has this address."""
        return f" {address}/" in self.run("ip", "-oneline", "address")

    def cut_link(self) -> None:
        """Pull its cable: its interface has no carrier, and it reaches nobody."""
        self._world.run(["ip", "link", "set", self.name, "down"])

    def restore_link(self) -> None:
        """Plug the cable in again."""
        self._world.run(["ip", "link", "set", self.name, "up"])

    def close(self) -> None:
        """End everything in it; nothing of it is left."""
        self._holder.kill()
        for program in self._daemons:
            program.kill()
        cgroups.remove(self.cgroup)

    # How it is made

    def _hold(self) -> None:
        ready = self._directory / "ready"
        ready.unlink(missing_ok=True)
        self._holder.start()
        deadline = time.monotonic() + READY_TIMEOUT
        while not ready.exists():
            self._holder.check()
            if time.monotonic() > deadline:
                raise errors.PlaneError(f"{self._holder.name}: {self._holder.tail()}")
            time.sleep(POLL)

    def _connect(self) -> None:
        """A cable to the world's bridge, and the ways to everybody's pods."""
        plan = self._plan
        far = f"link add {network.INTERFACE} type veth peer name {plan.name}"
        lines = (
            "link set lo up",
            f"{far} netns {self._world.pid}",
            f"addr add {plan.address} dev {network.INTERFACE}",
            f"link set {network.INTERFACE} up",
            f"route add default via {plan.gateway}",
            *(
                f"route add {other.pods} via {other.ip}"
                for other in (addresses.node(n) for n in range(1, addresses.NODES + 1))
                if other.name != plan.name
            ),
        )
        world.run([*self._entering("--net"), "ip", "-batch", "-"], "\n".join(lines))
        lines = (
            f"link set {plan.name} master {plan.bridge} up",
            f"route replace {plan.pods} via {plan.ip}",
        )
        self._world.run(["ip", "-batch", "-"], "\n".join(lines))

    def _configure(self, management: plane.ControlPlane, registry: str) -> None:
        place, authority = self._place, management.authority
        user, server = f"system:node:{self.name}", management.inside_server
        serving = authority.server(user, (self.name, self.address))
        written: dict[str, str | bytes | dict[str, Any]] = {
            "ca.crt": authority.certificate,
            "serving.crt": serving.certificate,
            "serving.key": serving.key,
            "kubelet.conf": management.client_kubeconfig(
                user=user, groups=("system:nodes",), server=server
            ),
            "proxy.conf": management.client_kubeconfig(
                user="system:kube-proxy", groups=(), server=server
            ),
            "resolv.conf": "nameserver 127.0.0.1\n",
            "containerd.toml": node_config.containerd(
                place, runc=self._packages.program("runc"), plugins=self._packages.plugins
            ),
            "registries/_default/hosts.toml": node_config.registries(registry),
            "cni/10-pods.conflist": node_config.cni(place),
            "kubelet.json": node_config.kubelet(place),
            "kube-proxy.json": node_config.kube_proxy(place),
        }
        for name, content in written.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, json.dumps(content) if isinstance(content, dict) else content)

    def _daemon(self, name: str, program: Path, *arguments: str) -> None:
        made = process.Program(
            f"{name} of {self.name}",
            [*self._entering(), str(program), *arguments],
            log=self._directory / f"{name}.log",
            cwd=self._directory,
            env=self._environment(),
        )
        made.start()
        self._daemons.append(made)

    def _wait_for_containerd(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        ctr = self._packages.program("ctr")
        while True:
            try:
                self.run(ctr, "--address", node_config.SOCKET, "version")
            except errors.PlaneError:
                self.check()
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL)
            else:
                return

    def _is_ready(self, api: endpoint.Endpoint) -> bool:
        node = json.loads(api.get(f"/api/v1/nodes/{self.name}").body)
        is_tainted = any("not-ready" in t["key"] for t in node.get("spec", {}).get("taints", []))
        conditions = node.get("status", {}).get("conditions", [])
        return not is_tainted and any(
            c["type"] == "Ready" and c["status"] == "True" for c in conditions
        )

    def _environment(self) -> dict[str, str]:
        return self._packages.environment()

    def _entering(self, *namespaces: str) -> Sequence[str]:
        """What goes before a command that is to run in the node."""
        if not (first := self.first_process):
            raise errors.PlaneError(self._holder.obituary())
        into = namespaces or ("--mount", "--net", "--uts", "--pid")
        return ("nsenter", f"--target={first[0]}", *into, "--")


def _snapshotter(directory: Path) -> str:
    """Overlays cannot lie upon an overlay, which is what containers of others have."""
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", directory],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return "native" if kind == OVERLAY_MAGIC else "overlayfs"
