"""The components a DPFOperatorConfig knows, once each. Pure.

Names and defaults are NVIDIA DPF v24.10's (``internal/operator/inventory/variables.go``):
everything is on but the static cluster manager, and a block that is present decides by its
``disable`` alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Final

from dpucluster.api import contract
from dpucluster.api import dpfoperatorconfig as config
from dpucluster.api.dpfoperatorconfig import DPFOperatorConfigSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Component:
    """One component: DPF's name for it, the attribute of the spec, and its default."""

    name: str
    attribute: str
    on_by_default: bool = True


COMPONENTS: Final = (
    Component(contract.COMPONENT_LIFECYCLE, "provisioning_controller"),
    Component("dpuservice-controller", "dpu_service_controller"),
    Component("servicechainset-controller", "service_set_controller"),
    Component("dpudetector", "dpu_detector"),
    Component("flannel", "flannel"),
    Component("multus", "multus"),
    Component("sriov-device-plugin", "sriov_device_plugin"),
    Component("ovs-cni", "ovs_cni"),
    Component("nvidia-k8s-ipam", "nvipam"),
    Component("sfc-controller", "sfc_controller"),
    Component(contract.COMPONENT_KAMAJI, "kamaji_cluster_manager"),
    Component(contract.COMPONENT_STATIC, "static_cluster_manager", on_by_default=False),
    Component("ovs-helper", "ovs_helper"),
)


def wanted(spec: DPFOperatorConfigSpec | None, *, managed: Collection[str]) -> frozenset[str]:
    """Which of the ``managed`` components should run."""
    return frozenset(c.name for c in COMPONENTS if c.name in managed and is_on(c, spec))


def not_managed(spec: DPFOperatorConfigSpec | None, *, managed: Collection[str]) -> tuple[str, ...]:
    """Components the user asks for by name and that this installation does not run."""
    return tuple(
        c.name
        for c in COMPONENTS
        if c.name not in managed and _block(c, spec) is not None and is_on(c, spec)
    )


def is_on(component: Component, spec: DPFOperatorConfigSpec | None) -> bool:
    """The enable/disable table: a present block overrides the default, absent ``disable`` is on."""
    block = _block(component, spec)
    return component.on_by_default if block is None else not block.disable


def _block(component: Component, spec: DPFOperatorConfigSpec | None) -> config.Switch | None:
    block: config.Switch | None = getattr(spec, component.attribute, None)
    return block
