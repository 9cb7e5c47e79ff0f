"""The management API server itself goes away and comes back, with the controllers at work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster
from tests.support.adopted import Adopted
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi

FLAGS = (*chaos.ELECTION, chaos.STEADY)


def restart(plane: ControlPlane) -> None:
    plane.restart()


def stop_for_long(plane: ControlPlane) -> None:
    plane.stop()
    time.sleep(chaos.DOWNTIME)
    plane.start()


def freeze(plane: ControlPlane) -> None:
    with plane.frozen():
        time.sleep(chaos.DOWNTIME)


def ready_since(api: KubeApi, clusters: Adopted) -> dict[str, str]:
    found = {}
    for name in clusters.names:
        ready = cluster.condition(api.get("dpuclusters", name, clusters.namespace), "Ready")
        found[name] = ready["lastTransitionTime"] if ready.get("status") == "True" else ""
    return found


def delete(api: KubeApi, clusters: Adopted) -> None:
    for name in clusters.names:
        api.delete("dpuclusters", name, clusters.namespace)


def test_the_api_server_goes_away(
    own_management: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """Restarted, away for long, frozen: nobody becomes NotReady, and work goes on afterwards."""
    api = KubeApi(own_management.kubeconfig)
    old = Adopted(api, cluster.NAMESPACE, shared_tenant, 4, "old")
    log = tmp_path / "run.log"
    running = Controllers(
        own_management.kubeconfig, log, "static", "lifecycle", "--probe-interval=2s", *FLAGS
    )
    outages: list[Callable[[ControlPlane], None]] = [restart, stop_for_long, freeze]
    with contextlib.closing(api), running:
        old.create()
        old.wait_ready()
        since = ready_since(api, old)
        leaving: list[Adopted] = []
        for number, outage in enumerate(outages):
            made = Adopted(api, cluster.NAMESPACE, shared_tenant, 2, f"new-{number}")
            made.create()
            for gone in leaving:
                delete(api, gone)
            outage(own_management)
            for name in made.names:
                cluster.wait_ready(api, name)
            for gone in leaving:
                for name in gone.names:
                    cluster.wait_gone(api, name)
            leaving = [made]
        assert since == ready_since(api, old)
        assert "Traceback" not in running.text
        assert 0 == running.stop()
