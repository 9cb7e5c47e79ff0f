"""Pure: from a DPUCluster and what the stages say to the patches that have to be written.

A draft is simply another frozen DPUCluster. What differs between the object that was read and the
draft is written, each list complete, under the resourceVersion that was read: the one way of
writing that is right on NVIDIA's CRD and on ours, alone and beside other writers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from dpucluster.api import conditions
from dpucluster.api.dpucluster import DPUCluster, DPUClusterStatus
from dpucluster.sdk.outcome import Lifecycle, Outcome

Patch = Mapping[str, Any]


def with_outcome(cluster: DPUCluster, outcome: Outcome, *, now: str) -> DPUCluster:
    """The cluster as it should be after ``outcome``; ``now`` is RFC 3339."""
    spec = cluster.spec
    if outcome.kubeconfig and not spec.kubeconfig:
        spec = msgspec.structs.replace(spec, kubeconfig=outcome.kubeconfig)
    generation = cluster.metadata.generation
    stamped = [
        msgspec.structs.replace(c, observed_generation=generation) for c in outcome.conditions
    ]
    status = msgspec.structs.replace(
        cluster.status,
        conditions=conditions.merge(
            cluster.status.conditions, stamped, now=now, remove=outcome.withdraw
        ),
    )
    if outcome.lifecycle is not None:
        status = _with_lifecycle(status, outcome.lifecycle)
    return msgspec.structs.replace(cluster, spec=spec, status=status)


def _with_lifecycle(status: DPUClusterStatus, said: Lifecycle) -> DPUClusterStatus:
    return msgspec.structs.replace(
        status,
        phase=said.phase,
        version=status.version if said.version is None else said.version,
        nodes_count=status.nodes_count if said.nodes_count is None else said.nodes_count,
    )


def with_finalizers(cluster: DPUCluster, *finalizers: str) -> DPUCluster:
    """The cluster holding each of ``finalizers``, those of others first and in their order."""
    held = cluster.metadata.finalizers
    missing = tuple(f for f in finalizers if f not in held)
    return _replace_finalizers(cluster, held + missing) if missing else cluster


def without_finalizer(cluster: DPUCluster, finalizer: str) -> DPUCluster:
    """The cluster without ``finalizer``."""
    left = tuple(f for f in cluster.metadata.finalizers if f != finalizer)
    return _replace_finalizers(cluster, left)


def _replace_finalizers(cluster: DPUCluster, finalizers: tuple[str, ...]) -> DPUCluster:
    metadata = msgspec.structs.replace(cluster.metadata, finalizers=finalizers)
    return msgspec.structs.replace(cluster, metadata=metadata)


def main_patch(before: DPUCluster, after: DPUCluster) -> Patch | None:
    """The patch of the main resource (finalizers, ``spec.kubeconfig``), or None."""
    metadata: dict[str, Any] = {}
    patch: dict[str, Any] = {"metadata": metadata}
    if before.metadata.finalizers != after.metadata.finalizers:
        metadata["finalizers"] = list(after.metadata.finalizers)
    if before.spec.kubeconfig != after.spec.kubeconfig:
        patch["spec"] = {"kubeconfig": after.spec.kubeconfig}
    if not metadata and "spec" not in patch:
        return None
    metadata["resourceVersion"] = before.metadata.resource_version
    return patch


def status_patch(
    before: DPUCluster, after: DPUCluster, *, pruned: Collection[str] = ()
) -> Patch | None:
    """The patch of ``/status``, or None.

    ``pruned`` names status fields this server does not know (see ``pruned_fields``): asking for
    them again would never close the difference.
    """
    old, new = _status_fields(before.status), _status_fields(after.status)
    changed = {k: v for k, v in new.items() if v != old[k] and k not in pruned}
    if not changed:
        return None
    # phase is required by the schema, and the server's default fills it in only on create
    changed["phase"] = new["phase"]
    return {
        "metadata": {"resourceVersion": before.metadata.resource_version},
        "status": changed,
    }


def pruned_fields(patch: Patch, reply: DPUCluster) -> frozenset[str]:
    """Status fields that ``patch`` set and the server's ``reply`` does not have."""
    got = _status_fields(reply.status)
    asked = patch["status"]
    return frozenset(k for k in ("version", "nodesCount") if k in asked and got[k] != asked[k])


def _status_fields(status: DPUClusterStatus) -> dict[str, Any]:
    return {
        "phase": status.phase.value,
        "conditions": conditions.to_wire(status.conditions),
        "version": status.version,
        "nodesCount": status.nodes_count,
    }
