"""What the demo tells, step by step. Each step does something real and waits for its effect."""

from __future__ import annotations

import asyncio
import time

from dpucluster import errors
from dpucluster.api.dpucluster import ConditionType
from dpucluster.cli import (
    demo_manifests,
    demo_planes,
    demo_steps,
    demo_view,
    demo_watch,
    screen,
)

PROBES_SEEN = 3
"""With the new certificate, before a rotation counts as done: it is in use, not only accepted."""
AUDIT_POLL = 0.2

NAMESPACE, _ = demo_manifests.DPUCLUSTER


async def open_stage(
    shown: screen.Screen, planes: demo_planes.Planes, flags: tuple[str, ...]
) -> None:
    """Start the planes and the controllers."""
    shown.step(
        "Start a management cluster and a tenant cluster: two real API servers and an etcd, "
        "on this machine only."
    )
    began = time.monotonic()
    shown.waiting("starting etcd and two kube-apiservers")
    await planes.start()
    shown.waiting("")
    shown.result(f"both are ready after {time.monotonic() - began:.1f} s")
    shown.step("Start the controllers: they watch the management cluster for DPUClusters.")
    shown.command(" ".join(("dpucluster run", *flags)))
    planes.start_controllers(*flags)


class Story:
    """From the guide's manifests to the end of the tour."""

    def __init__(
        self, shown: screen.Screen, planes: demo_planes.Planes, watch: demo_watch.Watch
    ) -> None:
        self._shown = shown
        self._planes = planes
        self._watch = watch
        self._steps = demo_steps.Steps(shown, planes.kubectl, watch)
        self._kubeconfig = planes.tenant.kubeconfig.read_text(encoding="utf-8")

    async def become_ready(self) -> None:
        """Apply the guide's three manifests and wait for Ready."""
        self._shown.step(
            "Apply the guide's manifests: which managers run, a Secret with the tenant's "
            "kubeconfig, and the DPUCluster that names it."
        )
        manifests = {
            demo_manifests.CONFIG: demo_manifests.guide(demo_manifests.CONFIG),
            demo_manifests.SECRET: demo_manifests.secret(self._kubeconfig),
            demo_manifests.CLUSTER: demo_manifests.guide(demo_manifests.CLUSTER),
        }
        began = time.monotonic()
        for name, text in manifests.items():
            self._watch.check_time(began, "is not Ready")
            await self._steps.apply(name, text)
        with self._steps.waiting("Ready"):
            await self._watch.until(demo_view.is_ready, "is not Ready", since=began)
        self._shown.result(f"Ready {self._watch.lifetime:.1f} s after it was created")

    async def tour(self) -> None:
        """Everything that can happen to a DPUCluster later."""
        steps = (
            self._outage,
            self._recovery,
            self._rotation,
            self._missing_key,
            self._exec_plugin,
            self._deleted_secret,
            self._repair,
            self._deletion,
        )
        for step in steps:
            await asyncio.sleep(self._shown.pause)
            await step()

    async def _outage(self) -> None:
        self._shown.step(
            "Stop the tenant's API server: one failed probe may be a blip, but the third in a "
            "row, six seconds after the first, makes the DPUCluster NotReady."
        )
        self._planes.stop_tenant()
        await self._steps.until_reason(ConditionType.READY, "Unreachable")

    async def _recovery(self) -> None:
        self._shown.step(
            "Start it again: a single probe that succeeds is enough, and nobody has to do "
            "anything to the DPUCluster."
        )
        self._shown.waiting("starting the tenant's kube-apiserver")
        await self._planes.start_tenant()
        await self._steps.until_ready()

    async def _rotation(self) -> None:
        self._shown.step(
            "Rotate the kubeconfig: the new client certificate is tried beside the old one, which "
            "is kept until the new one works, so that Ready is never lost."
        )
        self._kubeconfig = self._planes.tenant.client_kubeconfig()
        credential = demo_manifests.credential(self._kubeconfig)
        with self._watch.journal() as told:
            await self._steps.apply(demo_manifests.SECRET, demo_manifests.secret(self._kubeconfig))
            with self._steps.waiting("probes with the new certificate"):
                await self._until_used(credential)
        if not all(demo_view.is_ready(version) for version in told):
            raise errors.LocalPlaneError("the DPUCluster was NotReady during the rotation")
        self._shown.note(f"the tenant's audit log shows {PROBES_SEEN} probes with the certificate")
        self._shown.note(credential.lower().replace("x509sha256=", "SHA-256 "))
        self._shown.result(
            f"in use, and no false NotReady: the watch told {len(told) - 1} changes meanwhile, "
            f"and Ready was True all the time"
        )

    async def _missing_key(self) -> None:
        self._shown.step(
            "Break the Secret, first way: its kubeconfig stands under a key that nobody looks for, "
            "so there is nothing to connect with."
        )
        broken = demo_manifests.without_key(demo_manifests.secret(self._kubeconfig))
        await self._steps.apply(demo_manifests.SECRET, broken)
        await self._steps.until_reason(ConditionType.CREATED, "KubeconfigKeyMissing")

    async def _exec_plugin(self) -> None:
        self._shown.step(
            "Second way: a kubeconfig that runs a program for its credentials, refused because "
            "nobody may make a controller run programs by writing a Secret."
        )
        unsafe = demo_manifests.with_program(self._kubeconfig)
        await self._steps.apply(demo_manifests.SECRET, demo_manifests.secret(unsafe))
        await self._steps.until_reason(ConditionType.CREATED, "KubeconfigUnsafe")

    async def _deleted_secret(self) -> None:
        self._shown.step("Third way: delete it, so that the DPUCluster names what is not there.")
        await self._steps.kubectl("delete", "secret", demo_manifests.SECRET_NAME, "-n", NAMESPACE)
        await self._steps.until_reason(ConditionType.CREATED, "SecretNotFound")

    async def _repair(self) -> None:
        self._shown.step(
            "Repair it: the Secret is watched, so a good one is noticed as soon as it is there."
        )
        await self._steps.apply(demo_manifests.SECRET, demo_manifests.secret(self._kubeconfig))
        await self._steps.until_ready()

    async def _deletion(self) -> None:
        self._shown.step(
            "Delete the DPUCluster: the controllers take back their finalizers, and the Secret and "
            "the tenant stay, because they are yours."
        )
        await self._steps.delete()

    async def _until_used(self, credential: str) -> None:
        began = time.monotonic()
        while demo_manifests.times_probed(self._planes.audit_lines(), credential) < PROBES_SEEN:
            self._watch.check_time(began, "is not probed with the new certificate")
            await asyncio.sleep(AUDIT_POLL)
