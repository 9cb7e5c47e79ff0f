"""Events (events.k8s.io/v1): told in the background, never in the way of a reconciliation."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from dpucluster import errors
from dpucluster.api import timestamps
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.kinds import ObjectReference
from dpucluster.runtime import backoff as backoffs
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import queue as work_queue

log = logging.getLogger(__name__)

MAX_NOTE: Final = 1024
"""Bytes of ``note`` (the server counts bytes, not characters)."""
MAX_FIELD: Final = 128
"""Bytes of ``reason``, ``action`` and ``reportingInstance``."""
MAX_NAME: Final = 253
"""Characters of a name."""
MAX_WAITING: Final = 10_000
"""Events that wait at most, about 20 MB: some thousand clusters that become Ready together, each
with a warning or two, lose none. Beyond that the oldest are of the least use."""
MAX_ATTEMPTS: Final = 8
"""About a minute; Events are news, not state."""
SENDERS: Final = 4
"""Events under way at a time: news must not take the API server's time from the work itself."""
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


@dataclass(eq=False, slots=True)
class _Waiting:
    """One Event on its way."""

    event: kinds.Event
    guard: Guard | None
    backoff: backoffs.Backoff = field(default_factory=backoffs.Backoff)

    @property
    def lane(self) -> Key:
        """Events about one object leave one after the other."""
        return Key(self.event.regarding.namespace, self.event.regarding.name)


class EventRecorder:
    """Writes Events, those about one object in the order they were emitted.

    Guarantees:
        ``emit`` never waits and never fails. At most ``MAX_WAITING`` Events wait; beyond that the
        oldest is dropped and counted. An Event the server refuses is dropped, counted and logged;
        one that fails is tried again later and holds up none about another object, and is given up
        after ``MAX_ATTEMPTS``. One whose guard refuses when its turn comes (leadership was lost)
        is dropped and counted.

    Caveats:
        Good for one run.
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
        metrics = metrics or runtime_metrics.Metrics()
        self._dropped = metrics.events_dropped
        self._waiting: collections.OrderedDict[_Waiting, None] = collections.OrderedDict()
        # A lane that is not empty is in the queue: ready, waiting for its next try, or being sent.
        self._lanes: dict[Key, collections.deque[_Waiting]] = {}
        self._queue = work_queue.WorkQueue("events", clock=clock, metrics=metrics)
        # Of all senders together: when nothing gets through, the server is not asked in a hot loop.
        self._backoff = backoffs.Backoff()
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
            self._remove(next(iter(self._waiting)))
            self._dropped.labels(reason="overflow").inc()
        self._append(_Waiting(event, guard))

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(SENDERS):
                    group.create_task(self._send_all(), name=f"events-{number}")
        finally:
            self._queue.shut_down()

    async def flush(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller's budget
        """Wait until everything was sent, ``timeout`` seconds at most; ``run`` must be running."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        return self._idle.is_set()

    def _append(self, item: _Waiting) -> None:
        self._idle.clear()
        self._waiting[item] = None
        lane = self._lanes.setdefault(item.lane, collections.deque())
        lane.append(item)
        if len(lane) == 1:
            self._queue.add(item.lane)

    def _remove(self, item: _Waiting) -> None:
        """It is done with; unless it was dropped while it was being sent."""
        if item not in self._waiting:
            return
        del self._waiting[item]
        lane = self._lanes[item.lane]
        lane.remove(item)
        if not lane:
            del self._lanes[item.lane]
        if not self._waiting:
            self._idle.set()

    async def _send_all(self) -> None:
        while (key := await self._queue.get()) is not None:
            pause = 0.0
            try:
                if lane := self._lanes.get(key):
                    pause = await self._send_next(lane[0])
            finally:
                self._queue.done(key)
            if pause:
                await self._clock.sleep(pause)

    async def _send_next(self, item: _Waiting) -> float:
        """Try the first of a lane; seconds for which this sender does nothing then."""
        error = await self._tried(item)
        if error is None:
            self._backoff.reset()
            self._remove(item)
        elif item.backoff.failures + 1 < MAX_ATTEMPTS:
            asked = error.retry_after if isinstance(error, errors.ApiError) else None
            wait = max(item.backoff.next(), min(asked or 0.0, item.backoff.cap))
            self._queue.add_after(item.lane, wait)
            return self._backoff.next()
        else:
            self._dropped.labels(reason="unreachable").inc()
            log.warning("Event was given up", extra=_fields(item.event, error=str(error)))
            self._remove(item)
        if item.lane in self._lanes:
            self._queue.add(item.lane)
        return 0.0

    async def _tried(self, item: _Waiting) -> errors.DpuClusterError | None:
        """Send it; None when it is done with, else an error that may pass."""
        client = self._client if item.guard is None else self._client.fenced(item.guard)
        event = item.event
        try:
            await client.create(kinds.EVENTS, event, event.metadata.namespace)
        except errors.AlreadyExists:
            pass
        except errors.LeadershipLost:
            self._dropped.labels(reason="leadership").inc()
        except (errors.TransportError, errors.TooManyRequests, errors.ServerError) as error:
            return error
        except errors.DpuClusterError as error:
            self._refused(event, error)
        except Exception:
            log.exception("Event failed unexpectedly", extra=_fields(event))
        return None

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
