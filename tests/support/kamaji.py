"""Builders for what the Kamaji manager sees: nodes, children, and the record of one look."""

from __future__ import annotations

from typing import Any

from dpucluster.api.dpucluster import ClusterEndpoint, DPUCluster, Keepalived
from dpucluster.api.meta import ObjectMeta
from dpucluster.managers.kamaji import kinds
from dpucluster.managers.kamaji.observation import Observed, SecretState
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.sdk.children import owner_reference
from tests.support import build

VIP = "10.0.0.100"
PORT = 31234
CHECKED = "10.96.0.20"
VERSION = "v1.30.2"
ROLE = "node-role.kubernetes.io/control-plane"
MADE = "2026-01-01T00:00:05Z"


def keepalived(
    *,
    vip: str = VIP,
    router: int = 51,
    interface: str = "eth0",
    node_selector: dict[str, str] | None = None,
) -> Keepalived:
    """The endpoint of the guide's manifest."""
    return Keepalived(vip, router, interface, node_selector or {})


def cluster(
    name: str = "c", *, endpoint: Keepalived | None = None, held: bool = True, **changes: Any
) -> DPUCluster:
    """A Kamaji cluster behind a virtual IP; ``held=False``: behind a load balancer."""
    wanted = (endpoint or keepalived()) if held else None
    changes.setdefault("version", VERSION)
    return build.cluster(
        name,
        type_="kamaji",
        cluster_endpoint=ClusterEndpoint(wanted) if wanted else None,
        **changes,
    )


def node(
    name: str = "a",
    *addresses: str,
    roles: tuple[str, ...] = (ROLE,),
    created: str = build.BEFORE,
    host: str = "",
    **labels: str,
) -> kinds.Node:
    """A node with the control-plane role and ``labels``."""
    own = labels | dict.fromkeys(roles, "")
    metadata = ObjectMeta(
        name=name, creation_timestamp=created, labels={kinds.LABEL_HOSTNAME: host or name, **own}
    )
    found = tuple(kinds.NodeAddress("InternalIP", a) for a in addresses)
    return kinds.Node(metadata, kinds.NodeStatus((*found, kinds.NodeAddress("Hostname", name))))


def nodes(count: int) -> tuple[kinds.Node, ...]:
    """``count`` control-plane nodes: n1 (10.0.0.1, fd00::1) and so on."""
    return tuple(node(f"n{i}", f"10.0.0.{i}", f"fd00::{i}") for i in range(1, count + 1))


def metadata(of: DPUCluster, name: str = "", **changes: Any) -> ObjectMeta:
    """Of a child of ``of``, named like it unless told otherwise."""
    changes.setdefault("creation_timestamp", MADE)
    return ObjectMeta(
        name=name or of.metadata.name,
        namespace=of.metadata.namespace,
        uid=f"uid-of-{name or of.metadata.name}",
        owner_references=(owner_reference(of),),
        **changes,
    )


def service(
    of: DPUCluster, *, type_: str = "NodePort", node_port: int = PORT, ip: str = "", host: str = ""
) -> kinds.Service:
    """The Service as the API server has it."""
    ingress = (kinds.Ingress(ip, host),) if ip or host else ()
    return kinds.Service(
        metadata(of),
        kinds.ServiceSpec(
            type=type_,
            external_traffic_policy="Local",
            ports=(kinds.ServicePort("kube-apiserver", port=6443, node_port=node_port),),
        ),
        kinds.ServiceStatus(kinds.LoadBalancer(ingress)),
    )


def check_service(of: DPUCluster) -> kinds.Service:
    """The Service by which keepalived asks, once it has an address."""
    spec = kinds.ServiceSpec(type="ClusterIP", cluster_ip=CHECKED)
    return kinds.Service(metadata(of, f"{of.metadata.name}-check"), spec)


def control_plane(
    of: DPUCluster,
    *,
    state: str = "Ready",
    installed: str = VERSION,
    version: str = VERSION,
    port: int = PORT,
    type_: str = "NodePort",
    **changes: Any,
) -> kinds.TenantControlPlane:
    """A TenantControlPlane in Kamaji's ``state``; ``installed=""``: never up so far."""
    spec = {
        "kubernetes": {"version": version},
        "networkProfile": {"address": VIP, "port": port},
        "controlPlane": {"service": {"serviceType": type_}},
    }
    resources = kinds.KubernetesResources(kinds.KubernetesVersion(installed, state))
    status = kinds.TenantControlPlaneStatus(f"{VIP}:{port}", resources)
    return kinds.TenantControlPlane(metadata(of, **changes), spec, status)


def data_store(name: str = "default", *, ready: bool | None = True) -> kinds.DataStore:
    """Kamaji's DataStore; ``ready=None``: a release that says nothing of it."""
    return kinds.DataStore(ObjectMeta(name=name), kinds.DataStoreStatus(ready))


def daemon_set(
    of: DPUCluster, *, desired: int = 3, ready: int = 3, updated: int = 3
) -> kinds.DaemonSet:
    """The pods of keepalived, by number."""
    status = kinds.DaemonSetStatus(1, desired, ready, updated)
    return kinds.DaemonSet(metadata(of, f"{of.metadata.name}-keepalived"), {}, status)


def observed(of: DPUCluster | None = None, **changes: Any) -> Observed:
    """A look at a cluster of which nothing is there yet, on three nodes, with a DataStore."""
    mine = cluster() if of is None else of
    options = {k: changes.pop(k) for k in KamajiOptions.__slots__ if k in changes}
    changes.setdefault("data_store", data_store())
    changes.setdefault("nodes", nodes(3))
    return Observed(cluster=mine, options=KamajiOptions(**options), **changes)


def running(of: DPUCluster | None = None, **changes: Any) -> Observed:
    """A look at a cluster of which everything is there and well."""
    mine = cluster(kubeconfig="c-admin-kubeconfig") if of is None else of
    changes.setdefault("service", service(mine))
    changes.setdefault("control_plane", control_plane(mine))
    changes.setdefault("check_service", check_service(mine))
    changes.setdefault("daemon_set", daemon_set(mine))
    changes.setdefault("secret", SecretState.COMPLETE)
    return observed(mine, **changes)
