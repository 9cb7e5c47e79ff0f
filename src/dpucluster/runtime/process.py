"""A process: its event loop, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

log = logging.getLogger(__name__)

DRAIN: Final = 10.0
"""Seconds between the first signal and the end; Kubernetes kills after 30."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

YOUNG: Final = 10_000
"""New containers between two collections. Requests under way are thousands of them, which their
reference counts free: with Python's 700 a busy loop spends 4 % of its time on looking at them."""

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A program: runs until its event is set, then comes to its end."""


def run(main: Main, *, drain: float = DRAIN) -> None:
    """Run ``main`` to its end on an event loop of its own: uvloop's where it can be had.

    Guarantees: see ``run_until_signal``.
    """
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        runner.run(run_until_signal(main, drain=drain))
    finally:
        # uvloop refuses (EBUSY) while a hanging peer owes it the end of a TLS connection
        with contextlib.suppress(OSError):
            runner.close()


async def run_until_signal(main: Main, *, drain: float = DRAIN) -> None:
    """Run ``main``; SIGTERM or SIGINT asks it to stop.

    Guarantees:
        After the first signal ``main`` has ``drain`` seconds to end by itself; then it is
        cancelled. A second signal ends the process at once, with 128 + its number, after the
        log was flushed.

    Errors:
        What ``main`` raises, but not its cancellation after ``drain``.
    """
    stop = asyncio.Event()
    with _signals(stop), _loop_errors():
        program = asyncio.ensure_future(main(stop))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((program, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not program.done():
                await asyncio.wait((program,), timeout=drain)
            if not program.done():
                log.warning("not finished in time, cut off", extra={"seconds": drain})
        finally:
            stopping.cancel()
            was_done = program.done()
            program.cancel()
            await asyncio.wait((program, stopping))
        if was_done or not program.cancelled():
            program.result()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, functools.partial(_on_signal, stop, number))
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _on_signal(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        leave(128 + number)
    log.info("stopping", extra={"signal": number.name})
    stop.set()


@contextlib.contextmanager
def _loop_errors() -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(_on_loop_error)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, but uvloop's surprise at an aborted connection is no error of anybody.

    It writes once more to a TLS connection that it has closed itself, and calls that fatal. Whoever
    used the connection was told of its end by an exception of his own.
    """
    if str(context.get("exception")).endswith("the handler is closed"):
        log.debug("write to a closed connection", extra={"error": str(context["exception"])})
    else:
        loop.default_exception_handler(context)


def leave(code: int) -> None:
    """End the process at once: nothing is waited for, nothing cleaned up, only logs flushed."""
    with contextlib.suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def freeze_garbage() -> None:
    """Let the garbage collector never again look at what exists now, and less often at the rest.

    To be called once caches are complete: with 10,000 cached objects a full collection stops the
    loop for 40 ms, and for none after this.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """An idle TLS connection costs 41 KiB in uvloop, 285 KiB in asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
