"""DPFOperatorConfig (operator.dpu.nvidia.com/v1alpha1) as frozen structs.

Held to ``deploy/crds/operator.dpu.nvidia.com_dpfoperatorconfigs.yaml`` by a parity test. As in
``api.dpucluster``, what the schema restricts is told here and not enforced while reading.

A component's block means something by being there at all (``staticClusterManager: {}`` switches
the static manager on), so a missing block is None and an empty one is not.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from dpucluster.api import image as image_grammar
from dpucluster.api.meta import Condition, Key, ObjectMeta

Image = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": image_grammar.PATTERN})]
"""An image reference; empty: the component's own default."""
Chart = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^(oci://|https://).+$"})]
"""A chart's URL; empty: the component's own default."""
Mtu = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 9216})]


class ConfigConditionType(enum.StrEnum):
    """The condition types of a DPFOperatorConfig."""

    IMAGE_PULL_SECRETS_RECONCILED = "ImagePullSecretsReconciled"
    SYSTEM_COMPONENTS_RECONCILED = "SystemComponentsReconciled"
    SYSTEM_COMPONENTS_READY = "SystemComponentsReady"
    READY = "Ready"
    ACCEPTED = "Accepted"
    """Only on a config that is not the one in force, and there False."""


class Overrides(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.overrides``."""

    paused: bool = False


class Networking(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.networking``: for NVIDIA DPF's components, of which none is managed here."""

    control_plane_mtu: Mtu = msgspec.field(name="controlPlaneMTU", default=1500)
    high_speed_mtu: Mtu = msgspec.field(name="highSpeedMTU", default=1500)


class Switch(
    msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True
):
    """What every component's block has."""

    disable: bool = False


class Component(Switch, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """A component that runs from an image."""

    image: Image = ""


class ChartedComponent(
    Component, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True
):
    """A component that runs from an image and is installed by a chart."""

    helm_chart: Chart = ""


class Flannel(Switch, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """``spec.flannel``: a chart only."""

    helm_chart: Chart = ""


class ProvisioningController(
    Component, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True
):
    """``spec.provisioningController``: here the lifecycle controller."""

    bfb_pvc_name: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1})] = msgspec.field(
        name="bfbPVCName"
    )
    dms_timeout: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})] | None = None


class Collectors(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.dpuDetector.collectors``."""

    ps_id: bool = msgspec.field(name="psID", default=False)


class DPUDetector(
    Component, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True
):
    """``spec.dpuDetector``."""

    collectors: Collectors | None = None


class DPFOperatorConfigSpec(
    msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True
):
    """``spec``: one block for each component that NVIDIA DPF v24.10 knows."""

    provisioning_controller: ProvisioningController
    overrides: Overrides | None = None
    networking: Networking = Networking()
    image_pull_secrets: tuple[str, ...] = ()
    static_cluster_manager: Component | None = None
    kamaji_cluster_manager: Component | None = None
    dpu_service_controller: Component | None = None
    service_set_controller: ChartedComponent | None = None
    dpu_detector: DPUDetector | None = None
    multus: ChartedComponent | None = None
    sriov_device_plugin: ChartedComponent | None = None
    nvipam: ChartedComponent | None = None
    ovs_cni: ChartedComponent | None = msgspec.field(name="ovsCNI", default=None)
    sfc_controller: ChartedComponent | None = None
    ovs_helper: ChartedComponent | None = None
    flannel: Flannel | None = None


class DPFOperatorConfigStatus(
    msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True
):
    """``status``. ``observed_generation`` is 0 until the operator has looked."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class DPFOperatorConfig(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One DPFOperatorConfig as the API server holds it. The schema allows it to have no spec."""

    metadata: ObjectMeta
    spec: DPFOperatorConfigSpec | None = None
    status: DPFOperatorConfigStatus = DPFOperatorConfigStatus()

    @property
    def key(self) -> Key:
        """The object's key."""
        return self.metadata.key

    @property
    def is_paused(self) -> bool:
        """Whether components are to be left as they are."""
        return bool(self.spec and self.spec.overrides and self.spec.overrides.paused)

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((c for c in self.status.conditions if c.type == type_), None)
