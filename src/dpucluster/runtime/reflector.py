"""Follows one list of a server for ever and tells what it sees.

The I/O around ``watch_state``. It holds no objects: those go to a ``Sink``.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import AsyncGenerator
from typing import Any, Final, Generic, Protocol, TypeVar

from dpucluster import errors
from dpucluster.kube import wire
from dpucluster.kube.resource import Resource
from dpucluster.runtime import backoff as backoffs
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import store, watch_state

log = logging.getLogger(__name__)

T = TypeVar("T", bound=store.HasMetadata)

WATCH_SECONDS: Final = (230, 290)
"""How long the server is asked to keep a watch open: below the five minutes after which load
balancers forget an idle connection, and not the same for all, or all come back at once."""

INSTALLED_SECONDS: Final = 5.0
"""How soon an optional kind is seen after it was installed; a 404 costs the server little."""


class Source(Protocol):
    """The part of ``kube.client.Client`` that is used here."""

    async def list(
        self, resource: Resource[T], namespace: str = "", *, label_selector: str = ""
    ) -> wire.Listing[T]:
        """All objects."""
        ...

    def watch(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        server_timeout: int = ...,
    ) -> AsyncGenerator[wire.WatchEvent[T], None]:
        """Changes since ``resource_version``."""
        ...


class Sink(Protocol[T]):
    """Who is told."""

    def replace(self, listing: wire.Listing[T], namespace: str) -> None:
        """The namespace (or everything) is exactly like this."""
        ...

    def absent(self, namespace: str) -> None:
        """The kind is not installed; told of an optional kind only."""
        ...

    def apply(self, event: wire.WatchEvent[T]) -> None:
        """One change."""
        ...


class Reflector(Generic[T]):
    """One list and the watch after it.

    Guarantees:
        The sink is told everything that happened, in order, or a complete list in its place. A
        server that fails at once, however often and in whichever way, is asked a few times a
        second at first and every half minute later.

    Errors:
        ``run`` raises nothing; a failure is logged once, not again until it changes.
    """

    def __init__(
        self,
        source: Source,
        resource: Resource[T],
        sink: Sink[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        optional: bool = False,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
        backoff: backoffs.Backoff | None = None,
    ) -> None:
        self._source = source
        self._resource = resource
        self._sink = sink
        self._namespace = namespace
        self._label_selector = label_selector
        self._optional = optional
        self._clock = clock
        self._metrics = metrics or runtime_metrics.Metrics()
        self._backoff = backoff or backoffs.Backoff()
        self._told = ""
        self.state: watch_state.State = watch_state.Empty()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            outcome = await self._step()
            self.state = watch_state.follow(self.state, outcome)
            self._tell(outcome)
            await self._clock.sleep(self._pause(outcome))

    def _pause(self, outcome: watch_state.Outcome) -> float:
        seconds = watch_state.pause(outcome, self._backoff)
        error = outcome.error if isinstance(outcome, watch_state.Broken) else None
        if self._optional and isinstance(error, errors.NotFound):
            return min(seconds, INSTALLED_SECONDS)
        return seconds

    async def _step(self) -> watch_state.Outcome:
        match self.state:
            case watch_state.Watching(resource_version):
                return await self._watch(resource_version)
            case _:
                return await self._list()

    async def _list(self) -> watch_state.Outcome:
        self._metrics.informer_lists.labels(kind=self._resource.kind).inc()
        try:
            listing = await self._source.list(
                self._resource, self._namespace, label_selector=self._label_selector
            )
            self._sink.replace(listing, self._namespace)
        except errors.NotFound as error:
            if self._optional:
                self._sink.absent(self._namespace)
            return watch_state.Broken(error)
        except Exception as error:  # noqa: BLE001 - told and tried again; a cache must not just stop
            return watch_state.Broken(error)
        return watch_state.Listed(listing.resource_version)

    async def _watch(self, resource_version: str) -> watch_state.Outcome:
        self._metrics.informer_watches.labels(kind=self._resource.kind).inc()
        started = self._clock.monotonic()
        last, progressed = resource_version, False
        broken: Exception | None = None
        try:
            async with contextlib.aclosing(self._open(resource_version)) as events:
                async for event in events:
                    self._sink.apply(event)
                    last = _version(event) or last
                    if not progressed:
                        progressed = True
                        self._recovered()
        except Exception as error:  # noqa: BLE001 - told and tried again; a cache must not just stop
            broken = error
        lived = self._clock.monotonic() - started
        return watch_state.Broken(broken, last, lived, progressed)

    def _open(self, resource_version: str) -> AsyncGenerator[wire.WatchEvent[T], None]:
        return self._source.watch(
            self._resource,
            self._namespace,
            resource_version=resource_version,
            label_selector=self._label_selector,
            server_timeout=random.randint(*WATCH_SECONDS),  # noqa: S311 - no secret
        )

    def _tell(self, outcome: watch_state.Outcome) -> None:
        if isinstance(outcome, watch_state.Listed):
            return
        if outcome.is_quiet:
            self._recovered()
            log.debug("watch ended, going on", extra=self._fields())
            return
        name = "Closed" if outcome.error is None else type(outcome.error).__name__
        self._metrics.informer_failures.labels(kind=self._resource.kind, error=name).inc()
        text = f"{name}: {outcome.error or 'the server closes the watch at once'}"
        if text == self._told:
            log.debug("list or watch failed again", extra=self._fields(error=text))
            return
        self._told = text
        self._tell_new(outcome, text)

    def _tell_new(self, broken: watch_state.Broken, text: str) -> None:
        fields = self._fields(error=text)
        match broken.error:
            case errors.NotFound() if self._optional:
                log.info("kind is not installed", extra=fields)
            case None | errors.Gone() | errors.ConnectFailed() if (
                broken.lived >= watch_state.STEADY
            ):
                # Servers are restarted and versions compacted: news, no worry.
                log.info("watch was cut, going on", extra=fields)
            case None | errors.DpuClusterError():
                log.warning("list or watch failed, trying again", extra=fields)
            case unexpected:
                log.error(
                    "list or watch failed unexpectedly, trying again",
                    extra=fields,
                    exc_info=unexpected,
                )

    def _recovered(self) -> None:
        if self._told:
            self._told = ""
            log.info("list and watch work again", extra=self._fields())

    def _fields(self, **more: str) -> dict[str, Any]:
        where = {"namespace": self._namespace} if self._namespace else {}
        return {"kind": self._resource.kind, "state": type(self.state).__name__, **where, **more}


def _version(event: wire.WatchEvent[T]) -> str:
    match event:
        case wire.Bookmark(resource_version) | wire.Undecodable(resource_version=resource_version):
            return resource_version
        case _:
            return event.obj.metadata.resource_version
