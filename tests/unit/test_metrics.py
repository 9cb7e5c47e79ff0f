"""Metrics: the names that dashboards for controller-runtime look for."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from dpucluster.api.meta import Key
from dpucluster.runtime import controller
from dpucluster.runtime import metrics as runtime_metrics
from tests.support.clock import FakeClock, settle

GO_NAMES = {
    "controller_runtime_reconcile_total": "counter",
    "controller_runtime_reconcile_errors_total": "counter",
    "controller_runtime_reconcile_time_seconds": "histogram",
    "controller_runtime_max_concurrent_reconciles": "gauge",
    "controller_runtime_active_workers": "gauge",
    "workqueue_depth": "gauge",
    "workqueue_adds_total": "counter",
    "workqueue_queue_duration_seconds": "histogram",
    "workqueue_work_duration_seconds": "histogram",
    "workqueue_retries_total": "counter",
    "workqueue_unfinished_work_seconds": "gauge",
    "workqueue_longest_running_processor_seconds": "gauge",
    "rest_client_requests_total": "counter",
    "leader_election_master_status": "gauge",
}


def types(exposed: bytes) -> dict[str, str]:
    lines = exposed.decode().splitlines()
    return {n: kind for _, _, n, kind in (x.split() for x in lines if x.startswith("# TYPE"))}


def test_names() -> None:
    """Every metric that controller-runtime has a name for has that name and type here."""
    found = types(runtime_metrics.Metrics().expose())
    assert GO_NAMES == {name: found.get(name) for name in GO_NAMES}


async def test_after_work() -> None:
    """After a reconciliation the series are there with controller-runtime's labels."""
    metrics = runtime_metrics.Metrics()

    async def reconcile(_key: Key) -> float | None:
        return None

    made = controller.Controller("c", reconcile, workers=3, clock=FakeClock(), metrics=metrics)
    running = asyncio.create_task(made.run())
    made.enqueue(Key("ns", "a"))
    await settle()
    await made.drain(0)
    await running
    text = metrics.expose().decode()
    assert 'controller_runtime_reconcile_total{controller="c",result="success"} 1.0' in text
    assert 'controller_runtime_reconcile_time_seconds_bucket{controller="c",le="0.005"} 1.0' in text
    assert 'controller_runtime_max_concurrent_reconciles{controller="c"} 3.0' in text
    assert 'workqueue_adds_total{name="c"} 1.0' in text
    assert 'workqueue_depth{name="c"} 0.0' in text


def test_no_created_series() -> None:
    """The series that only Python's library adds are left out."""
    metrics = runtime_metrics.Metrics()
    metrics.request("GET", "https://host:6443", "200")
    text = metrics.expose().decode()
    assert 'rest_client_requests_total{code="200",host="host:6443",method="GET"} 1.0' in text
    assert "_created" not in text


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="told by Linux only")
def test_process() -> None:
    """The process says of itself what every Go program does."""
    found = types(runtime_metrics.Metrics().expose())
    assert "gauge" == found["process_resident_memory_bytes"]
    assert "counter" == found["process_cpu_seconds_total"]
    assert runtime_metrics.Metrics().sample("process_open_fds") > 0


def test_two_at_once() -> None:
    """Two sets of metrics in one process know nothing of each other."""
    one, two = runtime_metrics.Metrics(), runtime_metrics.Metrics()
    one.leader.labels(name="l").set(1)
    assert 0.0 == two.sample("leader_election_master_status", name="l")
