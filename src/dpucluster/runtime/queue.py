"""The work queue: keys in, one worker at a time per key out.

The waiting half of ``schedule``. Like client-go's rate-limiting queue in one piece.
"""

from __future__ import annotations

import asyncio
import collections

from dpucluster.api.meta import Key
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import schedule


class WorkQueue:
    """Carries keys from whoever noticed something to the workers.

    Guarantees:
        A key that is added is handed out at least once after that, unless the queue is shut down;
        added ten times before that, it is handed out once. It is never in two workers' hands:
        added meanwhile, it comes back after ``done``. A key added with ``patient`` is handed out
        when no other is ready: what was begun is finished before more is begun.

    Assumptions:
        Used from one event loop. Each key got is given back with ``done``.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
    ) -> None:
        self._clock = clock
        self._schedule = schedule.Schedule()
        self._getters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = 0.0
        self._closed = False
        self._instrument(metrics or runtime_metrics.Metrics(), name)

    def _instrument(self, metrics: runtime_metrics.Metrics, name: str) -> None:
        self._adds = metrics.queue_adds.labels(name=name)
        self._retries = metrics.queue_retries.labels(name=name)
        self._queue_duration = metrics.queue_duration.labels(name=name)
        self._work_duration = metrics.work_duration.labels(name=name)
        track = runtime_metrics.track
        track(metrics.queue_depth, lambda: self._schedule.depth, name=name)
        track(metrics.unfinished_work, lambda: sum(self._ages()), name=name)
        track(metrics.longest_running, lambda: max(self._ages(), default=0.0), name=name)

    def _ages(self) -> list[float]:
        now = self._clock.monotonic()
        return [now - started for started in self._schedule.running]

    def __len__(self) -> int:
        """How many keys are ready."""
        return self._schedule.depth

    def add(self, key: Key, *, patient: bool = False) -> None:
        """Hand out ``key`` as soon as a worker is free."""
        if self._closed:
            return
        if self._schedule.add(key, self._clock.monotonic(), patient=patient):
            self._adds.inc()
            self._wake()

    def add_after(self, key: Key, seconds: float, *, patient: bool = False) -> None:
        """Hand out ``key`` in ``seconds``; of two delays for one key the earlier counts."""
        if seconds <= 0:
            self.add(key, patient=patient)
        elif not self._closed:
            self._schedule.add_at(key, self._clock.monotonic() + seconds, patient=patient)
            self._arm()

    def add_rate_limited(self, key: Key) -> None:
        """Hand out ``key`` again, later each time until ``forget`` (5 ms, 10 ms, … 120 s)."""
        self._retries.inc()
        self.add_after(key, self._schedule.fail(key))

    def forget(self, key: Key) -> None:
        """``key`` went well: its next failure counts as the first."""
        self._schedule.forget(key)

    async def get(self) -> Key | None:
        """The next key, or None once the queue is shut down.

        Gives way to other tasks each time, so that work that never waits cannot starve the loop.
        """
        await asyncio.sleep(0)
        while not self._closed:
            now = self._clock.monotonic()
            if (taken := self._schedule.start(now)) is not None:
                key, waited = taken
                self._queue_duration.observe(waited)
                return key
            await self._wait()
        return None

    def done(self, key: Key) -> None:
        """``key`` is no longer worked on."""
        self._work_duration.observe(self._schedule.done(key, self._clock.monotonic()))
        self._wake()

    def shut_down(self) -> None:
        """Hand out nothing any more; what was waiting is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for getter in self._getters:
            if not getter.done():
                getter.set_result(None)

    async def _wait(self) -> None:
        getter = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        try:
            await getter
        except asyncio.CancelledError:
            if getter.done() and not getter.cancelled():
                self._wake()  # It was this getter's turn; somebody else must take it.
            raise
        finally:
            if getter in self._getters:
                self._getters.remove(getter)

    def _wake(self) -> None:
        """Let as many getters go on as keys are ready."""
        free = self._schedule.depth
        while self._getters and free > 0:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                free -= 1

    def _arm(self) -> None:
        """Have the timer go off when the next waiting key is due."""
        due = self._schedule.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().create_task(self._promote_at(due))

    async def _promote_at(self, due: float) -> None:
        await self._clock.sleep(due - self._clock.monotonic())
        self._timer = None
        # The loop's timer may fire a hair early: what is due now is decided by the time asked for.
        promoted = self._schedule.promote(max(due, self._clock.monotonic()))
        self._adds.inc(promoted)
        self._wake()
        self._arm()
