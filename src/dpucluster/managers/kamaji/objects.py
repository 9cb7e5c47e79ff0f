"""The Service and the TenantControlPlane of one cluster, as they are wanted. Pure."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from dpucluster.managers.kamaji import nodes, schema
from dpucluster.managers.kamaji.kinds import (
    API_PORT_NAME,
    CONTROL_PLANES,
    LABEL_HOSTNAME,
    LABEL_KAMAJI_NAME,
    SERVICES,
    Service,
    TenantControlPlane,
)
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.managers.kamaji.plan import API_PORT, NODE_PORT, Plan
from dpucluster.sdk import LABEL_CLUSTER, Child

LABEL_TENANT: Final = "tenant.clastix.io"
"""NVIDIA's manager puts it there; its dashboards look for it."""

DEFAULT_SERVICE_CIDR: Final = "10.96.0.0/16"
DNS_HOST: Final = 10
"""kubeadm's place for the cluster's DNS: the tenth address of the Services' network."""


def service(observed: Observed, plan: Plan) -> Child[Service]:
    """The Service that Kamaji takes over.

    Made again, it gets the port of the control plane that is there; the port that Kamaji then
    writes into it, and the selector, are Kamaji's and not kept up from here.
    """
    kept = {
        "type": plan.service_type,
        "externalTrafficPolicy": "Local" if plan.service_type == NODE_PORT else "Cluster",
        "ipFamilyPolicy": "PreferDualStack",
    }  # why Local: see ``nodes``; a virtual IP may be of the family that is not the cluster's first
    port: dict[str, Any] = {"name": API_PORT_NAME, "protocol": "TCP", "port": API_PORT}
    control_plane = observed.control_plane
    if control_plane is not None and control_plane.port:
        port |= {"port": control_plane.port, "targetPort": control_plane.port}
        if plan.service_type == NODE_PORT and control_plane.service_type == NODE_PORT:
            port["nodePort"] = control_plane.port
    name = observed.cluster.metadata.name
    return Child(
        SERVICES,
        name,
        content={"spec": {**kept, "selector": {LABEL_KAMAJI_NAME: name}, "ports": [port]}},
        kept={"spec": kept},
        # Kamaji makes it again when it is quicker than we are
        makers=(control_plane.metadata.uid,) if control_plane is not None else (),
    )


def control_plane(observed: Observed, plan: Plan) -> Child[TenantControlPlane] | None:
    """The TenantControlPlane; None while its address or port is not known."""
    if not plan.address or not plan.port or not plan.version.text:
        return None
    options = observed.options
    name = observed.cluster.metadata.name
    spec = {
        "dataStore": data_store(observed),
        "controlPlane": {
            "deployment": _deployment(name, plan, options),
            "service": {
                "serviceType": plan.service_type,
                # Kamaji replaces the Service's labels by its own and these
                "additionalMetadata": {"labels": _labels(name)},
            },
        },
        "kubernetes": {
            "version": plan.version.text,
            "kubelet": {"cgroupfs": "systemd"},
            "admissionControllers": list(options.admission_controllers),
        },
        "networkProfile": {"address": plan.address, "port": plan.port, **_networks(observed)},
        "addons": {addon: {} for addon in options.addons},
    }
    fitting = schema.fit({"spec": spec}, observed.schema)
    return Child(CONTROL_PLANES, name, content=fitting, labels={LABEL_TENANT: name})


def _deployment(name: str, plan: Plan, options: KamajiOptions) -> dict[str, Any]:
    placement = plan.placement
    found: dict[str, Any] = {
        "replicas": placement.replicas,
        "tolerations": nodes.tolerations(),
        "topologySpreadConstraints": [_spread(name)],
        "additionalMetadata": {"labels": _labels(name)},
        "podAdditionalMetadata": {"labels": {LABEL_CLUSTER: name}},
        "resources": {
            component: {"requests": dict(requests)}
            for component, requests in options.requests.items()
        },
    }
    if affinity := nodes.affinity(placement):
        found["affinity"] = affinity
    if placement.selector:
        found["nodeSelector"] = dict(placement.selector)
    if options.registry:
        found["registrySettings"] = {"registry": options.registry}
    return found


def _spread(name: str) -> dict[str, Any]:
    """One API server on each node; a cordoned or dead node does not count."""
    return {
        "maxSkew": 1,
        "topologyKey": LABEL_HOSTNAME,
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {LABEL_KAMAJI_NAME: name}},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _labels(name: str) -> dict[str, str]:
    return {LABEL_TENANT: name, LABEL_CLUSTER: name}


def data_store(observed: Observed) -> str:
    """The DataStore of a control plane that is there, which others may have moved; else ours."""
    was = observed.control_plane
    return (was.data_store if was is not None else "") or observed.options.datastore


def _networks(observed: Observed) -> dict[str, Any]:
    """Those that a control plane was made with, for life; else as the options say."""
    was, options = observed.control_plane, observed.options
    service_cidr = (was.service_cidr if was is not None else "") or options.service_cidr
    pod_cidr = (was.pod_cidr if was is not None else "") or options.pod_cidr
    found: dict[str, Any] = {"serviceCidr": service_cidr, "podCidr": pod_cidr}
    if service_cidr != DEFAULT_SERVICE_CIDR:
        found["dnsServiceIPs"] = [str(ipaddress.ip_network(service_cidr)[DNS_HOST])]
    return found
