"""The node: it is there, its heart beats, and the pods that are bound to it run."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import dpucluster
from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.localplane.node import container, pod, pods
from dpucluster.runtime import backoff

log = logging.getLogger(__name__)

BEAT_EVERY = 2.0
"""Seconds between renewals of the node's Lease."""
STATUS_EVERY = 5.0
"""Seconds between reports of the node's status; one ends a NotReady that somebody else wrote."""
DRAIN = 3.0
"""Seconds for pods that were killed to be gone; the kernel takes what is left along with us."""
LEASE_NAMESPACE = "kube-node-lease"
CAPACITY = {"cpu": "16", "memory": "32Gi", "pods": "110", "ephemeral-storage": "50Gi"}
"""More than there may be: nothing is enforced, and requests are not to keep pods away."""
MERGE = "application/merge-patch+json"


class Agent:
    """Runs the pods of one node until cancelled; ``drain`` ends them."""

    def __init__(self, host: pod.Host) -> None:
        self._host = host
        self._running: dict[str, pod.PodRunner] = {}

    async def run(self) -> None:
        """Be the node, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._report())
            group.create_task(self._follow_pods())

    async def drain(self) -> None:
        """End all pods at once; their objects stay, and are run again by the next agent."""
        ending = [runner.end(at_once=True) for runner in self._running.values()]
        if ending:
            await asyncio.wait(ending, timeout=DRAIN)

    async def _follow_pods(self) -> None:
        pause = backoff.Backoff(cap=2.0)
        selector = f"spec.nodeName={self._host.name}"
        while True:
            with contextlib.suppress(errors.DpuClusterError):
                listing = await self._host.client.list(pods.PODS, field_selector=selector)
                self._replace(listing.items)
                pause.reset()
                watch = self._host.client.watch(
                    pods.PODS, resource_version=listing.resource_version, field_selector=selector
                )
                async with contextlib.aclosing(watch) as events:
                    async for event in events:
                        self._apply(event)
            await asyncio.sleep(pause.next())

    def _replace(self, listed: list[pods.Pod]) -> None:
        there = {each.metadata.uid for each in listed}
        for uid in set(self._running) - there:
            self._forget(uid)
        for each in listed:
            self._see(each)

    def _apply(self, event: kube_client.WatchEvent[pods.Pod]) -> None:
        match event:
            case kube_client.Added(obj) | kube_client.Modified(obj):
                self._see(obj)
            case kube_client.Deleted(obj):
                self._forget(obj.metadata.uid)
            case _:
                pass

    def _see(self, seen: pods.Pod) -> None:
        uid = seen.metadata.uid
        runner = self._running.get(uid)
        if runner is None:
            if seen.status.phase in ("Succeeded", "Failed") and not seen.metadata.is_deleting:
                return
            runner = self._running[uid] = pod.PodRunner(seen, self._host)
            if not seen.metadata.is_deleting:
                runner.start()
        runner.pod = seen
        if seen.metadata.is_deleting:
            runner.end(at_once=seen.metadata.deletion_grace_period_seconds == 0)

    def _forget(self, uid: str) -> None:
        """The object is gone: whatever still runs is nobody's any more."""
        runner = self._running.pop(uid, None)
        if runner is not None:
            runner.end(at_once=True)

    async def _beat(self) -> None:
        name = self._host.name
        path = kinds.LEASES.path(LEASE_NAMESPACE)
        spec: dict[str, Any] = {"holderIdentity": name, "leaseDurationSeconds": 8}
        lease = {
            "apiVersion": kinds.LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
        }
        while True:
            body = json.dumps({**lease, "spec": {**spec, "renewTime": _precise_now()}}).encode()
            with contextlib.suppress(errors.DpuClusterError):
                answer = await self._host.client.raw(
                    "PATCH", f"{path}/{name}", body=body, content_type=MERGE
                )
                if answer.status == 404:
                    await self._host.client.raw("POST", path, body=body)
            await asyncio.sleep(BEAT_EVERY)

    async def _report(self) -> None:
        since = container.timestamp()
        path = f"/api/v1/nodes/{self._host.name}/status"
        while True:
            body = json.dumps({"status": self._status(since)}).encode()
            with contextlib.suppress(errors.DpuClusterError):
                await self._host.client.raw("PATCH", path, body=body, content_type=pod.STRATEGIC)
            await asyncio.sleep(STATUS_EVERY)

    def _status(self, since: str) -> dict[str, Any]:
        now = container.timestamp()
        conditions = {
            "Ready": ("True", "KubeletReady", "pods run as processes"),
            "MemoryPressure": ("False", "NotWatched", "nothing is evicted here"),
            "DiskPressure": ("False", "NotWatched", "nothing is evicted here"),
            "PIDPressure": ("False", "NotWatched", "nothing is evicted here"),
        }
        return {
            "addresses": [
                {"type": "InternalIP", "address": self._host.address},
                {"type": "Hostname", "address": self._host.name},
            ],
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "nodeInfo": _node_info(),
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": since,
                }
                for kind, (status, reason, message) in conditions.items()
            ],
        }


def _node_info() -> dict[str, str]:
    machine_id = Path("/etc/machine-id")
    identity = machine_id.read_text(encoding="utf-8").strip() if machine_id.exists() else "none"
    version = f"v{dpucluster.__version__}"
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "unknown"),
        "operatingSystem": "linux",
        "osImage": "processes of this machine",
        "kernelVersion": platform.release(),
        "kubeletVersion": version,
        "kubeProxyVersion": version,
        "containerRuntimeVersion": f"process://{dpucluster.__version__}",
        "machineID": identity,
        "systemUUID": identity,
        "bootID": identity,
    }


def _precise_now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
