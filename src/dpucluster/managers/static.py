"""The static manager: adopts a control plane that exists already.

The user names a Secret with an admin kubeconfig in ``spec.kubeconfig``; ``Created`` says whether
it can be used. Nothing is made, so nothing has to be cleaned up. A Secret that comes later, is
changed or deleted is seen through the host's watch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dpucluster.sdk import (
    TYPE_STATIC,
    ConditionType,
    Context,
    DPUCluster,
    Notice,
    Outcome,
    TenantState,
    Watch,
    condition,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """Everything the decision rests on."""

    cluster: DPUCluster
    tenant: TenantState


@dataclasses.dataclass(frozen=True, slots=True)
class StaticManager:
    """``type: static``."""

    type: str = TYPE_STATIC
    watches: tuple[Watch[Any], ...] = ()

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Say whether the Secret named by the user holds a usable kubeconfig."""
        return decide(Observed(cluster, context.tenant(cluster)))

    async def cleanup(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Nothing was made; the Secret and the control plane are the user's."""
        del cluster, context
        return Outcome(done=True)


def decide(observed: Observed) -> Outcome:
    """``Created`` and the warnings, from the Secret's diagnosis. Pure."""
    diagnosis = observed.tenant.diagnosis
    if diagnosis is None:
        return Outcome(settling=observed.cluster.condition(ConditionType.CREATED) is None)
    created = condition(ConditionType.CREATED, diagnosis.problem, reason="Created")
    if diagnosis.problem is not None:
        return Outcome(conditions=(created,))
    return Outcome(conditions=(created,), notices=tuple(_warnings(observed)))


def _warnings(observed: Observed) -> list[Notice]:
    """What is odd about the adopted control plane and does not stop it."""
    spec, tenant = observed.cluster.spec, observed.tenant
    found = [Notice(w.reason, w.message) for w in tenant.warnings]
    if spec.version and tenant.version and spec.version != tenant.version:
        found.append(
            Notice(
                "VersionMismatch",
                f"spec.version is {spec.version}, the control plane runs {tenant.version}; "
                "a static cluster is not upgraded: correct or remove spec.version",
            )
        )
    if spec.cluster_endpoint is not None:
        found.append(
            Notice(
                "ClusterEndpointIgnored",
                "spec.clusterEndpoint has no effect on a static cluster: its kubeconfig says "
                "where it is reached; remove the field",
            )
        )
    return found
