"""``dpucluster run`` while its API server is restarted, or lost sight of for longer.

What is counted is counted at a proxy between the two; what is observed is observed past it.
Shorter troubles on the way are those of ``test_faults_run``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster, journal
from tests.support.audit import AuditLog
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.proxy import ApiProxy
from tests.support.tcp_proxy import TcpProxy

STEADY = 6
"""Clusters that are Ready all the time and must not notice anything."""
WARM = 10
"""Requests a second: two Leases that are tried twice a second, and two watches that back off,
make about five."""
PROBE_INTERVAL = 1.0


@dataclass
class Scene:
    """Controllers behind ``proxy``, and clusters that are Ready."""

    management: ControlPlane
    namespace: str
    tenant: ControlPlane
    api: KubeApi
    proxy: ApiProxy
    running: Controllers
    steady: chaos.Fleet

    def fleet(self, prefix: str, count: int) -> chaos.Fleet:
        """``count`` more clusters, still to be created."""
        dice = chaos.dice(0, prefix)
        return chaos.Fleet(self.api, self.namespace, self.tenant, count, dice, prefix)


@contextlib.contextmanager
def scene_of(
    management: ControlPlane, namespace: str, tenant: ControlPlane, directory: Path
) -> Iterator[Scene]:
    """A scene that is at peace; whatever happens in it, ``steady`` may not fall."""
    flags = (*chaos.scoped(namespace), f"--probe-interval={PROBE_INTERVAL}s", chaos.STEADY)
    with (
        contextlib.closing(KubeApi(management.kubeconfig)) as api,
        ApiProxy(management.kubeconfig) as proxy,
        chaos.WatchLog(management.kubeconfig, namespace) as watched,
    ):
        kubeconfig = proxy.write_kubeconfig(directory / "proxied.kubeconfig")
        log = directory / "run.log"
        with Controllers(kubeconfig, log, "lifecycle", "static", *flags) as running:
            dice = chaos.dice(0, "steady")
            steady = chaos.Fleet(api, namespace, tenant, STEADY, dice, "steady")
            steady.create()
            steady.wait_converged()
            yield Scene(management, namespace, tenant, api, proxy, running, steady)
            assert [] == watched.falls("steady")
            assert "Traceback" not in running.text
            assert 0 == running.stop()


@pytest.fixture
def scene(
    management: ControlPlane, namespace: str, shared_tenant: ControlPlane, tmp_path: Path
) -> Iterator[Scene]:
    """On the session's management plane."""
    with scene_of(management, namespace, shared_tenant, tmp_path) as made:
        yield made


def test_a_restarted_api_server_is_no_event(
    own_management: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """Down for longer than a Lease and back: nobody falls, nothing is missed, nothing ran hot."""
    assert own_management.audit_log is not None
    with scene_of(own_management, "default", shared_tenant, tmp_path) as scene:
        doomed = scene.fleet("doomed", 3)
        doomed.create()
        doomed.wait_converged()
        audit = AuditLog(own_management.audit_log)
        audit.mark()
        mark = journal.now()
        own_management.stop()
        time.sleep(chaos.DOWNTIME)
        in_vain, seconds = scene.proxy.requests(since=mark), journal.now() - mark
        own_management.start()
        doomed.delete()
        new = scene.fleet("new", 3)
        new.create()
        new.wait_converged()
        doomed.wait_converged()
        written = {e.name for e in audit.writes(resource="dpuclusters")}
        assert not written & set(scene.steady.wishes)
        assert len(in_vain) <= WARM * seconds, journal.table(in_vain)


def test_an_object_that_vanished_unseen_is_forgotten(scene: Scene) -> None:
    """Deleted for good while nobody looked: after the 410 no probe goes to its tenant any more."""
    with TcpProxy("127.0.0.1", scene.tenant.port) as line:
        text = scene.tenant.client_kubeconfig(cluster="ghost")
        moved = text.replace(f":{scene.tenant.port}", f":{line.port}")
        secret = cluster.raw_secret("ghost-kubeconfig", scene.namespace, {"admin.conf": moved})
        scene.api.create("secrets", secret)
        ghost = cluster.dpucluster("ghost", scene.namespace, kubeconfig="ghost-kubeconfig")
        scene.api.create("dpuclusters", ghost)
        cluster.wait_ready(scene.api, "ghost", namespace=scene.namespace)
        scene.proxy.error_event(410, times=2)
        scene.proxy.refuse()
        bare = {"metadata": {"finalizers": None}}
        scene.api.patch("dpuclusters", "ghost", scene.namespace, bare)
        scene.api.delete("dpuclusters", "ghost", scene.namespace)
        assert scene.api.get("dpuclusters", "ghost", scene.namespace) is None
        probed = len(line.accepted)
        cluster.wait_until(lambda: len(line.accepted), lambda n: n > probed, what="still probed")
        scene.proxy.accept()
        cluster.wait_until(
            lambda: line.accepted[-1], lambda last: journal.now() - last > 5 * PROBE_INTERVAL
        )
        assert "ghost" not in scene.steady.versions()


def test_a_writer_without_rest_is_no_hot_loop(scene: Scene) -> None:
    """Somebody writes the same objects all the time: real 409s, and it converges all the same."""
    stopping = threading.Event()
    crowd = scene.fleet("contested", 4)

    def scribble() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            note = {"metadata": {"annotations": {"example.com/count": str(number)}}}
            for name in crowd.wishes:
                with contextlib.suppress(AssertionError):  # deleted meanwhile
                    scene.api.patch("dpuclusters", name, scene.namespace, note)

    crowd.create()
    mark = journal.now()
    with chaos.beside(scribble):
        try:
            crowd.wait_converged()
            for _ in range(2):
                crowd.churn()
                crowd.wait_converged()
        finally:
            stopping.set()
    refused = scene.proxy.requests("PATCH", "/dpuclusters", status=409, since=mark)
    seconds = journal.now() - mark
    assert 1 <= len(refused) <= 10 * len(crowd.wishes) * seconds, journal.table(refused)
    crowd.delete()
    crowd.wait_converged()
