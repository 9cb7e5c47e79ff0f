"""Control planes on this machine: start, stop, isolation, and what users do with them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.localplane import install, plane, ports
from tests.support import cluster
from tests.support.planes import Tenants


def kubectl(binaries: Mapping[str, Path], kubeconfig: Path, *arguments: str) -> str:
    """Run kubectl with nothing but ``kubeconfig``; its output."""
    return subprocess.run(
        [binaries["kubectl"], "--kubeconfig", kubeconfig, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_kubectl_works_with_the_kubeconfig(
    management: plane.ControlPlane, binaries: Mapping[str, Path]
) -> None:
    """The kubeconfig alone makes kubectl cluster-admin of a server that says its true version."""
    can_do = kubectl(binaries, management.kubeconfig, "auth", "can-i", "*", "*")
    version = json.loads(kubectl(binaries, management.kubeconfig, "version", "-o", "json"))
    assert can_do.strip() == "yes"
    assert version["clientVersion"]["gitVersion"] == version["serverVersion"]["gitVersion"]


def test_crds_and_namespace_are_there(
    management: plane.ControlPlane, binaries: Mapping[str, Path]
) -> None:
    """Both kinds are served, and the operator's namespace exists."""
    names = kubectl(binaries, management.kubeconfig, "get", "crds,namespaces", "-o", "name")
    expected = {f"customresourcedefinition.apiextensions.k8s.io/{name}" for name in crd_names()}
    assert expected | {"namespace/dpf-operator-system"} <= set(names.split())


def crd_names() -> set[str]:
    return {manifest["metadata"]["name"] for manifest in install.crds()}


def test_service_accounts_namespaces_and_garbage_collection_work(
    management: plane.ControlPlane, binaries: Mapping[str, Path], namespace: str
) -> None:
    """The controller manager gives a namespace its service account, and can delete it again."""

    def run(*arguments: str) -> str:
        return kubectl(binaries, management.kubeconfig, *arguments)

    run("wait", "--for=create", "sa/default", "-n", namespace, "--timeout=120s")
    token = run("create", "token", "default", "-n", namespace)
    assert token.count(".") == 2
    run("delete", "namespace", namespace, "--timeout=120s")
    assert run("get", "namespace", namespace, "--ignore-not-found") == ""


def test_tenants_do_not_see_each_other(
    management: plane.ControlPlane, tenants: Tenants, binaries: Mapping[str, Path]
) -> None:
    """API servers on one etcd are separate clusters: objects, identities and authorities."""
    one, two = tenants(2)
    kubectl(binaries, one.kubeconfig, "create", "namespace", "only-in-one")
    seen = {
        each.name: "namespace/only-in-one"
        in kubectl(binaries, each.kubeconfig, "get", "namespaces", "-o", "name")
        for each in (one, two, management)
    }
    assert {one.name: True, two.name: False, management.name: False} == seen
    identity = ("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    uids = {kubectl(binaries, each.kubeconfig, *identity) for each in (one, two, management)}
    assert len(uids) == 3
    crossed = two.directory / "crossed"
    crossed.write_text(one.client_kubeconfig().replace(one.server, two.server))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(binaries, crossed, "get", "namespaces")
    assert "certificate signed by unknown authority" in refused.value.stderr


def test_a_tenant_stops_and_comes_back(tenants: Tenants) -> None:
    """A stopped plane refuses, a frozen one is silent, a started one has its objects and port."""
    (tenant,) = tenants(1)
    install.apply_namespace(tenant.endpoint, "kept")
    port = tenant.port
    tenant.stop()
    with pytest.raises(errors.PlaneError, match="Connection refused"):
        tenant.endpoint.get("/readyz")
    tenant.start()
    assert port == tenant.port
    assert tenant.endpoint.is_there("/api/v1/namespaces/kept")
    with tenant.frozen(), pytest.raises(errors.PlaneError, match="timed out"):
        tenant.endpoint.get("/readyz", timeout=0.5)
    assert tenant.endpoint.is_there("/readyz")


async def test_a_plane_is_an_asynchronous_context_manager(tenants: Tenants) -> None:
    """Inside it is ready; afterwards its port is free again."""
    async with tenants.prepare() as tenant:
        assert tenant.endpoint.is_there("/readyz")
    wait_free(tenant.port)


def wait_free(port: int) -> None:
    """Return when the port can be had: somebody else's connection may have it for a moment."""

    def is_free() -> bool:
        try:
            ports.Reservation(port).close()
        except errors.PlaneError:
            return False
        return True

    cluster.wait_until(is_free, bool)


def test_a_users_rights_are_those_of_his_certificate(
    tenants: Tenants, binaries: Mapping[str, Path]
) -> None:
    """A kubeconfig for somebody without a binding is accepted and may do nothing."""
    (tenant,) = tenants(1)
    path = tenant.directory / "nobody"
    path.write_text(tenant.client_kubeconfig(user="nobody", groups=()))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(binaries, path, "get", "namespaces")
    assert 'User "nobody" cannot list resource "namespaces"' in refused.value.stderr


def test_the_audit_log_has_every_write(management: plane.ControlPlane, namespace: str) -> None:
    """A write is one line of the audit log, with who and what and no content."""
    assert management.audit_log is not None
    log = management.audit_log

    def written() -> list[dict[str, Any]]:
        whole = log.read_bytes().split(b"\n")[:-1]  # the server may be in the middle of a line
        lines = map(json.loads, whole)
        return [
            line
            for line in lines
            if line["verb"] == "patch" and line["objectRef"].get("name") == namespace
        ]

    writes = cluster.wait_until(written, bool)
    assert ["ResponseComplete"] == [line["stage"] for line in writes]
    assert "requestObject" not in writes[0]


def test_a_killed_program_is_told_with_its_log(tenants: Tenants) -> None:
    """The message names the program, the signal and the log."""
    (tenant,) = tenants(1)
    tenant.check()
    tenant.api_server.kill()
    with pytest.raises(errors.PlaneError) as caught:
        tenant.check()
    assert f"kube-apiserver of {tenant.name} was killed by SIGKILL" in str(caught.value)
    assert str(tenant.api_server.log) in str(caught.value)


def test_a_plane_that_cannot_start_says_why(tenants: Tenants) -> None:
    """A program that ends at once is noticed at once, and its own words are in the message."""
    tenant = tenants.prepare()
    (tenant.directory / "pki" / "service-accounts.key").write_text("spoilt")
    with pytest.raises(errors.PlaneError) as caught:
        tenant.start()
    assert f"kube-apiserver of {tenant.name} ended with exit code 1" in str(caught.value)
    assert "service-accounts.key" in str(caught.value).splitlines()[-1]


def test_a_taken_port_is_refused_in_one_sentence(management: plane.ControlPlane) -> None:
    """A port is taken while a plane has it, also while the plane is stopped."""
    with pytest.raises(errors.PlaneError, match=f"port {management.port} of 127.0.0.1 is taken"):
        ports.Reservation(management.port)
    held = ports.Reservation()
    with pytest.raises(errors.PlaneError, match=f"port {held.port} of 127.0.0.1 is taken"):
        ports.Reservation(held.port)
    held.close()
    wait_free(held.port)
