"""The kinds of Kubernetes that this project reads or writes, as far as it does so.

Fields that nobody here reads are not modelled and skipped while decoding. The kinds of this
project itself are in ``dpucluster.api``.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from dpucluster.api import contract
from dpucluster.api.dpfoperatorconfig import DPFOperatorConfig
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import ObjectMeta, PartialObject
from dpucluster.kube.resource import Resource


class Secret(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A Secret; ``data`` as on the wire, in base64. Never shown by ``repr``."""

    metadata: ObjectMeta
    type: str = ""
    data: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Secret({self.metadata.key}, keys={sorted(self.data)})"

    def value(self, key: str) -> bytes | None:
        """The decoded value under ``key``; None when there is none (or it is no base64)."""
        try:
            return base64.b64decode(self.data[key], validate=True)
        except (KeyError, binascii.Error):
            return None


class LeaseSpec(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec`` of a Lease; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class ObjectReference(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What an Event is about."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class Event(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """events.k8s.io/v1 Event."""

    metadata: ObjectMeta
    event_time: str | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""
    action: str = ""
    reason: str = ""
    regarding: ObjectReference = ObjectReference()
    note: str = ""
    type: str = ""


class DPUClusterReference(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``spec.cluster`` of a DPU: the DPUCluster it joins."""

    name: str = ""
    namespace: str = ""


class DPUSpec(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``spec`` of a DPU as far as the deletion guard looks."""

    cluster: DPUClusterReference = DPUClusterReference()


class DPU(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """NVIDIA's DPU (provisioning.dpu.nvidia.com); its CRD need not be installed."""

    metadata: ObjectMeta
    spec: DPUSpec = DPUSpec()


DPUCLUSTERS: Final = Resource(
    DPUCluster, contract.PROVISIONING_GROUP, contract.VERSION, "dpuclusters", "DPUCluster"
)
DPFOPERATORCONFIGS: Final = Resource(
    DPFOperatorConfig,
    contract.OPERATOR_GROUP,
    contract.VERSION,
    "dpfoperatorconfigs",
    "DPFOperatorConfig",
)
DPUS: Final = Resource(DPU, contract.PROVISIONING_GROUP, contract.VERSION, "dpus", "DPU")
SECRETS: Final = Resource(Secret, "", "v1", "secrets", "Secret")
SECRETS_METADATA: Final = SECRETS.as_metadata()
NAMESPACES: Final = Resource(PartialObject, "", "v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = Resource(
    PartialObject, "", "v1", "nodes", "Node", namespaced=False, metadata_only=True
)
LEASES: Final = Resource(Lease, "coordination.k8s.io", "v1", "leases", "Lease")
EVENTS: Final = Resource(Event, "events.k8s.io", "v1", "events", "Event")
CRDS: Final[Resource[dict[str, Any]]] = Resource(
    dict[str, Any],
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
SELF_SUBJECT_ACCESS_REVIEWS: Final[Resource[dict[str, Any]]] = Resource(
    dict[str, Any],
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)


def reference(resource: Resource[Any], metadata: ObjectMeta) -> ObjectReference:
    """What an Event about that object carries."""
    return ObjectReference(
        api_version=resource.api_version,
        kind=resource.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
    )
