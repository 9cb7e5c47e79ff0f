"""An event loop in a thread of its own, so that synchronous tests can drive servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from tests.support.patience import PATIENCE

T = TypeVar("T")

STEP_TIMEOUT = PATIENCE
"""No single instruction to a test server takes this long; a test must never hang on one."""


class Background:
    """Runs coroutines in another thread; ``close`` cancels everything that is still running."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, run in the other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(STEP_TIMEOUT)

    def call(self, function: Callable[[], T]) -> T:
        """The result of ``function``, called in the other thread."""

        async def work() -> T:
            return function()

        return self.run(work())

    def close(self) -> None:
        """Cancel what runs, stop the loop, end the thread."""
        with contextlib.suppress(asyncio.CancelledError):
            self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STEP_TIMEOUT)
        self.loop.close()

    async def _cancel_all(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_asyncgens()


class Served:
    """What runs in a thread of its own as long as its ``with`` block lasts.

    A subclass says how it starts and stops; both run in that thread.
    """

    _background: Background

    def __enter__(self) -> Self:
        """Start it."""
        self._background = Background(type(self).__name__)
        try:
            self._background.run(self._start())
        except BaseException:
            self._background.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it, and end the thread."""
        try:
            self._background.run(self._stop())
        finally:
            self._background.close()

    async def _start(self) -> None:
        raise NotImplementedError

    async def _stop(self) -> None:
        raise NotImplementedError
