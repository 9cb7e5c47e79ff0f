"""One DPUCluster's way through the stages: observe → decide on a draft → publish once.

Several roles in one process share this pipeline, so that an object costs as few API writes as
possible; split over processes, each runs it with the stages it holds. A pass that has nothing to
say writes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

import msgspec

from dpucluster import errors
from dpucluster.api import conditions, contract, timestamps
from dpucluster.api.dpucluster import ConditionType, DPUCluster
from dpucluster.api.meta import Condition, Key
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import events, informer
from dpucluster.sdk import draft
from dpucluster.sdk.outcome import Notice
from dpucluster.sdk.stage import Context, Stage
from dpucluster.tenant import pool as tenant_pool

log = logging.getLogger(__name__)

MAX_PASSES = 5
"""Passes over one key without going through the queue again: finalizers, first sight, verdict."""
SETTLE_SECONDS = 15.0
"""How long a first publication waits for a verdict under way: a probe and a survey (5 s each), and
what a busy machine adds. It is a net: a verdict, also a bad one, comes sooner."""
QUIET_REASONS = frozenset({"WaitingForControlPlane"})
"""Reasons that only repeat what another condition says; no Event is sent for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A stage whose Lease this process holds; ``check`` raises when it no longer surely does."""

    stage: Stage
    check: Callable[[], None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    """What the stages said of one version of the object."""

    after: DPUCluster
    notices: tuple[Notice, ...]
    requeue_after: float | None
    settling: bool
    error: Exception | None


class Pipeline:
    """Reconciles DPUClusters; the controller sees to it that one key runs once at a time."""

    def __init__(
        self,
        client: kube_client.Client,
        clusters: informer.Informer[DPUCluster],
        tenants: tenant_pool.TenantPool,
        recorder: events.EventRecorder,
        *,
        clock: clocks.Clock,
    ) -> None:
        self._client = client
        self._clusters = clusters
        self._tenants = tenants
        self._recorder = recorder
        self._clock = clock
        self._told: dict[Key, frozenset[str]] = {}
        self._settle_by: dict[Key, float] = {}
        self._pruned: frozenset[str] = frozenset()

    async def reconcile(self, key: Key, held: Sequence[Held]) -> float | None:
        """Look at one DPUCluster with the stages held; seconds until the next look, or None.

        Errors:
            What a stage raised, after everything that is known was published; ``Conflict`` when
            somebody else wrote the object in between.
        """
        cluster = self._clusters.get(key)
        if cluster is None:
            self._forget(key)
            return None
        held = [h for h in held if h.stage.claims(cluster)]
        if not held:
            return None
        try:
            if cluster.metadata.is_deleting:
                return await self._take_apart(cluster, held)
            if cluster.metadata.annotations.get(contract.ANNOTATION_PAUSED) == "true":
                return None
            return await self._advance(cluster, held)
        except errors.NotFound as error:
            if self._clusters.get(key) is not None:
                raise
            log.debug("object is gone", extra={"object": str(key), "error": str(error)})
            return None

    def _forget(self, key: Key) -> None:
        self._tenants.forget(key)
        self._told.pop(key, None)
        self._settle_by.pop(key, None)

    def _context(self, cluster: DPUCluster, held: Sequence[Held]) -> Context:
        return Context(
            client=self._client.fenced(_fence(held)),
            tenant=self._tenants.want,
            clock=self._clock,
            log=logging.LoggerAdapter(log, {"object": str(cluster.key)}),
        )

    async def _advance(self, cluster: DPUCluster, held: Sequence[Held]) -> float | None:
        context = self._context(cluster, held)
        for _ in range(MAX_PASSES):
            seen = await self._consult(cluster, held, context)
            patience = self._patience(cluster, seen)
            if patience is not None:
                return patience
            before, cluster = cluster, await self._publish(cluster, seen.after, context)
            self._tell(before, cluster, seen.notices, _fence(held))
            if seen.error is not None:
                raise seen.error
            if cluster is before:
                break
        return seen.requeue_after

    async def _consult(self, cluster: DPUCluster, held: Sequence[Held], context: Context) -> _Pass:
        """Ask each stage in turn; each sees what those before it have just said."""
        now = timestamps.to_rfc3339(self._clock.now())
        after = draft.with_finalizers(cluster, *(h.stage.finalizer for h in held))
        notices: tuple[Notice, ...] = ()
        requeue: list[float] = []
        settling, error = False, None
        for one in held:
            try:
                outcome = await one.stage.reconcile(after, context)
            except (errors.LeadershipLost, errors.Conflict):
                raise
            except Exception as raised:  # noqa: BLE001 - raised again once the rest is published
                error = error or raised
                continue
            after = draft.with_outcome(after, outcome, now=now)
            notices += outcome.notices
            settling = settling or outcome.settling
            if outcome.requeue_after is not None:
                requeue.append(outcome.requeue_after)
        return _Pass(after, notices, min(requeue, default=None), settling, error)

    def _patience(self, cluster: DPUCluster, seen: _Pass) -> float | None:
        """Seconds to hold the first publication back, or None to publish now."""
        key = cluster.key
        if not seen.settling or seen.error is not None:
            self._settle_by.pop(key, None)
            return None
        if cluster.metadata.finalizers != seen.after.metadata.finalizers:
            return None
        now = self._clock.monotonic()
        left = self._settle_by.setdefault(key, now + SETTLE_SECONDS) - now
        return left if left > 0 else None

    async def _publish(self, before: DPUCluster, after: DPUCluster, context: Context) -> DPUCluster:
        """Write what differs, the main resource first; the object as the server has it now."""
        current = before
        if (patch := draft.main_patch(before, after)) is not None:
            current = await self._write(before, patch, context)
            after = _rebased(after, current)
        if not after.metadata.is_deleting or after.metadata.finalizers:
            patch = draft.status_patch(current, after, pruned=self._pruned)
            if patch is not None:
                current = await self._write(current, patch, context, subresource="status")
                self._pruned |= draft.pruned_fields(patch, current)
        return current

    async def _write(
        self, before: DPUCluster, patch: draft.Patch, context: Context, *, subresource: str = ""
    ) -> DPUCluster:
        key = before.key
        reply = await context.client.merge_patch(
            kinds.DPUCLUSTERS, key.name, patch, key.namespace, subresource=subresource
        )
        self._clusters.put(reply, replacing=before.metadata.resource_version)
        return reply

    def _tell(
        self,
        before: DPUCluster,
        after: DPUCluster,
        notices: tuple[Notice, ...],
        guard: events.Guard,
    ) -> None:
        """Events: conditions that changed, and warnings that were not there before."""
        told = self._told.get(before.key, frozenset())
        self._told[before.key] = frozenset(n.reason for n in notices)
        about = kinds.reference(kinds.DPUCLUSTERS, after.metadata)
        for change in conditions.transitions(before.status.conditions, after.status.conditions):
            if (notice := _notice_of(change)) is not None:
                since = change.new.last_transition_time
                self._emit(about, notice, guard, fact=f"{change.new.type} since {since}")
        for notice in notices:
            if notice.reason not in told:
                self._emit(about, notice, guard, fact="warning")

    def _emit(
        self, about: kinds.ObjectReference, notice: Notice, guard: events.Guard, *, fact: str
    ) -> None:
        self._recorder.emit(
            about,
            type_=notice.type,
            reason=notice.reason,
            action=notice.action,
            note=notice.note,
            fact=fact,
            guard=guard,
        )

    async def _take_apart(self, cluster: DPUCluster, held: Sequence[Held]) -> float | None:
        """Deletion: every stage may object; then each finalizes, the lifecycle last."""
        context = self._context(cluster, held)
        after, requeue = await self._finalize(cluster, held, context)
        finished = not after.metadata.finalizers
        try:
            current = await self._publish(cluster, after, context)
        except errors.NotFound:
            return None
        if not finished:
            self._tell(cluster, current, (), _fence(held))
        return requeue

    async def _finalize(
        self, cluster: DPUCluster, held: Sequence[Held], context: Context
    ) -> tuple[DPUCluster, float | None]:
        now = timestamps.to_rfc3339(self._clock.now())
        for one in held:
            objection = await one.stage.may_finalize(cluster, context)
            if objection is not None:
                after = draft.with_outcome(cluster, objection, now=now)
                return after, objection.requeue_after
        after = cluster
        requeue: list[float] = []
        for one in held:
            if one.stage.finalizer not in after.metadata.finalizers:
                continue
            outcome = await one.stage.finalize(after, context)
            after = draft.with_outcome(after, outcome, now=now)
            if outcome.done:
                after = draft.without_finalizer(after, one.stage.finalizer)
            elif outcome.requeue_after is not None:
                requeue.append(outcome.requeue_after)
        return after, min(requeue, default=None)


def _fence(held: Sequence[Held]) -> events.Guard:
    """Asked before every write of a look: each role that takes part in it must still be held."""

    def check() -> None:
        for one in held:
            one.check()

    return check


def _rebased(after: DPUCluster, current: DPUCluster) -> DPUCluster:
    """The draft's status on top of the main resource as the server now has it."""
    return msgspec.structs.replace(current, status=after.status)


def _notice_of(change: conditions.Transition) -> Notice | None:
    """The Event of a transition; none for one that only repeats another condition."""
    new: Condition = change.new
    if new.status != "True":
        if new.reason in QUIET_REASONS:
            return None
        return Notice(new.reason, f"{new.type}: {new.message}" if new.message else new.type)
    recovered = change.old is not None and change.old.status != "True"
    if new.type == ConditionType.READY or recovered:
        return Notice(new.reason, f"{new.type} is True", type="Normal")
    return None
