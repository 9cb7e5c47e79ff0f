from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpucluster.api.dpfoperatorconfig import Component, DPFOperatorConfig, Networking
from dpucluster.api.meta import Condition, Key


def read(spec: dict[str, Any] | None = None, **parts: Any) -> DPFOperatorConfig:
    wire: dict[str, Any] = {"metadata": {"name": "dpfoperatorconfig", "namespace": "ns"}, **parts}
    if spec is not None:
        wire["spec"] = {"provisioningController": {"bfbPVCName": "bfb"}, **spec}
    return msgspec.json.decode(msgspec.json.encode(wire), type=DPFOperatorConfig)


def test_an_empty_block_is_not_a_missing_one() -> None:
    """`staticClusterManager: {}` is told from its absence: it switches the manager on."""
    spec = read({"staticClusterManager": {}}).spec
    assert spec is not None
    assert Component() == spec.static_cluster_manager
    assert spec.kamaji_cluster_manager is None


def test_spec_may_be_missing() -> None:
    """The schema lets a config have no spec; it reads as None, not paused."""
    config = read()
    assert config.spec is None
    assert not config.is_paused
    assert Key("ns", "dpfoperatorconfig") == config.key


@pytest.mark.parametrize(
    ("overrides", "is_paused"),
    [(None, False), ({}, False), ({"paused": False}, False), ({"paused": True}, True)],
)
def test_paused(overrides: dict[str, bool] | None, is_paused: bool) -> None:
    """Only an explicit true pauses."""
    config = read({} if overrides is None else {"overrides": overrides})
    assert is_paused == config.is_paused


@pytest.mark.parametrize("name", ["sriovDevicePlugin", "ovsCNI", "nvipam", "sfcController"])
def test_the_wire_has_nvidias_names(name: str) -> None:
    """Names with capitals of their own are written as they were read."""
    block = {name: {"disable": True, "image": "busybox", "helmChart": "oci://example.com/a"}}
    wire = msgspec.to_builtins(read(block))
    assert block == {k: v for k, v in wire["spec"].items() if k != "provisioningController"}


def test_networking_defaults() -> None:
    """Both MTUs are 1500 unless given."""
    spec = read({"networking": {"highSpeedMTU": 9000}}).spec
    assert spec is not None
    assert Networking(control_plane_mtu=1500, high_speed_mtu=9000) == spec.networking


def test_what_a_newer_schema_admitted_is_readable() -> None:
    """Fields of newer releases are skipped, values outside our ranges are read."""
    newer = {"controller": {"image": "busybox"}}
    spec = read({"staticClusterManager": newer, "networking": {"controlPlaneMTU": 65536}}).spec
    assert spec is not None
    assert Component() == spec.static_cluster_manager


def test_a_condition_is_found_by_its_type() -> None:
    """`condition` gives the one of that type, or None."""
    config = read(status={"conditions": [{"type": "Ready", "status": "True"}]})
    assert Condition("Ready", "True") == config.condition("Ready")
    assert config.condition("Accepted") is None
