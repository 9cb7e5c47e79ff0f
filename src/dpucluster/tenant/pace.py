"""Lets looks at tenants begin no faster than this process can carry them."""

from __future__ import annotations

import asyncio

from dpucluster.runtime import clock as clocks

QUICK = 0.02
"""Seconds in which the event loop comes round when it has a little to do, not too much."""

ROUNDS = 3
"""Rounds that one look waits at most: a loop that is always busy slows looks, and stops none."""


class Pace:
    """A queue in front of the probes.

    What counts is how long the event loop takes to come round. Work of our own (handshakes) makes
    it long, waiting for somebody else does not: thousands that hang delay nobody, and a thousand
    that begin together, when the process starts, do not run into each other's time limits.
    """

    def __init__(self, clock: clocks.Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Return when it is this caller's turn; first come, first served."""
        async with self._turn:
            for _ in range(ROUNDS):
                before = self._clock.monotonic()
                await asyncio.sleep(0)
                if self._clock.monotonic() - before < QUICK:
                    return
