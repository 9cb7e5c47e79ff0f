"""The floor: a bare client that makes the same writes as the controllers, and nothing else.

No watch, no cache, no decision, no tenant: three patches and two Events for each object, as many
objects at a time as the controllers look at.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import time

from dpucluster.api import contract, timestamps
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import config, kinds

AT_A_TIME = 16
REASONS = ("HealthCheckPassed", "SharedTenant")
"""Of the Events. The second is due to the bench: all its clusters lead to one tenant."""


async def write_all(kubeconfig: str, namespace: str) -> float:
    """Seconds for all DPUClusters of the namespace."""
    gate = asyncio.Semaphore(AT_A_TIME)
    async with kube_client.Client(config.load(kubeconfig)) as client:
        clusters = (await client.list(kinds.DPUCLUSTERS, namespace)).items

        async def one(cluster: DPUCluster) -> None:
            async with gate:
                await write(client, cluster)

        started = time.monotonic()
        await asyncio.gather(*map(one, clusters))
        return time.monotonic() - started


async def write(client: kube_client.Client, cluster: DPUCluster) -> None:
    """What the controllers write for one object."""
    name, namespace = cluster.metadata.name, cluster.metadata.namespace
    patches = (
        (
            "",
            {
                "metadata": {
                    "finalizers": [contract.FINALIZER_MANAGER, contract.FINALIZER_LIFECYCLE]
                }
            },
        ),
        ("status", {"status": {"phase": "Creating"}}),
        ("status", {"status": ready()}),
    )
    for subresource, patch in patches:
        version = cluster.metadata.resource_version
        body = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": version}}
        cluster = await client.merge_patch(
            kinds.DPUCLUSTERS, name, body, namespace, subresource=subresource
        )
    for reason in REASONS:
        await client.create(kinds.EVENTS, event(cluster, reason), namespace)


def event(cluster: DPUCluster, reason: str) -> kinds.Event:
    """One Event about ``cluster``."""
    metadata = cluster.metadata
    return kinds.Event(
        metadata=ObjectMeta(name=f"{metadata.name}.{reason.lower()}", namespace=metadata.namespace),
        event_time=timestamps.to_micro(dt.datetime.now(dt.UTC)),
        reporting_controller="floor",
        reporting_instance="floor",
        action="Reconcile",
        reason=reason,
        regarding=kinds.reference(kinds.DPUCLUSTERS, metadata),
        note="Ready is True",
        type="Normal",
    )


def ready() -> dict[str, object]:
    """The status of a Ready cluster."""
    now = timestamps.to_rfc3339(dt.datetime.now(dt.UTC))
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": "",
            "lastTransitionTime": now,
            "observedGeneration": 1,
        }
        for type_, reason in (("Created", "Created"), ("Ready", "HealthCheckPassed"))
    ]
    return {"phase": "Ready", "version": "v1.34.4", "nodesCount": 0, "conditions": conditions}


if __name__ == "__main__":
    print(asyncio.run(write_all(sys.argv[1], sys.argv[2])))
