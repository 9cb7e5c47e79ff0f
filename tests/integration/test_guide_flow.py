"""The guide's static flow, applied by kubectl as a user does, in every order."""

from __future__ import annotations

import base64
import itertools
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dpucluster.localplane import etcd as storage
from dpucluster.localplane import install, plane
from tests.support import cluster
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi

GUIDE = Path(__file__).parents[2] / "examples" / "guide"
MANIFESTS = ("10-dpfoperatorconfig.yaml", "20-secret.yaml", "30-dpucluster-static.yaml")
NAME, NAMESPACE = "dpu-cluster-1", "dpf-operator-system"
COLUMNS = ["NAMESPACE", "NAME", "READY", "PHASE", "TYPE", "MAXNODES", "VERSION", "AGE"]

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def management(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[plane.ControlPlane]:
    """A management plane of its own: deleting the config deletes every DPUCluster there is."""
    directory = tmp_path_factory.mktemp("guide-plane")
    server = plane.ControlPlane("guide", binaries=binaries, storage=etcd, directory=directory)
    with server:
        install.install(server.endpoint)
        yield server


@pytest.fixture
def kubectl(management: Any, binaries: dict[str, Path]) -> Kubectl:
    def call(*args: str, stdin: str = "") -> str:
        command = [str(binaries["kubectl"]), "--kubeconfig", str(management.kubeconfig), *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="module")
def controllers(management: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controllers]:
    """The controllers with no role named: the DPFOperatorConfig decides."""
    log = tmp_path_factory.mktemp("guide") / "run.log"
    # Who has a pod's name goes on at once after a kill.
    with Controllers(management.kubeconfig, log, POD_NAME="controllers-0") as running:
        yield running


@pytest.fixture
def api(management: Any) -> Iterator[KubeApi]:
    """The management cluster; cleaned of what the guide makes."""
    observer = KubeApi(management.kubeconfig)
    yield observer
    observer.delete("dpuclusters", NAME, NAMESPACE)
    cluster.wait_gone(observer, NAME)
    observer.delete("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE)
    cluster.wait_gone(observer, "dpfoperatorconfig", plural="dpfoperatorconfigs")
    observer.delete("secrets", f"{NAME}-admin-kubeconfig", NAMESPACE)
    observer.close()


def rendered(name: str, tenant: Any) -> str:
    """The manifest as the guide's shell prints it."""
    kubeconfig = base64.b64encode(Path(tenant.kubeconfig).read_bytes()).decode()
    return (GUIDE / name).read_text().replace("${TENANT_KUBE_CONFIG}", kubeconfig)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.usefixtures("api")
def test_any_order_ends_ready(
    order: tuple[int, ...], kubectl: Kubectl, shared_tenant: Any, controllers: Controllers
) -> None:
    """Config, Secret and DPUCluster may come in any order; the columns read as NVIDIA's."""
    for i in order:
        kubectl("apply", "-f", "-", stdin=rendered(MANIFESTS[i], shared_tenant))
    kubectl(
        "wait", "--for=condition=Ready", f"dpucluster/{NAME}", "-n", NAMESPACE, "--timeout=120s"
    )
    header, row = kubectl("get", "dpuclusters", "-A").splitlines()
    assert COLUMNS == header.split()
    assert [NAMESPACE, NAME, "True", "Ready", "static", "10", "v1.30.2"] == row.split()[:-1]
    assert re.fullmatch(r"\d+s|\d+m.*", row.split()[-1])
    assert "Traceback" not in controllers.text


@pytest.mark.usefixtures("controllers")
def test_a_second_config_is_told(kubectl: Kubectl, api: KubeApi) -> None:
    """Another DPFOperatorConfig gets Accepted=False/NotTheSingleton and an Event, nothing else."""
    kubectl("apply", "-f", str(GUIDE / MANIFESTS[0]))
    api.create("dpfoperatorconfigs", cluster.operator_config("other"))
    try:
        cluster.wait_for(
            api,
            "other",
            cluster.is_condition("Accepted", "False", "NotTheSingleton"),
            plural="dpfoperatorconfigs",
        )
        reasons = {
            (e["regarding"]["name"], e["reason"]) for e in wait_events(api, "NotTheSingleton")
        }
        assert ("other", "NotTheSingleton") in reasons
        cluster.wait_for(
            api,
            "dpfoperatorconfig",
            cluster.is_condition("Ready", "True", "Success"),
            plural="dpfoperatorconfigs",
        )
    finally:
        api.delete("dpfoperatorconfigs", "other", NAMESPACE)


@pytest.mark.usefixtures("controllers")
def test_components_that_are_not_ours_are_listed(api: KubeApi) -> None:
    """A component of DPF that is asked for by name stands in SystemComponentsReconciled."""
    config = cluster.operator_config(multus={}, flannel={"disable": True})
    api.create("dpfoperatorconfigs", config)
    seen = cluster.wait_for(
        api,
        "dpfoperatorconfig",
        cluster.is_condition("Ready", "True", "Success"),
        plural="dpfoperatorconfigs",
    )
    message = cluster.condition(seen, "SystemComponentsReconciled")["message"]
    assert message.startswith("not managed here: multus;")
    assert wait_events(api, "NotManagedHere")


@pytest.mark.usefixtures("controllers")
def test_switching_the_manager_off_and_on(
    kubectl: Kubectl, api: KubeApi, shared_tenant: Any
) -> None:
    """A disabled static manager touches nothing; enabled again it goes on where it was."""
    api.create("dpfoperatorconfigs", cluster.operator_config(staticClusterManager=None))
    kubectl("apply", "-f", "-", stdin=rendered(MANIFESTS[1], shared_tenant))
    kubectl("apply", "-f", str(GUIDE / MANIFESTS[2]))
    seen = cluster.wait_for(api, NAME, lambda o: cluster.phase(o) == "Creating")
    seen = cluster.wait_for(
        api, NAME, cluster.is_condition("Ready", "False", "WaitingForControlPlane")
    )
    assert {} == cluster.condition(seen, "Created")
    enable: dict[str, Any] = {"spec": {"staticClusterManager": {}}}
    api.patch("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE, enable)
    cluster.wait_ready(api, NAME)


def test_paused_switches_nothing(kubectl: Kubectl, api: KubeApi, controllers: Controllers) -> None:
    """While overrides.paused is set no status is written and no role switched."""
    be_heard(api, "before")
    switched = controllers.text.count("role switched")
    api.create("dpfoperatorconfigs", cluster.operator_config(overrides={"paused": True}))
    be_heard(api, "after")
    kubectl("get", "dpuclusters", "-A")
    assert switched == controllers.text.count("role switched")
    paused = api.get("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE)
    assert paused is not None
    assert not (paused.get("status") or {}).get("conditions")
    assert not paused["metadata"].get("finalizers")
    resume = {"spec": {"overrides": {"paused": False}}}
    api.patch("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE, resume)
    cluster.wait_for(
        api,
        "dpfoperatorconfig",
        cluster.is_condition("Ready", "True", "Success"),
        plural="dpfoperatorconfigs",
    )


def be_heard(api: KubeApi, name: str) -> None:
    """Return when the controllers have seen everything that was done to configs before."""
    api.create("dpfoperatorconfigs", cluster.operator_config(name))
    cluster.wait_for(
        api,
        name,
        cluster.is_condition("Accepted", "False", "NotTheSingleton"),
        plural="dpfoperatorconfigs",
    )
    api.delete("dpfoperatorconfigs", name, NAMESPACE)


@pytest.mark.usefixtures("controllers")
def test_deleting_the_config_deletes_the_clusters_first(
    kubectl: Kubectl, api: KubeApi, shared_tenant: Any
) -> None:
    """As NVIDIA's: an Event, all DPUClusters, then the components, then the finalizer."""
    for name in MANIFESTS:
        kubectl("apply", "-f", "-", stdin=rendered(name, shared_tenant))
    cluster.wait_ready(api, NAME)
    held = {"metadata": {"finalizers": ["test/hold"]}}
    added = api.get("dpuclusters", NAME, NAMESPACE)
    assert added is not None
    held["metadata"]["finalizers"] += added["metadata"]["finalizers"]
    api.patch("dpuclusters", NAME, NAMESPACE, held)
    api.delete("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE)
    seen = cluster.wait_for(
        api,
        "dpfoperatorconfig",
        cluster.is_condition("Ready", "False", "AwaitingDeletion"),
        plural="dpfoperatorconfigs",
    )
    message = cluster.condition(seen, "SystemComponentsReconciled")["message"]
    assert f"{NAMESPACE}/{NAME}" in message
    assert wait_events(api, "DeletingDPUClusters")
    cluster.wait_until(
        lambda: (api.get("dpuclusters", NAME, NAMESPACE) or {})["metadata"]["finalizers"],
        lambda finalizers: finalizers == ["test/hold"],
        what="our finalizers go and the others stay",
    )
    api.patch("dpuclusters", NAME, NAMESPACE, {"metadata": {"finalizers": []}})
    cluster.wait_gone(api, NAME)
    cluster.wait_gone(api, "dpfoperatorconfig", plural="dpfoperatorconfigs")


def test_a_restart_in_the_middle_of_the_deletion(
    kubectl: Kubectl, api: KubeApi, shared_tenant: Any, controllers: Controllers
) -> None:
    """Controllers that start while the config is being deleted finish what was begun."""
    for name in MANIFESTS:
        kubectl("apply", "-f", "-", stdin=rendered(name, shared_tenant))
    cluster.wait_ready(api, NAME)
    controllers.kill()
    api.delete("dpfoperatorconfigs", "dpfoperatorconfig", NAMESPACE)
    api.delete("dpuclusters", NAME, NAMESPACE)
    controllers.start()
    cluster.wait_gone(api, NAME)
    cluster.wait_gone(api, "dpfoperatorconfig", plural="dpfoperatorconfigs")


def wait_events(api: KubeApi, reason: str) -> list[dict[str, Any]]:
    """The Events with that reason, once there is one."""
    return cluster.wait_until(
        lambda: [e for e in api.list("events", NAMESPACE) if e["reason"] == reason],
        bool,
        what=f"an Event {reason}",
    )
