"""From single probes to a verdict, and when to probe again. Pure arithmetic.

A cluster that was never judged is judged by its first probe. One that is Ready is given three
tries: an outage of up to five seconds is never seen, one that lasts is seen as soon as it has.
All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import dataclasses

from dpucluster.tenant.problem import Problem

RETRY = 3.0
"""From the start of a failed try to the start of the next: three tries span six seconds."""

BACKOFF_MAX = 120.0
"""A cluster that is down is looked at so often at least; one look costs about 3 ms of CPU."""

BACKOFF_DOUBLINGS = 6
"""More doublings of ``RETRY`` would only pass ``BACKOFF_MAX``."""

JITTER = 0.1
"""Of the interval: clusters that were created together do not stay in step."""

BLIP = 5.0
"""An outage this short is not one, however long each failing try takes to fail."""

TIMER_SLACK = 0.05
"""Timers fire a few milliseconds off; a verdict must not wait a whole round for that."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeOptions:
    """How often, how long and how patiently tenants are asked."""

    interval: float = 30.0
    timeout: float = 5.0
    failure_threshold: int = 3


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe: ``problem`` is None exactly when ``ok``; ``identity`` only then not empty."""

    ok: bool
    problem: Problem | None = None
    identity: str = ""
    started: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """What the probes so far say.

    Equality is about what a reader can notice: the counters and times do not take part, or every
    healthy cluster would change every 30 seconds.

    Attributes:
        ok: The last answer; None before the first.
        problem: What was wrong in the last answer.
        failures: In a row, up to now.
        first_failure: When the first of them was started.
        noticed: When the first of them was known.
        last_failure: When the last of them was started.
        checked_at: When the last answer was known.
    """

    ok: bool | None = None
    problem: Problem | None = None
    failures: int = dataclasses.field(default=0, compare=False)
    first_failure: float | None = dataclasses.field(default=None, compare=False)
    noticed: float | None = dataclasses.field(default=None, compare=False)
    last_failure: float | None = dataclasses.field(default=None, compare=False)
    checked_at: float = dataclasses.field(default=0.0, compare=False)


def record(health: Health, result: ProbeResult, now: float) -> Health:
    """``health`` after one more answer, which is known since ``now``."""
    if result.ok:
        return Health(ok=True, checked_at=now)
    goes_on = health.failures > 0
    return Health(
        ok=False,
        problem=result.problem,
        failures=health.failures + 1,
        first_failure=health.first_failure if goes_on else result.started,
        noticed=health.noticed if goes_on else now,
        last_failure=result.started,
        checked_at=now,
    )


def is_down(health: Health, *, was_ready: bool, threshold: int = 3, window: float = 6.0) -> bool:
    """Whether ``Ready`` has to be False.

    ``was_ready``: ``Ready`` is True now, so it takes ``threshold`` failures in a row, at least
    ``window`` seconds from the first to the last (less where fewer tries are asked for). Otherwise
    the last answer counts at once.
    """
    if health.ok is not False or not was_ready:
        return health.ok is False
    if health.first_failure is None or health.noticed is None or health.last_failure is None:
        return False
    span = min(window, RETRY * (threshold - 1))
    from_first = health.last_failure - health.first_failure
    # The first try may have begun long before the outage did; it was known within it.
    from_noticed = health.last_failure - health.noticed
    return (
        health.failures >= threshold
        and from_first >= span - TIMER_SLACK
        and from_noticed >= min(BLIP, span) - TIMER_SLACK
    )


def next_delay(health: Health, options: ProbeOptions, jitter: float = 0.0) -> float:
    """Seconds from ``health.checked_at`` to the next try; ``jitter`` is drawn from [-1, 1].

    While failures may still be a blip the next try starts ``RETRY`` after the start of the failed
    one, or at once if that has passed; the one that may decide not before it can. Once they are
    no blip, the pause doubles to ``BACKOFF_MAX``.
    """
    if health.ok is None:
        return 0.0
    spread = 1 + JITTER * jitter
    if health.ok or health.last_failure is None:
        return options.interval * spread
    threshold = options.failure_threshold
    due = health.last_failure + RETRY
    if is_down(health, was_ready=True, threshold=threshold):
        doublings = min(health.failures - threshold, BACKOFF_DOUBLINGS)
        due = health.last_failure + min(RETRY * 2**doublings * spread, BACKOFF_MAX)
    elif health.failures >= threshold - 1 and health.noticed is not None:
        # A slow try that started at once would come too early to tell an outage from a blip.
        due = max(due, health.noticed + min(BLIP, RETRY * (threshold - 1)))
    return max(0.0, due - health.checked_at)
