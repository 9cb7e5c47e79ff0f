"""A management plane with the real Kamaji, and nodes on which its tenants run as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dpucluster.localplane import (
    etcd,
    files,
    install,
    manifests,
    plane,
    process,
    release,
    scheduler,
    signals,
    stack,
    world,
)
from dpucluster.localplane import progress as progress_
from dpucluster.localplane.kamaji import (
    access,
    addresses,
    datastore,
    gate,
    keepalived,
    manager,
    nodes,
    objects,
)
from dpucluster.localplane.node import images, network


@dataclass(frozen=True)
class Wanted:
    """What a stack is made of.

    Attributes:
        name: Of the management plane.
        nodes: How many nodes.
        controllers: Whether ``dpucluster run`` runs inside.
        durable: Whether the state is kept between runs.
        port: Of the loopback interface; 0 is any that is free.
        audit: Whether the management plane writes an audit log.
    """

    name: str = "management"
    nodes: int = 2
    controllers: bool = False
    durable: bool = False
    port: int = 0
    audit: bool = False


class KamajiStack:
    """Everything together; a context manager, which starts it.

    Programs outside use ``kubeconfig``; programs that must reach virtual IPs are run inside, with
    ``popen`` or ``run``.

    Attributes:
        management: The management plane.
        kamaji: Kamaji's controllers: ``kill``, ``restart``.
        nodes: The nodes: ``cut_link``, ``restore_link``, ``logs``.
        datastore: Where tenants store.
        gate: The way in: ``connect``.
        interface: The nodes' network interface.
        inside_kubeconfig: The administrator's kubeconfig for programs that run inside.
    """

    interface = network.INTERFACE

    def __init__(
        self,
        directory: Path,
        programs: Mapping[str, Path],
        wanted: Wanted = Wanted(),
        *,
        keepalived_found: keepalived.Found | None = None,
    ) -> None:
        """Prepare all files below ``directory`` and take the port; nothing runs yet.

        ``programs`` are those of ``binaries.WITH_KAMAJI``.

        Raises:
            PlaneError: the port is taken, or a file cannot be written.
        """
        self._wanted = wanted
        self._programs = programs
        self._directory = files.make_private_directory(directory)
        self._keepalived = keepalived_found or keepalived.find(progress_.Silent())
        self.world = world.World(directory / "world")
        self.gate = gate.Gate(self.world, directory / "gate", wanted.port)
        self.etcd = etcd.Etcd(programs["etcd"], directory / "etcd", durable=wanted.durable)
        self.management = plane.ControlPlane(
            wanted.name,
            binaries=programs,
            storage=self.etcd,
            directory=directory / stack.MANAGEMENT,
            durable=wanted.durable,
            audit=wanted.audit,
            site=self.gate,
        )
        self.datastore = datastore.DataStore(
            programs["etcd"],
            directory / "datastore",
            self.world,
            self.gate,
            durable=wanted.durable,
        )
        self.kamaji = manager.Kamaji(
            programs[release.KAMAJI],
            release.pins_of(release.KAMAJI).kamaji,
            directory / "kamaji",
            self.world,
            self.gate,
        )
        catalogue = self._catalogue()
        self.nodes = [
            nodes.Node(number, directory / f"node-{number}", self.world, catalogue)
            for number in range(1, wanted.nodes + 1)
        ]
        self.inside_kubeconfig = files.write(directory / "inside.conf", self._admin())
        self.scheduler = self._scheduler()
        self.controllers = world.Inside(
            "the controllers (dpucluster run)",
            [
                *(sys.executable, "-m", "dpucluster", "run"),
                *("--kubeconfig", str(self.inside_kubeconfig)),
                *("--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
            ],
            self.world,
            log=directory / "controllers.log",
            cwd=directory,
            env=stack.python_environment(),
        )

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig for programs outside."""
        return self.management.kubeconfig

    @property
    def port(self) -> int:
        """The one port of the loopback interface that leads in."""
        return self.gate.port

    def vip(self, number: int) -> str:
        """An address on the nodes' subnet that nothing uses; numbers begin with 1."""
        return addresses.vip(number)

    def start(self, progress: progress_.Progress) -> None:
        """Start everything and wait until it is ready.

        Raises:
            PlaneError: something did not start; what did start is still to be closed.
        """
        progress.start(f"starting a control plane with Kamaji and {len(self.nodes)} nodes")
        self.world.start()
        self.world.run(["ip", "-batch", "-"], addresses.set_up())
        self.world.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        self.etcd.start()
        self.management.launch()
        self.gate.start(self.inside_kubeconfig.read_text(encoding="utf-8"))
        self.datastore.start()
        self.management.wait_ready(tick=lambda: progress.tick("kube-apiserver"))
        progress.tick("CRDs")
        self._install()
        self.management.start_controller_manager()
        self.scheduler.start()
        self.datastore.wait_ready()
        for node in self.nodes:
            node.start(self.management)
        self.kamaji.start()
        if self._wanted.controllers:
            self.controllers.start()
        for node in self.nodes:
            node.wait_ready(self.management.endpoint, tick=lambda: progress.tick("nodes"))
        self.kamaji.wait_ready(tick=lambda: progress.tick("Kamaji"))
        self.check()
        progress.finish("ready")

    def popen(self, command: Sequence[str], **env: str) -> subprocess.Popen[bytes]:
        """Start ``command`` inside; it, and all that it leaves behind, ends with this process."""
        return subprocess.Popen(
            self.world.inside(process.guard(command)), env=self._environment(env), process_group=0
        )

    def run(self, command: Sequence[str], text: str = "", **env: str) -> str:
        """Run ``command`` inside to its end; what it prints.

        Raises:
            PlaneError: it failed; with what it said.
        """
        return world.run(self.world.inside(command), text, env=self._environment(env))

    def tenant_kubeconfig(self, namespace: str, name: str) -> str:
        """The kubeconfig of a tenant's administrator, for programs outside.

        Raises:
            PlaneError: there is none yet.
        """
        api = self.management.endpoint
        return access.fetch(api, namespace=namespace, name=name, port=self.port)

    def holders(self, address: str) -> list[str]:
        """The names of the nodes that have ``address`` now."""
        return [node.name for node in self.nodes if node.has_address(address)]

    def cut_link(self, node: int) -> None:
        """Pull the cable of a node; numbers begin with 1."""
        self.nodes[node - 1].cut_link()

    def restore_link(self, node: int) -> None:
        """Plug it in again."""
        self.nodes[node - 1].restore_link()

    def kill_api_server(self) -> None:
        """End the management API server at once."""
        self.management.api_server.kill()

    def restart_api_server(self) -> None:
        """Start the management API server again, and wait until it is ready."""
        self.management.api_server.kill()
        self.management.start()

    @property
    def programs(self) -> tuple[process.Program, ...]:
        """Everything that was started, the cause of others' ends first."""
        everything = (
            self.gate.process,
            self.etcd.program,
            *self.management.programs,
            self.scheduler,
            self.datastore.program,
            self.kamaji.program,
            *(node.program for node in self.nodes),
            self.controllers,
        )
        return tuple(program for program in everything if program.pid)

    def check(self) -> None:
        """Raise ``PlaneError`` if something that was started is gone."""
        self.world.check()
        for program in self.programs:
            program.check()

    def close(self) -> None:
        """End everything, in the order in which nobody misses anybody, and free the port."""
        self.controllers.stop(grace=stack.DRAIN if self._wanted.durable else 1.0)
        self.kamaji.kill()
        for node in self.nodes:
            node.stop()
        self.scheduler.kill()
        # Whoever watches keeps an API server that was asked to end waiting.
        self.gate.close()
        self.management.close()
        self.datastore.stop()
        self.etcd.stop()
        self.world.close()

    def __enter__(self) -> Self:
        try:
            self.start(progress_.Silent())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with signals.handled(signals.ignore):
            self.close()

    def _install(self) -> None:
        """Everything that the management plane has beyond plain Kubernetes."""
        api = self.management.endpoint
        install.install(api)
        kamaji = manifests.load(self._programs[release.KAMAJI_MANIFESTS])
        crds = [each for each in kamaji if each["kind"] == "CustomResourceDefinition"]
        install.install_crds(api, crds)
        install.apply_namespace(api, objects.NAMESPACE)
        for role in (each for each in kamaji if each["kind"] == "ClusterRole"):
            api.apply(f"{objects.RBAC}/clusterroles/{role['metadata']['name']}", role)
        api.apply(f"{objects.RBAC}/clusterrolebindings/kamaji", objects.binding())
        core = f"/api/v1/namespaces/{objects.NAMESPACE}"
        api.apply(f"{core}/serviceaccounts/{objects.ACCOUNT}", objects.account())
        for secret in objects.secrets(self.datastore.credentials):
            api.apply(f"{core}/secrets/{secret['metadata']['name']}", secret)
        stored = objects.data_store(self.datastore.endpoint)
        api.apply(f"/apis/kamaji.clastix.io/v1alpha1/datastores/{objects.DATASTORE}", stored)
        for node in self.nodes:
            api.apply(f"/api/v1/nodes/{node.name}", objects.node(node.name))
        self.kamaji.prepare(
            self.management.client_kubeconfig(
                user=objects.USER, groups=objects.GROUPS, server=self.management.inside_server
            )
        )

    def _admin(self) -> str:
        return self.management.client_kubeconfig(server=self.management.inside_server)

    def _scheduler(self) -> process.Program:
        conf = files.write(
            self._directory / "scheduler.conf",
            self.management.client_kubeconfig(
                user=scheduler.USER, groups=(), server=self.management.inside_server
            ),
        )
        return self.gate.program(
            "kube-scheduler",
            scheduler.command(self._programs["kube-scheduler"], conf),
            log=self._directory / "kube-scheduler.log",
            cwd=self._directory,
        )

    def _catalogue(self) -> images.Catalogue:
        programs = {release.file_of(name): str(self._programs[name]) for name in release.TENANT}
        return images.Catalogue(
            programs={**programs, "kamaji": str(self._programs[release.KAMAJI])},
            version=release.pins_of(release.KAMAJI).kubernetes,
            keepalived=self._keepalived.root,
            keepalived_advice=self._keepalived.advice,
            privileged=world.is_privileged(),
        )

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        path = f"{self._programs['kubectl'].parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        inside = {"KUBECONFIG": str(self.inside_kubeconfig), "PATH": path}
        return {**stack.python_environment(), **inside, **env}
