"""Keeps a forwarder at what the API says of Services and their endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dpucluster.kube import client as kube_client
from dpucluster.localplane.proxy import forwarder, routes, services
from dpucluster.runtime import informer

SETTLE = 0.02
"""Seconds for several changes to become one table."""


class Follower:
    """Services and endpoints, watched; ``node`` is whose own endpoints are local."""

    def __init__(
        self, client: kube_client.Client, *, node: str = "", balancers: bool = False
    ) -> None:
        self._node = node
        self._balancers = balancers
        self._changed = asyncio.Event()
        self._forwarder = forwarder.Forwarder()
        self._slices = informer.Informer(client, services.ENDPOINT_SLICES)
        self.services = informer.Informer(client, services.SERVICES)
        for each in (self._slices, self.services):
            each.on_change(lambda _: self._changed.set())

    async def run(self, also: Callable[[], Awaitable[None]] | None = None) -> None:
        """Follow until cancelled; ``also`` is called after each change, too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.services.run())
            group.create_task(self._slices.run())
            await self.services.synced.wait()
            await self._slices.synced.wait()
            while True:
                self._changed.clear()
                await self._forwarder.follow(self._table())
                if also is not None:
                    await also()
                await self._changed.wait()
                await asyncio.sleep(SETTLE)

    def _table(self) -> dict[routes.Listen, routes.Route]:
        return routes.table(
            self.services.values(),
            routes.slices_by_service(self._slices.values()),
            self._node,
            node_ports=bool(self._node),
            balancers=self._balancers,
        )
