"""A Kamaji cluster that nothing stands in the way of, on a real API server.

Kamaji is played by the tests (``kamaji_part``): what it does to the objects is real, its control
planes are one API server that all of them share.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, kamaji_part, kamaji_scene, scene
from tests.support.kamaji_scene import KamajiScene

Object = dict[str, Any]
FOREIGN = "example.com/kept"
SERVERS = ("uid", "resourceVersion", "creationTimestamp", "managedFields")
"""Fields of metadata that the API server alone writes."""
APPLIED = "provisioning.dpu.nvidia.com/applied"


@pytest.fixture(scope="module")
def user(
    kamaji_management: ControlPlane,
    shared_tenant: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KamajiScene]:
    log = tmp_path_factory.mktemp("kamaji-flow") / "run.log"
    with kamaji_scene.opened(kamaji_management, shared_tenant, log) as opened:
        yield opened


def said(obj: Object) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    return {c["type"]: (c["status"], c["reason"]) for c in obj["status"]["conditions"]}


def at(obj: Any, *path: Any) -> Any:
    """What stands there; None where nothing does."""
    for step in path:
        try:
            obj = obj[step]
        except (KeyError, IndexError, TypeError):
            return None
    return obj


def test_from_nothing_to_ready(user: KamajiScene) -> None:
    """K5: Four children owned by the cluster, a kubeconfig, three conditions, and no error."""
    found = user.ready("first")
    assert {
        "Created": ("True", "Created"),
        "KeepalivedReady": ("True", "Ready"),
        "Ready": ("True", "HealthCheckPassed"),
    } == said(found)
    assert "first-admin-kubeconfig" == found["spec"]["kubeconfig"]
    children = user.children("first")
    assert kamaji_scene.CHILDREN.keys() == children.keys()
    for child in children.values():
        mine = [o for o in child["metadata"]["ownerReferences"] if o["kind"] == "DPUCluster"]
        assert [found["metadata"]["uid"]] == [o["uid"] for o in mine]
        assert not mine[0].get("controller")
    told = [e for e in user.api.list("events", user.namespace) if is_about("first", e)]
    # the tests lead all clusters to one tenant, which is odd and told
    assert {"SharedTenant"} >= {e["reason"] for e in told if e["type"] != "Normal"}
    assert "HealthCheckPassed" in [e["reason"] for e in told]
    assert [] == user.worries


def is_about(name: str, event: Object) -> bool:
    return bool(event["regarding"].get("name") == name)


def test_the_port_is_one_everywhere(user: KamajiScene) -> None:
    """K9: Node port, control plane and check agree, and the control plane has the virtual IP."""
    wanted = user.ready("port")["spec"]["clusterEndpoint"]["keepalived"]["vip"]
    children = user.children("port")
    port = at(children["services"], "spec", "ports", 0, "nodePort")
    profile = children["tenantcontrolplanes"]["spec"]["networkProfile"]
    assert (wanted, port) == (profile["address"], profile["port"])
    env = at(children["daemonsets"], "spec", "template", "spec", "containers", 0, "env")
    assert f"https://{wanted}:{port}/livez" in [e.get("value") for e in env]


# Drift

EDITS: dict[str, tuple[str, Object]] = {
    "Service type": ("services", {"spec": {"type": "LoadBalancer"}}),
    "Service policy": ("services", {"spec": {"externalTrafficPolicy": "Cluster"}}),
    "Service label": ("services", {"metadata": {"labels": {"dpu.nvidia.com/cluster": "x"}}}),
    "version": ("tenantcontrolplanes", {"spec": {"kubernetes": {"version": "v1.30.9"}}}),
    "replicas": (
        "tenantcontrolplanes", {"spec": {"controlPlane": {"deployment": {"replicas": 0}}}},
    ),
    "address": ("tenantcontrolplanes", {"spec": {"networkProfile": {"address": "10.0.0.9"}}}),
    "tolerations": (
        "tenantcontrolplanes", {"spec": {"controlPlane": {"deployment": {"tolerations": []}}}},
    ),
    "spread": (
        "tenantcontrolplanes",
        {"spec": {"controlPlane": {"deployment": {"topologySpreadConstraints": None}}}},
    ),
    "requests": (
        "tenantcontrolplanes",
        {"spec": {"controlPlane": {"deployment": {"resources": {"apiServer": None}}}}},
    ),
    "add-ons": ("tenantcontrolplanes", {"spec": {"addons": {"coreDNS": None}}}),
    "TenantControlPlane label": (
        "tenantcontrolplanes", {"metadata": {"labels": {"tenant.clastix.io": None}}},
    ),
    "configuration": ("configmaps", {"data": {"keepalived.conf": "# gone"}}),
    "check": ("configmaps", {"data": {"check-apiserver": None}}),
    "fingerprint": ("configmaps", {"metadata": {"annotations": {APPLIED: None}}}),
    "host network": ("daemonsets", {"spec": {"template": {"spec": {"hostNetwork": False}}}}),
    "pods' tolerations": ("daemonsets", {"spec": {"template": {"spec": {"tolerations": None}}}}),
    "token": (
        "daemonsets", {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}},
    ),
    "update strategy": ("daemonsets", {"spec": {"updateStrategy": {"type": "OnDelete"}}}),
}  # fmt: skip


def test_every_edit_is_undone(user: KamajiScene) -> None:
    """K8: Each owned field that somebody changes or removes is brought back; and K2, K26."""
    user.ready("drift")
    before = owned(user.children("drift"))
    for what, (plural, patch) in EDITS.items():
        user.patch_child(plural, "drift", patch)
        cluster.wait_until(
            lambda: owned(user.children("drift")), before.__eq__, timeout=scene.SOON, what=what
        )
    assert "ERROR" not in user.controllers.text


def owned(children: dict[str, Object]) -> dict[str, Object]:
    """The children without what is the server's, or changes with every write."""
    found = copy.deepcopy(children)
    for child in found.values():
        child.pop("status", None)
        kept = ("name", "labels", "annotations", "ownerReferences", "uid")
        metadata = {k: v for k, v in child["metadata"].items() if k in kept}
        metadata.get("annotations", {}).pop("deprecated.daemonset.template.generation", None)
        child["metadata"] = metadata
    # a LoadBalancer has no policy for sources of its own; both are defaults of the server's
    found.get("services", {}).get("spec", {}).pop("allocateLoadBalancerNodePorts", None)
    return found


def test_what_others_add_survives(user: KamajiScene) -> None:
    """K26: Labels, annotations and fields of others stay, through a repair of our own fields."""
    user.ready("guest")
    mine: Object = {"metadata": {"labels": {FOREIGN: "x"}, "annotations": {FOREIGN: "y"}}}
    fields: dict[str, Object] = {
        "services": {"spec": {"sessionAffinity": "ClientIP", "type": "LoadBalancer"}},
        "tenantcontrolplanes": {
            "spec": {
                "controlPlane": {"deployment": {"replicas": 9, "runtimeClassName": "kata"}},
            }
        },
        "configmaps": {"data": {"theirs": "z", "keepalived.conf": "# gone"}},
        "daemonsets": {
            "spec": {"revisionHistoryLimit": 7, "template": {"spec": {"hostNetwork": False}}}
        },
    }
    for plural, patch in fields.items():
        user.patch_child(plural, "guest", mine | patch)
    for plural in fields:
        user.wait_child(plural, "guest", is_ours_again)
    children = user.children("guest")
    for child in children.values():
        assert ("x", "y") == (
            child["metadata"]["labels"][FOREIGN], child["metadata"]["annotations"][FOREIGN],
        )  # fmt: skip
    deployment = children["tenantcontrolplanes"]["spec"]["controlPlane"]["deployment"]
    assert "kata" == deployment["runtimeClassName"]
    assert "ClientIP" == children["services"]["spec"]["sessionAffinity"]
    assert "z" == children["configmaps"]["data"]["theirs"]
    assert 7 == children["daemonsets"]["spec"]["revisionHistoryLimit"]


def is_ours_again(child: Object) -> bool:
    """Whether the field that the test above has taken is as it was."""
    values = {
        "Service": ("NodePort", ("spec", "type")),
        "TenantControlPlane": (3, ("spec", "controlPlane", "deployment", "replicas")),
        "DaemonSet": (True, ("spec", "template", "spec", "hostNetwork")),
    }
    if child["kind"] == "ConfigMap":
        return "vrrp_instance" in child["data"]["keepalived.conf"]
    expected, path = values[child["kind"]]
    return bool(expected == at(child, *path))


@pytest.mark.parametrize("plural", kamaji_scene.CHILDREN)
def test_what_is_deleted_comes_back(user: KamajiScene, plural: str) -> None:
    """K1: A child that somebody deletes is made again, with the node port it had; and K16."""
    name = f"lost-{plural}"
    user.ready(name)
    before = user.children(name)
    assert user.api.delete(plural, kamaji_scene.CHILDREN[plural].format(name), user.namespace)
    uid = before[plural]["metadata"]["uid"]
    user.wait_child(plural, name, lambda obj: bool(obj["metadata"]["uid"] != uid))
    user.wait_ready(name)
    path = ("spec", "ports", 0, "nodePort")
    assert at(before["services"], *path) == at(user.child("services", name), *path)


def test_a_service_that_kamaji_has_made_again(user: KamajiScene) -> None:
    """K7: What our own control plane owns is ours: it gets its owner back, and is no conflict."""
    user.ready("quicker")
    before, made = user.child("services", "quicker"), user.child("tenantcontrolplanes", "quicker")
    assert before is not None
    assert made is not None
    owners = [kamaji_part.controller(made)]
    metadata = {**before["metadata"], "ownerReferences": owners, "annotations": {}}
    again = {**before, "metadata": {k: v for k, v in metadata.items() if k not in SERVERS}}
    user.controllers.stop()
    user.api.delete("services", "quicker", user.namespace)
    again["spec"] = {k: v for k, v in before["spec"].items() if not k.startswith("clusterIP")}
    user.api.create("services", again)
    user.controllers.start()
    owned = user.wait_child(
        "services", "quicker", lambda obj: len(obj["metadata"]["ownerReferences"]) > 1
    )
    kinds = {o["kind"] for o in owned["metadata"]["ownerReferences"]}
    assert {"DPUCluster", "TenantControlPlane"} == kinds
    user.wait_ready("quicker")


# What the user changes


def test_changes_of_the_virtual_ip_arrive(user: KamajiScene) -> None:
    """K2: Address, interface, router id and nodeSelector of a running cluster are followed."""
    user.ready("moving")
    template = ("spec", "template", "metadata", "annotations")
    rolled = at(user.child("daemonsets", "moving"), *template)
    port = at(user.child("services", "moving"), "spec", "ports", 0, "nodePort")
    user.edit("moving", vip="10.7.0.1/24", interface="bond7", virtualRouterID=77)
    user.wait_child(
        "configmaps",
        "moving",
        lambda obj: all(
            text in obj["data"]["keepalived.conf"]
            for text in ("10.7.0.1/24", "interface bond7", "virtual_router_id 77")
        ),
    )
    user.wait_child("daemonsets", "moving", lambda obj: bool(at(obj, *template) != rolled))
    moved = user.wait_child(
        "tenantcontrolplanes",
        "moving",
        lambda obj: bool(at(obj, "spec", "networkProfile", "address") == "10.7.0.1"),
    )
    assert port == at(moved, "spec", "networkProfile", "port")
    user.wait_ready("moving")


def test_what_is_removed_goes(user: KamajiScene) -> None:
    """K2: A key dropped from nodeSelector disappears from both, though a POST has set it."""
    both = {"kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux"}
    name = f"{kamaji_scene.BY_HAND}narrow"
    user.held(name, nodeSelector=both)
    wait_selector(user, name, both)
    user.edit(name, nodeSelector={"kubernetes.io/os": None})
    wait_selector(user, name, {"kubernetes.io/hostname": "n1"})
    user.edit(name, nodeSelector=None)
    wait_selector(user, name, None)


def wait_selector(user: KamajiScene, name: str, wanted: dict[str, str] | None) -> None:
    """Return when control plane and keepalived both have exactly this nodeSelector."""
    deployment = ("spec", "controlPlane", "deployment", "nodeSelector")
    pod = ("spec", "template", "spec", "nodeSelector")
    user.wait_child("daemonsets", name, lambda obj: bool(at(obj, *pod) == wanted))
    user.wait_child("tenantcontrolplanes", name, lambda obj: bool(at(obj, *deployment) == wanted))


def test_keepalived_goes_and_comes(user: KamajiScene) -> None:
    """K4: Without the field DaemonSet, ConfigMap and condition go; K9: added later all agrees."""
    user.ready("fickle")
    port = at(user.child("services", "fickle"), "spec", "ports", 0, "nodePort")
    spec = user.get("fickle")["spec"]["clusterEndpoint"]
    user.patch("fickle", {"spec": {"clusterEndpoint": None}})
    user.wait("fickle", lambda obj: "KeepalivedReady" not in said(obj or {}))
    cluster.wait_until(
        lambda: set(user.children("fickle")),
        {"services", "tenantcontrolplanes"}.__eq__,
        what="keepalived is gone",
    )
    user.wait_child("services", "fickle", lambda obj: bool(obj["spec"]["type"] == "LoadBalancer"))
    user.patch("fickle", {"spec": {"clusterEndpoint": spec}})
    user.wait_condition("fickle", "KeepalivedReady", "True", "Ready")
    profile = at(user.child("tenantcontrolplanes", "fickle"), "spec", "networkProfile")
    assert (spec["keepalived"]["vip"], port) == (profile["address"], profile["port"])


def test_behind_a_load_balancer(user: KamajiScene) -> None:
    """K10: It says what it waits for; with an address the control plane is made, on 6443."""
    user.free("lb")
    waiting = user.wait_condition("lb", "Created", "False", "WaitingForEndpoint")
    assert "has no address yet; see that a load balancer (such as MetalLB)" in waiting["message"]
    assert {"services"} == set(user.children("lb"))
    balance(user, "lb", {"hostname": "lb.example.com"})
    user.wait(
        "lb", lambda obj: "has a host name" in cluster.condition(obj, "Created").get("message", "")
    )
    balance(user, "lb", {"ip": "192.0.2.7"})
    found = user.wait_ready("lb")
    assert {"Created", "Ready"} == said(found).keys()
    profile = at(user.child("tenantcontrolplanes", "lb"), "spec", "networkProfile")
    assert ("192.0.2.7", 6443) == (profile["address"], profile["port"])


def test_a_virtual_ip_for_a_load_balanced_cluster(user: KamajiScene) -> None:
    """K9: keepalived added later moves the control plane to the address and a node port."""
    user.free("convert")
    user.wait_child("services", "convert", lambda _: True)
    balance(user, "convert", {"ip": "192.0.2.8"})
    user.wait_ready("convert")
    user.edit("convert", vip="10.7.1.1", interface="eth77", virtualRouterID=9)
    user.wait_condition("convert", "KeepalivedReady", "True")
    children = user.children("convert")
    port = at(children["services"], "spec", "ports", 0, "nodePort")
    profile = at(children["tenantcontrolplanes"], "spec", "networkProfile")
    assert ("10.7.1.1", port) == (profile["address"], profile["port"])
    env = at(children["daemonsets"], "spec", "template", "spec", "containers", 0, "env")
    assert f"https://10.7.1.1:{port}/livez" in [e.get("value") for e in env]


def balance(user: KamajiScene, name: str, ingress: Object) -> None:
    """What a load balancer says of the Service."""
    status = {"status": {"loadBalancer": {"ingress": [ingress]}}}
    user.api.patch("services", name, user.namespace, status, "status")


def test_an_upgrade(user: KamajiScene) -> None:
    """K8: A new version reaches Kamaji, one minor at a time; K11: Created stays True meanwhile."""
    name = f"{kamaji_scene.BY_HAND}upgrade"
    user.held(name)
    user.kamaji.bring_up(name)
    user.wait_child("daemonsets", name, lambda _: True)
    user.kamaji.run_pods(name)
    user.wait_ready(name)
    user.patch(name, {"spec": {"version": "v1.31.0"}})
    user.wait_condition(name, "Created", "True", "Upgrading")
    for state in ("NotReady", "Upgrading", "Migrating", "CertificateAuthorityRotating"):
        user.kamaji.say(name, state)
        assert cluster.is_condition("Created", "True")(user.get(name))
    user.kamaji.say(name, "Ready", "v1.31.0")
    user.wait_condition(name, "Created", "True", "Created")
    user.patch(name, {"spec": {"version": "v1.33.0"}})
    told = user.wait(
        name, lambda obj: "more than one minor" in cluster.condition(obj, "Created")["message"]
    )
    assert "v1.31.0" == at(user.child("tenantcontrolplanes", name), "spec", "kubernetes", "version")
    assert scene.is_ready(told)
    cluster.wait_until(
        lambda: user.events(name), lambda told: "UnsupportedVersion" in told, what="an Event"
    )


def test_the_secret_in_two_steps(user: KamajiScene) -> None:
    """K29: A kubeconfig that Kamaji has written half is not named yet."""
    name = f"{kamaji_scene.BY_HAND}half"
    user.held(name)
    made = user.kamaji.control_plane(name)
    user.kamaji.take_service(made)
    user.kamaji.say(name, "Ready", "v1.30.2")
    user.kamaji.write_secret(made, "admin.conf")
    waiting = user.wait(
        name, lambda obj: "not complete yet" in cluster.condition(obj, "Created").get("message", "")
    )
    assert not waiting["spec"].get("kubeconfig")
    user.kamaji.run_pods(name)
    user.kamaji.write_secret(made, "admin.conf", "super-admin.conf")
    user.wait_condition(name, "Created", "True", "Created")
    assert cluster.secret_name(name) == user.get(name)["spec"]["kubeconfig"]


def test_a_lost_secret_is_noticed(user: KamajiScene) -> None:
    """K16: An admin Secret that somebody deletes is told; Kamaji's new one makes it Ready again."""
    user.ready("robbed")
    user.drop("robbed")
    user.wait("robbed", scene.is_unready)
    made = user.kamaji.control_plane("robbed")
    user.kamaji.write_secret(made, "admin.conf", "super-admin.conf")
    user.wait_ready("robbed")


def test_pods_are_counted(user: KamajiScene) -> None:
    """K3: KeepalivedReady follows the pods, also when the last one fails."""
    user.ready("pods")
    user.kamaji.run_pods("pods", ready=1)
    found = user.wait(
        "pods", lambda obj: bool(cluster.condition(obj, "KeepalivedReady").get("message"))
    )
    told = cluster.condition(found, "KeepalivedReady")
    assert ("True", "1 of 3 pods ready") == (told["status"], told["message"])


def test_a_new_node_takes_part(user: KamajiScene) -> None:
    """A node that comes to match is given a priority, and one that goes loses it."""
    rack = {"rack": "7"}
    name = f"{kamaji_scene.BY_HAND}rack"
    user.held(name, nodeSelector=rack)
    user.wait_condition(name, "KeepalivedReady", "False", "NoMatchingNodes")
    kamaji_part.add_node(user.api, "rack-7", "10.8.7.1", **rack)
    try:
        user.wait_child(
            "configmaps", name, lambda obj: "@rack-7 priority 254" in obj["data"]["keepalived.conf"]
        )
    finally:
        user.api.delete("nodes", "rack-7")
    user.wait_child("configmaps", name, lambda obj: "@rack-7" not in obj["data"]["keepalived.conf"])
    user.wait_condition(name, "KeepalivedReady", "False", "NoMatchingNodes")
