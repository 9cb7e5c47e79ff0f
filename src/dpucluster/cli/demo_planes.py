"""What the demo runs on: a management plane, a tenant, the controllers, and kubectl."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from dpucluster.cli import demo_kubectl, demo_manifests
from dpucluster.localplane import etcd, install, plane, process, signals, stack


class Planes:
    """All processes and files of one demo, below ``directory``; a context manager.

    Guarantees: whatever was started is gone when the ``with`` block is left.

    Attributes:
        directory: Everything is here.
        management: Where the DPUCluster is; has the CRDs and the operator's namespace.
        tenant: What it stands for. It has an audit log.
        kubectl: On the management plane.
    """

    def __init__(self, binaries: Mapping[str, Path], directory: Path) -> None:
        self.directory = directory
        self._etcd = etcd.Etcd(binaries["etcd"], directory / "etcd")
        self.management = plane.ControlPlane(
            "management", binaries=binaries, storage=self._etcd, directory=directory / "management"
        )
        # DPF deploys services under the name of the kubeconfig's cluster: that of the DPUCluster.
        self.tenant = plane.ControlPlane(
            demo_manifests.DPUCLUSTER.name,
            binaries=binaries,
            storage=self._etcd,
            directory=directory / "tenant",
            audit=True,
        )
        self.kubectl = demo_kubectl.Kubectl(
            binaries["kubectl"], self.management.kubeconfig, directory
        )
        self._controllers: process.Program | None = None
        self._tenant_wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once; their data go with the directory."""
        with signals.handled(signals.ignore):
            if self._controllers is not None:
                self._controllers.kill()
            self.tenant.close()
            self.management.close()
            self._etcd.program.kill()

    async def start(self) -> None:
        """Start both planes; the management plane gets our kinds."""
        self._etcd.start()
        for each in (self.management, self.tenant):
            each.launch()
        await asyncio.to_thread(self.management.wait_ready)
        await asyncio.to_thread(install.install, self.management.endpoint)
        await asyncio.to_thread(self.tenant.wait_ready)
        self._tenant_wanted = True

    def start_controllers(self, *flags: str) -> None:
        """Start ``dpucluster run`` on the management plane."""
        self._controllers = process.Program(
            "the controllers (dpucluster run)",
            [
                *(sys.executable, "-m", "dpucluster", "run"),
                *("--kubeconfig", str(self.management.kubeconfig)),
                *("--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
                *flags,
            ],
            log=self.directory / "controllers.log",
            cwd=self.directory,
            env=stack.python_environment(),
        )
        self._controllers.start()

    def stop_tenant(self) -> None:
        """Stop the tenant's API server; its port refuses from now on."""
        self._tenant_wanted = False
        self.tenant.stop()

    async def start_tenant(self) -> None:
        """Start it again, on the same port and with the same data."""
        self.tenant.launch()
        await asyncio.to_thread(self.tenant.wait_ready)
        self._tenant_wanted = True

    def check(self) -> None:
        """Raise ``PlaneError`` if a process that should be there is gone."""
        self._etcd.program.check()
        self.management.check()
        if self._tenant_wanted:
            self.tenant.check()
        if self._controllers is not None:
            self._controllers.check()

    def audit_lines(self) -> list[str]:
        """The tenant's audit log."""
        log = self.tenant.audit_log
        if log is None or not log.exists():
            return []
        return log.read_text(encoding="utf-8").splitlines(keepends=True)
