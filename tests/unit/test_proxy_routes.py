"""Where a process node leads connections: the traffic policies of Services."""

from __future__ import annotations

import pytest

from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.localplane.proxy import routes, services

LISTEN = routes.Listen("10.96.0.7", 31234)
HERE, THERE = "10.89.1.2", "10.89.2.2"


def endpoint(address: str, node: str) -> services.Endpoint:
    return services.Endpoint(addresses=(address,), node_name=node)


def leads_to(node: str, policy: str) -> list[str]:
    """Where the cluster IP leads on ``node``; one endpoint on each of two nodes."""
    port = services.ServicePort(port=31234, name="kube-apiserver")
    spec = services.ServiceSpec(
        cluster_ip=LISTEN.address, ports=(port,), internal_traffic_policy=policy
    )
    service = services.Service(ObjectMeta(name="s", namespace="ns"), spec)
    slices = services.EndpointSlice(
        metadata=ObjectMeta(name="s-1", namespace="ns"),
        ports=(services.EndpointPort(name="kube-apiserver", port=31234),),
        endpoints=(endpoint(HERE, "node-1"), endpoint(THERE, "node-2")),
    )
    table = routes.table([service], {Key("ns", "s"): [slices]}, node)
    return [b.address for b in table[LISTEN].choices(from_outside=False)] if table else []


@pytest.mark.parametrize(
    ("node", "policy", "expected"),
    [
        ("node-1", "Cluster", [HERE, THERE]),
        ("node-1", "Local", [HERE]),
        ("node-2", "Local", [THERE]),
        ("node-3", "Local", []),
    ],
)
def test_internal_traffic_policy(node: str, policy: str, expected: list[str]) -> None:
    """A local Service leads to the node's own endpoints; without one, nobody listens."""
    assert expected == leads_to(node, policy)
