"""One DPUCluster's way through the stages: observe → decide on a draft → publish once.

Several roles in one process share this pipeline, so that an object costs as few API writes as
possible; split over processes, each runs it with the stages it holds. A pass that has nothing to
say writes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from dpucluster import errors
from dpucluster.api import conditions, contract, timestamps
from dpucluster.api.dpucluster import ConditionType, DPUCluster
from dpucluster.api.meta import Condition, Key
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import events
from dpucluster.sdk import draft
from dpucluster.sdk.caches import Caches
from dpucluster.sdk.outcome import Notice, Outcome
from dpucluster.sdk.stage import BoundLog, Context, Stage
from dpucluster.tenant import pool as tenant_pool

log = logging.getLogger(__name__)

MAX_PASSES = 5
"""Passes over one key without going through the queue again: finalizers, first sight, verdict."""
RESTLESS_SECONDS = 5.0
"""Until the next look at an object for which a stage never says the same twice."""
SETTLE_SECONDS = 15.0
"""How long a first publication waits for a verdict under way: a probe and a survey (5 s each), and
what a busy machine adds. It is a net: a verdict, also a bad one, comes sooner."""
QUIET_REASONS = frozenset({"WaitingForControlPlane"})
"""Reasons that only repeat what another condition says; no Event is sent for them."""

PROGRESS_REASONS = frozenset({"Provisioning", "Progressing"})
"""Reasons of something that is on its way: told, but no reason to warn anybody."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A stage whose Lease this process holds; ``check`` raises when it no longer surely does."""

    stage: Stage
    check: Callable[[], None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    """What the stages said of one version of the object; ``said``: of which conditions."""

    after: DPUCluster
    said: frozenset[str]
    notices: tuple[Notice, ...]
    requeue_after: float | None
    settling: bool
    error: Exception | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """One look at one object: the stages that take part, and what they and we write with."""

    stages: tuple[tuple[Stage, Context], ...]
    client: kube_client.Client
    fence: events.Guard
    now: str


class _Said:
    """Gathers what the stages say; an error of one keeps nothing of the others back."""

    def __init__(self, after: DPUCluster, now: str) -> None:
        self.after = after
        self._now = now
        self._types: set[str] = set()
        self._notices: tuple[Notice, ...] = ()
        self._requeue: list[float] = []
        self._settling = False
        self._error: Exception | None = None

    async def collect(self, asked: Awaitable[Outcome]) -> Outcome | None:
        """Add the outcome; None when the stage raised.

        Errors:
            LeadershipLost, Conflict: what was observed no longer counts.
        """
        try:
            outcome = await asked
        except (errors.LeadershipLost, errors.Conflict):
            raise
        except Exception as raised:  # noqa: BLE001 - raised again once the rest is published
            self._error = self._error or raised
            return None
        self.add(outcome)
        return outcome

    def add(self, outcome: Outcome) -> None:
        """Apply one outcome to the draft."""
        self.after = draft.with_outcome(self.after, outcome, now=self._now)
        self._types |= {c.type for c in outcome.conditions}
        self._notices += outcome.notices
        self._settling = self._settling or outcome.settling
        self._error = self._error or outcome.error
        if outcome.requeue_after is not None:
            self._requeue.append(outcome.requeue_after)

    def summary(self) -> _Pass:
        """All of it."""
        requeue = min(self._requeue, default=None)
        said = frozenset(self._types)
        return _Pass(self.after, said, self._notices, requeue, self._settling, self._error)


class Pipeline:
    """Reconciles DPUClusters; the controller sees to it that one key runs once at a time."""

    def __init__(
        self,
        client: kube_client.Client,
        caches: Caches,
        tenants: tenant_pool.TenantPool,
        recorder: events.EventRecorder,
        *,
        clock: clocks.Clock,
    ) -> None:
        self._client = client
        self._caches = caches
        self._clusters = caches.clusters
        self._tenants = tenants
        self._recorder = recorder
        self._clock = clock
        self._told: dict[Key, frozenset[Notice]] = {}
        self._settle_by: dict[Key, float] = {}
        self._pruned: frozenset[str] = frozenset()

    async def reconcile(self, key: Key, held: Sequence[Held]) -> float | None:
        """Look at one DPUCluster with the stages held; seconds until the next look, or None.

        Errors:
            What a stage raised, after everything that is known was published; ``Conflict`` when
            somebody else wrote the object in between.
        """
        cluster = self._clusters.get(key)
        held = [h for h in held if cluster is not None and h.stage.claims(cluster)]
        if cluster is None or not held:
            self._forget(key)
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
        """Gone, or no role here has to do with it: no connection is kept, nothing is probed."""
        self._tenants.forget(key)
        self._told.pop(key, None)
        self._settle_by.pop(key, None)

    def _look(self, cluster: DPUCluster, held: Sequence[Held]) -> _Look:
        """What the stages may use in one look at ``cluster``, in their order."""
        fence = _fence(held)
        client = self._client.fenced(fence)
        guarded = any(h.stage.finalizer == contract.FINALIZER_LIFECYCLE for h in held)
        contexts = [
            Context(
                client=client,
                tenant=self._tenants.want,
                clock=self._clock,
                caches=self._caches,
                log=BoundLog(log, {"object": str(cluster.key), "role": h.stage.component}),
                is_guarded=guarded,
            )
            for h in held
        ]
        stages = tuple(zip((h.stage for h in held), contexts, strict=True))
        return _Look(stages, client, fence, timestamps.to_rfc3339(self._clock.now()))

    async def _advance(self, cluster: DPUCluster, held: Sequence[Held]) -> float | None:
        look = self._look(cluster, held)
        for _ in range(MAX_PASSES):
            seen = await self._consult(cluster, look)
            patience = self._patience(cluster, seen)
            if patience is not None:
                return min(patience, seen.requeue_after or patience)
            before, cluster = cluster, await self._publish(cluster, seen, look)
            self._tell(before, cluster, seen.notices, look)
            if seen.error is not None:
                raise seen.error
            if cluster.metadata.resource_version == before.metadata.resource_version:
                return seen.requeue_after
        log.warning("a stage changes its mind in every look", extra={"object": str(cluster.key)})
        return RESTLESS_SECONDS

    async def _consult(self, cluster: DPUCluster, look: _Look) -> _Pass:
        """Ask each stage in turn; each sees what those before it have just said."""
        after = draft.with_finalizers(cluster, *(stage.finalizer for stage, _ in look.stages))
        said = _Said(after, look.now)
        for stage, context in look.stages:
            await said.collect(stage.reconcile(said.after, context))
        return said.summary()

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

    async def _publish(self, before: DPUCluster, seen: _Pass, look: _Look) -> DPUCluster:
        """Write what differs, the main resource first; the object as the server has it now."""
        current, after = before, seen.after
        if (patch := draft.main_patch(before, after)) is not None:
            current = await self._write(before, patch, look)
            after = _rebased(after, current, seen.said)
        if not after.metadata.is_deleting or after.metadata.finalizers:
            patch = draft.status_patch(current, after, pruned=self._pruned)
            if patch is not None:
                current = await self._write(current, patch, look, subresource="status")
                self._pruned |= draft.pruned_fields(patch, current)
        return current

    async def _write(
        self, before: DPUCluster, patch: draft.Patch, look: _Look, *, subresource: str = ""
    ) -> DPUCluster:
        key = before.key
        reply = await look.client.merge_patch(
            kinds.DPUCLUSTERS, key.name, patch, key.namespace, subresource=subresource
        )
        self._clusters.put(reply, replacing=before.metadata.resource_version)
        return reply

    def _tell(
        self,
        before: DPUCluster,
        after: DPUCluster,
        notices: tuple[Notice, ...],
        look: _Look,
    ) -> None:
        """Events: conditions that changed, and warnings that were not there before."""
        told = self._told.get(before.key, frozenset())
        self._told[before.key] = frozenset(notices)
        about = kinds.reference(kinds.DPUCLUSTERS, after.metadata)
        for change in conditions.transitions(before.status.conditions, after.status.conditions):
            if (notice := _notice_of(change)) is not None:
                since = change.new.last_transition_time
                self._emit(about, notice, look.fence, fact=f"{change.new.type} since {since}")
        for notice in notices:
            if notice not in told:
                self._emit(about, notice, look.fence)

    def _emit(
        self, about: kinds.ObjectReference, notice: Notice, guard: events.Guard, *, fact: str = ""
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
        look = self._look(cluster, held)
        seen = await self._finalize(cluster, look)
        try:
            current = await self._publish(cluster, seen, look)
        except errors.NotFound:
            return None
        if seen.after.metadata.finalizers:
            self._tell(cluster, current, (), look)
        if seen.error is not None:
            raise seen.error
        return seen.requeue_after

    async def _finalize(self, cluster: DPUCluster, look: _Look) -> _Pass:
        said = _Said(cluster, look.now)
        for stage, context in look.stages:
            objection = await stage.may_finalize(cluster, context)
            if objection is not None:
                said.add(objection)
                return said.summary()
        for stage, context in look.stages:
            if stage.finalizer not in said.after.metadata.finalizers:
                continue
            outcome = await said.collect(stage.finalize(said.after, context))
            if outcome is not None and outcome.done:
                said.after = draft.without_finalizer(said.after, stage.finalizer)
        return said.summary()


def _fence(held: Sequence[Held]) -> events.Guard:
    """Asked before every write of a look: each role that takes part in it must still be held."""

    def check() -> None:
        for one in held:
            one.check()

    return check


def _rebased(after: DPUCluster, current: DPUCluster, said: frozenset[str]) -> DPUCluster:
    """The draft's status on top of the main resource as the server now has it.

    What was ``said`` holds for the generation that our own write of the spec has made, too.
    """
    generation = current.metadata.generation
    kept = tuple(
        msgspec.structs.replace(c, observed_generation=generation) if c.type in said else c
        for c in after.status.conditions
    )
    return msgspec.structs.replace(
        current, status=msgspec.structs.replace(after.status, conditions=kept)
    )


def _notice_of(change: conditions.Transition) -> Notice | None:
    """The Event of a transition; none for one that only repeats another condition."""
    new: Condition = change.new
    if new.status != "True":
        if new.reason in QUIET_REASONS:
            return None
        note = f"{new.type}: {new.message}" if new.message else new.type
        return Notice(new.reason, note, "Normal" if new.reason in PROGRESS_REASONS else "Warning")
    recovered = change.old is not None and change.old.status != "True"
    if new.type == ConditionType.READY or recovered:
        return Notice(new.reason, f"{new.type} is True", type="Normal")
    return None
