"""What the demo runs on: a management plane, a tenant, the controllers, and kubectl."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from dpucluster import errors
from dpucluster.cli import demo_manifests
from dpucluster.localplane import etcd, files, install, plane, process, signals, stack

KUBECTL_TIMEOUT = 60.0
"""Seconds for one call; a third of a second is usual."""
POLL = 0.02


class Planes:
    """All processes and files of one demo, below ``directory``; a context manager.

    Guarantees: whatever was started is gone when the ``with`` block is left.

    Attributes:
        directory: Everything is here.
        management: Where the DPUCluster is; has the CRDs and the operator's namespace.
        tenant: What it stands for. It has an audit log.
        manifests: What was applied, as files.
    """

    def __init__(self, binaries: Mapping[str, Path], directory: Path) -> None:
        self.directory = directory
        self.manifests = files.make_private_directory(directory / "guide")
        self._kubectl_binary = binaries["kubectl"]
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

    def write_manifest(self, name: str, text: str) -> None:
        """Put a manifest where ``kubectl`` runs."""
        files.write(self.manifests / name, text)

    def audit_lines(self) -> list[str]:
        """The tenant's audit log."""
        log = self.tenant.audit_log
        if log is None or not log.exists():
            return []
        return log.read_text(encoding="utf-8").splitlines(keepends=True)

    async def kubectl(self, arguments: Sequence[str]) -> str:
        """Run kubectl on the management plane, among the manifests; what it prints.

        Raises:
            LocalPlaneError: it failed; with what it said.
        """
        call = process.Program(
            f"kubectl {' '.join(arguments)}",
            [str(self._kubectl_binary), *arguments],
            log=self.directory / "kubectl.log",
            cwd=self.manifests,
            env={
                "KUBECONFIG": str(self.management.kubeconfig),
                "HOME": str(self.directory),  # its cache of what the server offers
            },
        )
        call.start()
        try:
            await self._ended(call)
        finally:
            call.kill()
        if call.exit_code != 0:
            raise errors.LocalPlaneError(call.obituary())
        return "\n".join(line.strip() for line in call.tail().splitlines())

    async def _ended(self, call: process.Program) -> None:
        deadline = time.monotonic() + KUBECTL_TIMEOUT
        while call.is_running:
            if time.monotonic() > deadline:
                raise errors.LocalPlaneError(
                    f"{call.name} did not end within {KUBECTL_TIMEOUT:.0f} s"
                )
            await asyncio.sleep(POLL)
