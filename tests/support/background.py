"""An event loop in a thread of its own, so that synchronous tests can drive servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STEP_TIMEOUT = 30.0
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
