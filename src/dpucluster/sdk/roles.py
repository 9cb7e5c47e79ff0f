"""One role of this process: wanted or not, elected or not, at work or not.

"Be the only controller of your type" is enforced by one Lease per role. A role that is switched
off finishes the looks it takes part in before its Lease is released.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from dpucluster.sdk.pipeline import Held
from dpucluster.sdk.stage import Stage

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""How long a role that stops waits for the looks it takes part in; their writes are fenced."""


class Election(Protocol):
    """``runtime.lease.LeaderElector``, or ``Unelected``."""

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as is known; empty: nobody, or not known."""
        ...

    def is_leader(self) -> bool:
        """Whether this process holds it."""
        ...

    def check(self) -> None:
        """Raise ``errors.LeadershipLost`` unless it is surely held."""
        ...

    async def run(
        self, on_started: Callable[[], None], on_stopped: Callable[[], Awaitable[None]]
    ) -> None:
        """Take part until cancelled; release the Lease at the end."""
        ...


class Unelected:
    """``--leader-elect=false``: the only replica there is, by the user's word."""

    holder = "this process (leader election is off)"

    def __init__(self) -> None:
        self._runs = False

    def is_leader(self) -> bool:
        """Whether it was started."""
        return self._runs

    def check(self) -> None:
        """Nothing can take the role away."""

    async def run(
        self, on_started: Callable[[], None], on_stopped: Callable[[], Awaitable[None]]
    ) -> None:
        """Lead until cancelled."""
        self._runs = True
        on_started()
        try:
            await asyncio.Event().wait()
        finally:
            await on_stopped()
            self._runs = False


class RoleRunner:
    """Runs one role's election while the role is wanted."""

    def __init__(
        self,
        stage: Stage,
        election: Election,
        *,
        ready: Callable[[], Awaitable[None]],
        on_changed: Callable[[], None],
        flush: Callable[[], Awaitable[object]],
    ) -> None:
        """Prepare it.

        Args:
            stage: What it runs.
            election: Decides whether this process may.
            ready: Awaited before the election: the caches of its stage are complete.
            on_changed: Called when it begins and when it ends to lead.
            flush: Awaited before the Lease is released: Events told under it are sent.
        """
        self.stage = stage
        self.election = election
        self._ready = ready
        self._on_changed = on_changed
        self._flush = flush
        self._wanted = False
        self._changed = asyncio.Event()
        self._works = False
        self._looks = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_running = False

    @property
    def component(self) -> str:
        """The role's name."""
        return self.stage.component

    @property
    def is_wanted(self) -> bool:
        """Whether it should run."""
        return self._wanted

    @property
    def is_running(self) -> bool:
        """Whether it takes part in the election, or still winds down."""
        return self._is_running

    @property
    def held(self) -> Held | None:
        """The stage, while this process leads it and may begin new looks with it."""
        return Held(self.stage, self.election.check) if self._works else None

    def want(self, wanted: bool) -> None:
        """Switch on or off; returns at once."""
        if wanted != self._wanted:
            log.info("role switched", extra={"role": self.component, "on": wanted})
            self._wanted = wanted
            self._changed.set()

    @contextlib.contextmanager
    def look(self) -> Iterator[None]:
        """Counts a look this role takes part in, so that stopping can wait for it."""
        self._looks += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._looks -= 1
            if not self._looks:
                self._idle.set()

    async def run(self) -> None:
        """Follow ``want`` until cancelled.

        Errors:
            What an election raised; it never should, and a role that is silently dead is worse
            than a process that ends.
        """
        while True:
            await self._until(wanted=True)
            self._is_running = True
            try:
                await self._take_part()
            finally:
                self._is_running = False

    async def _take_part(self) -> None:
        election = asyncio.create_task(self._elect())
        unwanted = asyncio.create_task(self._until(wanted=False))
        try:
            await asyncio.wait({election, unwanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died = election.done()
            for task in (election, unwanted):
                task.cancel()
            await asyncio.gather(election, unwanted, return_exceptions=True)
        if died:
            election.result()

    async def _elect(self) -> None:
        await self._ready()
        await self.election.run(self._start, self._stop)

    async def _until(self, *, wanted: bool) -> None:
        while self._wanted != wanted:
            self._changed.clear()
            await self._changed.wait()

    def _start(self) -> None:
        self._works = True
        self._on_changed()

    async def _stop(self) -> None:
        """The Lease is lost or about to be released: begin nothing new, finish what goes on."""
        self._works = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS)
        self._on_changed()
        await self._flush()
