"""A cache of one kind of object that follows the server, and tells what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from dpucluster.api.meta import Key
from dpucluster.kube import wire
from dpucluster.kube.resource import Resource
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import reflector, store
from dpucluster.runtime.store import Delta, HasMetadata, IndexFunction

__all__ = ["Delta", "Informer"]

log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)

Handler = Callable[[Delta[T]], None]


class Informer(Generic[T]):
    """Objects of one kind, of the whole cluster or of some namespaces.

    Expected Flow:
        construct → ``on_change`` → ``run`` in a task → ``synced`` → read.

    Guarantees:
        After ``synced`` the cache follows the server; what changed while a connection was away is
        delivered afterwards, deletions too. The cache is already changed when handlers are called.
        Reading costs no request and never waits. ``is_installed`` is False while an optional kind
        is not there.

    Errors:
        ``run`` raises nothing: it tries for ever. An object that does not fit its type is logged
        once for each version of it and spoils nothing else: its last readable state stays.
    """

    def __init__(
        self,
        client: reflector.Source,
        resource: Resource[T],
        *,
        namespaces: Sequence[str] = (),
        label_selector: str = "",
        indexes: Mapping[str, IndexFunction[T]] | None = None,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
        optional: bool = False,
    ) -> None:
        """Prepare it.

        Args:
            client: Who is asked.
            resource: The kind.
            namespaces: Those to follow; empty: all.
            label_selector: Only objects with these labels; others do not exist here.
            indexes: See ``by``.
            clock: For pauses.
            metrics: Where they are counted.
            optional: While the kind is not installed the cache counts as complete and empty.
        """
        self._resource = resource
        self._store: store.Store[T] = store.Store(indexes)
        self._handlers: list[Handler[T]] = []
        self._metrics = metrics or runtime_metrics.Metrics()
        self._unreadable: dict[Key | None, str] = {}
        self.synced = asyncio.Event()
        self._reflectors = [
            reflector.Reflector(
                client,
                resource,
                self,
                namespace=namespace,
                label_selector=label_selector,
                optional=optional,
                clock=clock,
                metrics=self._metrics,
            )
            for namespace in dict.fromkeys(namespaces or ("",))
        ]
        self._unlisted = set(namespaces or ("",))
        self.is_installed = True
        track = runtime_metrics.track
        track(self._metrics.informer_objects, lambda: len(self._store), kind=resource.kind)
        track(self._metrics.informer_synced, self.synced.is_set, kind=resource.kind)

    def get(self, key: Key) -> T | None:
        """The object, or None."""
        return self._store.get(key)

    def values(self) -> list[T]:
        """All objects."""
        return self._store.values()

    def by(self, index: str, key: Key) -> list[T]:
        """The objects that ``index`` files under ``key``."""
        return self._store.by(index, key)

    def put(self, obj: T, *, replacing: str) -> None:
        """Take in the reply of an own write over version ``replacing``; see ``Store.put``."""
        self._deliver(self._store.put(obj, replacing=replacing))

    def add(self, obj: T) -> None:
        """Take in the reply of an own create; see ``Store.add``."""
        self._deliver(self._store.add(obj))

    def on_change(self, handler: Handler[T]) -> None:
        """Call ``handler`` for every change from now on, in the event loop.

        It must return at once; what it raises is logged and stops nothing.
        """
        self._handlers.append(handler)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._reflectors:
                group.create_task(one.run(), name=f"reflector-{self._resource.plural}")

    # What the reflectors tell

    def replace(self, listing: wire.Listing[T], namespace: str) -> None:
        """A complete list of ``namespace`` (empty: of everything)."""
        self.is_installed = True
        self._take(listing, namespace)

    def absent(self, namespace: str) -> None:
        """The kind is not installed: nothing can be there."""
        self._take(wire.Listing([], [], ""), namespace)
        self.is_installed = False

    def _take(self, listing: wire.Listing[T], namespace: str) -> None:
        self._prune(listing, namespace)
        for bad in listing.undecodable:
            self._note(bad)
        keep = [bad.key for bad in listing.undecodable if bad.key is not None]
        for delta in self._store.replace(listing.items, namespace=namespace, keep=keep):
            self._deliver(delta)
        self._unlisted.discard(namespace)
        if not self._unlisted and not self.synced.is_set():
            self.synced.set()
            log.debug(
                "cache complete", extra={"kind": self._resource.kind, "objects": len(self._store)}
            )

    def apply(self, event: wire.WatchEvent[T]) -> None:
        """One event of a watch."""
        match event:
            case wire.Added(obj) | wire.Modified(obj):
                self._unreadable.pop(obj.metadata.key, None)
                self._deliver(self._store.observe(obj))
            case wire.Deleted(obj):
                self._unreadable.pop(obj.metadata.key, None)
                self._deliver(self._store.remove(obj.metadata.key))
            case wire.Undecodable(key, deleted=True) if key is not None:
                self._unreadable.pop(key, None)
                self._deliver(self._store.remove(key))
            case wire.Undecodable():
                self._note(event)
            case wire.Bookmark():
                pass

    def _deliver(self, delta: Delta[T] | None) -> None:
        if delta is None:
            return
        for handler in self._handlers:
            try:
                handler(delta)
            except Exception:
                log.exception(
                    "handler of changes failed",
                    extra={"kind": self._resource.kind, "object": str(delta.key)},
                )

    def _prune(self, listing: wire.Listing[T], namespace: str) -> None:
        """Forget the unreadable objects that a complete list does not name any more."""
        named = {bad.key for bad in listing.undecodable}
        self._unreadable = {
            key: version
            for key, version in self._unreadable.items()
            if key in named or (key is not None and namespace not in ("", key.namespace))
        }

    def _note(self, bad: wire.Undecodable) -> None:
        if self._unreadable.get(bad.key) == bad.resource_version:
            return
        self._unreadable[bad.key] = bad.resource_version
        self._metrics.informer_undecodable.labels(kind=self._resource.kind).inc()
        log.warning(
            "object does not fit its type and is left out",
            extra={
                "kind": self._resource.kind,
                "object": str(bad.key or "(unnamed)"),
                "error": bad.error_text,
            },
        )
