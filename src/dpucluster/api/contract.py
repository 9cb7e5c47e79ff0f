"""Names that other programs rely on: NVIDIA DPF's, and ours where DPF has none.

Changing one of these breaks somebody else's controller, dashboard or script. Facts about DPF:
``docs/compatibility.md``.
"""

from __future__ import annotations

from typing import Final

PROVISIONING_GROUP: Final = "provisioning.dpu.nvidia.com"
OPERATOR_GROUP: Final = "operator.dpu.nvidia.com"
VERSION: Final = "v1alpha1"

TYPE_STATIC: Final = "static"
TYPE_KAMAJI: Final = "kamaji"

FINALIZER_MANAGER: Final = "provisioning.dpu.nvidia.com/cluster-manager-clean-up"
"""Held by the cluster manager until everything it made is gone."""
FINALIZER_LIFECYCLE: Final = "provisioning.dpu.nvidia.com/cluster-manager-internal-clean-up"
"""Held by the lifecycle controller (NVIDIA: the provisioning controller)."""
FINALIZER_OPERATOR: Final = "dpu.nvidia.com/dpfoperatorconfig"

LABEL_CLUSTER: Final = "dpu.nvidia.com/cluster"
LABEL_COMPONENT: Final = "dpu.nvidia.com/component"
ANNOTATION_PAUSED: Final = "provisioning.dpu.nvidia.com/paused"
"""``"true"`` on a DPUCluster: no role changes it; deletion goes on all the same."""

KEY_ADMIN_CONF: Final = "admin.conf"
KEY_SUPER_ADMIN_CONF: Final = "super-admin.conf"
"""Key of DPF v25.7 and later."""

OPERATOR_NAMESPACE: Final = "dpf-operator-system"
OPERATOR_CONFIG_NAME: Final = "dpfoperatorconfig"

FIELD_MANAGER: Final = "dpucluster"

COMPONENT_LIFECYCLE: Final = "provisioning-controller"
COMPONENT_STATIC: Final = "static-cluster-manager"
COMPONENT_KAMAJI: Final = "kamaji-cluster-manager"
COMPONENT_OPERATOR: Final = "dpf-operator"


REASON_WAITING_FOR_DPUS: Final = "WaitingForDPUs"
"""Of ``DeletionCompleted``: managers take nothing apart while it stands."""


def lease_name(component: str) -> str:
    """Name of the Lease that makes ``component`` the only one (NVIDIA DPF v26.4 and later)."""
    return f"{component}.dpu.nvidia.com"
