from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpucluster.api.dpucluster import DPUCluster, DPUClusterStatus, Phase
from dpucluster.api.meta import Condition, Key


def read(**parts: Any) -> DPUCluster:
    wire = {"metadata": {"name": "a", "namespace": "ns"}, "spec": {"type": "static"}, **parts}
    return msgspec.json.decode(msgspec.json.encode(wire), type=DPUCluster)


def test_a_minimal_object_reads_with_the_schemas_defaults() -> None:
    """What the server would fill in stands there also when it has not."""
    cluster = read()
    assert Key("ns", "a") == cluster.key
    assert 1000 == cluster.spec.max_nodes
    assert ("", "", None) == (
        cluster.spec.version,
        cluster.spec.kubeconfig,
        cluster.spec.cluster_endpoint,
    )
    assert DPUClusterStatus(phase=Phase.PENDING) == cluster.status


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "static", "maxNodes": 3000},
        {"type": "my-kamaji-x"},
        {
            "type": "kamaji",
            "clusterEndpoint": {"keepalived": {"vip": "", "virtualRouterID": 0, "interface": ""}},
        },
        {"type": "static", "monitoring": {"disable": True}},
    ],
    ids=["newer-range", "older-pattern", "no-minimum", "unknown-field"],
)
def test_what_another_schema_admitted_is_readable(spec: dict[str, Any]) -> None:
    """An object that breaks our schema, or has more than it, is read all the same."""
    assert spec["type"] == read(spec=spec).spec.type


def test_a_wrong_type_is_not_readable() -> None:
    """A value of another JSON type is an error and not silently something else."""
    with pytest.raises(msgspec.ValidationError, match=r"spec\.maxNodes"):
        read(spec={"type": "static", "maxNodes": "ten"})


def test_the_wire_has_the_schemas_names_and_no_defaults() -> None:
    """Written and read again the object is the same, with only what was set on the wire."""
    keepalived = {"vip": "10.0.0.1", "virtualRouterID": 1, "interface": "eth0"}
    spec = {"type": "kamaji", "clusterEndpoint": {"keepalived": keepalived}}
    cluster = read(spec=spec, status={"phase": "Ready", "nodesCount": 0})
    wire = msgspec.to_builtins(cluster)
    assert spec == wire["spec"]
    assert {"phase": "Ready", "nodesCount": 0} == wire["status"]


def test_a_condition_is_found_by_its_type() -> None:
    """`condition` gives the one of that type, or None."""
    conditions = [{"type": "Created", "status": "True"}, {"type": "Ready", "status": "False"}]
    cluster = read(status={"phase": "NotReady", "conditions": conditions})
    assert Condition("Ready", "False") == cluster.condition("Ready")
    assert cluster.condition("KeepalivedReady") is None
