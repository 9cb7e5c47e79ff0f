"""What the pool counts: probes by result, and tenants by health."""

from __future__ import annotations

import functools
from collections.abc import Callable

import prometheus_client

from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.tenant.health import ProbeResult

HEALTHY = "healthy"
FAILING = "failing"
UNKNOWN = "unknown"


class PoolMetrics:
    """The pool's metrics among those of the process; nothing is counted without them."""

    def __init__(
        self, metrics: runtime_metrics.Metrics | None, tenants: Callable[[str], float]
    ) -> None:
        """``tenants`` counts those of one health when asked."""
        self._probes: prometheus_client.Counter | None = None
        if metrics is None:
            return
        self._probes = prometheus_client.Counter(
            "dpucluster_tenant_probes_total",
            "Probes of tenant clusters; result is ok or a reason of the condition Ready.",
            ("result",),
            registry=metrics.registry,
        )
        gauge = prometheus_client.Gauge(
            "dpucluster_tenants",
            "Tenant clusters by the answer to the last probe.",
            ("health",),
            registry=metrics.registry,
        )
        for health in (HEALTHY, FAILING, UNKNOWN):
            runtime_metrics.track(gauge, functools.partial(tenants, health), health=health)

    def probed(self, result: ProbeResult) -> None:
        """One probe has ended."""
        if self._probes is not None:
            label = result.problem.reason if result.problem is not None else "ok"
            self._probes.labels(result=label).inc()


def name_of(ok: bool | None) -> str:
    """The label for ``Health.ok``."""
    if ok is None:
        return UNKNOWN
    return HEALTHY if ok else FAILING
