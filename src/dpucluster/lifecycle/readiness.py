"""The condition ``Ready``. Pure: one frozen observation in, one decision out.

``Ready`` is True when every condition of the managers is True and the tenant's API server
answers its admin. It is never left standing True when one of them is not.
"""

from __future__ import annotations

import dataclasses

import msgspec

from dpucluster.api.dpucluster import ConditionType, DPUCluster
from dpucluster.api.meta import Condition
from dpucluster.sdk import NEW_KUBECONFIG_FAILING, Notice, Problem, TenantState, condition, is_down

NOT_BLOCKING = frozenset(
    {
        ConditionType.READY,
        ConditionType.DELETION_COMPLETED,
        # DPF v26.8 writes these two with a healthy state of False and ignores them itself
        "EtcdEncryptionRotationInProgress",
        "EtcdEncryptionRotationBlocked",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """Everything the decision rests on."""

    cluster: DPUCluster
    tenant: TenantState
    failure_threshold: int


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """``ready`` is None while nothing is known and nothing was said before.

    ``settling``: a first verdict is on its way and worth waiting a moment for.
    """

    ready: Condition | None
    settling: bool = False


def decide(observed: Observed) -> Verdict:
    """What ``Ready`` should be."""
    waiting = _waiting_for(observed.cluster)
    if waiting is not None:
        return Verdict(_ready(waiting))
    diagnosis = observed.tenant.diagnosis
    if diagnosis is None:
        return _unknown(observed)
    if diagnosis.problem is not None:
        return Verdict(_ready(_as_ready_reason(diagnosis.problem)))
    return _by_health(observed)


def _by_health(observed: Observed) -> Verdict:
    health = observed.tenant.health
    before = observed.cluster.condition(ConditionType.READY)
    was_ready = before is not None and before.is_true
    if health.ok is None:
        return _unknown(observed)
    if health.ok:
        facts_pending = not was_ready and not observed.tenant.version
        return Verdict(_healthy(observed.tenant), settling=facts_pending)
    if is_down(health, was_ready=was_ready, threshold=observed.failure_threshold):
        return Verdict(_ready(health.problem))
    return Verdict(before)


def _unknown(observed: Observed) -> Verdict:
    before = observed.cluster.condition(ConditionType.READY)
    first_time = before is None or not before.is_true
    return Verdict(before, settling=first_time)


def _ready(problem: Problem | None) -> Condition:
    return condition(ConditionType.READY, problem, reason="HealthCheckPassed")


def _healthy(tenant: TenantState) -> Condition:
    """True; a changed Secret that does not work yet is told along with it."""
    failing = (w.message for w in tenant.warnings if w.reason == NEW_KUBECONFIG_FAILING)
    return msgspec.structs.replace(_ready(None), message=next(failing, ""))


def _as_ready_reason(problem: Problem) -> Problem:
    """A manager that does not look at its Secret (NVIDIA's) leaves this to the lifecycle."""
    if problem.reason == "CredentialsExpired":
        return problem
    return Problem("KubeconfigInvalid", problem.message)


def _waiting_for(cluster: DPUCluster) -> Problem | None:
    """The conditions that hold the cluster back, each with its reason, or None."""
    created = cluster.condition(ConditionType.CREATED)
    if created is None:
        return Problem(
            "WaitingForControlPlane",
            f"no cluster manager has reported on type {cluster.spec.type!r} yet",
        )
    blocking = [
        c for c in cluster.status.conditions if c.type not in NOT_BLOCKING and not c.is_true
    ]
    if not blocking:
        return None
    listed = "; ".join(f"{c.type} is {c.status} ({c.reason}): {c.message}" for c in blocking)
    return Problem("WaitingForControlPlane", listed)


def notices(observed: Observed) -> tuple[Notice, ...]:
    """Warnings that do not block."""
    count, limit = observed.tenant.nodes_count, observed.cluster.spec.max_nodes
    if count is None or count <= limit:
        return ()
    return (
        Notice(
            "TooManyNodes",
            f"the cluster has more nodes than spec.maxNodes ({limit}) allows; "
            "raise maxNodes or move DPUs to another DPUCluster",
        ),
    )
