"""What a DPFOperatorConfig asks for, and what its conditions say."""

from __future__ import annotations

import msgspec
import pytest

from dpucluster.api.dpfoperatorconfig import DPFOperatorConfig, DPFOperatorConfigSpec
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.dpfoperator import components, decide

STATIC, KAMAJI = "static-cluster-manager", "kamaji-cluster-manager"
MANAGED = frozenset({STATIC, KAMAJI, "provisioning-controller"})


def spec(**blocks: object) -> DPFOperatorConfigSpec:
    wire = {"provisioningController": {"bfbPVCName": "bfb-pvc"}, **blocks}
    return msgspec.convert(wire, DPFOperatorConfigSpec)


TABLE = [
    ({}, {KAMAJI}),
    ({"staticClusterManager": {}}, {KAMAJI, STATIC}),
    ({"staticClusterManager": {}, "kamajiClusterManager": {"disable": True}}, {STATIC}),
    ({"kamajiClusterManager": {"disable": False}}, {KAMAJI}),
    ({"staticClusterManager": {"disable": True}}, {KAMAJI}),
]


@pytest.mark.parametrize(("blocks", "expected"), TABLE)
def test_the_enable_table_is_nvidias(blocks: dict[str, object], expected: set[str]) -> None:
    """A present block decides by its ``disable`` alone; an absent one leaves the default."""
    on = components.wanted(spec(**blocks), managed=MANAGED)
    assert expected == on - {"provisioning-controller"}


def test_a_config_without_spec_takes_every_default() -> None:
    """The schema allows no spec at all."""
    assert {KAMAJI, "provisioning-controller"} == components.wanted(None, managed=MANAGED)


def test_components_of_dpf_that_are_not_ours_are_named() -> None:
    """Only what the user asks for by name is listed, and not what is switched off."""
    given = spec(multus={}, flannel={"disable": True}, staticClusterManager={})
    assert ("multus",) == components.not_managed(given, managed=MANAGED)


def observe(*, deleting: bool = False, **changes: object) -> decide.Observed:
    meta = ObjectMeta(
        name="dpfoperatorconfig",
        namespace="dpf-operator-system",
        deletion_timestamp="2026-01-01T00:00:00Z" if deleting else None,
    )
    facts = {"waiting": {}, "not_managed": (), "missing_pull_secrets": (), **changes}
    return decide.Observed(DPFOperatorConfig(meta, spec()), **facts)  # type: ignore[arg-type]


def told(observed: decide.Observed) -> dict[str, tuple[str, str]]:
    return {str(c.type): (c.status, c.reason) for c in decide.conditions(observed)}


def test_all_is_well() -> None:
    """Everything runs: four times True/Success."""
    assert {("True", "Success")} == set(told(observe()).values())


def test_a_missing_pull_secret_stops_there() -> None:
    """Upstream case 29: Ready Pending, the two others Error."""
    said = told(observe(missing_pull_secrets=("reg",)))
    assert ("False", "Pending") == said["Ready"]
    assert ("False", "Error") == said["ImagePullSecretsReconciled"]
    assert ("False", "Error") == said["SystemComponentsReady"]


def test_a_component_that_waits_is_named() -> None:
    """SystemComponentsReady lists each component with its reason."""
    seen = observe(waiting={STATIC: "no process holds its Lease"})
    by_type = {str(c.type): c for c in decide.conditions(seen)}
    assert (
        "System components are not ready: static-cluster-manager: no process holds its Lease"
        == by_type["SystemComponentsReady"].message
    )
    assert "Pending" == by_type["Ready"].reason


def test_deletion_lists_what_it_awaits() -> None:
    """Upstream case 31: AwaitingDeletion, with each DPUCluster."""
    seen = observe(deleting=True, clusters=(Key("a", "x"), Key("b", "y")))
    by_type = {str(c.type): c for c in decide.conditions(seen)}
    assert "AwaitingDeletion" == by_type["Ready"].reason
    assert "a/x, b/y" in by_type["SystemComponentsReconciled"].message


def test_another_config_is_told_which_one_counts() -> None:
    """Accepted=False/NotTheSingleton names the one in force."""
    said = decide.not_the_singleton(Key("dpf-operator-system", "dpfoperatorconfig"))
    assert ("False", "NotTheSingleton") == (said.status, said.reason)
    assert "dpf-operator-system/dpfoperatorconfig" in said.message
