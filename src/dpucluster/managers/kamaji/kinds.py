"""The kinds the manager reads and makes, as far as it reads them.

``spec`` of what is made stays as it is on the wire, for it is compared with what is wanted.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dpucluster.sdk import ObjectMeta, Resource

KAMAJI_GROUP: Final = "kamaji.clastix.io"
API_PORT_NAME: Final = "kube-apiserver"
"""The Service port that Kamaji looks for."""

LABEL_KAMAJI_NAME: Final = "kamaji.clastix.io/name"
"""Kamaji puts the control plane's name there, on its pods, too."""
LABELS_CONTROL_PLANE: Final = (
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/control-plane",
)
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"


class ServicePort(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec.ports[]`` of a Service."""

    name: str = ""
    port: int = 0
    node_port: int = 0
    protocol: str = ""
    target_port: int | str = 0


class ServiceSpec(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``spec`` of a Service."""

    type: str = ""
    external_traffic_policy: str = ""
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    internal_traffic_policy: str = ""
    ip_family_policy: str = ""
    selector: dict[str, str] = {}


class Ingress(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a load balancer is reached."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status.loadBalancer`` of a Service."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``status`` of a Service."""

    load_balancer: LoadBalancer = LoadBalancer()


class Service(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The Service in front of one control plane."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def api_port(self) -> ServicePort | None:
        """The port that leads to the API server."""
        return next((p for p in self.spec.ports if p.name == API_PORT_NAME), None)


class KubernetesVersion(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status.kubernetesResources.version``: what runs, and how it is."""

    version: str = ""
    status: str = ""


class KubernetesResources(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status.kubernetesResources``."""

    version: KubernetesVersion = KubernetesVersion()


class TenantControlPlaneStatus(
    msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True
):
    """``status`` of a TenantControlPlane."""

    control_plane_endpoint: str = ""
    kubernetes_resources: KubernetesResources = KubernetesResources()


class TenantControlPlane(msgspec.Struct, frozen=True, omit_defaults=True):
    """One control plane of Kamaji."""

    metadata: ObjectMeta
    spec: dict[str, Any] = {}
    status: TenantControlPlaneStatus = TenantControlPlaneStatus()

    @property
    def version(self) -> str:
        """The version asked for."""
        return str(self._at("kubernetes", "version") or "")

    @property
    def port(self) -> int:
        """The port it serves on; 0 when none is named."""
        return int(self._at("networkProfile", "port") or 0)

    @property
    def address(self) -> str:
        """The address it serves on."""
        return str(self._at("networkProfile", "address") or "")

    @property
    def data_store(self) -> str:
        """Where its data are kept."""
        return str(self._at("dataStore") or "")

    @property
    def service_cidr(self) -> str:
        """The network of its Services."""
        return str(self._at("networkProfile", "serviceCidr") or "")

    @property
    def pod_cidr(self) -> str:
        """The network of its pods."""
        return str(self._at("networkProfile", "podCidr") or "")

    @property
    def service_type(self) -> str:
        """How it is exposed."""
        return str(self._at("controlPlane", "service", "serviceType") or "")

    @property
    def installed(self) -> str:
        """The version that has been up once; empty before the first time."""
        return self.status.kubernetes_resources.version.version

    @property
    def state(self) -> str:
        """Kamaji's word for how it is; empty while Kamaji has not looked at it."""
        return self.status.kubernetes_resources.version.status

    def _at(self, *path: str) -> Any:
        found: Any = self.spec
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found


class DataStoreStatus(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status`` of a DataStore; older releases of Kamaji say nothing of readiness."""

    ready: bool | None = None


class DataStore(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where Kamaji keeps the tenants' data."""

    metadata: ObjectMeta
    status: DataStoreStatus = DataStoreStatus()


class ConfigMap(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Configuration of keepalived."""

    metadata: ObjectMeta
    data: dict[str, str] = {}


class DaemonSetStatus(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``status`` of a DaemonSet."""

    observed_generation: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0


class DaemonSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """keepalived on the nodes of one cluster."""

    metadata: ObjectMeta
    spec: dict[str, Any] = {}
    status: DaemonSetStatus = DaemonSetStatus()


class NodeAddress(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status.addresses[]`` of a Node."""

    type: str = ""
    address: str = ""


class NodeStatus(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status`` of a Node."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A node of the management cluster."""

    metadata: ObjectMeta
    status: NodeStatus = NodeStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its IP addresses, internal ones first."""
        wanted = ("InternalIP", "ExternalIP")
        found = [a for a in self.status.addresses if a.type in wanted]
        return tuple(a.address for a in sorted(found, key=lambda a: wanted.index(a.type)))


class Waiting(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """How a container ended."""

    exit_code: int = 0


class ContainerState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``state`` of a container."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``status.containerStatuses[]`` of a Pod."""

    name: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodCondition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``status.conditions[]`` of a Pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``status`` of a Pod."""

    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A pod of a control plane or of keepalived."""

    metadata: ObjectMeta
    status: PodStatus = PodStatus()


SERVICES: Final = Resource(Service, "", "v1", "services", "Service")
CONFIG_MAPS: Final = Resource(ConfigMap, "", "v1", "configmaps", "ConfigMap")
DAEMON_SETS: Final = Resource(DaemonSet, "apps", "v1", "daemonsets", "DaemonSet")
NODES: Final = Resource(Node, "", "v1", "nodes", "Node", namespaced=False)
PODS: Final = Resource(Pod, "", "v1", "pods", "Pod")
CONTROL_PLANES: Final = Resource(
    TenantControlPlane, KAMAJI_GROUP, "v1alpha1", "tenantcontrolplanes", "TenantControlPlane"
)
DATA_STORES: Final = Resource(
    DataStore, KAMAJI_GROUP, "v1alpha1", "datastores", "DataStore", namespaced=False
)
