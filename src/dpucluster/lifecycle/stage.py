"""The lifecycle controller as a stage of the pipeline: reads, asks the pure parts, hands over."""

from __future__ import annotations

import dataclasses
from typing import Any

from dpucluster import errors
from dpucluster.api import conditions, contract
from dpucluster.api.dpucluster import ConditionType, DPUCluster, Phase
from dpucluster.lifecycle import census, deletion, phase, readiness
from dpucluster.sdk import Context, Lifecycle, Outcome, Watch

DELETION_POLL_SECONDS = 5.0
"""DPUs are looked up again so often while they hold a deletion back."""


@dataclasses.dataclass(frozen=True, slots=True)
class LifecycleStage:
    """Claims every DPUCluster: phase and ``Ready`` have one owner.

    ``failure_threshold`` is that of the host's probes.
    """

    census: census.Census
    failure_threshold: int
    component: str = contract.COMPONENT_LIFECYCLE
    finalizer: str = contract.FINALIZER_LIFECYCLE
    watches: tuple[Watch[Any], ...] = ()

    def claims(self, cluster: DPUCluster) -> bool:
        """Every type is the lifecycle's."""
        del cluster
        return True

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Derive ``Ready`` and the phase from what the managers said and the tenant shows."""
        if cluster.status.phase is Phase.PENDING:
            # told at once: NVIDIA's managers, and ours, act only from here on
            return Outcome(lifecycle=Lifecycle(phase.decide(Phase.PENDING, ())))
        tenant = context.tenant(cluster)
        observed = readiness.Observed(cluster, tenant, self.failure_threshold)
        verdict = readiness.decide(observed)
        said = () if verdict.ready is None else (verdict.ready,)
        after = conditions.merge(cluster.status.conditions, said, now="")
        return Outcome(
            conditions=said,
            notices=readiness.notices(observed),
            settling=verdict.settling,
            lifecycle=Lifecycle(
                phase=phase.decide(cluster.status.phase, after),
                version=tenant.version or None,
                nodes_count=tenant.nodes_count,
            ),
        )

    async def may_finalize(self, cluster: DPUCluster, context: Context) -> Outcome | None:
        """Not while DPUs reference the cluster (where DPF's DPU kind is installed)."""
        try:
            dpus = await self.census.of(cluster.key, context)
        except errors.Forbidden as error:
            waiting = deletion.cannot_look_for_dpus(error)
        else:
            if not dpus:
                return None
            waiting = deletion.waiting_for_dpus(dpus)
        return Outcome(conditions=(waiting,), requeue_after=DELETION_POLL_SECONDS, done=False)

    async def finalize(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Go last: the manager's finalizer must be gone from the draft first."""
        del context
        if contract.FINALIZER_MANAGER not in cluster.metadata.finalizers:
            return Outcome(done=True)
        said = cluster.condition(ConditionType.DELETION_COMPLETED)
        if said is not None and said.reason == "WaitingForControlPlane":
            return Outcome(done=False)  # the manager itself says what it waits for
        return Outcome(conditions=(deletion.waiting_for_manager(cluster),), done=False)
