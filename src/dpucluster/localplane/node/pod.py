"""One pod, from the moment it is bound to this node until nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.localplane.node import (
    container,
    contents,
    environment,
    images,
    network,
    pods,
    podstatus,
    projection,
    volumes,
)

log = logging.getLogger(__name__)

REFRESH_EVERY = 3.0
"""Seconds between looks at what the volumes are made of; kubelet takes up to a minute."""
RETRY_EVERY = 1.0
"""Seconds between two tries of what could not be done yet."""
SETTLE = 0.05
"""Seconds for several changes to become one report."""
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Host:
    """What a pod has of its node.

    Attributes:
        hosts: The file with the names of all Services, ``/etc/hosts`` of every pod.
    """

    name: str
    address: str
    directory: Path
    hosts: Path
    client: kube_client.Client
    catalogue: images.Catalogue
    network: network.Network


class PodRunner:
    """Runs one pod. ``pod`` may be replaced by a newer version of the same pod."""

    def __init__(self, pod: pods.Pod, host: Host) -> None:
        self.pod = pod
        self._host = host
        self._directory = host.directory / "pods" / pod.metadata.uid
        self._network: network.PodNetwork | None = None
        self._volumes = {volume.name: volume for volume in pod.spec.volumes}
        self._written: dict[str, dict[str, volumes.File]] = {}
        self._containers: list[container.Container] = []
        self._initial: list[container.Container] = []
        self._obstacle: podstatus.Waiting = podstatus.CREATING
        self._start_time = pod.status.start_time or container.timestamp()
        self._changed = asyncio.Event()
        self._reported: dict[str, Any] | None = None
        self._work: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; all else happens by itself."""
        self._work = asyncio.create_task(self._go_on(), name=f"pod {self.pod.metadata.key}")

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is left."""
        return self._ending is not None and self._ending.done()

    def end(self, *, at_once: bool = False) -> asyncio.Task[None]:
        """Begin to end it; the task is done when nothing of it is left."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end {self.pod.metadata.key}")
        if at_once:
            for each in (*self._initial, *self._containers):
                each.kill()
        return self._ending

    async def _go_on(self) -> None:
        """Run it; a mistake of this node's own is logged, and the pod begins anew."""
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("pod failed", extra={"pod": str(self.pod.metadata.key)})
            await asyncio.sleep(RETRY_EVERY)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_changes())
            await self._until_done(self._connect)
            await self._until_done(self._mount)
            surroundings = self._surroundings(self.pod.spec.restart_policy)
            self._containers = [
                container.Container(each, surroundings, self._prepare)
                for each in self.pod.spec.containers
            ]
            await self._initialize()
            for each in self._containers:
                group.create_task(each.run())
            self._changed.set()
            group.create_task(self._follow_volumes())

    async def _initialize(self) -> None:
        """Run the containers that must end before the others begin, one after the other."""
        policy = "Never" if self.pod.spec.restart_policy == "Never" else "OnFailure"
        surroundings = self._surroundings(policy)
        self._initial = [
            container.Container(each, surroundings, self._prepare)
            for each in self.pod.spec.init_containers
        ]
        for each in self._initial:
            ended = await each.run()
            if ended is None or ended.exit_code:
                await asyncio.Event().wait()  # the pod has failed, and stays so

    def _surroundings(self, policy: str) -> container.Surroundings:
        metadata, spec = self.pod.metadata, self.pod.spec
        logs = self._host.directory / "logs"
        logs.mkdir(exist_ok=True)
        return container.Surroundings(
            directory=self._directory,
            log=logs / f"{metadata.namespace}_{metadata.name}.log",
            address=self._placement.pod_ip,
            network=self._network.path if self._network else "",
            hostname=(spec.hostname or metadata.name)[:63],
            restart_policy=policy,
            grace=spec.termination_grace_period_seconds,
            changed=self._changed.set,
        )

    @property
    def _placement(self) -> environment.Placement:
        own = self._network.address if self._network else ""
        pod_ip = self._host.address if self.pod.spec.host_network else own
        return environment.Placement(self._host.name, self._host.address, pod_ip)

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Try ``step`` until it succeeds; why it does not is told in the status."""
        while True:
            try:
                await step()
            except (errors.DpuClusterError, volumes.CannotMount, OSError) as error:
                self._obstacle = podstatus.Waiting("ContainerCreating", str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_EVERY)
            else:
                return

    async def _connect(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if not self.pod.spec.host_network and self._network is None:
            self._network = await self._host.network.add_pod()
        self._contents = contents.Contents(self._host.client, self.pod, self._placement)

    async def _mount(self) -> None:
        for volume in self._volumes.values():
            await self._write(volume)

    async def _write(self, volume: pods.Volume) -> None:
        directory = self._directory / "volumes" / volume.name
        if volume.empty_dir is not None:
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o777)
            return
        wanted = await self._contents.files(volume)
        if wanted != self._written.get(volume.name):
            projection.write(directory, wanted)
            self._written[volume.name] = wanted

    async def _follow_volumes(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            for volume in self._volumes.values():
                try:
                    await self._write(volume)
                except (errors.DpuClusterError, volumes.CannotMount) as error:
                    # What was there stays; the pod goes on with it.
                    log.debug("volume not refreshed", extra={"error": str(error)})

    async def _prepare(self, spec: pods.Container) -> container.Prepared:
        try:
            image = self._host.catalogue.find(spec.image)
        except images.UnknownImage as error:
            raise container.CannotStart(images.NEVER_PULLED, str(error)) from None
        try:
            own = await self._contents.variables(spec)
            mounts = [self._mount_of(each) for each in _outer_first(spec.volume_mounts)]
        except (volumes.CannotMount, errors.DpuClusterError) as error:
            raise container.CannotStart("CreateContainerConfigError", str(error)) from error
        env = {**environment.DEFAULT, "HOSTNAME": self.pod.metadata.name, **own}
        hosts = {"kind": "bind", "source": str(self._host.hosts), "target": "/etc/hosts"}
        return container.Prepared(
            mounts=[*image.mounts, {**hosts, "read_only": True}, *mounts],
            command=environment.command_line(spec, image.entrypoint, env),
            env=env,
        )

    def _mount_of(self, mount: pods.VolumeMount) -> dict[str, Any]:
        volume = self._volumes.get(mount.name)
        if volume is None:
            raise volumes.CannotMount(f"there is no volume {mount.name!r}")
        source = self._directory / "volumes" / mount.name
        if mount.sub_path:
            source = projection.resolve(source, mount.sub_path)
        return {
            "kind": "bind",
            "source": str(source),
            "target": str(PurePosixPath("/") / mount.mount_path),
            # Not enforced for what is mounted into: the next mount's directory may be made there.
            "read_only": False,
        }

    async def _report_changes(self) -> None:
        while True:
            try:
                await self._report()
            except errors.DpuClusterError as error:
                log.debug("status not reported", extra={"error": str(error)})
                await asyncio.sleep(RETRY_EVERY)
                continue
            await self._changed.wait()
            await asyncio.sleep(SETTLE)
            self._changed.clear()

    async def _report(self) -> None:
        status = podstatus.status(
            self.pod,
            self._placement,
            self._facts(self._containers, self.pod.spec.containers),
            initial=self._facts(self._initial, self.pod.spec.init_containers),
            start_time=self._start_time,
            now=container.timestamp(),
        )
        if self._reported is not None and podstatus.equal(status, self._reported):
            return
        patch = {"metadata": {"uid": self.pod.metadata.uid}, "status": status}
        path = pods.PODS.path(*self.pod.metadata.key, "status")
        answer = await self._host.client.raw(
            "PATCH", path, body=json.dumps(patch).encode(), content_type=STRATEGIC
        )
        if answer.status >= 500:
            raise errors.PlaneError(f"{path}: {answer.status}")
        self._reported = status

    def _facts(
        self, running: list[container.Container], specs: tuple[pods.Container, ...]
    ) -> list[podstatus.ContainerFacts]:
        if running:
            return [each.facts for each in running]
        waiting = self._obstacle
        return [podstatus.ContainerFacts(each.name, each.image, waiting) for each in specs]

    async def _end(self) -> None:
        everything = (*self._initial, *self._containers)
        await asyncio.gather(*(each.stop() for each in everything))
        with contextlib.suppress(errors.DpuClusterError):
            await self._report()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})
        if self._network is not None:
            self._host.network.remove_pod(self._network)
        shutil.rmtree(self._directory, ignore_errors=True)
        await self._remove_object()

    async def _remove_object(self) -> None:
        """Tell the API server that the pod is gone, if it waits for that."""
        metadata = self.pod.metadata
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata.uid}}
        while metadata.is_deleting:
            with contextlib.suppress(errors.TransportError):
                path = pods.PODS.path(*metadata.key)
                answer = await self._host.client.raw("DELETE", path, body=json.dumps(body).encode())
                if answer.status < 500:
                    return
            await asyncio.sleep(RETRY_EVERY)


def _outer_first(mounts: tuple[pods.VolumeMount, ...]) -> list[pods.VolumeMount]:
    """So that a mount inside another one is not hidden by it."""
    return sorted(mounts, key=lambda each: len(PurePosixPath(each.mount_path).parts))
