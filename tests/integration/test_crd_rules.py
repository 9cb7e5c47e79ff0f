"""The DPUCluster schema's rules that compare: immutable fields, the Kamaji Secret's name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import raw_api
from tests.support.raw_api import Objects, RawApi

IMMUTABLE = "kubeconfig is immutable"


@pytest.fixture
def clusters(management: Any, namespace: str) -> Objects:
    return Objects(RawApi(management.kubeconfig), namespace, raw_api.DPUCLUSTERS)


def kubeconfig_of(clusters: Objects, name: str = "a") -> str | None:
    found: str | None = clusters.get(name).body["spec"].get("kubeconfig")
    return found


@pytest.mark.parametrize("type_", ["static", "kamaji", "example.com/manager"])
def test_type_is_immutable(clusters: Objects, type_: str) -> None:
    """No type can become another one; writing the same again is accepted."""
    clusters.create("a", type=type_)
    for other in {"static", "kamaji", "example.com/manager", "example.com/other"} - {type_}:
        assert "type is immutable" in clusters.patch_spec("a", type=other).refusal
    assert clusters.patch_spec("a", type=type_, maxNodes=5).is_accepted


@pytest.mark.parametrize(
    ("type_", "first"),
    [
        ("static", "mine"),
        ("kamaji", "a-admin-kubeconfig"),
        ("example.com/manager", "anything"),
    ],
)
def test_changed_kubeconfig_is_refused(clusters: Objects, type_: str, first: str) -> None:
    """For every type a kubeconfig that is set cannot become another one, nor empty."""
    clusters.create("a", type=type_)
    assert clusters.patch_spec("a", kubeconfig=first).is_accepted
    for other in ("other", ""):
        assert IMMUTABLE in clusters.patch_spec("a", kubeconfig=other).refusal
    assert clusters.patch_spec("a", kubeconfig=first, maxNodes=5).is_accepted
    assert first == kubeconfig_of(clusters)


def test_static_kubeconfig_cannot_be_removed(clusters: Objects) -> None:
    """The way round the rule is closed: a static kubeconfig cannot be removed to be set again."""
    created = clusters.create("a", type="static", kubeconfig="first").body
    assert IMMUTABLE in clusters.patch_spec("a", kubeconfig=None).refusal
    del created["spec"]["kubeconfig"]
    assert IMMUTABLE in clusters.put(created).refusal
    assert "first" == kubeconfig_of(clusters)


def test_static_kubeconfig_cannot_be_removed_through_another_type(clusters: Objects) -> None:
    """Removal is not let through by naming a managed type in the same request."""
    clusters.create("a", type="static", kubeconfig="first")
    reply = clusters.patch_spec("a", kubeconfig=None, type="example.com/manager")
    assert "type is immutable" in reply.refusal
    assert "first" == kubeconfig_of(clusters)


def test_static_manifest_without_kubeconfig_replaces_one_without(clusters: Objects) -> None:
    """As long as no kubeconfig is set, a plain PUT without one is accepted."""
    created = clusters.create("a", type="static").body
    assert clusters.put(created).is_accepted
    assert clusters.patch_spec("a", kubeconfig="").is_accepted
    assert clusters.patch_spec("a", kubeconfig=None).is_accepted


@pytest.mark.parametrize(
    ("kubeconfig", "is_accepted"),
    [("a-admin-kubeconfig", True), ("", True), ("b-admin-kubeconfig", False), ("a", False)],
)
def test_kamaji_names_its_secret(clusters: Objects, kubeconfig: str, is_accepted: bool) -> None:
    """A Kamaji cluster takes only <name>-admin-kubeconfig, at creation and later."""
    clusters.create("later", type="kamaji")
    replies = (
        clusters.create("a", type="kamaji", kubeconfig=kubeconfig),
        clusters.patch_spec("later", kubeconfig=kubeconfig.replace("a-admin", "later-admin")),
    )
    for reply, name in zip(replies, ("a", "later"), strict=True):
        assert is_accepted == reply.is_accepted, reply.body
        if not is_accepted:
            assert f"leave kubeconfig out, or set it to {name}-admin-kubeconfig" in reply.refusal


def test_users_kamaji_manifest_replaces_a_managed_one(clusters: Objects) -> None:
    """A PUT of the user's manifest, in which the manager's value is not written, is accepted."""
    created = clusters.create("a", type="kamaji", maxNodes=5).body
    clusters.patch_spec("a", kubeconfig="a-admin-kubeconfig")
    manifest = clusters.manifest("a", created["spec"])
    assert clusters.put(manifest).is_accepted
    assert kubeconfig_of(clusters) is None
    assert "leave kubeconfig out" in clusters.patch_spec("a", kubeconfig="foreign").refusal
    assert clusters.patch_spec("a", kubeconfig="a-admin-kubeconfig").is_accepted


def test_third_party_kubeconfig_is_free(clusters: Objects) -> None:
    """A third party's manager chooses the name; remove-then-set stays possible for its types."""
    clusters.create("a", type="example.com/manager", kubeconfig="first")
    assert clusters.patch_spec("a", kubeconfig=None).is_accepted
    assert clusters.patch_spec("a", kubeconfig="second").is_accepted
    assert "second" == kubeconfig_of(clusters)


def test_other_fields_stay_editable(clusters: Objects) -> None:
    """maxNodes, version and clusterEndpoint may change after creation; the status too."""
    clusters.create("a", type="kamaji", kubeconfig="a-admin-kubeconfig", version="v1.30.2")
    keepalived = {"vip": "10.0.0.1", "virtualRouterID": 1, "interface": "eth0"}
    spec = {"maxNodes": 7, "version": "v1.31.0", "clusterEndpoint": {"keepalived": keepalived}}
    assert clusters.patch_spec("a", **spec).is_accepted
    assert clusters.patch_spec("a", version=None, clusterEndpoint=None).is_accepted
    assert clusters.patch_status("a", phase="Ready").is_accepted


def test_the_longest_name_is_accepted(clusters: Objects) -> None:
    """A static cluster's name may be what NVIDIA's v24.10 accepts: any DNS subdomain to 253."""
    for name in ("9.starts-with-a-digit", "a" * 253):
        assert clusters.create(name, type="static", kubeconfig="mine").is_accepted
