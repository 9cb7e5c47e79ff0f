"""What the deletion of a DPUCluster waits for, as the condition ``DeletionCompleted``. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dpucluster.api import contract
from dpucluster.api.dpucluster import ConditionType, DPUCluster
from dpucluster.api.meta import Condition, Key, listed
from dpucluster.sdk import Problem, condition


def waiting_for_dpus(dpus: Sequence[Key]) -> Condition:
    """DPUs still belong to the cluster: taking it apart would strand them."""
    return _not_completed(
        Problem(
            contract.REASON_WAITING_FOR_DPUS,
            f"{len(dpus)} DPUs still reference this cluster: {listed(dpus)}; delete or "
            "reassign them, for instance by deleting their DPUSet",
        )
    )


def cannot_look_for_dpus(error: Exception) -> Condition:
    """Whether DPUs still belong to the cluster is not known, so it is not taken apart."""
    return _not_completed(
        Problem(
            contract.REASON_WAITING_FOR_DPUS,
            "cannot tell whether DPUs still reference this cluster; let the lifecycle controller "
            f"list dpus.provisioning.dpu.nvidia.com: {error}",
        )
    )


def waiting_for_manager(cluster: DPUCluster) -> Condition:
    """Another process still holds the manager's finalizer."""
    return _not_completed(
        Problem(
            "WaitingForManager",
            f"the cluster manager for type {cluster.spec.type!r} still holds the finalizer "
            f"{contract.FINALIZER_MANAGER}; see that it runs",
        )
    )


def _not_completed(problem: Problem) -> Condition:
    return condition(ConditionType.DELETION_COMPLETED, problem, reason="")
