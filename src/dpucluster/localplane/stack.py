"""A management plane with all that belongs to it: storage, tenants, controllers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dpucluster.localplane import etcd, files, install, plane, process, signals
from dpucluster.localplane import progress as progress_

MANAGEMENT = "management"
"""The directory of the management plane below the stack's."""
DRAIN = 12.0
"""Seconds for the controllers to end: they promise ten."""


@dataclass(frozen=True)
class Wanted:
    """What a stack is made of.

    Attributes:
        name: Of the management plane.
        tenants: How many tenant planes, named ``tenant-1`` and so on.
        controllers: Whether ``dpucluster run`` runs on the management plane.
        durable: Whether the state is kept between runs.
        port: Of the management API server; 0 is any that is free.
    """

    name: str = "management"
    tenants: int = 0
    controllers: bool = True
    durable: bool = False
    port: int = 0


class Stack:
    """Storage, a management plane, tenants and controllers, started and ended together.

    Attributes:
        management: The management plane.
        tenants: The tenant planes.
        etcd: What all of them store in.
    """

    def __init__(self, wanted: Wanted, *, binaries: Mapping[str, Path], directory: Path) -> None:
        """Prepare all files below ``directory`` and take the ports; nothing runs yet.

        Raises:
            PlaneError: a port is taken, or a file cannot be written.
        """
        self._wanted = wanted
        self._directory = files.make_private_directory(directory)
        self._binaries = binaries
        self.etcd = etcd.Etcd(binaries["etcd"], directory / "etcd", durable=wanted.durable)
        self.management = self._plane(wanted.name, directory / MANAGEMENT, wanted.port)
        self.tenants: list[plane.ControlPlane] = []
        self.controllers = process.Program(
            "the controllers (dpucluster run)",
            [
                *(sys.executable, "-m", "dpucluster", "run"),
                *("--kubeconfig", str(self.management.kubeconfig)),
                *("--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
            ],
            log=directory / "controllers.log",
            cwd=directory,
            env=python_environment(),
        )

    def start(self, progress: progress_.Progress) -> None:
        """Start everything and wait until it is ready.

        Raises:
            PlaneError: something did not start; what did start is still to be closed.
        """
        progress.start(f"starting a control plane{_and_tenants(self._wanted.tenants)}")
        self.etcd.start()
        self.management.launch()
        for number in range(1, self._wanted.tenants + 1):
            name = f"tenant-{number}"
            self.tenants.append(self._plane(name, self._directory / name))
            self.tenants[-1].launch()
        self.management.wait_ready(tick=lambda: progress.tick("kube-apiserver"))
        progress.tick("CRDs")
        install.install(self.management.endpoint)
        self.management.start_controller_manager()
        if self._wanted.controllers:
            self.controllers.start()
        for tenant in self.tenants:
            tenant.wait_ready(tick=lambda: progress.tick("tenants"))
        self.check()
        progress.finish("ready")

    @property
    def programs(self) -> tuple[process.Program, ...]:
        """Everything that was started, the cause of others' ends first."""
        planes = [program for each in (self.management, *self.tenants) for program in each.programs]
        everything = (self.etcd.program, *planes, self.controllers)
        return tuple(program for program in everything if program.pid)

    def check(self) -> None:
        """Raise ``PlaneError`` if something that was started is gone."""
        for program in self.programs:
            program.check()

    def close(self) -> None:
        """End everything, in the order in which nobody misses anybody, and free the ports."""
        self.controllers.stop(grace=DRAIN if self._wanted.durable else 1.0)
        for each in (*self.tenants, self.management):
            each.close()
        self.etcd.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with signals.handled(signals.ignore):
            self.close()

    def _plane(self, name: str, directory: Path, port: int = 0) -> plane.ControlPlane:
        return plane.ControlPlane(
            name,
            binaries=self._binaries,
            storage=self.etcd,
            directory=directory,
            port=port,
            durable=self._wanted.durable,
        )


def _and_tenants(count: int) -> str:
    return f" and {count} tenant{'s' if count > 1 else ''}" if count else ""


def python_environment() -> dict[str, str]:
    """This process's environment, good in another working directory too."""
    env = dict(os.environ)
    if path := env.get("PYTHONPATH"):
        env["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in path.split(":"))
    return env
