"""What the API server makes of the two kinds: NVIDIA's own API cases, and the rest of the schema.

NVIDIA's cases carry the number they have in the list of its tests (1-11: DPUCluster, 32-34:
DPFOperatorConfig). Where its test reuses one name for several objects, each has a name of its own
here, so that a refusal can only come from the schema.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from dpucluster.api import image as image_grammar
from tests.support import raw_api
from tests.support.raw_api import Objects, RawApi


@pytest.fixture
def raw(management: Any) -> RawApi:
    return RawApi(management.kubeconfig)


@pytest.fixture
def clusters(raw: RawApi, namespace: str) -> Objects:
    return Objects(raw, namespace, raw_api.DPUCLUSTERS)


@pytest.fixture
def configs(raw: RawApi, namespace: str) -> Objects:
    return Objects(raw, namespace, raw_api.DPFOPERATORCONFIGS)


def test_create_and_get(clusters: Objects) -> None:
    """NVIDIA 1: what is fetched equals what was created; an empty version is accepted."""
    created = clusters.create("a", type="static", version="")
    assert 201 == created.status
    assert created.body == clusters.get("a").body
    assert {"type": "static", "version": "", "maxNodes": 1000} == created.body["spec"]


def test_delete(clusters: Objects) -> None:
    """NVIDIA 2: a deleted object is gone."""
    clusters.create("a", type="static", version="")
    assert clusters.delete("a").is_accepted
    assert 404 == clusters.get("a").status


def test_update_without_change(clusters: Objects) -> None:
    """NVIDIA 3: an update that changes nothing is accepted and leaves the object equal.

    The first one still writes: it stores the defaulted status that creation only showed.
    """
    created = clusters.create("a", type="static", version="").body
    updated = clusters.put(created).body
    assert updated == clusters.put(updated).body
    assert updated == clusters.get("a").body
    created["metadata"]["resourceVersion"] = updated["metadata"]["resourceVersion"]
    assert created == updated


@pytest.mark.parametrize(
    ("type_", "is_accepted"),
    [
        ("dummy.com/type", True),
        ("dummy.com", False),
        ("dummy", False),
        ("", False),
        ("static", True),
        ("kamaji", True),
        ("dummy.com/", True),
        ("dummy.com/a/b", True),
        ("/type", False),
        ("my-kamaji-x", False),
        ("staticfoo", False),
        ("xstatic", False),
        ("Static", False),
        ("static ", False),
    ],
)
def test_type(clusters: Objects, type_: str, is_accepted: bool) -> None:
    """NVIDIA 4: type is static, kamaji or prefix/name; unlike NVIDIA's, the pattern is anchored."""
    reply = clusters.create("a", type=type_)
    assert is_accepted == reply.is_accepted, reply.body
    if not is_accepted:
        assert "spec.type" in reply.refusal


def test_max_nodes_default(clusters: Objects) -> None:
    """NVIDIA 5: maxNodes is 1000 when it is not given, in the reply and when fetched."""
    assert 1000 == clusters.create("a", type="static").body["spec"]["maxNodes"]
    assert 1000 == clusters.get("a").body["spec"]["maxNodes"]


@pytest.mark.parametrize(
    ("max_nodes", "is_accepted"),
    [(1, True), (1000, True), (0, False), (-1, False), (1001, False), (100000, False)],
)
def test_max_nodes_range(clusters: Objects, max_nodes: int, is_accepted: bool) -> None:
    """NVIDIA 6: 1 to 1000 is accepted, nothing else."""
    reply = clusters.create("a", type="static", maxNodes=max_nodes)
    assert is_accepted == reply.is_accepted, reply.body
    if not is_accepted:
        assert "spec.maxNodes" in reply.refusal


def test_max_nodes_zero_as_raw_json(clusters: Objects) -> None:
    """NVIDIA 6: a literal 0 in the JSON is refused and not replaced by the default."""
    text = json.dumps(clusters.manifest("a", {"type": "static", "maxNodes": 0}))
    assert '"maxNodes": 0' in text
    assert "spec.maxNodes" in clusters.api.request("POST", clusters.path(), text).refusal


def test_kubeconfig_is_set_later(clusters: Objects) -> None:
    """NVIDIA 7: kubeconfig can be set on an object that was created without one."""
    clusters.create("a", type="static")
    assert "later" == clusters.patch_spec("a", kubeconfig="later").body["spec"]["kubeconfig"]


def test_kubeconfig_is_set_from_empty(clusters: Objects) -> None:
    """NVIDIA 8: kubeconfig can be set on an object that was created with an empty one."""
    clusters.create("a", type="static", kubeconfig="")
    assert "later" == clusters.patch_spec("a", kubeconfig="later").body["spec"]["kubeconfig"]


def test_kubeconfig_is_immutable(clusters: Objects) -> None:
    """NVIDIA 9: another kubeconfig is refused, and the first one stays."""
    clusters.create("a", type="static", kubeconfig="first")
    assert "kubeconfig is immutable" in clusters.patch_spec("a", kubeconfig="second").refusal
    assert "first" == clusters.get("a").body["spec"]["kubeconfig"]


def test_create_from_yaml(clusters: Objects) -> None:
    """NVIDIA 10: a manifest with keepalived is taken as it is, with unknown fields forbidden."""
    manifest = yaml.safe_load(
        f"""
        apiVersion: provisioning.dpu.nvidia.com/v1alpha1
        kind: DPUCluster
        metadata:
          name: obj-dpucluster
          namespace: {clusters.namespace}
        spec:
          type: static
          maxNodes: 10
          version: v1.31.0
          clusterEndpoint:
            keepalived:
              vip: 10.10.10.10
              virtualRouterID: 1
              interface: br-dpu
        """
    )
    path = clusters.path() + "?fieldValidation=Strict"
    reply = clusters.api.request("POST", path, manifest)
    assert 201 == reply.status, reply.body
    assert manifest["spec"] == reply.body["spec"]


def test_phase_default(clusters: Objects) -> None:
    """NVIDIA 11: phase is Pending from the first moment, in the reply and when fetched."""
    assert {"phase": "Pending"} == clusters.create("a", type="static").body["status"]
    assert {"phase": "Pending"} == clusters.get("a").body["status"]


KEEPALIVED: dict[str, Any] = {"vip": "10.0.0.1", "virtualRouterID": 126, "interface": "eth0"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, ""),
        ({"virtualRouterID": 1}, ""),
        ({"virtualRouterID": 255}, ""),
        ({"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}, ""),
        ({"virtualRouterID": 0}, "virtualRouterID"),
        ({"virtualRouterID": 256}, "virtualRouterID"),
        ({"virtualRouterID": None}, "virtualRouterID"),
        ({"interface": ""}, "interface"),
        ({"interface": None}, "interface"),
        ({"vip": None}, "vip"),
        ({"nodeSelector": {"a": 1}}, "nodeSelector"),
    ],
    ids=str,
)
def test_keepalived(clusters: Objects, changes: dict[str, Any], field: str) -> None:
    """Keepalived needs vip, an id of 1 to 255 and an interface; a refusal names the field."""
    keepalived = {k: v for k, v in {**KEEPALIVED, **changes}.items() if v is not None}
    reply = clusters.create("a", type="kamaji", clusterEndpoint={"keepalived": keepalived})
    if field:
        assert f"spec.clusterEndpoint.keepalived.{field}" in reply.refusal
    else:
        assert keepalived == reply.body["spec"]["clusterEndpoint"]["keepalived"]


def test_spec_is_required(clusters: Objects) -> None:
    """A DPUCluster without spec, or without type, is refused; version may be missing."""
    bare = clusters.manifest("a", None)
    del bare["spec"]
    assert "spec: Required" in clusters.api.request("POST", clusters.path(), bare).refusal
    assert "spec.type: Required" in clusters.create("a").refusal
    assert clusters.create("a", type="static").is_accepted


def test_status_fields(clusters: Objects) -> None:
    """Version, nodesCount and conditions are kept; a write to status leaves the spec alone."""
    before = clusters.create("a", type="static").body
    status = {"version": "v1.34.4", "nodesCount": 3, "conditions": [raw_api.condition()]}
    reply = clusters.patch_status("a", **status, phase="Creating")
    assert {**status, "phase": "Creating"} == reply.body["status"]
    assert before["metadata"]["generation"] == reply.body["metadata"]["generation"]


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"phase": "Broken"}, "status.phase"),
        ({"phase": ""}, "status.phase"),
        ({"nodesCount": -1}, "status.nodesCount"),
        ({"conditions": [raw_api.condition(), raw_api.condition()]}, "status.conditions[1]"),
        ({"conditions": [raw_api.condition(reason="")]}, "status.conditions[0].reason"),
        ({"conditions": [raw_api.condition(reason="two words")]}, "status.conditions[0].reason"),
        ({"conditions": [raw_api.condition(status="true")]}, "status.conditions[0].status"),
        ({"conditions": [raw_api.condition(message=None)]}, "status.conditions[0].message"),
        ({"conditions": [raw_api.condition("no good")]}, "status.conditions[0].type"),
        (
            {"conditions": [raw_api.condition(lastTransitionTime="soon")]},
            "status.conditions[0].lastTransitionTime",
        ),
    ],
    ids=str,
)
def test_bad_status(clusters: Objects, status: dict[str, Any], field: str) -> None:
    """A status that breaks the schema is refused, with the field in the message."""
    clusters.create("a", type="static")
    assert field in clusters.patch_status("a", **status).refusal


def test_conditions_have_owners(clusters: Objects) -> None:
    """Two field managers that apply one condition each keep each other's: the list is a map."""
    clusters.create("a", type="static")
    api_version, _, kind = clusters.kind
    for type_ in ("Created", "Ready"):
        applied = {
            "apiVersion": api_version,
            "kind": kind,
            "status": {"phase": "Creating", "conditions": [raw_api.condition(type_)]},
        }
        path = clusters.path("a", "status") + f"?fieldManager={type_.lower()}&force=true"
        reply = clusters.api.request("PATCH", path, applied, content_type=raw_api.APPLY_PATCH)
        assert 200 == reply.status, reply.body
    found = [c["type"] for c in clusters.get("a").body["status"]["conditions"]]
    assert ["Created", "Ready"] == found


def _table(objects: Objects) -> tuple[list[str], list[Any]]:
    reply = objects.api.request("GET", objects.path(), accept=raw_api.TABLE)
    names = [c["name"] for c in reply.body["columnDefinitions"] if c["priority"] == 0]
    return names, reply.body["rows"][0]["cells"]


def test_dpucluster_columns(clusters: Objects) -> None:
    """`kubectl get dpuclusters` shows NVIDIA's columns in NVIDIA's order."""
    clusters.create("a", type="static", maxNodes=10, version="v1.30.2")
    clusters.patch_status("a", phase="Ready", conditions=[raw_api.condition("Ready")])
    names, cells = _table(clusters)
    assert ["Name", "Ready", "Phase", "Type", "MaxNodes", "Version", "Age"] == names
    assert ["a", "True", "Ready", "static", 10, "v1.30.2"] == cells[:-1]


def test_dpfoperatorconfig_columns(configs: Objects) -> None:
    """`kubectl get dpfoperatorconfigs` shows the Ready condition's reason as Phase."""
    configs.create("a", provisioningController={"bfbPVCName": "bfb"})
    ready = raw_api.condition("Ready", reason="Success")
    configs.patch_status("a", observedGeneration=1, conditions=[ready])
    names, cells = _table(configs)
    assert ["Name", "Ready", "Phase", "Age"] == names
    assert ["a", "True", "Success"] == cells[:-1]


@pytest.mark.parametrize("kind", [raw_api.DPUCLUSTERS, raw_api.DPFOPERATORCONFIGS])
def test_crd_outlives_the_chart(raw: RawApi, kind: tuple[str, str, str]) -> None:
    """Both CRDs are structural, established, and kept by `helm uninstall`."""
    api_version, plural, _ = kind
    name = f"{plural}.{api_version.partition('/')[0]}"
    crd = raw.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}").body
    assert "keep" == crd["metadata"]["annotations"]["helm.sh/resource-policy"]
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert {"NamesAccepted": "True", "Established": "True"} == conditions


PROVISIONING = {"bfbPVCName": "bfb-pvc"}
WITH_IMAGE = (
    "staticClusterManager", "kamajiClusterManager", "dpuServiceController", "dpuDetector",
    "serviceSetController", "multus", "sriovDevicePlugin", "nvipam", "ovsCNI", "sfcController",
    "ovsHelper",
)  # fmt: skip
WITH_CHART = (*WITH_IMAGE[4:], "flannel")


def test_valid_image_and_chart(configs: Objects) -> None:
    """NVIDIA 32: every component takes an image, a chart, or both, as NVIDIA's does."""
    image, chart = "example.com:5000/org/name:v1.2", "oci://example.com/charts/name"
    spec: dict[str, Any] = {name: {"image": image, "disable": False} for name in WITH_IMAGE}
    for name in WITH_CHART:
        spec.setdefault(name, {})["helmChart"] = chart
    spec["provisioningController"] = {**PROVISIONING, "image": image, "dmsTimeout": 1}
    spec["dpuDetector"]["collectors"] = {"psID": True}
    spec["imagePullSecrets"] = ["one", "two"]
    spec["overrides"] = {"paused": False}
    reply = configs.create("a", **spec)
    assert 201 == reply.status, reply.body
    mtu = {"controlPlaneMTU": 1500, "highSpeedMTU": 1500}
    assert {**spec, "networking": mtu} == reply.body["spec"]


@pytest.mark.parametrize("component", ["provisioningController", *WITH_IMAGE])
def test_bad_image(configs: Objects, component: str) -> None:
    """NVIDIA 33: an image that is no reference is refused, for every component."""
    spec: dict[str, Any] = {"provisioningController": PROVISIONING}
    spec[component] = {**spec.get(component, {}), "image": "Not an image"}
    assert f"spec.{component}.image" in configs.create("a", **spec).refusal


@pytest.mark.parametrize("component", WITH_CHART)
def test_bad_chart(configs: Objects, component: str) -> None:
    """NVIDIA 34: a chart that is neither oci:// nor https:// is refused, for every component."""
    spec: dict[str, Any] = {"provisioningController": PROVISIONING}
    spec[component] = {"helmChart": "http://example.com/chart"}
    assert f"spec.{component}.helmChart" in configs.create("a", **spec).refusal


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "example.com/a/b:v1",
        "example.com:5000/a",
        "[2001:db8::1]:5000/a",
        f"example.com/a@sha256:{'0123456789abcdefABCDEF' * 3}",
        f"a:v1@sha256:{'a' * 32}",
        f"a@sha256:{'a' * 31}",
        f"a@sha256:{'g' * 32}",
        "a__b",
        "a___b",
        "a..b",
        "Upper",
        "UPPER.example.com/a",
        "a:" + "t" * 128,
        "a:" + "t" * 129,
        "a:-t",
        "a:t\n",
        "é",
        "a:é",
        "",
        "https://example.com/a",
        "a b",
    ],
    ids=ascii,
)
def test_image_grammar(configs: Objects, image: str) -> None:
    """The API server and `api.image` agree about every image, though their engines differ."""
    provisioning = {**PROVISIONING, "image": image}
    reply = configs.create("a", dry_run=True, provisioningController=provisioning)
    assert image_grammar.is_reference(image) == reply.is_accepted, reply.body


def test_config_may_have_no_spec(configs: Objects) -> None:
    """Spec may be missing, as in NVIDIA's; a spec needs provisioningController.bfbPVCName."""
    bare = configs.manifest("a", None)
    del bare["spec"]
    assert configs.api.request("POST", configs.path(), bare).is_accepted
    assert "spec.provisioningController: Required" in configs.create("b").refusal
    assert "bfbPVCName: Required" in configs.create("b", provisioningController={}).refusal
    assert "bfbPVCName" in configs.create("b", provisioningController={"bfbPVCName": ""}).refusal


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"networking": {"controlPlaneMTU": 9217}}, "spec.networking.controlPlaneMTU"),
        ({"networking": {"highSpeedMTU": -1}}, "spec.networking.highSpeedMTU"),
        (
            {"provisioningController": {**PROVISIONING, "dmsTimeout": 0}},
            "spec.provisioningController.dmsTimeout",
        ),
        ({"staticClusterManager": {"disable": "yes"}}, "spec.staticClusterManager.disable"),
    ],
    ids=str,
)
def test_bad_config(configs: Objects, block: dict[str, Any], field: str) -> None:
    """A value outside its range or of another type is refused, with the field in the message."""
    reply = configs.create("a", **{"provisioningController": PROVISIONING, **block})
    assert field in reply.refusal
