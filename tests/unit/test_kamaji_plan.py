"""What follows from a spec, the nodes, and what is there already."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dpucluster.managers.kamaji import keepalived, kinds, objects, plan, schema
from dpucluster.managers.kamaji.observation import Observed, Slot
from dpucluster.sdk import Refusal, RefusalKind
from tests.support import build, kamaji

HELD = kamaji.cluster()
FREE = kamaji.cluster(held=False)


def test_nothing_there() -> None:
    """K5: Before there is a Service there is no port, so neither control plane nor keepalived."""
    observed = kamaji.observed()
    found = plan.make(observed)
    assert ("NodePort", kamaji.VIP, 0) == (found.service_type, found.address, found.port)
    assert objects.control_plane(observed, found) is None
    assert keepalived.config_map(observed, found) is None
    assert keepalived.daemon_set(observed, found) is None


def test_the_port_is_the_services() -> None:
    """K5: With the API server's answer to the Service the port is known."""
    observed = kamaji.observed(service=kamaji.service(HELD))
    assert kamaji.PORT == plan.make(observed).port


PORTS: dict[str, tuple[Observed, int]] = {
    "kept for life, whatever the Service got": (
        kamaji.observed(
            service=kamaji.service(HELD, node_port=30000), control_plane=kamaji.control_plane(HELD)
        ),
        kamaji.PORT,
    ),
    "kept for life without a Service": (
        kamaji.observed(control_plane=kamaji.control_plane(HELD)),
        kamaji.PORT,
    ),
    "K9: a control plane behind a load balancer moves to the node port": (
        kamaji.observed(
            service=kamaji.service(HELD),
            control_plane=kamaji.control_plane(HELD, port=6443, type_="LoadBalancer"),
        ),
        kamaji.PORT,
    ),
    "K9: not before its Service is of that type": (
        kamaji.observed(
            service=kamaji.service(HELD, type_="LoadBalancer"),
            control_plane=kamaji.control_plane(HELD, port=6443, type_="LoadBalancer"),
        ),
        0,
    ),
    "K7: none of a Service that is not ours": (
        kamaji.observed(
            service=kamaji.service(HELD),
            refusals={Slot.SERVICE: Refusal(RefusalKind.FOREIGN, "")},
        ),
        0,
    ),
    "none of a Service without such a port": (
        kamaji.observed(
            service=kinds.Service(kamaji.metadata(HELD), kinds.ServiceSpec("NodePort"))
        ),
        0,
    ),
    "6443 behind a load balancer": (kamaji.observed(FREE), 6443),
    "the node port stays when the virtual IP goes": (
        kamaji.observed(FREE, control_plane=kamaji.control_plane(FREE)),
        kamaji.PORT,
    ),
}


@pytest.mark.parametrize(("observed", "port"), PORTS.values(), ids=PORTS.keys())
def test_port(observed: Observed, port: int) -> None:
    """The port of an API server never changes while clients can know it."""
    assert port == plan.make(observed).port


@pytest.mark.parametrize(
    ("ingress", "address"),
    [
        ({}, ""),
        ({"ip": "192.0.2.7"}, "192.0.2.7"),
        ({"ip": "fd00::7"}, "fd00::7"),
        ({"host": "lb.example.com"}, ""),
        ({"ip": "no address"}, ""),
    ],
)
def test_addresses_of_load_balancers(ingress: dict[str, str], address: str) -> None:
    """K10: Without a virtual IP the address is the load balancer's, if it is one."""
    observed = kamaji.observed(
        FREE, service=kamaji.service(FREE, type_="LoadBalancer", **ingress)  # type: ignore[arg-type]  # any field
    )  # fmt: skip
    found = plan.make(observed)
    assert ("LoadBalancer", address) == (found.service_type, found.address)
    assert bool(address) is (objects.control_plane(observed, found) is not None)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("a", True),
        ("dpu-cluster-1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("1a", False),
        ("a.b", False),
        ("a-", False),
        ("A", False),
    ],
)
def test_names(name: str, passes: bool) -> None:
    """K30: A name that no Service can have is a problem of the spec that says what to do."""
    problem = plan.make(kamaji.observed(kamaji.cluster(name))).spec_problem
    assert passes is (problem is None)
    if problem is not None:
        assert "InvalidSpec" == problem.reason
        assert "create the DPUCluster under another name" in problem.message


@pytest.mark.parametrize(
    ("kubeconfig", "passes"), [("", True), ("c-admin-kubeconfig", True), ("mine", False)]
)
def test_preset_kubeconfigs(kubeconfig: str, passes: bool) -> None:
    """K29: The name of a Secret that Kamaji never writes is explained."""
    problem = plan.make(kamaji.observed(kamaji.cluster(kubeconfig=kubeconfig))).spec_problem
    assert passes is (problem is None)
    if problem is not None:
        assert "'mine', but Kamaji writes c-admin-kubeconfig;" in problem.message


def test_no_version_in_the_spec() -> None:
    """A cluster that names no version gets the manager's default; one that does, its own."""
    observed = kamaji.observed(kamaji.cluster(version=""), default_version="v1.29.1")
    assert "v1.29.1" == plan.make(observed).version.text
    assert kamaji.VERSION == plan.make(kamaji.observed()).version.text


def test_a_rival_takes_the_endpoint() -> None:
    """K23: Who comes second gets no address: nothing is made with it."""
    problem = build.PROBLEM
    found = plan.make(kamaji.observed(rival=problem, service=kamaji.service(HELD)))
    assert (None, problem, "") == (found.endpoint, found.endpoint_problem, found.address)


# The Service that is made again


def port_of(observed: Observed) -> dict[str, Any]:
    content: Any = objects.service(observed, plan.make(observed)).content
    (port,) = content["spec"]["ports"]
    return {k: v for k, v in port.items() if k not in {"name", "protocol"}}


def test_a_new_service_leaves_the_port_to_the_server() -> None:
    """No node port is asked for by number: two clusters would choose the same one."""
    assert {"port": 6443} == port_of(kamaji.observed())
    assert {"port": 6443} == port_of(kamaji.observed(FREE))


def test_a_service_made_again_has_the_control_planes_port() -> None:
    """The node port is the one that all kubeconfigs name; behind a load balancer it is anyone's."""
    held = kamaji.observed(control_plane=kamaji.control_plane(HELD))
    ports = {"port": kamaji.PORT, "targetPort": kamaji.PORT}
    assert {**ports, "nodePort": kamaji.PORT} == port_of(held)
    free = kamaji.control_plane(FREE, port=6443, type_="LoadBalancer")
    assert {"port": 6443, "targetPort": 6443} == port_of(kamaji.observed(FREE, control_plane=free))
    moving = kamaji.observed(FREE, control_plane=kamaji.control_plane(FREE))
    assert ports == port_of(moving)


# What Kamaji's schema has


SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "known": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "addons": {
                    "type": "object",
                    "additionalProperties": {"type": "object", "properties": {"a": {}}},
                },
                "list": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                },
            },
        }
    },
}


@pytest.mark.parametrize(
    ("sent", "fitting"),
    [
        ({"known": "x"}, {"known": "x"}),
        ({"known": "x", "new": {"a": 1}}, {"known": "x"}),
        ({"free": {"any": 1}}, {"free": {"any": 1}}),
        ({"labels": {"any/name": "x"}}, {"labels": {"any/name": "x"}}),
        ({"addons": {"x": {"a": 1, "b": 2}}}, {"addons": {"x": {"a": 1}}}),
        ({"list": [{"a": "1", "b": "2"}, {}]}, {"list": [{"a": "1"}, {}]}),
    ],
)
def test_fit(sent: dict[str, Any], fitting: dict[str, Any]) -> None:
    """What the installed Kamaji does not know is not sent, however deep; all else is."""
    assert {"spec": fitting} == schema.fit({"spec": sent}, SCHEMA)
    assert {"spec": sent} == schema.fit({"spec": sent}, None)


def test_the_schema_of_a_version() -> None:
    """Of a CRD the schema of the version that is spoken counts; without it everything passes."""
    crd = {"spec": {"versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": SCHEMA}}]}}
    assert SCHEMA == schema.of_version(crd, "v1alpha1")
    assert schema.of_version(crd, "v1") is None
    assert schema.of_version({}, "v1") is None


def test_an_older_kamaji() -> None:
    """Kamaji without podAdditionalMetadata gets a control plane without it, and all the rest."""
    full = kamaji.observed(service=kamaji.service(HELD))
    made: Any = objects.control_plane(full, plan.make(full))
    older = {"properties": {"spec": without(made.content["spec"], "podAdditionalMetadata")}}
    observed = dataclasses.replace(full, schema=older)
    fitted: Any = objects.control_plane(observed, plan.make(observed))
    expected = made.content
    del expected["spec"]["controlPlane"]["deployment"]["podAdditionalMetadata"]
    assert expected == fitted.content


def without(value: Any, name: str) -> dict[str, Any]:
    """A schema that knows every field of ``value`` but ``name``."""
    if isinstance(value, dict):
        known = {k: without(v, name) for k, v in value.items() if k != name}
        is_map = all("/" in k or "." in k for k in known)
        return {"type": "object"} if is_map else {"type": "object", "properties": known}
    return {}
