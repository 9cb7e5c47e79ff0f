"""The real Kamaji on process nodes: a tenant behind a virtual IP, from outside and from inside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dpucluster.localplane.kamaji import stack
from tests.support.kamaji_namespace import Namespace, keepalived
from tests.support.processes import eventually

pytestmark = pytest.mark.timeout(300)

VIP = 1
TENANT = "one"


@pytest.fixture(scope="module")
def namespace(kamaji: stack.KamajiStack) -> Namespace:
    return Namespace(kamaji)


@pytest.fixture(scope="module")
def port(namespace: Namespace) -> Iterator[int]:
    """The node port of a tenant that is Ready, on the node that keepalived likes less."""
    namespace.kubectl("cordon", "node-2")
    taken = namespace.tenant(TENANT, namespace.kamaji.vip(VIP))
    namespace.apply(*keepalived("vip", namespace.kamaji.vip(VIP), taken))
    namespace.wait_ready(TENANT)
    namespace.kubectl("uncordon", "node-2")
    yield taken
    namespace.kubectl("delete", "tenantcontrolplane", TENANT, "-n", namespace.name)
    namespace.kubectl("delete", "daemonset", "vip", "-n", namespace.name)


def reaches(kamaji: stack.KamajiStack, port: int) -> bool:
    """Whether the tenant's port is open on the virtual IP."""
    try:
        kamaji.gate.connect(kamaji.vip(VIP), port, timeout=2).close()
    except OSError:
        return False
    return True


def test_the_stack_is_reached_from_outside(
    kamaji: stack.KamajiStack, binaries: Mapping[str, Path]
) -> None:
    """Programs out here, which know nothing of namespaces, see two nodes that are Ready."""
    command = [str(binaries["kubectl"]), "--kubeconfig", str(kamaji.kubeconfig), "get", "nodes"]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, check=True)
    nodes = json.loads(done.stdout)["items"]
    conditions = [{c["type"]: c["status"] for c in n["status"]["conditions"]} for n in nodes]
    assert ["node-1", "node-2"] == [node["metadata"]["name"] for node in nodes]
    assert ["True", "True"] == [each["Ready"] for each in conditions]


def test_a_tenant_is_used_from_outside(
    kamaji: stack.KamajiStack,
    namespace: Namespace,
    port: int,
    binaries: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """Its kubeconfig leads through the virtual IP to a real API server of the tenant's version."""
    assert port
    conf = tmp_path / "tenant.conf"
    conf.write_text(kamaji.tenant_kubeconfig(namespace.name, TENANT))

    def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(binaries["kubectl"]), "--kubeconfig", str(conf), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    eventually("the tenant answers", lambda: kubectl("get", "--raw", "/readyz").stdout == "ok")
    version = json.loads(kubectl("version", "-o", "json").stdout)
    assert "v1.30.2" == version["serverVersion"]["gitVersion"]
    assert "namespace/made-outside created\n" == kubectl("create", "ns", "made-outside").stdout


def test_the_virtual_ip_moves(kamaji: stack.KamajiStack, namespace: Namespace, port: int) -> None:
    """One node holds it; when its keepalived or its cable is gone the other does."""
    vip = kamaji.vip(VIP)

    def is_held(*names: str) -> bool:
        return kamaji.holders(vip) == list(names) and reaches(kamaji, port)

    eventually("the node of higher priority holds it", lambda: is_held("node-2"), patience=60)
    status = namespace.get("daemonset", "vip")["status"]
    assert 2 == status["desiredNumberScheduled"]
    eventually(
        "both pods are ready",
        lambda: namespace.get("daemonset", "vip")["status"]["numberReady"] == 2,
    )
    (holder,) = (p for p in namespace.pods("app=vip") if p["spec"]["nodeName"] == "node-2")
    name, uid = holder["metadata"]["name"], holder["metadata"]["uid"]
    namespace.kubectl("delete", "pod", name, "-n", namespace.name, "--wait=false")
    eventually("it moves", lambda: kamaji.holders(vip) == ["node-1"], patience=30)
    eventually("it comes back with a new pod", lambda: is_held("node-2"), patience=60)
    assert uid not in {pod["metadata"]["uid"] for pod in namespace.pods("app=vip")}


def test_a_pulled_cable_is_noticed(kamaji: stack.KamajiStack, port: int) -> None:
    """The interface has lost its carrier: the other node takes over at once."""
    vip = kamaji.vip(VIP)
    eventually("it is held", lambda: kamaji.holders(vip) == ["node-2"], patience=60)
    kamaji.cut_link(2)
    try:
        eventually("node-1 has it, node-2 not", lambda: kamaji.holders(vip) == ["node-1"])
    finally:
        kamaji.restore_link(2)
    eventually("it comes back", lambda: kamaji.holders(vip) == ["node-2"], patience=60)
    eventually("and works", lambda: reaches(kamaji, port), patience=60)


def test_kamaji_goes_on_after_its_end(kamaji: stack.KamajiStack, namespace: Namespace) -> None:
    """A Kamaji that was killed finds its tenants again, and so does everything after the API."""
    kamaji.kamaji.kill()
    kamaji.restart_api_server()
    kamaji.kamaji.restart()
    kamaji.check()
    assert "default" in namespace.kubectl("get", "datastores", "-o", "name")
