"""What stands in the way of a Kamaji cluster: each thing is told, and it goes on afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster.localplane import etcd as storage
from dpucluster.localplane import install
from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, kamaji_part, kamaji_scene, scene
from tests.support.kamaji_scene import CHILDREN, KamajiScene
from tests.support.kubeapi import KubeApi, Refused

Object = dict[str, Any]
UPSTREAM_CRD = Path(__file__).parents[1] / "support" / "nvidia_v2410_dpuclusters.yaml"
DENIED = "test.example.com/denied"
LATER = 30.0
"""Seconds for what no watch tells: it is looked at every ten."""


@pytest.fixture(scope="module")
def user(
    kamaji_management: ControlPlane,
    shared_tenant: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KamajiScene]:
    log = tmp_path_factory.mktemp("kamaji-problems") / "run.log"
    with kamaji_scene.opened(kamaji_management, shared_tenant, log) as opened:
        yield opened
        assert "ERROR" not in opened.controllers.text


def foreign(user: KamajiScene, plural: str, name: str) -> Object:
    """An object of a child's name that somebody else has made."""
    specs: dict[str, Object] = {
        "services": {"spec": {"ports": [{"port": 80}]}},
        "configmaps": {"data": {"a": "b"}},
        "daemonsets": {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            }
        },
        "tenantcontrolplanes": {
            "spec": {
                "controlPlane": {"service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.29.0", "kubelet": {}},
            }
        },
    }
    kinds = {
        "services": ("v1", "Service"),
        "configmaps": ("v1", "ConfigMap"),
        "daemonsets": ("apps/v1", "DaemonSet"),
        "tenantcontrolplanes": ("kamaji.clastix.io/v1alpha1", "TenantControlPlane"),
    }
    api_version, kind = kinds[plural]
    metadata = {"name": CHILDREN[plural].format(name), "namespace": user.namespace}
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **specs[plural]}
    return user.api.create(plural, body)


@pytest.mark.parametrize(
    ("plural", "condition"),
    [
        ("services", "Created"),
        ("tenantcontrolplanes", "Created"),
        ("configmaps", "KeepalivedReady"),
        ("daemonsets", "KeepalivedReady"),
    ],
)
def test_a_foreign_object(user: KamajiScene, plural: str, condition: str) -> None:
    """K7: What is not ours is named and left as it is, through the deletion, too."""
    name = f"foreign-{plural}"
    before = foreign(user, plural, name)
    user.held(name)
    told = user.wait_condition(name, condition, "False", "NameConflict")
    assert (
        f"{before['kind']} {user.namespace}/{before['metadata']['name']} exists"
        in (told["message"])
    )
    user.delete(name)
    user.wait_gone(name)
    assert {plural: before} == user.children(name)


# What no watch tells
#
# Each is a generator: it yields when the obstacle was told, and when the obstacle was taken away.

Obstacle = Iterator[None]


def a_foreign_object(user: KamajiScene) -> Obstacle:
    """K7: Once the other object is removed the cluster goes on."""
    foreign(user, "services", "unblocked")
    user.held("unblocked")
    user.wait_condition("unblocked", "Created", "False", "NameConflict")
    yield
    assert user.api.delete("services", "unblocked", user.namespace)
    yield
    user.wait_ready("unblocked", timeout=LATER)


def test_a_data_store_that_comes_later(
    kamaji_management: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """K27: Another DataStore than NVIDIA's can be named; a missing one is told, and awaited."""
    with kamaji_scene.opened(
        kamaji_management, shared_tenant, tmp_path / "run.log", "--kamaji-datastore=late"
    ) as user:
        user.held("stored")
        told = user.wait_condition("stored", "Created", "False", "DataStoreNotReady")
        assert "DataStore late does not exist; create it, or name one" in told["message"]
        kamaji_part.add_data_store(user.api, "late")
        user.wait_ready("stored")
        made = user.child("tenantcontrolplanes", "stored")
        assert made is not None
        assert "late" == made["spec"]["dataStore"]
        assert "ERROR" not in user.controllers.text


def a_node_port_that_was_taken(user: KamajiScene) -> Obstacle:
    """A Service was deleted, and another one has got its port."""
    name = f"{kamaji_scene.BY_HAND}port"
    user.held(name)
    port = user.kamaji.control_plane(name)["spec"]["networkProfile"]["port"]
    user.pause(name)
    assert user.api.delete("services", name, user.namespace)
    thief: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "thief", "namespace": user.namespace},
        "spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]},
    }
    user.api.create("services", thief)
    user.pause(name, paused=False)
    told = user.wait_condition(name, "Created", "False", "NodePortUnavailable")
    assert "provided port is already allocated" in told["message"]
    assert "--service-node-port-range" in told["message"]
    yield
    assert user.api.delete("services", "thief", user.namespace)
    yield
    again = cluster.wait_until(
        lambda: user.child("services", name), bool, timeout=LATER, what="the Service comes back"
    )
    assert again is not None
    assert port == again["spec"]["ports"][0]["nodePort"]


def a_quota(user: KamajiScene) -> Obstacle:
    """A ResourceQuota is used up."""
    name = f"{kamaji_scene.BY_HAND}quota"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": user.namespace},
        "spec": {"hard": {"count/daemonsets.apps": "0"}},
    }
    counted = {"count/daemonsets.apps": "0"}
    user.api.create("resourcequotas", quota)
    status = {"status": {"hard": counted, "used": counted}}
    user.api.patch("resourcequotas", "small", user.namespace, status, "status")
    user.held(name)
    told = user.wait_condition(name, "KeepalivedReady", "False", "QuotaExceeded")
    assert "exceeded quota: small" in told["message"]
    assert "raise the quota" in told["message"]
    yield
    user.api.delete("resourcequotas", "small", user.namespace)
    yield
    cluster.wait_until(
        lambda: user.child("daemonsets", name), bool, timeout=LATER, what="it goes on"
    )


POLICY = ("admissionpolicies", "admissionbindings")


def a_policy(user: KamajiScene) -> Obstacle:
    """A policy refuses the control plane; the Service keeps its node port meanwhile."""
    match = {
        "resourceRules": [
            {
                "apiGroups": ["kamaji.clastix.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE"],
                "resources": ["tenantcontrolplanes"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": user.namespace}},
    }
    rule = {"expression": "!object.metadata.name.contains('denied')", "message": "not on Fridays"}
    specs: dict[str, tuple[str, Object]] = {
        "admissionpolicies": (
            "ValidatingAdmissionPolicy",
            {"failurePolicy": "Fail", "matchConstraints": match, "validations": [rule]},
        ),
        "admissionbindings": (
            "ValidatingAdmissionPolicyBinding",
            {"policyName": "fridays", "validationActions": ["Deny"]},
        ),
    }
    for plural, (kind, spec) in specs.items():
        version = "admissionregistration.k8s.io/v1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": "fridays"}, "spec": spec}
        user.api.create(plural, body)
    cluster.wait_until(lambda: is_denied(user), bool, what="the policy is in force")
    name = f"{kamaji_scene.BY_HAND}denied"
    user.held(name)
    told = user.wait_condition(name, "Created", "False", "AdmissionDenied")
    assert "not on Fridays" in told["message"]
    assert "change the policy or what it refuses" in told["message"]
    assert user.child("services", name) is not None
    yield
    for plural in POLICY:
        user.api.delete(plural, "fridays")
    yield
    cluster.wait_until(
        lambda: user.child("tenantcontrolplanes", name), bool, timeout=LATER, what="it goes on"
    )


def is_denied(user: KamajiScene) -> bool:
    try:
        foreign(user, "tenantcontrolplanes", "probe-denied")
    except Refused:
        return True
    user.api.delete("tenantcontrolplanes", "probe-denied", user.namespace)
    return False


@pytest.fixture
def cleaned(user: KamajiScene) -> Iterator[None]:
    """Whatever happens, no policy is left behind in a plane that others use."""
    yield
    for plural in POLICY:
        user.api.delete(plural, "fridays")


@pytest.mark.usefixtures("cleaned")
def test_what_no_watch_tells(user: KamajiScene) -> None:
    """K28: Foreign objects, ports, quotas, policies are told in words that help, and awaited."""
    obstacles = (a_foreign_object, a_node_port_that_was_taken, a_quota, a_policy)
    met = [obstacle(user) for obstacle in obstacles]
    for _ in ("told", "taken away"):
        for one in met:
            next(one)
    for one in met:  # side by side: what no watch tells is looked at every ten seconds
        assert next(one, None) is None


BAD: dict[str, tuple[Object, str]] = {
    "vip": ({"vip": "10.0.0.1\nnotify x"}, "is no IP address"),
    "node": ({"vip": "10.8.0.1"}, "is the address of node n1"),
    "iface": ({"interface": "eth0 }"}, "is no name of a network interface"),
    "selector": ({"nodeSelector": {"a": "b\nc: d"}}, "no label that a node can carry"),
}


def test_specs_that_cannot_work(user: KamajiScene) -> None:
    """K18: What would be syntax elsewhere is InvalidSpec, the phase Failed; mended, it goes on."""
    for name, (spec, _) in BAD.items():
        user.held(f"bad-{name}", **spec)
    for name, (_, text) in BAD.items():
        told = user.wait_condition(f"bad-{name}", "Created", "False", "InvalidSpec")
        assert text in told["message"]
        user.wait(f"bad-{name}", lambda obj: cluster.phase(obj) == "Failed")
        assert {} == user.children(f"bad-{name}")
    user.edit("bad-iface", interface="eth0")
    user.wait_ready("bad-iface")


def test_names_that_no_service_can_have(user: KamajiScene) -> None:
    """K30: A DPUCluster whose name cannot be a Service's is told so, and goes when deleted."""
    for name in ("a.b", "1st"):
        user.held(name)
        told = user.wait_condition(name, "Created", "False", "InvalidSpec")
        assert "create the DPUCluster under another name" in told["message"]
        user.delete(name)
        user.wait_gone(name)


def test_a_version_that_is_none(user: KamajiScene) -> None:
    """A version in other words is InvalidSpec; corrected, the control plane is made."""
    user.create("odd", type_="kamaji", version="latest", clusterEndpoint=kamaji_scene.vip({}))
    user.wait_condition("odd", "Created", "False", "InvalidSpec")
    user.patch("odd", {"spec": {"version": "1.30.2"}})
    user.wait_ready("odd")


def test_a_bad_edit_keeps_what_runs(user: KamajiScene) -> None:
    """K2: An edit that cannot be, of a cluster that runs, is told and takes nothing away."""
    before = user.ready("edited")["metadata"]["uid"]
    kept = {plural: obj["metadata"]["uid"] for plural, obj in user.children("edited").items()}
    user.edit("edited", vip="nonsense")
    user.wait_condition("edited", "KeepalivedReady", "False", "InvalidEndpoint")
    assert "True" == cluster.condition(user.get("edited"), "Created")["status"]
    found = user.children("edited")
    assert kept == {plural: obj["metadata"]["uid"] for plural, obj in found.items()}
    assert before == user.get("edited")["metadata"]["uid"]


def test_a_bad_version_does_not_stop_repairs(user: KamajiScene) -> None:
    """K8: With a version that cannot be, all else of a running cluster is still kept up."""
    user.ready("worn")
    user.patch("worn", {"spec": {"version": "latest"}})
    told = user.wait(
        "worn", lambda obj: "is no version" in cluster.condition(obj, "Created")["message"]
    )
    assert scene.is_ready(told)
    user.patch_child("configmaps", "worn", {"data": {"keepalived.conf": "# gone"}})
    user.wait_child("configmaps", "worn", lambda o: "vrrp_instance" in o["data"]["keepalived.conf"])


# Two clusters, one address


@pytest.mark.parametrize("same", ["vip", "router"])
def test_two_clusters_with_one_address(user: KamajiScene, same: str) -> None:
    """K23: The younger is told which has it and gets nothing; with the older gone it goes on."""
    first, second = f"older-{same}", f"younger-{same}"
    claims: dict[str, Object] = {
        "vip": {"vip": "10.7.2.1"},
        "router": {"virtualRouterID": 33, "interface": "shared0"},
    }
    wanted = claims[same]
    older = user.ready(first, **wanted)
    user.held(second, **wanted)
    told = user.wait_condition(second, "KeepalivedReady", "False", "EndpointConflict")
    assert f"belongs to DPUCluster {user.namespace}/{first}" in told["message"]
    assert {} == user.children(second)
    assert scene.is_ready(user.get(first))
    assert older["metadata"]["uid"] == user.get(first)["metadata"]["uid"]
    user.delete(first)
    user.wait_ready(second)


def test_an_edit_into_a_conflict(user: KamajiScene) -> None:
    """K23: A cluster that is changed to another's address stops announcing it at once."""
    user.ready("first-owner", vip="10.7.3.1")
    user.ready("intruder", vip="10.7.3.2")
    user.edit("intruder", vip="10.7.3.1")
    user.wait_condition("intruder", "KeepalivedReady", "False", "EndpointConflict")
    cluster.wait_until(
        lambda: set(user.children("intruder")),
        {"services", "tenantcontrolplanes"}.__eq__,
        what="keepalived of the intruder is gone",
    )
    assert scene.is_ready(user.get("first-owner"))
    user.edit("intruder", vip="10.7.3.2")
    user.wait_condition("intruder", "KeepalivedReady", "True")


# On another plane


@pytest.fixture(scope="module")
def odd(
    binaries: Mapping[str, Path],
    etcd: storage.Etcd,
    kamaji_crds: list[Object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ControlPlane]:
    """A plane with NVIDIA's own CRD of v24.10, and with a single node port."""
    directory = tmp_path_factory.mktemp("kamaji-odd")
    plane = ControlPlane("kamaji-odd", binaries=binaries, storage=etcd, directory=directory)
    plane.api_server._command.append("--service-node-port-range=30000-30000")
    with plane:
        install.install_crds(plane.endpoint, list(yaml.safe_load_all(UPSTREAM_CRD.read_text())))
        kamaji_part.install(plane, kamaji_crds)
        yield plane


def test_a_preset_kubeconfig(
    odd: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """K29: On NVIDIA's CRD, which lets it through, a wrong Secret name is explained."""
    with kamaji_scene.opened(odd, shared_tenant, tmp_path / "run.log") as user:
        spec: Object = {"version": "v1.30.2", "clusterEndpoint": kamaji_scene.vip({})}
        user.create("preset", type_="kamaji", kubeconfig="mine", **spec)
        told = user.wait_condition("preset", "Created", "False", "InvalidSpec")
        expected = "names the Secret 'mine', but Kamaji writes preset-admin-kubeconfig"
        assert expected in told["message"]
        user.ready("right")
        for name in ("preset", "right"):
            user.delete(name)
            user.wait_nothing_left(name)


def test_every_node_port_is_in_use(
    odd: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """With the range used up the next cluster says so, and gets the first port that is free."""
    with kamaji_scene.opened(odd, shared_tenant, tmp_path / "run.log") as user:
        user.ready("only")
        user.held("next")
        told = user.wait_condition("next", "Created", "False", "NodePortUnavailable")
        assert "range is full" in told["message"]
        user.delete("only")
        user.wait_nothing_left("only")
        user.wait_ready("next", timeout=LATER)
        user.delete("next")
        user.wait_nothing_left("next")
        assert "ERROR" not in user.controllers.text


def test_kamaji_that_goes_and_comes(
    odd: ControlPlane, shared_tenant: ControlPlane, kamaji_crds: list[Object], tmp_path: Path
) -> None:
    """K32: Without Kamaji it says so, goes when deleted, and goes on once Kamaji is installed."""
    log = tmp_path / "run.log"
    with contextlib.closing(KubeApi(odd.kubeconfig)) as api:
        uninstall(api, kamaji_crds)
    with kamaji_scene.opened(odd, shared_tenant, log, plays=False) as user:
        user.held("early")
        user.held("leaving")
        for name in ("early", "leaving"):
            told = user.wait_condition(name, "Created", "False", "KamajiNotInstalled")
            assert "install Kamaji, this goes on by itself" in told["message"]
        user.delete("leaving")
        user.wait_nothing_left("leaving")
        install.install_crds(odd.endpoint, kamaji_crds)
        kamaji_part.add_data_store(user.api)
        with user.kamaji.at_work():
            user.wait_ready("early", timeout=LATER)
        uninstall(user.api, kamaji_crds)  # before the clusters, which NVIDIA's cannot bear
        user.delete("early")
        user.wait_nothing_left("early")
        assert "ERROR" not in user.controllers.text


def uninstall(api: KubeApi, crds: list[Object]) -> None:
    """Remove Kamaji's kinds and everything of them."""
    for crd in crds:
        api.delete("crds", crd["metadata"]["name"])
    cluster.wait_until(
        lambda: [c["metadata"]["name"] for c in crds if api.get("crds", c["metadata"]["name"])],
        lambda left: not left,
        what="Kamaji's kinds are gone",
    )
