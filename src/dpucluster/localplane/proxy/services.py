"""Services, EndpointSlices and TenantControlPlanes, as far as forwarding needs them."""

from __future__ import annotations

from typing import Final

import msgspec

from dpucluster.api.meta import ObjectMeta
from dpucluster.kube.resource import Resource

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: whose endpoints they are."""


class Wire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base of what is read from the wire."""


class ServicePort(Wire, frozen=True):
    """One port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class ServiceSpec(Wire, frozen=True):
    """``spec`` of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: tuple[ServicePort, ...] = ()
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    load_balancer_class: str | None = None


class Ingress(Wire, frozen=True, omit_defaults=True):
    """An address of a load balancer."""

    ip: str = ""


class LoadBalancerStatus(Wire, frozen=True, omit_defaults=True):
    """The addresses of a load balancer."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Wire, frozen=True, omit_defaults=True):
    """``status`` of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Wire, frozen=True):
    """v1 Service."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def addresses(self) -> list[str]:
        """Of its load balancer."""
        return [each.ip for each in self.status.load_balancer.ingress if each.ip]


class EndpointConditions(Wire, frozen=True):
    """How an endpoint is; what is not said counts as well."""

    ready: bool | None = None


class Endpoint(Wire, frozen=True):
    """One endpoint."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None


class EndpointPort(Wire, frozen=True):
    """One port of the endpoints."""

    port: int | None = None
    name: str | None = None


class EndpointSlice(Wire, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: ObjectMeta
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class ControlPlaneStatus(Wire, frozen=True):
    """``status`` of a TenantControlPlane."""

    control_plane_endpoint: str = ""


class TenantControlPlane(Wire, frozen=True):
    """kamaji.clastix.io/v1alpha1 TenantControlPlane."""

    metadata: ObjectMeta
    status: ControlPlaneStatus = ControlPlaneStatus()


SERVICES: Final = Resource(Service, "", "v1", "services", "Service")
ENDPOINT_SLICES: Final = Resource(
    EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"
)
TENANTS: Final = Resource(
    TenantControlPlane,
    "kamaji.clastix.io",
    "v1alpha1",
    "tenantcontrolplanes",
    "TenantControlPlane",
)
