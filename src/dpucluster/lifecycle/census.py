"""Which DPUs belong to which DPUCluster, for the deletion guard.

DPUs are listed when a deletion asks, and not watched: deletions are rare, and a standing watch on
thousands of DPUs for their sake is not worth its memory. Many deletions at once (of a whole
DPFOperatorConfig) share one listing.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence

from dpucluster import errors
from dpucluster.api.meta import Key
from dpucluster.sdk import DPUS, Context

MAX_AGE_SECONDS = 1.0
"""A DPU that joins within this time of the deletion may be missed, as it may a moment later."""

UNREADABLE = Key("", "(a DPU that cannot be read)")
"""Stands for a DPU whose cluster is not known: it may be any."""


class Census:
    """Counts DPUs by the DPUCluster they reference.

    ``namespaces``: where they are looked for; empty: everywhere.

    Errors:
        ``errors.Forbidden`` and whatever else a listing may answer; where the kind is not
        installed nothing can reference a cluster, and that is no error.
    """

    def __init__(self, namespaces: Sequence[str] = ()) -> None:
        self._namespaces = tuple(namespaces) or ("",)
        self._lock = asyncio.Lock()
        self._taken_at: float | None = None
        self._by_cluster: dict[Key, list[Key]] = {}
        self._unreadable: list[Key] = []

    async def of(self, cluster: Key, context: Context) -> list[Key]:
        """The DPUs that reference ``cluster``, and those that cannot be read."""
        async with self._lock:
            started = context.clock.monotonic()
            if self._taken_at is None or started - self._taken_at > MAX_AGE_SECONDS:
                await self._take(context)
                self._taken_at = started
            return [*self._by_cluster.get(cluster, ()), *self._unreadable]

    async def _take(self, context: Context) -> None:
        by_cluster: dict[Key, list[Key]] = collections.defaultdict(list)
        unreadable: list[Key] = []
        for namespace in self._namespaces:
            try:
                listing = await context.client.list(DPUS, namespace)
            except errors.NotFound:
                continue
            for dpu in listing.items:
                named = dpu.spec.cluster
                by_cluster[Key(named.namespace, named.name)].append(dpu.metadata.key)
            unreadable += (bad.key or UNREADABLE for bad in listing.undecodable)
        self._by_cluster, self._unreadable = by_cluster, unreadable
