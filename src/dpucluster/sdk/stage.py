"""The two interfaces of the pipeline: what a manager's author writes, and what the host runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.api.dpucluster import ConditionType, DPUCluster, Phase
from dpucluster.kube import client as kube_client
from dpucluster.kube.resource import Resource
from dpucluster.runtime import clock as clocks
from dpucluster.runtime.store import HasMetadata
from dpucluster.sdk.outcome import Outcome
from dpucluster.sdk.watches import Cached, Watch
from dpucluster.tenant import state as tenant_state

T = TypeVar("T", bound=HasMetadata)

OWNED_BY_LIFECYCLE = (ConditionType.READY,)


class BoundLog(logging.LoggerAdapter[logging.Logger]):
    """A logger with fields of its own, beside those of each call."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Add the bound fields; a call's own win."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


class CacheSet(Protocol):
    """``sdk.caches.Caches``, as far as a stage uses it."""

    def of(self, resource: Resource[T]) -> Cached[T]:
        """The cache of a kind that the manager watches."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a stage may use while it looks at one DPUCluster.

    Attributes:
        client: The management cluster. Writes raise ``errors.LeadershipLost`` as soon as the Lease
            of the role is not surely held.
        tenant: Diagnosis and health of the cluster's tenant as known now; never waits.
        clock: The only clock a stage may read.
        caches: What the manager's watches keep; ``caches.of(resource)`` costs no request.
        log: A logger with the object's key and the role bound to it.
        is_guarded: The lifecycle takes part in this look, so that its guard was asked before
            anything is taken apart.
    """

    client: kube_client.Client
    tenant: Callable[[DPUCluster], tenant_state.TenantState]
    clock: clocks.Clock
    caches: CacheSet
    log: logging.LoggerAdapter[logging.Logger]
    is_guarded: bool = True


class ClusterManager(Protocol):
    """Provides the control planes of all DPUClusters of one ``spec.type``.

    Guarantees of the host:
        One key is never reconciled twice at a time. Nothing is called while the phase is
        ``Pending``, while the object is paused (``cleanup`` is), or without the role's Lease.
        The finalizer is there before the first ``reconcile`` and goes after ``cleanup`` is done.

    Errors:
        An exception means that somebody should look: it is logged and retried with back-off.
        Waiting is ``Outcome(requeue_after=…)``.
    """

    @property
    def type(self) -> str:
        """The ``spec.type`` it answers for, such as ``example.com/foo``."""
        ...

    @property
    def watches(self) -> Sequence[Watch[Any]]:
        """What it reads beside DPUClusters; a change has the DPUClusters concerned looked at."""
        ...

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Bring the control plane to what ``cluster.spec`` asks for and say how far it is."""
        ...

    async def cleanup(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Remove everything made for ``cluster``; ``done`` when nothing is left."""
        ...


class Stage(Protocol):
    """One step of the pipeline that every DPUCluster goes through."""

    @property
    def component(self) -> str:
        """Names the role; its Lease is ``contract.lease_name(component)``."""
        ...

    @property
    def finalizer(self) -> str:
        """What keeps a deleted cluster until ``finalize`` is done."""
        ...

    @property
    def watches(self) -> Sequence[Watch[Any]]:
        """What it reads beside DPUClusters."""
        ...

    def claims(self, cluster: DPUCluster) -> bool:
        """Whether this stage has anything to do with the cluster."""
        ...

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Look at a cluster that is not being deleted."""
        ...

    async def may_finalize(self, cluster: DPUCluster, context: Context) -> Outcome | None:
        """None when the cluster may be taken apart now, else what it waits for."""
        ...

    async def finalize(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Undo what this stage did; with ``done`` its finalizer goes."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ManagerStage:
    """A cluster manager as a stage, held to the contract."""

    component: str
    manager: ClusterManager
    finalizer: str = contract.FINALIZER_MANAGER

    @property
    def watches(self) -> Sequence[Watch[Any]]:
        """Those of the manager."""
        return self.manager.watches

    def claims(self, cluster: DPUCluster) -> bool:
        """Managers act on their own type only."""
        return cluster.spec.type == self.manager.type

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Wait for the lifecycle's first sight, then ask the manager."""
        if cluster.status.phase is Phase.PENDING:
            return Outcome()
        return self._checked(await self.manager.reconcile(cluster, context))

    async def may_finalize(self, cluster: DPUCluster, context: Context) -> Outcome | None:
        """Not before the lifecycle, where that runs in another process, has had its say.

        Its finalizer goes when nothing speaks against the deletion (NVIDIA's), or its
        ``DeletionCompleted`` waits for something else than DPUs (ours).
        """
        if context.is_guarded or contract.FINALIZER_LIFECYCLE not in cluster.metadata.finalizers:
            return None
        said = cluster.condition(ConditionType.DELETION_COMPLETED)
        if said is not None and said.reason != contract.REASON_WAITING_FOR_DPUS:
            return None
        return Outcome(done=False)

    async def finalize(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Ask the manager to clean up."""
        return self._checked(await self.manager.cleanup(cluster, context))

    def _checked(self, outcome: Outcome) -> Outcome:
        who = f"cluster manager {self.manager.type!r} ({type(self.manager).__name__})"
        if not isinstance(outcome, Outcome):
            raise errors.ManagerError(
                f"{who} returned {type(outcome).__name__} where the contract asks for an Outcome"
            )
        forbidden = [c.type for c in outcome.conditions if c.type in OWNED_BY_LIFECYCLE]
        if outcome.lifecycle is not None or forbidden:
            raise errors.ManagerError(
                f"{who} set the phase or the condition Ready, which belong to the lifecycle "
                "controller; report your own state in Created or a condition of your own"
            )
        return outcome
