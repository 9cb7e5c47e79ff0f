"""Signals that end a command, as an exception or as something to pass on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill``, and a terminal that was closed."""


class Interrupted(BaseException):
    """A signal asked the command to end. No ``Exception``: nothing may handle it on the way."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What shells make of it."""
        return 128 + self.signum


@contextlib.contextmanager
def handled(handler: Callable[[int], None]) -> Iterator[None]:
    """Call ``handler`` for the ending signals during a ``with`` block."""
    before = {signum: signal.signal(signum, lambda number, _: handler(number)) for signum in ENDING}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def interrupt(signum: int) -> None:
    """Handler: leave by ``Interrupted``."""
    raise Interrupted(signum)


def ignore(signum: int) -> None:
    """Handler: tidying up has begun, is bounded in time, and goes on."""
    del signum
