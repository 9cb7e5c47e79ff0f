"""Prometheus metrics under the names controller-runtime and client-go use.

Dashboards and alerts written for controllers in Go work unchanged. What those have no name for is
called ``dpucluster_…``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import prometheus_client
from prometheus_client import metrics_core

RECONCILE_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8),
    *(0.9, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25),
    *(30, 40, 50, 60),
)
"""Those of controller-runtime."""

QUEUE_BUCKETS: Final = tuple(10.0**exponent for exponent in range(-8, 4))
"""Those of client-go's work queue: 10 ns … 1,000 s."""


class Metrics:
    """All metrics of one process, or of one test: no registry is shared.

    Guarantees: making two of these never clashes; ``expose`` works at any time.
    """

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self._reconcile()
        self._workqueue()
        self._client()
        self._informer()
        self._process()

    def expose(self) -> bytes:
        """Everything in the text format."""
        return prometheus_client.generate_latest(_WithoutCreated(self.registry))

    def sample(self, name: str, /, **labels: str) -> float:
        """One value, 0 when it was never set."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _counter(self, name: str, text: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(name, text, labels, registry=self.registry)

    def _reconcile(self) -> None:
        self.reconcile_total = self._counter(
            "controller_runtime_reconcile_total", "Reconciliations.", "controller", "result"
        )
        self.reconcile_errors = self._counter(
            "controller_runtime_reconcile_errors_total", "Failed reconciliations.", "controller"
        )
        self.reconcile_conflicts = self._counter(
            "dpucluster_reconcile_conflicts_total",
            "Reconciliations that found the object changed by somebody else and looked again.",
            "controller",
        )
        self.reconcile_time = prometheus_client.Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of a reconciliation.",
            ("controller",),
            registry=self.registry,
            buckets=RECONCILE_BUCKETS,
        )
        self.max_concurrent_reconciles = self._gauge(
            "controller_runtime_max_concurrent_reconciles", "Workers.", "controller"
        )
        self.active_workers = self._gauge(
            "controller_runtime_active_workers", "Workers that are reconciling.", "controller"
        )

    def _workqueue(self) -> None:
        self.queue_depth = self._gauge("workqueue_depth", "Keys that are ready.", "name")
        self.queue_adds = self._counter("workqueue_adds_total", "Keys added.", "name")
        self.queue_retries = self._counter(
            "workqueue_retries_total", "Keys that failed and were added again.", "name"
        )
        self.queue_duration = prometheus_client.Histogram(
            "workqueue_queue_duration_seconds",
            "How long a key was ready before it was taken.",
            ("name",),
            registry=self.registry,
            buckets=QUEUE_BUCKETS,
        )
        self.work_duration = prometheus_client.Histogram(
            "workqueue_work_duration_seconds",
            "How long a key was worked on.",
            ("name",),
            registry=self.registry,
            buckets=QUEUE_BUCKETS,
        )
        self.unfinished_work = self._gauge(
            "workqueue_unfinished_work_seconds", "Summed age of the work in progress.", "name"
        )
        self.longest_running = self._gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest of it.", "name"
        )

    def _client(self) -> None:
        self.client_requests = self._counter(
            "rest_client_requests_total",
            "HTTP requests by status code, method and host.",
            "code",
            "method",
            "host",
        )
        self.leader = self._gauge(
            "leader_election_master_status", "1 for a Lease that is held, else 0.", "name"
        )
        self.events_dropped = self._counter(
            "dpucluster_events_dropped_total", "Events that were never written.", "reason"
        )

    def _informer(self) -> None:
        self.informer_objects = self._gauge(
            "dpucluster_informer_objects", "Objects in the cache.", "kind"
        )
        self.informer_synced = self._gauge(
            "dpucluster_informer_synced", "1 once the cache was filled.", "kind"
        )
        self.informer_lists = self._counter(
            "dpucluster_informer_lists_total", "Complete lists that were asked for.", "kind"
        )
        self.informer_watches = self._counter(
            "dpucluster_informer_watches_total", "Watches that were asked for.", "kind"
        )
        self.informer_failures = self._counter(
            "dpucluster_informer_failures_total", "Lists and watches that failed.", "kind", "error"
        )
        self.informer_undecodable = self._counter(
            "dpucluster_informer_undecodable_total", "Objects that could not be read.", "kind"
        )

    def _process(self) -> None:
        # process_resident_memory_bytes and its like, where there is a /proc to read them from.
        prometheus_client.ProcessCollector(registry=self.registry)
        self.loop_lag = self._gauge(
            "dpucluster_event_loop_lag_seconds", "How late the last heart-beat was."
        )

    def request(self, method: str, server: str, code: str) -> None:
        """Count one HTTP request (``code`` is ``<error>`` when no answer came)."""
        host = server.partition("://")[2] or server
        self.client_requests.labels(code=code, method=method, host=host).inc()


def track(gauge: prometheus_client.Gauge, value: Callable[[], float], **labels: str) -> None:
    """Let ``gauge`` ask ``value`` whenever it is exposed."""
    gauge.labels(**labels).set_function(value)


class _WithoutCreated(prometheus_client.CollectorRegistry):
    """Leaves out the ``_created`` series: twice the size, and Go's exposition has none."""

    def __init__(self, source: prometheus_client.CollectorRegistry) -> None:
        super().__init__()
        self._source = source

    def collect(self) -> Iterator[metrics_core.Metric]:
        for family in self._source.collect():
            samples = [s for s in family.samples if not s.name.endswith("_created")]
            slim = metrics_core.Metric(family.name, family.documentation, family.type)
            slim.samples = samples
            yield slim
