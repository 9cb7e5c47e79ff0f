"""What is known about one tenant cluster. Pure."""

from __future__ import annotations

import dataclasses

from dpucluster.tenant import health as tenant_health
from dpucluster.tenant import problem
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import Health
from dpucluster.tenant.problem import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What is asked on connecting and every few minutes; none of it decides health.

    ``None`` and the empty version mean: not known.
    """

    version: str = ""
    nodes_count: int | None = None
    is_cluster_admin: bool | None = None

    def updated(self, newer: Survey) -> Survey:
        """This survey with everything that a newer one could tell."""
        admin = newer.is_cluster_admin
        return Survey(
            newer.version or self.version,
            self.nodes_count if newer.nodes_count is None else newer.nodes_count,
            self.is_cluster_admin if admin is None else admin,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class TenantState:
    """What is known about one tenant cluster now.

    Two states are equal when no reader can tell them apart; times and counters do not take part.

    Attributes:
        diagnosis: The verdict on the Secret as it is now; None while it has not been read.
        health: What the API server answers. While a changed Secret does not work yet, this is
            still about the connection made with the one before.
        version: Of the API server, such as ``v1.34.4``; empty while unknown.
        nodes_count: None while unknown.
        identity: UID of the tenant's ``kube-system`` namespace; empty while unknown.
        warnings: What is odd and does not stop anything; the diagnosis' own come first.
    """

    diagnosis: Diagnosis | None = None
    health: Health = Health()  # noqa: RUF009 - frozen
    version: str = ""
    nodes_count: int | None = None
    identity: str = ""
    warnings: tuple[Problem, ...] = ()


def differs(old: TenantState, new: TenantState, *, threshold: int) -> bool:
    """Whether somebody should look again.

    Also when nothing but the patience with a Ready cluster has run out.
    """
    ran_out = [
        tenant_health.is_down(state.health, was_ready=True, threshold=threshold)
        for state in (old, new)
    ]
    return old != new or ran_out[0] != ran_out[1]


def not_cluster_admin(diagnosis: Diagnosis) -> Problem:
    """The user may not do everything."""
    user = diagnosis.facts.user_name if diagnosis.facts else ""
    return Problem(
        problem.NOT_CLUSTER_ADMIN,
        f"{diagnosis.where}: user {user!r} is not cluster-admin of the tenant; bind it to the "
        "ClusterRole cluster-admin, or joining DPUs may be refused later",
    )


def new_kubeconfig_failing(diagnosis: Diagnosis, found: Problem) -> Problem:
    """The Secret was changed to something that does not work; the old connection still does."""
    return Problem(
        problem.NEW_KUBECONFIG_FAILING,
        f"{diagnosis.where} was changed and the new content does not work, the connection made "
        f"with the content before is still used until it fails, too: {found.message}",
    )


def kinship(
    diagnosis: Diagnosis, identity: str, *, is_own: bool, is_shared: bool
) -> tuple[Problem, ...]:
    """What the identity shows: the management cluster itself, or the tenant of another."""
    found = []
    if is_own:
        text = f"{diagnosis.where} leads to the management cluster itself; use the tenant's own"
        found.append(Problem(problem.MANAGEMENT_CLUSTER, text))
    if is_shared:
        # Names nobody: who is known first is chance, and the same fact must read the same.
        text = (
            f"{diagnosis.where} leads to the same cluster as another DPUCluster (kube-system has "
            f"UID {identity}; Events with reason {problem.SHARED_TENANT} and this UID name all of "
            "them); DPUs of both would meet there, give each a cluster of its own"
        )
        found.append(Problem(problem.SHARED_TENANT, text))
    return tuple(found)
