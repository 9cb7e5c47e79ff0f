"""Runs the operator beside a host: its own informer, queue and Lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from dpucluster.api.dpfoperatorconfig import DPFOperatorConfig
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key
from dpucluster.dpfoperator.reconcile import Operator, Switchboard
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import controller, events, informer, store
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.sdk.roles import Election

log = logging.getLogger(__name__)

DRAIN_SECONDS = 2.0
DELETION_GATHER_SECONDS = 0.5
"""Many clusters vanish at once; the config's status need not tell of each."""
WORKERS = 2
"""One config counts; the other worker tells the others so."""


class OperatorRunner:
    """Follows DPFOperatorConfigs until cancelled."""

    def __init__(
        self,
        client: kube_client.Client,
        clusters: informer.Informer[DPUCluster],
        board: Switchboard,
        recorder: events.EventRecorder,
        *,
        election: Election,
        singleton: Key,
        namespaces: Collection[str] = (),
        clock: clocks.Clock,
        metrics: runtime_metrics.Metrics,
    ) -> None:
        self._election = election
        self._configs: informer.Informer[DPFOperatorConfig] = informer.Informer(
            client,
            kinds.DPFOPERATORCONFIGS,
            # with namespaced Roles only those can be watched, and the one config must be
            namespaces=sorted({singleton.namespace, *namespaces}) if namespaces else (),
            clock=clock,
            metrics=metrics,
        )
        self._operator = Operator(
            client,
            self._configs,
            clusters,
            board,
            recorder,
            clock=clock,
            singleton=singleton,
            leadership=election,
        )
        self._controller = controller.Controller(
            "dpfoperatorconfig",
            self._operator.reconcile,
            workers=WORKERS,
            clock=clock,
            metrics=metrics,
        )
        self._configs.on_change(lambda delta: self._controller.enqueue(delta.key))
        self._singleton = singleton
        clusters.on_change(self._cluster_changed)

    def is_synced(self) -> bool:
        """Whether every config is known."""
        return self._configs.synced.is_set()

    async def run(self) -> None:
        """Run until cancelled; what is under way is finished and the Lease released."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._configs.run())
            await self._configs.synced.wait()
            if self._configs.get(self._singleton) is None:
                log.info(
                    "no DPFOperatorConfig, nothing runs", extra={"config": str(self._singleton)}
                )
            work = group.create_task(self._controller.run())
            group.create_task(self._election.run(self._look_at_all, self._wind_down))
            try:
                await asyncio.Event().wait()
            finally:
                await self._controller.drain(DRAIN_SECONDS)
                work.cancel()

    def _cluster_changed(self, delta: store.Delta[DPUCluster]) -> None:
        """DPUClusters matter to the config only while it waits for them to go."""
        config = self._configs.get(self._singleton)
        if delta.new is None and config is not None and config.metadata.is_deleting:
            self._controller.enqueue(self._singleton, DELETION_GATHER_SECONDS)

    def _look_at_all(self) -> None:
        for config in self._configs.values():
            self._controller.enqueue(config.key)

    async def _wind_down(self) -> None:
        """Nothing is held that would outlive the Lease: every write is fenced by it."""
