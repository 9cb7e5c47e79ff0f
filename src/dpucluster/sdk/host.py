"""Runs the roles of a process: shared caches, one tenant pool, one pipeline, a Lease per role."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key
from dpucluster.kube import client as kube_client
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import controller, events, process, store
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.sdk.caches import ALWAYS, Caches
from dpucluster.sdk.pipeline import Pipeline
from dpucluster.sdk.roles import Election, RoleRunner
from dpucluster.sdk.stage import Stage
from dpucluster.tenant import health as tenant_health
from dpucluster.tenant import pool as tenant_pool

log = logging.getLogger(__name__)

DRAIN_SECONDS = 4.0
"""For the looks under way when the process stops; Events and Leases come after, 10 s in all."""
FLUSH_SECONDS = 1.0
GATHER_SECONDS = 0.05
"""Roles whose Leases are decided together cause one look, not one each."""
UNDECIDED_SECONDS = 2.0
"""How long the first looks wait for a wanted role whose Lease nobody holds yet: it comes some
milliseconds after the others, or hundreds on a busy machine, and a look with all roles writes one
set of finalizers, not one for each."""

ElectionFactory = Callable[[str], Election]
"""From a component's name to its election."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How a host runs.

    Attributes:
        namespaces: Those to watch; empty: all.
        workers: DPUClusters looked at side by side.
        probes: How often, how long and how patiently tenants are asked.
    """

    namespaces: tuple[str, ...] = ()
    workers: int = controller.DEFAULT_WORKERS
    probes: tenant_health.ProbeOptions = tenant_health.ProbeOptions()  # noqa: RUF009 - frozen


class Host:
    """The controllers of one process, and the switches of its roles.

    Expected Flow:
        construct → ``switch`` (at any time) → ``run`` until ``stop`` is set.

    Guarantees:
        Nothing is reconciled before the caches are complete. When ``run`` returns, what was under
        way is finished, every Lease is released and Events are flushed, within about ten seconds.
    """

    def __init__(
        self,
        client: kube_client.Client,
        stages: Sequence[Stage],
        *,
        election: ElectionFactory,
        options: Options,
        clock: clocks.Clock,
        metrics: runtime_metrics.Metrics,
        identity: str,
    ) -> None:
        self.recorder = events.EventRecorder(
            client, controller="dpucluster", instance=identity, clock=clock, metrics=metrics
        )
        self._controller = controller.Controller(
            "dpucluster", self._reconcile, workers=options.workers, clock=clock, metrics=metrics
        )
        self._caches = Caches(
            client,
            (watch for stage in stages for watch in stage.watches),
            namespaces=options.namespaces,
            enqueue=self._controller.enqueue,
            clock=clock,
            metrics=metrics,
        )
        self.clusters = self._caches.clusters
        self._tenants = tenant_pool.TenantPool(
            client,
            self._caches.secrets,
            options=options.probes,
            clock=clock,
            notify=self._controller.enqueue,
            metrics=metrics,
        )
        self._pipeline = Pipeline(client, self._caches, self._tenants, self.recorder, clock=clock)
        self._runners = {
            s.component: RoleRunner(
                s,
                election(s.component),
                ready=functools.partial(self._caches.ready, s.watches),
                on_changed=self._look_at_all,
                flush=self._flush,
            )
            for s in stages
        }
        self.managed = frozenset(self._runners)
        self.clusters.on_change(self._cluster_changed)

    def switch(self, wanted: frozenset[str]) -> None:
        """Let exactly the components in ``wanted`` run; returns at once."""
        for component, runner in self._runners.items():
            runner.want(component in wanted)

    def waiting(self) -> Mapping[str, str]:
        """Why a wanted component does not run yet, by component; led elsewhere counts as run."""
        found = {c: self._why_waiting(self._runners[c]) for c in self._wanted()}
        return {c: why for c, why in found.items() if why}

    def _why_waiting(self, runner: RoleRunner) -> str:
        if not (self.is_synced() and self._caches.is_synced(runner.stage.watches)):
            return "its caches are not complete yet"
        return "" if runner.election.holder else "no process holds its Lease yet"

    def is_idle(self) -> bool:
        """Whether no component runs in this process any more."""
        return not any(r.is_running for r in self._runners.values())

    def is_synced(self) -> bool:
        """Whether the caches hold everything the server has."""
        return self._caches.is_synced()

    def _wanted(self) -> list[str]:
        return [c for c, r in self._runners.items() if r.is_wanted]

    def _look_at_all(self) -> None:
        is_decided = all(self._runners[c].election.holder for c in self._wanted())
        after = GATHER_SECONDS if is_decided else UNDECIDED_SECONDS
        for cluster in self.clusters.values():
            self._controller.enqueue(cluster.key, after, patient=True)

    def _cluster_changed(self, delta: store.Delta[DPUCluster]) -> None:
        """Own writes are followed up by the look that made them, but for the last one.

        New objects are patient: of a thousand that come at once each is finished soon after it
        was begun, and no first publication runs out of time behind the others' beginnings.
        """
        if not delta.own or delta.new is None:
            self._controller.enqueue(delta.key, patient=delta.old is None)

    async def _flush(self) -> None:
        await self.recorder.flush(FLUSH_SECONDS)

    async def _reconcile(self, key: Key) -> float | None:
        with contextlib.ExitStack() as looks:
            held = []
            for runner in self._runners.values():
                if (stage := runner.held) is not None:
                    looks.enter_context(runner.look())
                    held.append(stage)
            return await self._pipeline.reconcile(key, held)

    async def run(
        self, stop: asyncio.Event, *beside: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run until ``stop`` is set; ``beside`` are started once the caches are complete.

        Errors:
            What a part raised that should never end; the caller ends the process.
        """
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(part.run(), name=type(part).__name__)
                for part in (self._caches, self._tenants, self.recorder)
            ]
            if await self._synced_before(stop):
                process.freeze_garbage()
                work = group.create_task(self._controller.run(), name="controller")
                running = [r.run() for r in self._runners.values()]
                running += [start() for start in beside]
                roles = [group.create_task(coroutine) for coroutine in running]
                await stop.wait()
                await self._wind_down(work, roles)
            for part in parts:
                part.cancel()

    async def _synced_before(self, stop: asyncio.Event) -> bool:
        """Wait for the caches; False when asked to stop first."""
        synced = asyncio.ensure_future(self._caches.ready(ALWAYS))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((synced, stopping), return_when=asyncio.FIRST_COMPLETED)
        done = synced.done()
        synced.cancel()
        stopping.cancel()
        await asyncio.gather(synced, stopping, return_exceptions=True)
        return done

    async def _wind_down(
        self, work: asyncio.Task[None], roles: Sequence[asyncio.Task[None]]
    ) -> None:
        """Finish what is under way, then tell the last Events, then let the Leases go."""
        await self._controller.drain(DRAIN_SECONDS)
        work.cancel()
        await self.recorder.flush(FLUSH_SECONDS)  # Events are fenced: not without the Leases
        for role in roles:
            role.cancel()
        await asyncio.gather(*roles, return_exceptions=True)
