"""Which key may run when: the pure half of the work queue.

Times are numbers that the caller passes in; nothing here waits.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Final

from dpucluster.api.meta import Key

BASE_DELAY: Final = 0.005
"""First retry after 5 ms, as client-go: most conflicts are over by then."""

MAX_DELAY: Final = 120.0
"""The longest wait between two tries of a key that always fails; client-go's 1,000 s leaves a user
who has repaired something waiting for a quarter of an hour."""

_MAX_EXPONENT: Final = 64
"""Keeps ``2**n`` a number a float can hold; MAX_DELAY is reached long before."""


def retry_delay(failures: int) -> float:
    """Seconds to wait after so many failures in a row before this one."""
    return min(MAX_DELAY, BASE_DELAY * float(2 ** min(failures, _MAX_EXPONENT)))


class Schedule:
    """Keys that are ready, running, or waiting for their time.

    Guarantees:
        A key is ready at most once and runs at most once at a time; one that is added while it
        runs is ready again when it is done. Of two delays for one key the earlier counts. Ready
        keys leave in the order in which they became ready, patient ones after all others.
    """

    def __init__(self) -> None:
        # With the time since when each is ready; dicts keep the order.
        self._ready: dict[Key, float] = {}
        self._patient: dict[Key, float] = {}
        self._running: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._due_patient: set[Key] = set()
        # Holds entries that are outdated (an earlier delay came, or the key was promoted): only
        # one that agrees with _due counts.
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = itertools.count()
        self._failures: dict[Key, int] = {}

    @property
    def depth(self) -> int:
        """How many keys are ready."""
        return len(self._ready) + len(self._patient)

    @property
    def running(self) -> list[float]:
        """When each of the running keys was started."""
        return list(self._running.values())

    def add(self, key: Key, now: float, *, patient: bool = False) -> bool:
        """Make ``key`` ready; False when it is already, or will be when it is done.

        A patient key that is added without patience waits behind the others no more.
        """
        if key in self._ready or key in self._again or (patient and key in self._patient):
            return False
        if key in self._running:
            self._again.add(key)
            return True
        since = self._patient.pop(key, None)
        lane = self._patient if patient else self._ready
        lane[key] = now if since is None else since
        return since is None

    def add_at(self, key: Key, when: float, *, patient: bool = False) -> None:
        """Make ``key`` ready at ``when``, or earlier when that was said before."""
        if not patient:
            self._due_patient.discard(key)
        elif key not in self._due:
            self._due_patient.add(key)
        if key in self._due and self._due[key] <= when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, next(self._sequence), key))

    def fail(self, key: Key) -> float:
        """Count one more failure of ``key`` and say how long it has to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return retry_delay(failures)

    def forget(self, key: Key) -> None:
        """The failures of ``key`` count no more."""
        self._failures.pop(key, None)

    def next_due(self) -> float | None:
        """When the next waiting key has its time, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def promote(self, now: float) -> int:
        """Make ready whose time has come; returns how many were not ready already."""
        promoted = 0
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            is_patient = key in self._due_patient
            self._due_patient.discard(key)
            promoted += self.add(key, now, patient=is_patient)
        return promoted

    def start(self, now: float) -> tuple[Key, float] | None:
        """Take the next ready key, with the seconds it was ready, or None."""
        lane = self._ready or self._patient
        if not lane:
            return None
        key = next(iter(lane))
        since = lane.pop(key)
        self._running[key] = now
        return key, now - since

    def done(self, key: Key, now: float) -> float:
        """``key`` runs no more; returns the seconds it ran. A key that does not run: KeyError."""
        started = self._running.pop(key)
        if key in self._again:
            self._again.remove(key)
            self._ready[key] = now
        return now - started
