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
    ClusterEndpoint,
    ConditionType,
    DPUCluster,
    DPUClusterSpec,
    DPUClusterStatus,
    Keepalived,
    Phase,
)
from dpucluster.api.meta import Condition, Key, ObjectMeta, OwnerReference, PartialObject, listed
from dpucluster.kube.kinds import CRDS, DPUCLUSTERS, DPUS, SECRETS, SECRETS_METADATA, Secret
from dpucluster.kube.resource import Resource
from dpucluster.runtime.store import Delta
from dpucluster.sdk.children import Child, ensure, is_owned, remove
from dpucluster.sdk.drift import fingerprint
from dpucluster.sdk.outcome import Lifecycle, Notice, Outcome, condition
from dpucluster.sdk.refusals import Refusal, RefusalKind
from dpucluster.sdk.stage import ClusterManager, Context, ManagerStage, Stage
from dpucluster.sdk.watches import Cached, Watch, owners
from dpucluster.tenant.diagnosis import Diagnosis, Facts
from dpucluster.tenant.health import Health, is_down
from dpucluster.tenant.problem import NEW_KUBECONFIG_FAILING, Problem
from dpucluster.tenant.state import TenantState

__all__ = [
    "CRDS",
    "DPUCLUSTERS",
    "DPUS",
    "FINALIZER_MANAGER",
    "KEY_ADMIN_CONF",
    "KEY_SUPER_ADMIN_CONF",
    "LABEL_CLUSTER",
    "NEW_KUBECONFIG_FAILING",
    "SECRETS",
    "SECRETS_METADATA",
    "TYPE_KAMAJI",
    "TYPE_STATIC",
    "Cached",
    "Child",
    "ClusterEndpoint",
    "ClusterManager",
    "Condition",
    "ConditionType",
    "Context",
    "DPUCluster",
    "DPUClusterSpec",
    "DPUClusterStatus",
    "Delta",
    "Diagnosis",
    "Facts",
    "Health",
    "Keepalived",
    "Key",
    "Lifecycle",
    "ManagerStage",
    "Notice",
    "ObjectMeta",
    "Outcome",
    "OwnerReference",
    "PartialObject",
    "Phase",
    "Problem",
    "Refusal",
    "RefusalKind",
    "Resource",
    "Secret",
    "Stage",
    "TenantState",
    "Watch",
    "condition",
    "ensure",
    "fingerprint",
    "is_down",
    "is_owned",
    "listed",
    "owners",
    "remove",
]
