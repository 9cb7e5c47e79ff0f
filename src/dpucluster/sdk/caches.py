"""The caches of what managers watch: one for each kind, shared by all roles of the process."""

from __future__ import annotations

import asyncio
import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from dpucluster import errors
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.resource import Resource
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import informer
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime.store import Delta, HasMetadata
from dpucluster.sdk.watches import Cached, Watch

T = TypeVar("T", bound=HasMetadata)

ALWAYS: tuple[Watch[Any], ...] = (
    Watch(kinds.DPUCLUSTERS, concerned=lambda _delta, _clusters: ()),
    Watch(kinds.SECRETS_METADATA, concerned=lambda _delta, _clusters: ()),
)
"""What every host follows, whatever its managers watch."""


class Caches:
    """One informer for each kind.

    Guarantees:
        A kind that only some managers watch is followed from the first time one of them is
        ``ready``, so that a manager that is switched off needs no rights. From then on its
        changes have the DPUClusters concerned looked at.

    Errors:
        ``of`` raises ``ManagerError`` for a kind that nobody declared.
    """

    def __init__(
        self,
        client: kube_client.Client,
        watches: Iterable[Watch[Any]],
        *,
        namespaces: Sequence[str],
        enqueue: Callable[[Key], None],
        clock: clocks.Clock,
        metrics: runtime_metrics.Metrics,
    ) -> None:
        declared: dict[Resource[Any], list[Watch[Any]]] = collections.defaultdict(list)
        for watch in (*ALWAYS, *watches):
            declared[watch.resource].append(watch)
        self._enqueue = enqueue
        self._tasks: asyncio.TaskGroup | None = None
        self._wanted: dict[Resource[Any], None] = dict.fromkeys(w.resource for w in ALWAYS)
        self._running: dict[Resource[Any], asyncio.Task[None]] = {}
        self._informers: dict[Resource[Any], informer.Informer[Any]] = {
            resource: informer.Informer(
                client,
                resource,
                namespaces=namespaces if resource.namespaced else (),
                label_selector=_selector(resource, same),
                indexes={name: index for watch in same for name, index in watch.indexes.items()},
                optional=all(watch.optional for watch in same),
                clock=clock,
                metrics=metrics,
            )
            for resource, same in declared.items()
        }
        for resource, same in declared.items():
            for watch in same:
                self._informers[resource].on_change(functools.partial(self._changed, watch))

    @property
    def clusters(self) -> informer.Informer[DPUCluster]:
        """All DPUClusters."""
        return self._informers[kinds.DPUCLUSTERS]

    @property
    def secrets(self) -> informer.Informer[PartialObject]:
        """Metadata of all Secrets."""
        return self._informers[kinds.SECRETS_METADATA]

    def of(self, resource: Resource[T]) -> Cached[T]:
        """The cache of a kind that a manager watches."""
        found = self._informers.get(resource)
        if found is None:
            raise errors.ManagerError(
                f"{resource.plural} are read from the cache, but no Watch of them is declared; "
                "add one to the manager's watches"
            )
        return cast("Cached[T]", found)

    def is_synced(self, watches: Iterable[Watch[Any]] = ALWAYS) -> bool:
        """Whether the caches of ``watches`` hold everything the server has."""
        return all(self._informers[w.resource].synced.is_set() for w in watches)

    async def ready(self, watches: Iterable[Watch[Any]]) -> None:
        """Follow what is watched, from now on, and return when it is complete."""
        wanted = dict.fromkeys(w.resource for w in watches)
        self._wanted |= wanted
        self._start()
        for resource in wanted:
            await self._informers[resource].synced.wait()

    async def run(self) -> None:
        """Follow what every host does, and what ``ready`` adds, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._start()
            await asyncio.Event().wait()

    def _start(self) -> None:
        if self._tasks is None:
            return
        for resource in self._wanted.keys() - self._running.keys():
            following = self._informers[resource].run()
            task = self._tasks.create_task(following, name=f"informer-{resource.plural}")
            self._running[resource] = task

    def _changed(self, watch: Watch[Any], delta: Delta[Any]) -> None:
        if delta.own and delta.new is not None:  # followed up by the look that made it
            return
        for key in watch.concerned(delta, self.clusters):
            self._enqueue(key)


def _selector(resource: Resource[Any], same: Sequence[Watch[Any]]) -> str:
    selectors = {watch.label_selector for watch in same}
    if len(selectors) > 1:
        raise errors.ManagerError(
            f"{resource.plural} are watched with different label selectors "
            f"({', '.join(repr(s) for s in sorted(selectors))}); agree on one"
        )
    return selectors.pop()
