"""Workers that take keys from a queue and bring each object one step nearer to what is wanted.

Level-triggered: a key says *which* object, never what happened to it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dpucluster import errors
from dpucluster.api.meta import Key
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import queue as work_queue
from dpucluster.runtime import schedule

log = logging.getLogger(__name__)

DEFAULT_WORKERS: Final = 16
"""An API server here answers a write in 5 to 10 ms; 16 at a time keep one core of it busy."""

Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one object nearer to what is wanted; returns in how many seconds to look again."""

SUCCESS: Final = "success"
REQUEUE: Final = "requeue"
REQUEUE_AFTER: Final = "requeue_after"
ERROR: Final = "error"
DROPPED: Final = "dropped"
"""Not a result of controller-runtime: leadership was lost, another process goes on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from how a reconciliation ended.

    ``after`` None means no delay was asked for: nothing more, or with ``retry`` the back-off.
    """

    result: str
    after: float | None = None
    retry: bool = False
    is_expected: bool = True


def judge(error: BaseException) -> Verdict:
    """Pure: the one policy for everything that can go wrong."""
    match error:
        case errors.Conflict():
            # Through the back-off all the same: 5 ms is at once, and somebody who writes in an
            # endless loop must not make another one here.
            return Verdict(REQUEUE, retry=True)
        case errors.LeadershipLost():
            return Verdict(DROPPED)
        case errors.ApiError(retry_after=float() | int() as seconds) if seconds > 0:
            # Not longer than any other pause, or one odd answer would stop a key for a day.
            return Verdict(REQUEUE_AFTER, after=min(float(seconds), schedule.MAX_DELAY))
        case errors.DpuClusterError():
            return Verdict(ERROR, retry=True)
        case _:
            return Verdict(ERROR, retry=True, is_expected=False)


class Controller:
    """Runs ``reconcile`` for every key that is enqueued.

    Guarantees:
        One key runs once at a time; up to ``workers`` keys run side by side. A key whose
        reconciliation fails is tried again, ever more slowly, and disturbs no other. A failure is
        logged once, not again until it changes or the key has succeeded.

    Errors:
        ``run`` raises nothing of what ``reconcile`` raises.

    Caveats:
        Good for one run: after ``drain`` make a new one.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = DEFAULT_WORKERS,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
    ) -> None:
        self._name = name
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock
        self._metrics = metrics or runtime_metrics.Metrics()
        self._queue = work_queue.WorkQueue(name, clock=clock, metrics=self._metrics)
        self._metrics.max_concurrent_reconciles.labels(controller=name).set(workers)
        self._active = self._metrics.active_workers.labels(controller=name)
        self._active.set(0)
        self._time = self._metrics.reconcile_time.labels(controller=name)
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[Key, str] = {}

    def enqueue(self, key: Key, after: float = 0.0, *, patient: bool = False) -> None:
        """Look at ``key`` soon, or ``after`` seconds from now; ``patient``: after all others."""
        self._queue.add_after(key, after, patient=patient)

    async def run(self) -> None:
        """Work until cancelled or drained."""
        async with asyncio.TaskGroup() as group:
            self._tasks = [
                group.create_task(self._work(), name=f"{self._name}-worker-{n}")
                for n in range(self._workers)
            ]

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller's budget
        """Take up nothing new and let what runs end, ``timeout`` seconds at most; then cancel it.

        Returns whether everything ended by itself. ``run`` returns after this.
        """
        self._queue.shut_down()
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            log.warning(
                "reconciliations were cut off", extra={"controller": self._name, "count": len(late)}
            )
            await asyncio.wait(late)
        return not late

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                await self._run_once(key)
            finally:
                self._queue.done(key)

    async def _run_once(self, key: Key) -> None:
        started = self._clock.monotonic()
        self._active.inc()
        try:
            after = await self._reconcile(key)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Somebody else's cancellation leaked out of the reconciliation; the worker stays.
            self._failed(key, error)
        except Exception as error:  # noqa: BLE001 - the one place that judges all errors
            self._failed(key, error)
        else:
            self._succeeded(key, after)
        finally:
            self._active.dec()
            self._time.observe(self._clock.monotonic() - started)

    def _succeeded(self, key: Key, after: float | None) -> None:
        self._queue.forget(key)
        if self._told.pop(key, None) is not None:
            log.info("recovered", extra={"controller": self._name, "object": str(key)})
        self._count(SUCCESS if after is None else REQUEUE_AFTER)
        if after is not None:
            self._queue.add_after(key, after)

    def _failed(self, key: Key, error: BaseException) -> None:
        verdict = judge(error)
        self._count(verdict.result)
        if isinstance(error, errors.Conflict):
            self._metrics.reconcile_conflicts.labels(controller=self._name).inc()
        if verdict.result == ERROR:
            self._metrics.reconcile_errors.labels(controller=self._name).inc()
            self._tell(key, error, verdict)
        else:
            log.debug(
                "looking again later",
                extra={"controller": self._name, "object": str(key), "error": str(error)},
            )
        if verdict.after is not None:
            self._queue.add_after(key, verdict.after)
        elif verdict.retry:
            self._queue.add_rate_limited(key)
        else:
            self._queue.forget(key)

    def _tell(self, key: Key, error: BaseException, verdict: Verdict) -> None:
        text = f"{type(error).__name__}: {error}"
        fields = {"controller": self._name, "object": str(key), "error": text}
        if self._told.get(key) == text:
            log.debug("reconciliation failed again", extra=fields)
            return
        self._told[key] = text
        if verdict.is_expected:
            log.warning("reconciliation failed", extra=fields)
        else:
            log.error("reconciliation failed unexpectedly", extra=fields, exc_info=error)

    def _count(self, result: str) -> None:
        self._metrics.reconcile_total.labels(controller=self._name, result=result).inc()
