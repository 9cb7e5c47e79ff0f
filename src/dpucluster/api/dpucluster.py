"""DPUCluster (provisioning.dpu.nvidia.com/v1alpha1) as frozen structs.

Held to ``deploy/crds/provisioning.dpu.nvidia.com_dpuclusters.yaml`` by a parity test. What the
schema restricts (ranges, patterns) is told here and not enforced while reading: the API server
has admitted the object, perhaps by NVIDIA's schema (up to 3000 nodes in its newer releases) or by
an older one, and an object that cannot be read is one whose user is told nothing.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from dpucluster.api.meta import Condition, Key, ObjectMeta


class Phase(enum.StrEnum):
    """``status.phase``: derived by the lifecycle controller, never stored as truth."""

    PENDING = "Pending"
    CREATING = "Creating"
    READY = "Ready"
    NOT_READY = "NotReady"
    FAILED = "Failed"

    @classmethod
    def _missing_(cls, value: object) -> Phase:
        """A phase this version does not know reads as Pending: the lifecycle derives it anew."""
        del value
        return cls.PENDING


class ConditionType(enum.StrEnum):
    """The condition types this project writes."""

    CREATED = "Created"
    READY = "Ready"
    KEEPALIVED_READY = "KeepalivedReady"
    DELETION_COMPLETED = "DeletionCompleted"


class Keepalived(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.clusterEndpoint.keepalived``: a virtual IP in front of the control plane."""

    vip: str
    virtual_router_id: Annotated[
        int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": 255})
    ] = msgspec.field(name="virtualRouterID")
    interface: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1})]
    node_selector: dict[str, str] = {}


class ClusterEndpoint(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.clusterEndpoint``."""

    keepalived: Keepalived | None = None


class DPUClusterSpec(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec``. ``kubeconfig`` is the name of a Secret in the DPUCluster's namespace."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"^(kamaji|static|[^/]+/.*)$"})]
    max_nodes: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": 1000})] = (
        1000
    )
    version: str = ""
    kubeconfig: str = ""
    cluster_endpoint: ClusterEndpoint | None = None


class DPUClusterStatus(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``status``. ``nodes_count`` is None until nodes have been counted."""

    phase: Phase = Phase.PENDING
    conditions: tuple[Condition, ...] = ()
    version: str = ""
    nodes_count: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})] | None = None


class DPUCluster(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One DPUCluster as the API server holds it."""

    metadata: ObjectMeta
    spec: DPUClusterSpec
    status: DPUClusterStatus = DPUClusterStatus()

    @property
    def key(self) -> Key:
        """The object's key."""
        return self.metadata.key

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((c for c in self.status.conditions if c.type == type_), None)
