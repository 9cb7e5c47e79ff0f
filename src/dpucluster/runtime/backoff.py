"""Ever longer pauses with jitter. Pure, but for the dice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

BASE: Final = 0.5
"""Seconds of the first pause: a server that fails at once is asked twice a second at most."""

CAP: Final = 30.0
"""Seconds of the longest pause: nobody waits longer for a server that is back."""

_JITTER: Final = 0.5
_MAX_EXPONENT: Final = 16


class Backoff:
    """Pauses of 0.5, 1, 2 … 30 s, each up to half longer (never longer than the cap)."""

    def __init__(
        self,
        *,
        base: float = BASE,
        cap: float = CAP,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._base = base
        self._cap = cap
        self._dice = dice
        self._failures = 0

    @property
    def cap(self) -> float:
        """The longest pause, also for a server that asks for more patience."""
        return self._cap

    @property
    def failures(self) -> int:
        """How often it failed since the last progress."""
        return self._failures

    def next(self) -> float:
        """Count one failure; returns how long to pause now."""
        doubled = self._base * float(2 ** min(self._failures, _MAX_EXPONENT))
        self._failures += 1
        return min(self._cap, doubled * (1 + _JITTER * self._dice()))

    def reset(self) -> None:
        """There was real progress."""
        self._failures = 0
