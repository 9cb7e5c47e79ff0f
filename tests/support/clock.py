"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import itertools

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

SETTLE_ROUNDS = 20
"""Turns of the loop after which every task that could go on has done so: the longest chain of
awaits between two sleeps in the code under test is far shorter."""


async def settle() -> None:
    """Let every task run that can run without time passing."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)


class FakeClock:
    """Implements ``runtime.clock.Clock``; wall time starts at 2026 and monotonic time at 1000."""

    def __init__(self, *, start: dt.datetime = START, monotonic: float = 1000.0) -> None:
        self._start = start
        self._monotonic_start = monotonic
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def now(self) -> dt.datetime:
        """Wall time."""
        return self._start + dt.timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds; moved by the test alone."""
        return self._monotonic_start + self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the test has moved the clock that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wake = (self._elapsed + seconds, next(self._sequence), future)
        heapq.heappush(self._sleepers, wake)
        await future

    @property
    def sleepers(self) -> int:
        """How many tasks sleep now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def skip(self, seconds: float) -> None:
        """Move time without waking anybody, as for a process that was stopped."""
        self._elapsed += seconds

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, waking each sleeper at its own moment."""
        await settle()
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, when)
            if not future.done():
                future.set_result(None)
                await settle()
        self._elapsed = max(self._elapsed, end)
        await settle()
