"""What a cluster manager is written against; a third party imports this package and no other.

Start with ``ClusterManager`` and ``Outcome``. ``host`` and ``pipeline`` run managers and are not
part of the contract.
"""

from dpucluster.api.contract import (
    FINALIZER_MANAGER,
    KEY_ADMIN_CONF,
    KEY_SUPER_ADMIN_CONF,
    LABEL_CLUSTER,
    TYPE_KAMAJI,
    TYPE_STATIC,
)
from dpucluster.api.dpucluster import (
    ConditionType,
    DPUCluster,
    DPUClusterSpec,
    DPUClusterStatus,
    Phase,
)
from dpucluster.api.meta import Condition, Key, ObjectMeta, OwnerReference
from dpucluster.kube.kinds import DPUS
from dpucluster.sdk.outcome import Lifecycle, Notice, Outcome, condition
from dpucluster.sdk.stage import ClusterManager, Context, ManagerStage, Stage
from dpucluster.tenant.diagnosis import Diagnosis, Facts
from dpucluster.tenant.health import Health, is_down
from dpucluster.tenant.problem import NEW_KUBECONFIG_FAILING, Problem
from dpucluster.tenant.state import TenantState

__all__ = [
    "DPUS",
    "FINALIZER_MANAGER",
    "KEY_ADMIN_CONF",
    "KEY_SUPER_ADMIN_CONF",
    "LABEL_CLUSTER",
    "NEW_KUBECONFIG_FAILING",
    "TYPE_KAMAJI",
    "TYPE_STATIC",
    "ClusterManager",
    "Condition",
    "ConditionType",
    "Context",
    "DPUCluster",
    "DPUClusterSpec",
    "DPUClusterStatus",
    "Diagnosis",
    "Facts",
    "Health",
    "Key",
    "Lifecycle",
    "ManagerStage",
    "Notice",
    "ObjectMeta",
    "Outcome",
    "OwnerReference",
    "Phase",
    "Problem",
    "Stage",
    "TenantState",
    "condition",
    "is_down",
]
