"""Asks one tenant what is nice to know, beside the looks at its health: nobody waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from dpucluster.runtime import clock as clocks
from dpucluster.tenant.state import Survey

log = logging.getLogger(__name__)

INTERVAL = 300.0
"""Version and node count are for people to read; five minutes old is new enough."""


class Source(Protocol):
    """What is needed of a ``TenantConnection``."""

    async def survey(self) -> Survey:
        """Version and number of nodes."""
        ...

    async def is_cluster_admin(self) -> bool | None:
        """Whether the user may do everything."""
        ...


class Surveyor:
    """Surveys one tenant, one survey at a time; what was found is in ``found``.

    Guarantees:
        ``told`` is called as soon as there is something to tell; ``ended`` after each survey that
        was not stopped, when ``is_asking`` is False again.
    """

    def __init__(
        self,
        *,
        clock: clocks.Clock,
        retry: float,
        told: Callable[[], None],
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        """``retry``: seconds until the next survey of a tenant that does not tell its version."""
        self.found = Survey()
        self._clock = clock
        self._retry = retry
        self._told = told
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._due = 0.0
        self._has_all_rights = False

    @property
    def is_asking(self) -> bool:
        """Whether a survey needs its connection."""
        return self._asking is not None

    def begin(self, connection: Source) -> None:
        """Ask now, if it is time."""
        now = self._clock.monotonic()
        if now >= self._due and self._asking is None:
            self._due = now + self._retry
            self._task = self._asking = asyncio.create_task(self._survey(connection))

    def stop(self) -> None:
        """The connection goes; the next one is surveyed at once."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._due = 0.0
        self._has_all_rights = False

    def forget(self) -> None:
        """What was found is not known any more."""
        self.found = Survey()

    async def _survey(self, connection: Source) -> None:
        try:
            await self._ask(connection)
        except Exception:  # it is only nice to know
            log.exception("surveying a tenant failed")
        finally:
            if self._asking is asyncio.current_task():  # else it was stopped
                self._asking = None
        await self._ended()

    async def _ask(self, connection: Source) -> None:
        found = await connection.survey()
        if found.version:
            self._due = self._clock.monotonic() + INTERVAL
        self._learn(found)
        # Once per connection; a user who was warned and granted the rights is asked again.
        if not self._has_all_rights:
            is_admin = await connection.is_cluster_admin()
            self._has_all_rights = is_admin is True
            self._learn(dataclasses.replace(Survey(), is_cluster_admin=is_admin))

    def _learn(self, found: Survey) -> None:
        self.found = self.found.updated(found)
        self._told()
