"""All tenant clusters of this process: who is watched, and who is told.

Each has a task, a client and a time limit of its own, so that one that hangs holds nobody up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable

from dpucluster import errors
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import informer, store
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.tenant import metrics as pool_metrics
from dpucluster.tenant import state as tenant_state
from dpucluster.tenant.connection import TenantConnection
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import ProbeOptions
from dpucluster.tenant.identities import Identities
from dpucluster.tenant.pace import Pace
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.secret import SecretReader, Target
from dpucluster.tenant.state import TenantState
from dpucluster.tenant.watcher import Shared, Watcher

__all__ = ["ProbeOptions", "TenantPool", "TenantState"]

log = logging.getLogger(__name__)

IDENTITY_RETRY = 30.0
"""Between tries to learn the management cluster's own identity, which only a warning needs."""


@dataclasses.dataclass(slots=True)
class _Entry:
    """One DPUCluster that somebody wants to know about."""

    watcher: Watcher
    generation: int
    task: asyncio.Task[None] | None = None


class TenantPool:
    """The one owner of connections to tenant clusters.

    Expected Flow:
        construct → ``run`` in a task → ``want`` at every look at a DPUCluster → ``forget``.

    Guarantees:
        ``want`` never waits. ``notify`` is called, in the event loop, when what ``want`` would
        return has changed for a reader; never for a healthy cluster that stays as it is.
        Only Secrets that a DPUCluster names are read.
    """

    def __init__(
        self,
        client: kube_client.Client,
        secrets: informer.Informer[PartialObject],
        *,
        options: ProbeOptions = ProbeOptions(),  # noqa: B008 - frozen
        clock: clocks.Clock = clocks.SYSTEM,
        notify: Callable[[Key], None],
        metrics: runtime_metrics.Metrics | None = None,
    ) -> None:
        self._client = client
        self._secrets = secrets
        self._clock = clock
        self._notify = notify
        self._entries: dict[Key, _Entry] = {}
        self._by_secret: dict[Key, set[Key]] = {}
        self._identities = Identities()
        self._own_identity = ""
        self._tasks: asyncio.TaskGroup | None = None
        counted = pool_metrics.PoolMetrics(metrics, self._count)
        self._shared = Shared(
            options=options,
            clock=clock,
            pace=Pace(clock),
            connect=functools.partial(TenantConnection, options=options, clock=clock),
            probed=counted.probed,
        )
        secrets.on_change(self._secret_changed)

    def want(self, cluster: DPUCluster) -> TenantState:
        """What is known about the tenant of ``cluster``; from now on it is followed.

        A changed spec has the tenant looked at again at once.
        """
        key, generation = cluster.key, cluster.metadata.generation
        target = Target(key, cluster.metadata.uid, cluster.spec.type, cluster.spec.kubeconfig)
        entry = self._entries.get(key)
        if entry is not None and entry.watcher.target != target:
            self.forget(key)
            entry = None
        if entry is None:
            entry = self._follow(target, generation)
        elif entry.generation != generation:
            entry.generation = generation
            entry.watcher.wake()
        return entry.watcher.state

    def forget(self, key: Key) -> None:
        """Stop following and close the connection; unknown keys are no error."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        target = entry.watcher.target
        self._by_secret[target.secret].discard(key)
        if not self._by_secret[target.secret]:
            del self._by_secret[target.secret]
        if entry.task is not None:
            entry.task.cancel()
        self._identity_changed(key, entry.watcher.state.identity, "")

    async def run(self) -> None:
        """Follow what is wanted, until cancelled; then every connection is closed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for entry in self._entries.values():
                    self._start(entry)
                tasks.create_task(self._learn_own_identity())
                await self._secrets.synced.wait()
                for entry in self._entries.values():
                    entry.watcher.wake()
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    def _follow(self, target: Target, generation: int) -> _Entry:
        key = target.cluster
        watcher = Watcher(
            target,
            SecretReader(target, self._client, self._secrets, self._clock),
            self._shared,
            changed=lambda old, new: self._changed(key, old, new),
            kinship=lambda diagnosis, identity: self._kinship(key, diagnosis, identity),
        )
        entry = self._entries[key] = _Entry(watcher, generation)
        self._by_secret.setdefault(target.secret, set()).add(key)
        self._start(entry)
        return entry

    def _start(self, entry: _Entry) -> None:
        if self._tasks is not None and entry.watcher.target.secret_name:
            name = f"tenant {entry.watcher.target.cluster}"
            entry.task = self._tasks.create_task(entry.watcher.run(), name=name)

    def _count(self, health: str) -> float:
        states = (entry.watcher.state for entry in self._entries.values())
        return sum(pool_metrics.name_of(state.health.ok) == health for state in states)

    def _secret_changed(self, delta: store.Delta[PartialObject]) -> None:
        for key in self._by_secret.get(delta.key, ()):
            self._entries[key].watcher.wake()

    def _changed(self, key: Key, old: TenantState, new: TenantState) -> None:
        self._identity_changed(key, old.identity, new.identity)
        self._notify(key)

    def _identity_changed(self, key: Key, old: str, new: str) -> None:
        if old == new:
            return
        concerned = set(self._identities.remove(key, old)) if old else set()
        if new:
            concerned |= {key, *self._identities.add(key, new)}
        for other in concerned & self._entries.keys():
            self._entries[other].watcher.refresh()

    def _kinship(self, key: Key, diagnosis: Diagnosis, identity: str) -> tuple[Problem, ...]:
        return tenant_state.kinship(
            diagnosis,
            identity,
            is_own=identity == self._own_identity,
            is_shared=self._identities.is_shared(key, identity),
        )

    async def _learn_own_identity(self) -> None:
        while not self._own_identity:
            try:
                found = await self._client.get(kinds.NAMESPACES, "kube-system")
                self._own_identity = found.metadata.uid
            except errors.Forbidden as error:
                extra = {"error": str(error)}
                log.info("may not tell whether a tenant is the management cluster", extra=extra)
                return
            except errors.DpuClusterError:
                await self._clock.sleep(IDENTITY_RETRY)
        for key in self._identities.of(self._own_identity):
            self._entries[key].watcher.refresh()
