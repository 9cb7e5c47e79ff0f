"""The demo's Kamaji flow: a control plane made on demand, by the real Kamaji, behind a real VIP."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.cli import (
    demo_kubectl,
    demo_manifests,
    demo_steps,
    demo_view,
    demo_watch,
    screen,
)
from dpucluster.kube import kinds
from dpucluster.localplane import files, plane, progress, signals
from dpucluster.localplane.kamaji import keepalived, stack

NAMESPACE, NAME = demo_manifests.DPUCLUSTER
TENANT = "tenant.conf"
POLL = 0.1


class Planes:
    """The stack of one demo, below ``directory``; a context manager, which starts it.

    Guarantees: whatever was started is gone when the ``with`` block is left.
    """

    def __init__(self, binaries: Mapping[str, Path], directory: Path) -> None:
        self._reporter = progress.for_stream()
        found = keepalived.find(self._reporter)
        if found.root is None:
            raise errors.LocalPlaneError(found.advice)
        self.directory = directory
        self.stack = stack.KamajiStack(directory / "stack", binaries, keepalived_found=found)
        self.kubectl = demo_kubectl.Kubectl(binaries["kubectl"], self.stack.kubeconfig, directory)

    def __enter__(self) -> Self:
        try:
            self.stack.start(self._reporter)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def management(self) -> plane.ControlPlane:
        """Where the DPUCluster is."""
        return self.stack.management

    @property
    def vip(self) -> str:
        """The virtual IP that the demo's cluster gets."""
        return self.stack.vip(1)

    def outside_kubeconfig(self) -> Path:
        """The tenant's, as it is good for a shell on this machine."""
        text = self.stack.tenant_kubeconfig(NAMESPACE, NAME)
        return files.write(self.directory / "outside.conf", text)

    def close(self) -> None:
        """End all processes at once; their data go with the directory."""
        with signals.handled(signals.ignore):
            self.stack.close()

    def check(self) -> None:
        """Raise ``PlaneError`` if a process that should be there is gone."""
        self.stack.check()


class Story:
    """From the guide's manifests to a namespace in the tenant, and on."""

    def __init__(self, shown: screen.Screen, planes: Planes, watch: demo_watch.Watch) -> None:
        self._shown = shown
        self._planes = planes
        self._watch = watch
        self._steps = demo_steps.Steps(shown, planes.kubectl, watch)

    async def become_ready(self) -> None:
        """Apply the guide's manifests, wait for Ready, use the control plane."""
        self._shown.step(
            "Start the controllers, inside the network where virtual IPs are, and apply the "
            "guide's manifests: which managers run, and the DPUCluster."
        )
        self._shown.command("dpucluster run")
        self._planes.stack.controllers.start()
        began = time.monotonic()
        config = demo_manifests.guide(demo_manifests.CONFIG)
        await self._steps.apply(demo_manifests.CONFIG, config)
        cluster = demo_manifests.kamaji_cluster(self._planes.stack.interface, self._planes.vip)
        await self._steps.apply(demo_manifests.KAMAJI_CLUSTER, cluster)
        with self._steps.waiting("Ready"):
            await self._watch.until(demo_view.is_ready, "is not Ready", since=began)
        self._shown.result(f"Ready {self._watch.lifetime:.1f} s after it was created")
        await self._use()

    async def tour(self) -> None:
        """What happens to a Kamaji cluster later."""
        for step in (self._lost_child, self._fail_over, self._rotation, self._deletion):
            await asyncio.sleep(self._shown.pause)
            await step()

    async def _use(self) -> None:
        self._shown.step(
            "Use it: the kubeconfig out of its Secret leads to the virtual IP, which one of the "
            "two nodes holds."
        )
        await self._take_kubeconfig()
        arguments = ["kubectl", "--kubeconfig", TENANT, "create", "namespace", "hello"]
        self._shown.command(" ".join(arguments))
        arguments[2] = str(self._planes.directory / TENANT)
        self._shown.note(await self._inside(arguments))
        self._shown.result(f"through {self._planes.vip}, held by {await self._holder()}")

    async def _lost_child(self) -> None:
        self._shown.step("Delete keepalived's DaemonSet: what the manager made, it makes again.")
        name = f"{NAME}-keepalived"
        before = await self._uid_of(name)
        await self._steps.kubectl("delete", "daemonset", name, "-n", NAMESPACE)
        with self._steps.waiting("another DaemonSet"):
            await self._until(lambda: self._is_other(name, before), "is not made again")
        await self._steps.until_ready()

    async def _fail_over(self) -> None:
        holder = await self._holder()
        self._shown.step(
            f"Pull the cable of {holder}, which holds the virtual IP: the other node takes it over."
        )
        number = int(holder.rpartition("-")[2])
        self._planes.stack.cut_link(number)
        with self._steps.waiting("the other node to hold the address"):
            await self._until(lambda: self._has_moved(holder), "did not move")
        others = [n for n in await self._holders() if n != holder]
        self._shown.result(f"{others[0]} holds {self._planes.vip}")
        self._planes.stack.restore_link(number)
        await self._steps.until_ready()

    async def _rotation(self) -> None:
        self._shown.step(
            "Take the credentials out of the Secret: Kamaji issues new ones in its place, the old "
            "connection is kept until they work, and Ready is never lost."
        )
        secret = f"{NAME}-admin-kubeconfig"
        before = await self._secret(secret)
        with self._watch.journal() as told:
            await self._steps.kubectl(
                *("patch", "secret", secret, "-n", NAMESPACE, "--type=merge"),
                *("-p", '{"data":{"super-admin.conf":null}}'),
            )
            with self._steps.waiting("new credentials"):
                await self._until(lambda: self._is_renewed(secret, before), "is not renewed")
        if not all(demo_view.is_ready(version) for version in told):
            raise errors.LocalPlaneError("the DPUCluster was NotReady during the rotation")
        self._shown.result("renewed, and Ready was True all the time")

    async def _deletion(self) -> None:
        self._shown.step(
            "Delete the DPUCluster: the control plane goes first, and the finalizer only when "
            "nothing is left of it."
        )
        await self._steps.delete()
        left = await self._planes.kubectl.run(
            ("get", "services,daemonsets,tenantcontrolplanes", "-n", NAMESPACE, "-o", "name")
        )
        self._shown.result(f"left of it: {left or 'nothing'}")

    # What is looked at

    async def _take_kubeconfig(self) -> None:
        secret = await self._secret(f"{NAME}-admin-kubeconfig")
        text = base64.b64decode(secret.data[contract.KEY_SUPER_ADMIN_CONF]).decode()
        files.write(self._planes.directory / TENANT, text)

    async def _secret(self, name: str) -> kinds.Secret:
        return await self._watch.client.get(kinds.SECRETS, name, NAMESPACE)

    async def _is_renewed(self, name: str, before: kinds.Secret) -> bool:
        now = (await self._secret(name)).data.get(contract.KEY_SUPER_ADMIN_CONF)
        return now not in (None, before.data[contract.KEY_SUPER_ADMIN_CONF])

    async def _uid_of(self, daemon_set: str) -> str:
        printed = ("-o", "jsonpath={.metadata.uid}", "--ignore-not-found")
        arguments = ("get", "daemonset", daemon_set, "-n", NAMESPACE, *printed)
        return await self._planes.kubectl.run(arguments)

    async def _is_other(self, daemon_set: str, before: str) -> bool:
        return await self._uid_of(daemon_set) not in ("", before)

    async def _has_moved(self, holder: str) -> bool:
        return any(n != holder for n in await self._holders())

    async def _holder(self) -> str:
        await self._until(self._is_held, "is held by no node")
        return (await self._holders())[0]

    async def _is_held(self) -> bool:
        return bool(await self._holders())

    async def _holders(self) -> list[str]:
        return await asyncio.to_thread(self._planes.stack.holders, self._planes.vip)

    async def _inside(self, command: list[str]) -> str:
        return (await asyncio.to_thread(self._planes.stack.run, command)).strip()

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        began = time.monotonic()
        while not await holds():
            self._watch.check_time(began, what)
            await asyncio.sleep(POLL)
