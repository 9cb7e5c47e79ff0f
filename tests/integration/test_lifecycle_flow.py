"""What happens to a DPUCluster between its creation and its deletion, on the real thing.

Tenants are probed once in ten minutes here: what is noticed is noticed by a watch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster.localplane import etcd as storage
from dpucluster.localplane import install
from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster, planes, scene
from tests.support.audit import AuditLog, Entry
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.scene import Scene

ROLES = ("lifecycle", "static", "--probe-interval=10m", chaos.STEADY)
NODES = 3
QUIET = 3.0
"""Seconds in which a controller that wants to write would have done so."""
UPSTREAM_CRD = Path(__file__).parents[1] / "support" / "nvidia_v2410_dpuclusters.yaml"
FOREIGN = "example.com/kept"


@pytest.fixture(scope="module")
def tenant(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A tenant with three nodes."""
    factory = planes.Tenants(binaries, etcd, tmp_path_factory.mktemp("flow"))
    (plane,) = factory()
    with contextlib.closing(KubeApi(plane.kubeconfig)) as api:
        for number in range(NODES):
            add_node(api, f"dpu-{number}")
    yield plane
    factory.close()


@pytest.fixture(scope="module")
def user(management: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A namespace with both roles at work in it."""
    namespace = planes.new_namespace(management)
    log = tmp_path_factory.mktemp("flow") / "run.log"
    with (
        contextlib.closing(KubeApi(management.kubeconfig)) as api,
        controllers_of(management, namespace, log) as controllers,
    ):
        yield Scene(api, namespace)
        assert "Traceback" not in controllers.text


def controllers_of(management: ControlPlane, namespace: str, log: Path) -> Controllers:
    """Both roles, for one namespace only."""
    where = (f"--namespace={namespace}", f"--leader-elect-namespace={namespace}")
    return Controllers(management.kubeconfig, log, *ROLES, *where)


def add_node(api: KubeApi, name: str) -> None:
    """A Node that nobody runs."""
    api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def writes(management: ControlPlane, of: Scene) -> Callable[[], list[Entry]]:
    """From now on: what the product writes to DPUClusters and Events of a namespace."""
    assert management.audit_log is not None
    audit = AuditLog(management.audit_log)
    audit.mark()
    return lambda: [
        e
        for e in audit.writes(namespace=of.namespace, user_agent="dpucluster/")
        if e.resource != "leases"
    ]


def test_a_secret_that_comes_later(user: Scene, tenant: ControlPlane) -> None:
    """The DPUCluster says what it waits for, and is Ready as soon as the Secret is there."""
    user.create("later")
    missing = user.wait_condition("later", "Created", "False", "SecretNotFound")
    assert cluster.secret_name("later") in missing["message"]
    assert "Creating" == cluster.phase(user.get("later"))
    user.hold("later", tenant.client_kubeconfig())
    user.wait_ready("later")


def test_a_secret_that_goes_comes_and_changes(user: Scene, tenant: ControlPlane) -> None:
    """Deleted, created again, broken, mended: each is noticed at once, in condition and phase."""
    good = tenant.client_kubeconfig()
    user.adopt("restless", good)
    user.drop("restless")
    user.wait_condition("restless", "Created", "False", "SecretNotFound")
    user.wait("restless", scene.is_down("WaitingForControlPlane"))
    user.hold("restless", good)
    user.wait_ready("restless")
    user.hold("restless", "no kubeconfig")
    user.wait_condition("restless", "Created", "False", "KubeconfigInvalid")
    user.wait("restless", scene.is_unready)
    user.hold("restless", good)
    user.wait_ready("restless")


def test_the_other_key_of_the_secret_will_do(user: Scene, tenant: ControlPlane) -> None:
    """The kubeconfig may stand under super-admin.conf, as in DPF v25.7 and later."""
    user.hold("newer", tenant.client_kubeconfig(), key="super-admin.conf")
    user.create("newer")
    user.wait_ready("newer")


def test_version_and_nodes_are_told(user: Scene, tenant: ControlPlane) -> None:
    """status.version and nodesCount are the tenant's, and new ones with a new connection."""
    user.adopt("facts", tenant.client_kubeconfig())
    with contextlib.closing(KubeApi(tenant.kubeconfig)) as api:
        text = api.request("GET", "/version")[1]
        version = yaml.safe_load(text)["gitVersion"]
        assert (version, NODES) == facts(user.get("facts"))
        add_node(api, "late")
        user.hold("facts", tenant.client_kubeconfig(user="another"))
        user.wait("facts", lambda obj: (version, NODES + 1) == facts(obj))
        assert api.delete("nodes", "late")
    assert scene.is_ready(user.get("facts"))


def facts(obj: dict[str, Any] | None) -> tuple[str, int]:
    status = (obj or {})["status"]
    return status.get("version", ""), status.get("nodesCount", -1)


def test_pause_freezes_everything(
    user: Scene, tenant: ControlPlane, management: ControlPlane
) -> None:
    """Nothing is written to a paused DPUCluster, whatever happens; afterwards all of it is."""
    user.adopt("paused", tenant.client_kubeconfig())
    before = user.pause("paused")
    written = writes(management, user)
    user.drop("paused")
    user.create("unborn", metadata={"annotations": {scene.PAUSED: "true"}})
    time.sleep(QUIET)
    assert [] == written()
    assert before == user.get("paused")
    user.pause("paused", paused=False)
    user.wait("paused", scene.is_unready)
    user.hold("unborn", tenant.client_kubeconfig())
    user.pause("unborn", paused=False)
    user.wait_ready("unborn")


def test_pause_does_not_hold_a_deletion(user: Scene, tenant: ControlPlane) -> None:
    """A paused DPUCluster that is deleted goes."""
    user.adopt("leaving", tenant.client_kubeconfig())
    user.pause("leaving")
    user.delete("leaving")
    user.wait_gone("leaving")


def test_what_is_not_ours_is_left_alone(user: Scene, tenant: ControlPlane) -> None:
    """Labels, annotations, finalizers, conditions of others survive everything that we write."""
    mine: dict[str, Any] = {
        "labels": {FOREIGN: "label"},
        "annotations": {FOREIGN: "annotation"},
        "finalizers": [FOREIGN],
    }
    user.hold("guest", tenant.client_kubeconfig())
    user.create("guest", metadata=mine)
    found = user.wait_ready("guest")
    other = {**cluster.condition(found, "Created"), "type": "example.com/Other", "reason": "Mine"}
    both = [other, *found["status"]["conditions"]]
    user.patch("guest", {"status": {"phase": "Ready", "conditions": both}}, "status")
    user.drop("guest")
    user.wait("guest", scene.is_unready)
    user.hold("guest", tenant.client_kubeconfig())
    found = user.wait_ready("guest")
    assert other == cluster.condition(found, "example.com/Other")
    assert {FOREIGN: "label"} == found["metadata"]["labels"]
    assert "annotation" == found["metadata"]["annotations"][FOREIGN]
    assert FOREIGN == found["metadata"]["finalizers"][0]
    user.delete("guest")
    left = user.wait("guest", lambda obj: [FOREIGN] == (obj or {})["metadata"]["finalizers"])
    assert other == cluster.condition(left, "example.com/Other")
    user.patch("guest", {"metadata": {"finalizers": []}})
    user.wait_gone("guest")


def test_a_condition_of_others_holds_ready_back(user: Scene, tenant: ControlPlane) -> None:
    """As with NVIDIA's lifecycle, any condition that is not True keeps Ready False."""
    user.adopt("blocked", tenant.client_kubeconfig())
    found = user.get("blocked")
    bad = {
        **cluster.condition(found, "Created"),
        "type": "example.com/Other",
        "status": "False",
        "reason": "NotYet",
        "message": "the other part is missing",
    }
    both = [*found["status"]["conditions"], bad]
    user.patch("blocked", {"status": {"phase": "Ready", "conditions": both}}, "status")
    found = user.wait("blocked", scene.is_down("WaitingForControlPlane"))
    message = cluster.condition(found, "Ready")["message"]
    assert "example.com/Other is False (NotYet): the other part is missing" in message
    good = [{**c, "status": "True"} for c in found["status"]["conditions"]]
    user.patch("blocked", {"status": {"phase": "NotReady", "conditions": good}}, "status")
    user.wait_ready("blocked")


def test_warnings_are_told_once(
    management: ControlPlane, tenant: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """What is odd and stops nothing is one Event each, also after more looks and a restart."""
    log = tmp_path / "run.log"
    with (
        contextlib.closing(KubeApi(management.kubeconfig)) as api,
        controllers_of(management, namespace, log) as controllers,
    ):
        user = Scene(api, namespace)
        user.adopt("one", tenant.client_kubeconfig(cluster="one"), version="v1.30.2", maxNodes=1)
        user.adopt("two", tenant.client_kubeconfig(cluster="two"))
        user.adopt("self", management.client_kubeconfig(cluster="self"))
        expected = {
            "one": ["HealthCheckPassed", "SharedTenant", "TooManyNodes", "VersionMismatch"],
            "two": ["HealthCheckPassed", "SharedTenant"],
            "self": ["HealthCheckPassed", "ManagementCluster"],
        }
        wait_events(user, expected)
        for round_ in range(3):
            for name in expected:
                user.annotate(name, look_again=str(round_))
        controllers.stop()
        controllers.start()
        controllers.wait_log("became leader", times=4)
        time.sleep(QUIET)
        assert expected == {name: user.events(name) for name in expected}
        assert all(scene.is_ready(user.get(name)) for name in expected)


def wait_events(user: Scene, expected: Mapping[str, list[str]]) -> None:
    """Return when exactly these reasons were told."""
    cluster.wait_until(
        lambda: {name: user.events(name) for name in expected},
        lambda told: told == expected,
        what=f"Events {expected}",
    )


def test_on_the_crd_of_v24_10(
    binaries: Mapping[str, Path],
    etcd: storage.Etcd,
    tenant: ControlPlane,
    tmp_path: Path,
) -> None:
    """Where the server prunes what we know beyond NVIDIA's schema: Ready, then no more writes."""
    plane = ControlPlane(
        f"upstream-{tmp_path.stat().st_ino}",
        binaries=binaries,
        storage=etcd,
        directory=tmp_path / "upstream",
        audit=True,
    )
    with (
        plane,
        contextlib.closing(KubeApi(plane.kubeconfig)) as api,
        controllers_of(plane, "default", tmp_path / "run.log") as controllers,
    ):
        install_upstream(plane, api)
        controllers.wait_log("became leader", times=2)  # only once the kind is there
        user = Scene(api, "default")
        user.hold("old", tenant.client_kubeconfig(cluster="old"))
        written = writes(plane, user)
        user.create("old", version="v1.30.2")
        found = user.wait_ready("old")
        assert {"phase", "conditions"} == set(found["status"])
        time.sleep(QUIET)
        assert 3 == len([e for e in written() if e.resource == "dpuclusters"]), written()
        quiet = writes(plane, user)
        user.annotate("old", look_again="1")
        user.hold("old", tenant.client_kubeconfig(cluster="old", user="another"))
        time.sleep(QUIET)
        assert [] == quiet()
        user.delete("old")
        user.wait_gone("old")
        assert "Traceback" not in controllers.text


def install_upstream(plane: ControlPlane, api: KubeApi) -> None:
    """NVIDIA's CRD instead of ours."""
    crd = yaml.safe_load(UPSTREAM_CRD.read_text())
    api.create("crds", crd)
    path = install.served_path(crd)
    cluster.wait_until(
        lambda: plane.endpoint.is_there(path), bool, what="NVIDIA's DPUClusters are served"
    )
