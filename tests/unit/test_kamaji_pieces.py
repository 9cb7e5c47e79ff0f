"""The pure pieces of a stack with Kamaji: binaries, manifests, addresses, kubeconfigs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from dpucluster import errors
from dpucluster.localplane import binaries, build, cache, manifests, release
from dpucluster.localplane.kamaji import access, addresses, keepalived

PINS = release.pins_of(release.KAMAJI)


def test_a_second_module_has_pins_of_its_own() -> None:
    """Two versions of Kubernetes, two places in the cache, and no name that is in both."""
    assert ("v1.0.0", "v1.30.2") == (PINS.kamaji, PINS.kubernetes)
    assert release.pins() == release.pins_of("kube-scheduler")
    assert cache.of(PINS, {}).folder != cache.of(release.pins(), {}).folder
    assert len(binaries.WITH_KAMAJI) == len(set(binaries.WITH_KAMAJI))
    assert not set(binaries.ALL) & set(release.WITH_KAMAJI)


def test_what_is_built_and_what_is_downloaded() -> None:
    """Kubernetes' programs have archives, Kamaji none; each is stamped with its version."""
    archive = release.archive("kamaji/kube-apiserver", PINS, {})
    assert archive is not None
    assert "/v1.30.2/bin/linux/" in archive.url
    assert archive.url.endswith("/kube-apiserver")
    assert release.archive(release.KAMAJI, PINS, {}) is None
    assert "gitVersion=v1.30.2" in release.linker_flags("kamaji/kube-scheduler", PINS)
    assert release.linker_flags(release.KAMAJI, PINS).endswith("internal.GitTag=v1.0.0")
    assert "k8s.io/kubernetes/cmd/kube-scheduler" == release.package_of("kamaji/kube-scheduler")


def test_assets_of_others_hold_nothing_of_kamajis(tmp_path: Path) -> None:
    """A kube-apiserver in KUBEBUILDER_ASSETS is the control plane's, never a tenant's."""
    (tmp_path / "kube-apiserver").write_text("")
    (tmp_path / "kube-apiserver").chmod(0o755)
    env = {"KUBEBUILDER_ASSETS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    found = binaries.locate(("kube-apiserver", "kamaji/kube-apiserver"), env)
    assert {"kube-apiserver": tmp_path / "kube-apiserver"} == found


def test_tenants_programs_need_no_library(tmp_path: Path) -> None:
    """They run in a file system of their own: without cgo."""
    assert "0" == build._environment({}, tmp_path, PINS)["CGO_ENABLED"]
    assert "CGO_ENABLED" not in build._environment({}, tmp_path, release.pins())


def test_manifests_are_made_ready(tmp_path: Path) -> None:
    """No webhook converts, no cert-manager injects, no status is sent."""
    crds, role = tmp_path / "charts/kamaji/crds", tmp_path / "config/rbac"
    crds.mkdir(parents=True)
    role.mkdir(parents=True)
    crd = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x", "annotations": {"cert-manager.io/inject-ca-from": "y"}},
        "spec": {"conversion": {"strategy": "Webhook"}, "scope": "Cluster"},
        "status": {},
    }
    (crds / "x.yaml").write_text(yaml.safe_dump(crd))
    with pytest.raises(errors.BinaryError, match="Kamaji's manifests"):
        manifests.collect(tmp_path)
    (role / "role.yaml").write_text(
        "kind: ClusterRole\nmetadata: {name: manager-role}\nrules: []\n"
    )
    made, _ = json.loads(manifests.collect(tmp_path))
    assert {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x"},
        "spec": {"conversion": {"strategy": "None"}, "scope": "Cluster"},
    } == made


def test_virtual_ips_are_nobody_elses() -> None:
    """On the nodes' subnet, and neither a node nor a load balancer."""
    vips = {addresses.vip(number) for number in range(1, addresses.VIPS + 1)}
    assert addresses.VIPS == len(vips)
    assert all(vip.startswith("10.88.100.") for vip in vips)
    assert not vips & {addresses.node(n).ip for n in range(1, addresses.NODES + 1)}
    with pytest.raises(ValueError, match="not 0"):
        addresses.vip(0)


def test_a_tenants_kubeconfig_for_outside() -> None:
    """The one port that leads in, the name that the certificate has, the same credentials."""
    inside = {
        "clusters": [{"name": "one", "cluster": {"server": "https://10.88.100.1:30000"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    encoded = base64.b64encode(yaml.safe_dump(inside).encode()).decode()
    secret = {"data": {"admin.conf": "", "super-admin.conf": encoded}}
    made = yaml.safe_load(access.kubeconfig(secret, namespace="n", name="one", port=1234))
    assert inside["users"] == made["users"]
    (cluster,) = made["clusters"]
    assert "https://127.0.0.1:1234" == cluster["cluster"]["server"]
    assert "one.n.svc" == cluster["cluster"]["tls-server-name"]
    with pytest.raises(errors.PlaneError, match="n/one has no administrator's kubeconfig yet"):
        access.kubeconfig({}, namespace="n", name="one", port=1)


def test_packages_that_apt_would_install() -> None:
    """Taken from the file names that it prints."""
    printed = (
        "'http://mirror/k/keepalived_2.2.7-1%2bb2_amd64.deb' keepalived_1%3a2.2.7-1+b2_amd64.deb"
        " 500 SHA256:ab\n'http://mirror/l/libnl.deb' libnl-3-200_3.7.0_amd64.deb 6 SHA256:cd\n"
    )
    assert ["keepalived", "libnl-3-200"] == keepalived.packages(printed)
