"""The flags of ``dpucluster run`` that say how Kamaji control planes are made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

import click

KEYS = {
    "kamaji_datastore": "datastore",
    "kamaji_default_version": "default_version",
    "kamaji_replicas": "replicas",
    "kamaji_placement": "placement",
    "kamaji_service_cidr": "service_cidr",
    "kamaji_pod_cidr": "pod_cidr",
    "kamaji_admission_controllers": "admission_controllers",
    "kamaji_addons": "addons",
    "kamaji_registry": "registry",
    "keepalived_image": "keepalived_image",
    "keepalived_pull_secrets": "keepalived_pull_secrets",
    "keepalived_unicast": "keepalived_unicast",
}
"""Flag → field of ``KamajiOptions``; the requests of each component are gathered besides."""
REQUESTS = {
    "kamaji_apiserver_requests": "apiServer",
    "kamaji_controller_manager_requests": "controllerManager",
    "kamaji_scheduler_requests": "scheduler",
}
DNS_HOST = 10
"""kubeadm's place for a cluster's DNS in the network of its Services."""
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


class Cidr(click.ParamType[str]):
    """A network such as 10.96.0.0/16."""

    name = "cidr"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The network; fails with what is accepted."""
        try:
            return str(ipaddress.ip_network(str(value)))
        except ValueError as error:
            self.fail(f"{error}; write a network such as 10.96.0.0/16", param, ctx)


class ServiceCidr(Cidr):
    """A network for Services, with room for the tenants' DNS at its usual place."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The network; fails with what it lacks."""
        found = super().convert(value, param, ctx)
        if ipaddress.ip_network(found).num_addresses <= DNS_HOST:
            self.fail(f"{found} has no tenth address for the DNS of the tenants", param, ctx)
        return found


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them; an empty text is none."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names."""
        del param, ctx
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class Requests(click.ParamType[Mapping[str, str]]):
    """Resource requests such as cpu=250m,memory=512Mi."""

    name = "requests"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Mapping[str, str]:
        """Quantity by resource; fails with what is accepted."""
        found = dict(part.partition("=")[::2] for part in str(value).split(",") if part)
        for resource, quantity in found.items():
            if resource not in ("cpu", "memory") or not QUANTITY.fullmatch(quantity):
                self.fail(f"{value!r} is no request; write cpu=250m,memory=512Mi", param, ctx)
        return found


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, show_default=True, **settings)


OPTIONS = (
    _option("--kamaji-datastore", default="default", help="Kamaji's DataStore for control planes."),
    _option(
        "--kamaji-default-version",
        default="v1.30.2",
        help="Kubernetes version of a Kamaji DPUCluster without spec.version.",
    ),
    _option(
        "--kamaji-replicas",
        type=click.IntRange(0, 15),
        default=0,
        help="API servers of each control plane; 0: one for each node, three at most.",
    ),
    _option(
        "--kamaji-placement",
        type=click.Choice(["control-plane", "any"]),
        default="control-plane",
        help="On which nodes control planes and keepalived run.",
    ),
    _option(
        "--kamaji-service-cidr",
        type=ServiceCidr(),
        default="10.96.0.0/16",
        help="Of the tenants.",
    ),
    _option("--kamaji-pod-cidr", type=Cidr(), default="10.244.0.0/16", help="Of the tenants."),
    _option(
        "--kamaji-admission-controllers",
        type=Names(),
        default="ResourceQuota,LimitRanger",
        help="Admission controllers of the tenants.",
    ),
    _option(
        "--kamaji-addons",
        type=Names(),
        default="coreDNS,kubeProxy",
        help="Kamaji's add-ons in the tenants; empty: none.",
    ),
    _option("--kamaji-registry", default="", help="Registry of Kubernetes' images."),
    _option(
        "--kamaji-apiserver-requests",
        type=Requests(),
        default="cpu=250m,memory=512Mi",
        help="Resources that a tenant's API server asks for.",
    ),
    _option(
        "--kamaji-controller-manager-requests",
        type=Requests(),
        default="cpu=125m,memory=256Mi",
        help="The same for its controller manager.",
    ),
    _option(
        "--kamaji-scheduler-requests",
        type=Requests(),
        default="cpu=125m,memory=256Mi",
        help="The same for its scheduler.",
    ),
    _option(
        "--keepalived-image",
        default="ghcr.io/dpucluster/keepalived:2.2.7",
        help="Image with keepalived, curl and a shell; best pinned by digest.",
    ),
    _option(
        "--keepalived-pull-secret",
        "keepalived_pull_secrets",
        multiple=True,
        help="Pull secret in the namespace of each DPUCluster; repeatable.",
    ),
    _option(
        "--keepalived-unicast",
        is_flag=True,
        help="Announce virtual IPs to each node by itself, where multicast does not pass.",
    ),
)


def kamaji_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command, in the order above."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def take(flags: dict[str, Any]) -> dict[str, Any]:
    """Take the flags out of ``flags``; the fields of ``KamajiOptions`` they stand for."""
    found = {field: flags.pop(flag) for flag, field in KEYS.items()}
    found["requests"] = {component: flags.pop(flag) for flag, component in REQUESTS.items()}
    return found
