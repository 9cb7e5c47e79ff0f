"""When a container is probed, and what comes of it. Pure: time is an argument.

As a kubelet does it: nothing but the startup probe runs until that has succeeded; readiness
begins with no, liveness with yes; ``failureThreshold`` failures in a row turn an answer to no, and
that of startup or liveness ends the container. In one thing this is more eager: until a probe has
succeeded for the first time it is tried twice a second, so that nobody waits ten seconds for what
took three. Tries beyond the probe's own period count only when they succeed.
"""

from __future__ import annotations

import enum

from dpucluster.localplane.node import pods

EAGER = 0.5
"""Seconds between two tries of a probe that has not succeeded yet."""
_SLACK = 0.05
"""Seconds by which a try may be early and still be one of the probe's own."""


class Kind(enum.Enum):
    """What a probe is for."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class Tracker:
    """One probe's answers.

    Attributes:
        result: What the probe says now.
        is_exhausted: Whether it failed as often as it may.
        next_at: When it is to be tried next.
    """

    def __init__(self, probe: pods.Probe, *, result: bool, eager: bool, now: float) -> None:
        self.probe = probe
        self.result = result
        self.is_exhausted = False
        self.next_at = now + probe.initial_delay_seconds
        self._eager = eager
        self._counted_at = float("-inf")
        self._successes = 0
        self._failures = 0

    def observe(self, now: float, *, well: bool) -> None:
        """Take in one answer."""
        if well:
            self._succeed()
        else:
            self._fail(now)
        self.next_at = now + (EAGER if self._eager else self.probe.period_seconds)

    def _succeed(self) -> None:
        self._failures = 0
        self._successes += 1
        if self._successes >= self.probe.success_threshold:
            self.result, self._eager = True, False

    def _fail(self, now: float) -> None:
        self._successes = 0
        if self._eager and now - self._counted_at < self.probe.period_seconds - _SLACK:
            return
        self._counted_at = now
        self._failures += 1
        if self._failures >= self.probe.failure_threshold:
            self.result, self.is_exhausted = False, True


class Health:
    """All probes of one run of a container."""

    def __init__(self, container: pods.Container, now: float) -> None:
        self._trackers = {
            kind: Tracker(
                probe,
                result=kind is Kind.LIVENESS,
                eager=kind is not Kind.LIVENESS,
                now=now,
            )
            for kind, probe in (
                (Kind.STARTUP, container.startup_probe),
                (Kind.LIVENESS, container.liveness_probe),
                (Kind.READINESS, container.readiness_probe),
            )
            if probe is not None
        }
        self.is_started = Kind.STARTUP not in self._trackers

    @property
    def is_ready(self) -> bool:
        """Whether the container is to be told ready."""
        readiness = self._trackers.get(Kind.READINESS)
        return self.is_started and (readiness is None or readiness.result)

    @property
    def failed(self) -> Kind | None:
        """The probe for whose sake the container must end."""
        for kind in (Kind.STARTUP, Kind.LIVENESS):
            tracker = self._trackers.get(kind)
            if tracker is not None and tracker.is_exhausted:
                return kind
        return None

    def probe(self, kind: Kind) -> pods.Probe:
        """What to do for ``kind``."""
        return self._trackers[kind].probe

    def due(self, now: float) -> list[Kind]:
        """What is to be tried now."""
        return [kind for kind in self._active() if self._trackers[kind].next_at <= now]

    def next_at(self) -> float:
        """When something will be due; infinity when there is nothing to probe."""
        return min((self._trackers[kind].next_at for kind in self._active()), default=float("inf"))

    def observe(self, kind: Kind, now: float, *, well: bool) -> None:
        """Take in the answer of one probe."""
        tracker = self._trackers[kind]
        tracker.observe(now, well=well)
        if kind is Kind.STARTUP and tracker.result:
            self.is_started = True
            for other in self._active():
                later = now + self._trackers[other].probe.initial_delay_seconds
                self._trackers[other].next_at = min(self._trackers[other].next_at, later)

    def _active(self) -> list[Kind]:
        if not self.is_started:
            return [Kind.STARTUP]
        return [kind for kind in self._trackers if kind is not Kind.STARTUP]


def port_number(container: pods.Container, port: int | str) -> int:
    """The number behind a probe's port, which may be one of the container's port names.

    Raises:
        ValueError: there is no such name.
    """
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for each in container.ports:
        if each.name == port:
            return each.container_port
    raise ValueError(f"container {container.name} has no port named {port!r}")
