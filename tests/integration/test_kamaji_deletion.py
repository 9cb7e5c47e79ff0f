"""The end of a Kamaji cluster: in order, told while it waits, and nothing left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, kamaji_scene
from tests.support.audit import AuditLog
from tests.support.kamaji_part import FINALIZER
from tests.support.kamaji_scene import CHILDREN, KamajiScene

Object = dict[str, Any]
MANAGER = "provisioning.dpu.nvidia.com/cluster-manager-clean-up"
MOMENTS = 12
"""Clusters that are deleted at different moments of their creation."""
APART = 0.06
"""Seconds between two of those moments: together they span a whole creation."""


@pytest.fixture(scope="module")
def user(
    kamaji_management: ControlPlane,
    shared_tenant: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KamajiScene]:
    log = tmp_path_factory.mktemp("kamaji-deletion") / "run.log"
    with kamaji_scene.opened(kamaji_management, shared_tenant, log) as opened:
        yield opened
        assert "ERROR" not in opened.controllers.text


def hold(user: KamajiScene, name: str, *finalizers: str) -> Object:
    """Let exactly these finalizers hold the control plane."""
    patch: Object = {"metadata": {"finalizers": list(finalizers)}}
    return user.patch_child("tenantcontrolplanes", name, patch)


def deletions(management: ControlPlane, user: KamajiScene) -> Callable[[], list[str]]:
    """From now on: what our process deletes in the namespace, in order."""
    assert management.audit_log is not None
    audit = AuditLog(management.audit_log)
    audit.mark()
    return lambda: [
        e.resource
        for e in audit.entries(
            namespace=user.namespace, verb="delete", user_agent="dpucluster/", status=200
        )
    ]


def test_the_order(user: KamajiScene, kamaji_management: ControlPlane) -> None:
    """K13: The control plane goes first and is awaited; then the children, then the finalizer."""
    user.ready("ordered")
    hold(user, "ordered", FINALIZER)
    deleted = deletions(kamaji_management, user)
    user.delete("ordered")
    told = user.wait_condition("ordered", "DeletionCompleted", "False", "WaitingForControlPlane")[
        "message"
    ]
    assert f"TenantControlPlane {user.namespace}/ordered is being deleted, held by" in told
    assert f"{FINALIZER} (Kamaji empties the tenant's part of the DataStore;" in told
    assert MANAGER in user.get("ordered")["metadata"]["finalizers"]
    assert CHILDREN.keys() == user.children("ordered").keys()
    hold(user, "ordered")
    user.wait_nothing_left("ordered")
    wanted = ["tenantcontrolplanes", "daemonsets", "configmaps", "services", "services"]
    assert wanted == deleted()


def test_a_finalizer_of_others_is_named(user: KamajiScene) -> None:
    """K13: Whoever else holds the control plane is named, too."""
    user.ready("held")
    hold(user, "held", "example.com/mine")
    user.delete("held")
    user.wait(
        "held",
        lambda obj: (
            "example.com/mine (not ours)"
            in cluster.condition(obj, "DeletionCompleted").get("message", "")
        ),
    )
    hold(user, "held")
    user.wait_nothing_left("held")


def test_deleted_at_any_moment(user: KamajiScene) -> None:
    """K6: Whatever of a creation was done when the cluster was deleted, nothing of it is left."""
    names = [f"moment-{n}" for n in range(MOMENTS)]
    for name in names:
        user.held(name)
        time.sleep(APART)
    for name in names:  # the last ones have hardly begun, the first ones are up
        user.delete(name)
    for name in names:
        user.wait_nothing_left(name)
    for n in range(MOMENTS):
        user.held(f"instant-{n}")
        user.delete(f"instant-{n}")
    for n in range(MOMENTS):
        user.wait_nothing_left(f"instant-{n}")


def test_deleted_and_made_again(user: KamajiScene) -> None:
    """K13: A cluster of the same name gets a control plane of its own, never the dying one."""
    user.ready("again")
    before = {plural: obj["metadata"]["uid"] for plural, obj in user.children("again").items()}
    hold(user, "again", FINALIZER)
    spec = user.get("again")["spec"]
    user.delete("again")
    user.wait_condition("again", "DeletionCompleted", "False")
    # by force, as people do who cannot wait
    user.patch("again", {"metadata": {"finalizers": None}})
    user.wait_gone("again")
    user.create("again", type_="kamaji", clusterEndpoint=spec["clusterEndpoint"])
    told = user.wait_condition("again", "Created", "False", "NameConflict")
    assert "is not touched" in told["message"]
    assert "kubeconfig" not in user.get("again")["spec"]
    hold(user, "again")
    for plural, name in CHILDREN.items():  # the garbage collector's part, which nobody plays here
        if plural != "tenantcontrolplanes":
            user.api.delete(plural, name.format("again"), user.namespace)
    user.api.delete("services", "again-keepalived", user.namespace)
    user.api.delete("secrets", cluster.secret_name("again"), user.namespace)
    user.wait_ready("again", timeout=30)
    after = {plural: obj["metadata"]["uid"] for plural, obj in user.children("again").items()}
    assert not set(before.values()) & set(after.values())


def test_a_restart_in_the_middle(user: KamajiScene) -> None:
    """K13: A deletion that another process has begun is finished by the next one."""
    user.ready("restarted")
    hold(user, "restarted", FINALIZER)
    user.delete("restarted")
    user.wait_condition("restarted", "DeletionCompleted", "False")
    user.controllers.stop()
    hold(user, "restarted")
    user.controllers.start()
    user.wait_nothing_left("restarted")


def test_a_child_somebody_else_has_taken(user: KamajiScene) -> None:
    """K7: A child whose owner reference is gone is no longer ours, and is left where it is."""
    user.ready("robbed")
    orphan = user.patch_child("configmaps", "robbed", {"metadata": {"ownerReferences": None}})
    told = user.wait_condition("robbed", "KeepalivedReady", "False", "NameConflict")
    assert f"ConfigMap {user.namespace}/robbed-keepalived" in told["message"]
    user.delete("robbed")
    user.wait_gone("robbed")
    left = user.child("configmaps", "robbed")
    assert left is not None
    assert orphan["metadata"]["uid"] == left["metadata"]["uid"]
