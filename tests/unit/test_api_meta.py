from __future__ import annotations

import msgspec
import pytest

from dpucluster.api import contract
from dpucluster.api.meta import Condition, Key, ObjectMeta, PartialObject


@pytest.mark.parametrize(("key", "text"), [(Key("ns", "a"), "ns/a"), (Key("", "a"), "a")])
def test_a_key_reads_as_kubectl_writes_it(key: Key, text: str) -> None:
    """Namespaced keys have a slash, cluster-scoped ones are the bare name."""
    assert text == str(key)


def test_deleting_is_told_by_the_timestamp() -> None:
    """An object is being deleted from the moment it has a deletionTimestamp."""
    assert not ObjectMeta(name="a").is_deleting
    assert ObjectMeta(name="a", deletion_timestamp="2026-01-01T00:00:00Z").is_deleting


def test_partial_objects_skip_everything_else() -> None:
    """A Secret read for its metadata brings no data into memory."""
    wire = b'{"kind":"Secret","metadata":{"name":"a","managedFields":[]},"data":{"k":"dg=="}}'
    expected = PartialObject(metadata=ObjectMeta(name="a"), kind="Secret")
    assert expected == msgspec.json.decode(wire, type=PartialObject)


def test_a_condition_is_written_whole() -> None:
    """An empty message stands on the wire: the schema requires the field."""
    wire = msgspec.to_builtins(Condition("Ready", "True", "Success", "", "2026-01-01T00:00:00Z"))
    assert "" == wire["message"]
    assert 0 == wire["observedGeneration"]


@pytest.mark.parametrize(
    ("status", "is_true"), [("True", True), ("False", False), ("Unknown", False)]
)
def test_only_true_is_true(status: str, is_true: bool) -> None:
    """Unknown counts as not true."""
    assert is_true == Condition("Ready", status).is_true


def test_lease_names_are_those_of_nvidias_newer_releases() -> None:
    """The Lease of a role excludes NVIDIA's component of the same name."""
    assert "static-cluster-manager.dpu.nvidia.com" == contract.lease_name(contract.COMPONENT_STATIC)
