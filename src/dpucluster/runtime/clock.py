"""Time, as something that is handed in.

Two times are needed and must not be mixed up: ``now`` is for people and for the wire and may
jump; ``monotonic`` is for measuring and never does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Final, Protocol


class Clock(Protocol):
    """What everything here that waits or measures is given."""

    def now(self) -> dt.datetime:
        """Wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``; zero or less gives way to other tasks once."""
        ...


class SystemClock:
    """The machine's clock.

    Guarantees: ``monotonic`` counts the time a machine was suspended, where the system offers
    that (Linux). A leader that slept with its lid closed must find its Lease expired.
    """

    def now(self) -> dt.datetime:
        """Wall time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(MONOTONIC)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop's timer."""
        await asyncio.sleep(seconds)


MONOTONIC: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""CLOCK_MONOTONIC stands still while a Linux machine is suspended; CLOCK_BOOTTIME does not."""

SYSTEM: Final = SystemClock()
"""The default everywhere; it holds no state."""
