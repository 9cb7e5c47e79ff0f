"""Events (events.k8s.io/v1): told in the background, never in the way of a reconciliation."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from dpucluster import errors
from dpucluster.api import timestamps
from dpucluster.api.meta import ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.kinds import ObjectReference
from dpucluster.runtime import backoff as backoffs
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics

log = logging.getLogger(__name__)

MAX_NOTE: Final = 1024
"""Bytes of ``note`` (the server counts bytes, not characters)."""
MAX_FIELD: Final = 128
"""Bytes of ``reason``, ``action`` and ``reportingInstance``."""
MAX_NAME: Final = 253
"""Characters of a name."""
MAX_WAITING: Final = 1000
"""Events kept while the API does not answer; the oldest are of the least use."""
MAX_ATTEMPTS: Final = 8
"""About a minute; Events are news, not state."""
DEFAULT_NAMESPACE: Final = "default"
"""Where Events about cluster-scoped objects live."""

EventType = Literal["Normal", "Warning"]

Guard = Callable[[], None]
"""Raises when what it guards must not be sent any more."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who tells: the controller's name and this process."""

    controller: str
    instance: str


def build(
    regarding: ObjectReference,
    reporter: Reporter,
    *,
    type_: EventType,
    reason: str,
    action: str,
    note: str,
    event_time: str,
    fact: str = "",
) -> kinds.Event:
    """Pure: the Event as it is sent.

    Its name follows from what is told: the same fact about the same object has the same name, so
    that telling it twice makes one Event. ``fact`` says what makes the fact; by default its note.
    """
    note = cut(note, MAX_NOTE)
    told = repr((regarding.uid, type_, reason, fact or note))
    suffix = hashlib.sha256(told.encode()).hexdigest()[:16]
    stem = regarding.name[: MAX_NAME - len(suffix) - 1].rstrip(".-")
    return kinds.Event(
        metadata=ObjectMeta(
            name=f"{stem}.{suffix}", namespace=regarding.namespace or DEFAULT_NAMESPACE
        ),
        event_time=event_time,
        reporting_controller=reporter.controller,
        reporting_instance=cut(reporter.instance, MAX_FIELD),
        action=cut(action, MAX_FIELD),
        reason=cut(reason, MAX_FIELD),
        regarding=regarding,
        note=note,
        type=type_,
    )


def cut(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` bytes of UTF-8, an ellipsis at its end where it was cut."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode(errors="ignore") + "…"


class EventRecorder:
    """Writes Events one after the other, in the order they were emitted.

    Guarantees:
        ``emit`` never waits and never fails. At most ``MAX_WAITING`` Events wait; beyond that the
        oldest is dropped and counted. An Event the server refuses is dropped, counted and logged.
        One whose guard refuses when its turn comes (leadership was lost) is dropped and counted.
    """

    def __init__(
        self,
        client: kube_client.Client,
        *,
        controller: str,
        instance: str,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
    ) -> None:
        self._client = client
        self._reporter = Reporter(controller, instance)
        self._clock = clock
        self._dropped = (metrics or runtime_metrics.Metrics()).events_dropped
        self._waiting: collections.deque[tuple[kinds.Event, Guard | None]] = collections.deque()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._told_refusal = ""

    def emit(
        self,
        regarding: ObjectReference,
        *,
        type_: EventType,
        reason: str,
        action: str,
        note: str,
        fact: str = "",
        guard: Guard | None = None,
    ) -> None:
        """Tell something about an object; the same fact twice makes one Event.

        ``guard`` is asked directly before it is sent, as that of ``Client.fenced`` is.
        """
        event = build(
            regarding,
            self._reporter,
            type_=type_,
            reason=reason,
            action=action,
            note=note,
            event_time=timestamps.to_micro(self._clock.now()),
            fact=fact,
        )
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._dropped.labels(reason="overflow").inc()
        self._waiting.append((event, guard))
        self._idle.clear()
        self._changed.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while self._waiting:
                await self._send(*self._waiting.popleft())
            self._idle.set()
            self._changed.clear()
            await self._changed.wait()

    async def flush(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller's budget
        """Wait until everything was sent, ``timeout`` seconds at most; ``run`` must be running."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        return self._idle.is_set()

    async def _send(self, event: kinds.Event, guard: Guard | None) -> None:
        client = self._client if guard is None else self._client.fenced(guard)
        backoff = backoffs.Backoff()
        for _ in range(MAX_ATTEMPTS):
            try:
                await client.create(kinds.EVENTS, event, event.metadata.namespace)
            except errors.AlreadyExists:
                return
            except errors.LeadershipLost:
                self._dropped.labels(reason="leadership").inc()
                return
            except (errors.TransportError, errors.TooManyRequests, errors.ServerError) as error:
                asked = error.retry_after if isinstance(error, errors.ApiError) else None
                await self._clock.sleep(max(backoff.next(), asked or 0.0))
            except errors.DpuClusterError as error:
                self._refused(event, error)
                return
            except Exception:
                log.exception("Event failed unexpectedly", extra=_fields(event))
                return
            else:
                return
        self._dropped.labels(reason="unreachable").inc()
        log.warning("Event was given up", extra=_fields(event))

    def _refused(self, event: kinds.Event, error: errors.DpuClusterError) -> None:
        self._dropped.labels(reason="refused").inc()
        kind = type(error).__name__
        # A missing right would be told with every single Event.
        level = logging.DEBUG if kind == self._told_refusal else logging.WARNING
        self._told_refusal = kind
        log.log(level, "Event was refused", extra=_fields(event, error=str(error)))


def _fields(event: kinds.Event, **more: str) -> dict[str, str]:
    about = f"{event.regarding.kind} {event.regarding.namespace}/{event.regarding.name}"
    return {"about": about, "reason": event.reason, **more}
