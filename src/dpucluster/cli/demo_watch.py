"""Follows the demo's DPUCluster through a watch, and waits for what it shall become."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dpucluster import errors
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key
from dpucluster.cli import demo_view
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import informer

CHECK_EVERY = 0.3
"""Seconds between two looks whether all processes are there while nothing changes."""

Observed = DPUCluster | None
Wanted = Callable[[Observed], bool]


class Watch:
    """The DPUCluster ``key`` as the API server tells it; ``client`` asks that server.

    ``show`` is called with each version of it, None when it is gone; ``check`` raises when
    something that is needed has ended.
    """

    def __init__(
        self,
        client: kube_client.Client,
        key: Key,
        *,
        show: Callable[[Observed], None],
        check: Callable[[], None],
        timeout: float,
    ) -> None:
        self.client = client
        self._key = key
        self._show = show
        self._check = check
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._journals: list[list[Observed]] = []
        self._appeared = 0.0
        self._informer = informer.Informer(client, kinds.DPUCLUSTERS, namespaces=(key.namespace,))
        self._informer.on_change(self._on_change)

    @property
    def latest(self) -> Observed:
        """As far as the watch has told."""
        return self._informer.get(self._key)

    @property
    def lifetime(self) -> float:
        """Seconds since the watch told of the DPUCluster for the first time."""
        return time.monotonic() - self._appeared

    async def run(self) -> None:
        """Follow it until cancelled."""
        await self._informer.run()

    @contextmanager
    def journal(self) -> Iterator[list[Observed]]:
        """Every version of the DPUCluster within the ``with`` block, beginning with the latest."""
        told = [self.latest]
        self._journals.append(told)
        try:
            yield told
        finally:
            self._journals.remove(told)

    async def read(self) -> Observed:
        """The DPUCluster by a GET of its own, past every cache."""
        try:
            return await self.client.get(kinds.DPUCLUSTERS, self._key.name, self._key.namespace)
        except errors.NotFound:
            return None
        except errors.TransportError:
            self._check()  # says why
            raise

    async def until(self, wanted: Wanted, what: str, *, since: float | None = None) -> float:
        """Wait until the DPUCluster is as ``wanted``; the seconds since ``since`` (else: now).

        What the watch tells is confirmed by a read, so that the answer is the server's own.

        Raises:
            LocalPlaneError: not within the timeout; the message says where it stands instead.
            PlaneError: a process that is needed has ended.
        """
        began = time.monotonic() if since is None else since
        while not (wanted(self.latest) and wanted(await self.read())):
            self.check_time(began, what)
            self._changed.clear()
            await self._something(min(CHECK_EVERY, self._timeout))
        return time.monotonic() - began

    def check_time(self, began: float, what: str) -> None:
        """Raise when ``what`` has taken too long, or a process that is needed has ended."""
        self._check()
        if time.monotonic() - began > self._timeout:
            where = demo_view.situation(self.latest)
            raise errors.LocalPlaneError(
                f"DPUCluster {self._key} {what} after {self._timeout:g} s: {where}"
            )

    async def _something(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _on_change(self, delta: informer.Delta[DPUCluster]) -> None:
        if delta.key != self._key:
            return
        if delta.old is None:
            self._appeared = time.monotonic()
        for told in self._journals:
            told.append(delta.new)
        self._show(delta.new)
        self._changed.set()
