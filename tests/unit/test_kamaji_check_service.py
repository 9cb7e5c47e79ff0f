"""The Service by which keepalived's check asks for the API server of its own node."""

from __future__ import annotations

import dataclasses
import re

import pytest

from dpucluster.api.dpucluster import ClusterEndpoint, Keepalived
from dpucluster.api.meta import ObjectMeta
from dpucluster.managers.kamaji import keepalived, kinds, plan
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.managers.kamaji.options import KamajiOptions
from tests.support import build

PORT = 31234


def observed(*, checked: str = "") -> Observed:
    """A cluster whose Service has a port; ``checked``: the cluster IP of the check's Service."""
    wanted = ClusterEndpoint(Keepalived("10.0.0.100", 51, "eth0", {}))
    cluster = build.cluster(type_="kamaji", cluster_endpoint=wanted, version="v1.30.2")
    port = kinds.ServicePort(name="kube-apiserver", port=6443, node_port=PORT)
    service = kinds.Service(ObjectMeta(name="c"), kinds.ServiceSpec(type="NodePort", ports=(port,)))
    found = Observed(cluster=cluster, options=KamajiOptions(), service=service)
    if not checked:
        return found
    spec = kinds.ServiceSpec(type="ClusterIP", cluster_ip=checked)
    named = kinds.Service(ObjectMeta(name="c-keepalived"), spec)
    return dataclasses.replace(found, check_service=named)


def test_leads_to_api_servers_on_the_same_node() -> None:
    """Only the node's own API servers are behind it, on the port on which they listen."""
    look = observed()
    child = keepalived.check_service(look, plan.make(look))
    assert child is not None
    spec = child.content["spec"]
    assert ("c-keepalived", "Local") == (child.name, spec["internalTrafficPolicy"])
    assert {"kamaji.clastix.io/name": "c"} == spec["selector"]
    assert [(PORT, PORT)] == [(p["port"], p["targetPort"]) for p in spec["ports"]]


def test_pods_wait_for_its_address() -> None:
    """Without a cluster IP there is nothing to ask, and no pod."""
    look = observed()
    assert keepalived.daemon_set(look, plan.make(look)) is None


@pytest.mark.parametrize(
    ("address", "expected"), [("10.96.0.7", "10.96.0.7:31234"), ("fd00::7", "[fd00::7]:31234")]
)
def test_check_is_told_its_address(address: str, expected: str) -> None:
    """The pods' check connects to the cluster IP, whatever its family."""
    look = observed(checked=address)
    child = keepalived.daemon_set(look, plan.make(look))
    assert child is not None
    (container,) = child.content["spec"]["template"]["spec"]["containers"]
    told = {e["name"]: e.get("value") for e in container["env"]}
    assert expected == told["API_HERE"]


@pytest.mark.parametrize("length", [1, 52, 53, 63])
def test_name_is_that_of_a_service(length: int) -> None:
    """However long the cluster's name: at most 63 characters, and DNS-1035."""
    name = plan.check_name("a" * length)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_long_names_stay_apart() -> None:
    """Two clusters whose names differ at the end only have a Service each."""
    names = {plan.check_name("a" * 62 + last) for last in "bc"}
    assert 2 == len(names)
