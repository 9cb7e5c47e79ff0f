"""Where Services lead, and the name in the first bytes of a TLS connection."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import msgspec

from dpucluster.api.meta import Key
from dpucluster.localplane.proxy import hello, routes, services

KEY = Key("n", "web")


def service(name: str = "web", *, ingress: str = "", **spec: Any) -> services.Service:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    status = {"loadBalancer": {"ingress": [{"ip": ingress}] if ingress else []}}
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "n"},
            "spec": {"clusterIP": "10.96.0.9", "ports": ports, **spec},
            "status": status,
        },
        services.Service,
    )


def slices(*endpoints: tuple[str, str, bool | None]) -> dict[Key, list[services.EndpointSlice]]:
    made = msgspec.convert(
        {
            "metadata": {
                "name": "x",
                "namespace": "n",
                "labels": {services.SERVICE_NAME: "web"},
            },
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}}
                for ip, node, ready in endpoints
            ],
        },
        services.EndpointSlice,
    )
    return routes.slices_by_service([made])


BOTH = slices(("10.89.1.2", "a", True), ("10.89.2.2", "b", None), ("10.89.2.3", "b", False))
ONE, OTHER = routes.Backend("10.89.1.2", 8080), routes.Backend("10.89.2.2", 8080)


def test_cluster_ips_and_node_ports_lead_to_all_that_is_ready() -> None:
    """What is not said to be ready counts as ready; what is said not to be does not."""
    table = routes.table([service()], BOTH, "a")
    assert {("10.96.0.9", 80), (routes.ANY_ADDRESS, 30080)} == set(table)
    assert all(route.choices(from_outside=True) == (ONE, OTHER) for route in table.values())


def test_a_local_policy_keeps_outsiders_on_the_node() -> None:
    """From the node itself every endpoint is reached, and by the cluster IP, too."""
    local = service(externalTrafficPolicy="Local")
    table = routes.table([local], BOTH, "a")
    outer = table[routes.Listen(routes.ANY_ADDRESS, 30080)]
    assert (ONE,) == outer.choices(from_outside=True)
    assert (ONE, OTHER) == outer.choices(from_outside=False)
    assert (ONE, OTHER) == table[routes.Listen("10.96.0.9", 80)].choices(from_outside=True)
    elsewhere = routes.table([local], BOTH, "c")[routes.Listen(routes.ANY_ADDRESS, 30080)]
    assert () == elsewhere.choices(from_outside=True)


def test_a_service_without_endpoints_listens_nowhere() -> None:
    """Its ports refuse, as they do with kube-proxy; so do headless Services."""
    assert {} == routes.table([service()], {}, "a")
    assert {} == routes.table([service(clusterIP="None")], BOTH, "a", node_ports=False)


def test_load_balancers_get_addresses_once() -> None:
    """Those that have one keep it, those of another class are somebody else's."""
    known = [
        service("old", type="LoadBalancer", ingress="10.88.200.1"),
        service("new", type="LoadBalancer"),
        service("theirs", type="LoadBalancer", loadBalancerClass="x/y"),
        service("plain"),
    ]
    pool = ["10.88.200.1", "10.88.200.2"]
    assert {Key("n", "new"): "10.88.200.2"} == routes.without_address(known, pool)
    table = routes.table(
        [service(type="LoadBalancer", ingress="10.88.200.1")], BOTH, "", balancers=True
    )
    assert routes.Listen("10.88.200.1", 80) in table


def test_names_of_services() -> None:
    """By the names that programs use; headless Services have none here."""
    names = routes.names([service(), service("head", clusterIP="None")])
    assert {"10.96.0.9": ["web.n.svc.cluster.local", "web.n.svc", "web.n"]} == names


def client_hello(name: str) -> bytes:
    """What a real TLS client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_the_server_name_of_a_real_client() -> None:
    """The name, in small letters; none for an address, as clients send none."""
    record = client_hello("One.Ns.svc")
    assert len(record) == hello.length(record[: hello.HEADER])
    assert "one.ns.svc" == hello.server_name(record)
    assert "" == hello.server_name(client_hello("127.0.0.1"))


def test_bytes_that_are_no_hello() -> None:
    """Plain HTTP, noise, and a hello that is cut anywhere have no name and raise nothing."""
    assert 0 == hello.length(b"GET /")
    record = client_hello("one.ns.svc")
    for end in range(len(record)):
        hello.server_name(record[:end])
    assert "" == hello.server_name(record[:40])
