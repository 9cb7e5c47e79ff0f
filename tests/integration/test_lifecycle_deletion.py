"""The end of a DPUCluster: what holds it, who lets go, in one process and in two."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster.localplane import install
from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster, planes, scene
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.scene import Scene

MANAGER = "provisioning.dpu.nvidia.com/cluster-manager-clean-up"
LIFECYCLE = "provisioning.dpu.nvidia.com/cluster-manager-internal-clean-up"
DPUS_CRD = Path(__file__).parents[1] / "support" / "dpus_crd.yaml"
INTERVAL = "--probe-interval=10m"
QUIET = 2.0
"""Seconds in which a controller that wants to write would have done so."""


@pytest.fixture
def dpus(management: ControlPlane) -> Iterator[KubeApi]:
    """The DPU kind, for one test: where it is installed, deletions are guarded."""
    crd = yaml.safe_load(DPUS_CRD.read_text())
    path = install.served_path(crd)
    with contextlib.closing(KubeApi(management.kubeconfig)) as api:
        api.create("crds", crd)
        cluster.wait_until(lambda: management.endpoint.is_there(path), bool, what="DPUs are served")
        yield api
        api.delete("crds", crd["metadata"]["name"])
        cluster.wait_gone(api, crd["metadata"]["name"], namespace="", plural="crds")
        cluster.wait_until(
            lambda: management.endpoint.is_there(path), lambda served: not served, what="no DPUs"
        )


@pytest.fixture
def user(management: ControlPlane, namespace: str) -> Iterator[Scene]:
    """A namespace without controllers."""
    with contextlib.closing(KubeApi(management.kubeconfig)) as api:
        yield Scene(api, namespace)


def controllers_of(management: ControlPlane, user: Scene, log: Path, *roles: str) -> Controllers:
    """These roles, for the user's namespace only."""
    where = (f"--namespace={user.namespace}", f"--leader-elect-namespace={user.namespace}")
    return Controllers(management.kubeconfig, log, *roles, INTERVAL, chaos.STEADY, *where)


def dpu(name: str, namespace: str, of: Scene, cluster_name: str) -> dict[str, Any]:
    """A DPU that belongs to a DPUCluster of ``of``."""
    return {
        "apiVersion": "provisioning.dpu.nvidia.com/v1alpha1",
        "kind": "DPU",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": "worker",
            "cluster": {"name": cluster_name, "namespace": of.namespace},
        },
    }


def finalizers(user: Scene, name: str) -> list[str]:
    """Those that still hold the cluster."""
    found: list[str] = user.get(name)["metadata"].get("finalizers", [])
    return found


def test_dpus_hold_the_deletion(
    management: ControlPlane,
    dpus: KubeApi,
    user: Scene,
    shared_tenant: ControlPlane,
    tmp_path: Path,
) -> None:
    """Each DPU that references the cluster is named, pause or not; the last one lets it go."""
    elsewhere = planes.new_namespace(management)
    dpus.create("dpus", dpu("near", user.namespace, user, "guarded"))
    dpus.create("dpus", dpu("far", elsewhere, user, "guarded"))
    dpus.create("dpus", dpu("other", user.namespace, user, "another"))
    roles = ("lifecycle", "static", f"--namespace={elsewhere}")
    with controllers_of(management, user, tmp_path / "run.log", *roles) as controllers:
        user.adopt("guarded", shared_tenant.client_kubeconfig(cluster="guarded"))
        user.pause("guarded")
        user.delete("guarded")
        held = user.wait_condition("guarded", "DeletionCompleted", "False", "WaitingForDPUs")
        assert f"{elsewhere}/far" in held["message"]
        assert f"{user.namespace}/near" in held["message"]
        assert "other" not in held["message"]
        assert {MANAGER, LIFECYCLE} == set(finalizers(user, "guarded"))
        assert scene.is_ready(user.get("guarded")), "the phase is frozen"
        dpus.delete("dpus", "far", elsewhere)
        user.wait("guarded", lambda obj: "far" not in message_of(obj))
        assert "near" in message_of(user.get("guarded"))
        dpus.delete("dpus", "near", user.namespace)
        user.wait_gone("guarded")
        assert 1 == user.events("guarded").count("HealthCheckPassed")
        assert "Traceback" not in controllers.text


def message_of(obj: dict[str, Any] | None) -> str:
    """What the cluster says about its deletion."""
    return str(cluster.condition(obj, "DeletionCompleted").get("message"))


def test_two_processes_share_the_work(
    management: ControlPlane, user: Scene, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """Each role in a process of its own: Ready; and a deletion needs both."""
    with (
        controllers_of(management, user, tmp_path / "static.log", "static") as manager,
        controllers_of(management, user, tmp_path / "lifecycle.log", "lifecycle") as lifecycle,
    ):
        for name in ("first", "second"):
            user.adopt(name, shared_tenant.client_kubeconfig(cluster=name))
            assert {MANAGER, LIFECYCLE} == set(finalizers(user, name))
        delete_without_manager(user, manager)
        delete_without_lifecycle(user, lifecycle)
        for log in (manager.text, lifecycle.text):
            assert "Traceback" not in log


def delete_without_manager(user: Scene, manager: Controllers) -> None:
    """The lifecycle says whom it waits for, and goes last."""
    manager.stop()
    user.delete("first")
    told = user.wait_condition("first", "DeletionCompleted", "False", "WaitingForManager")
    assert "'static'" in told["message"]
    time.sleep(QUIET)
    assert {MANAGER, LIFECYCLE} == set(finalizers(user, "first"))
    assert scene.is_ready(user.get("first")), "the phase is frozen"
    manager.start()
    user.wait_gone("first")


def delete_without_lifecycle(user: Scene, lifecycle: Controllers) -> None:
    """The manager takes nothing apart before the lifecycle's guard has had its say."""
    lifecycle.stop()
    user.delete("second")
    time.sleep(QUIET)
    assert {MANAGER, LIFECYCLE} == set(finalizers(user, "second"))
    lifecycle.start()
    user.wait_gone("second")
