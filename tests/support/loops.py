"""Event loops of either kind, ended as gently as a program that has time ends its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import uvloop

KINDS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
"""Makers of event loops: the product runs on either."""


@contextlib.contextmanager
def runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.Runner]:
    """An ``asyncio.Runner``; what is being closed when the block ends has a moment to finish.

    uvloop refuses to close (EBUSY) while a hanging peer still owes it the end of a TLS
    connection; the process, not the test, would be over then.
    """
    made = asyncio.Runner(loop_factory=factory)
    try:
        yield made
    finally:
        made.run(asyncio.sleep(0.2))
        with contextlib.suppress(OSError):
            made.close()
