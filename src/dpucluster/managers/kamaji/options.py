"""How the Kamaji manager makes control planes; the flags of ``dpucluster run``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal

DEFAULT_IMAGE: Final = "ghcr.io/dpucluster/keepalived:2.2.7"
"""Made from ``deploy/image/keepalived``; installations name their own copy by digest."""

MAX_REPLICAS: Final = 3
"""API servers of one control plane unless told otherwise: enough to lose one node while another is
being upgraded."""


def _requests(cpu: str, memory: str) -> Mapping[str, str]:
    return {"cpu": cpu, "memory": memory}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KamajiOptions:
    """Values of NVIDIA DPF's manager, where it has them.

    Attributes:
        datastore: Kamaji's DataStore for new control planes.
        default_version: Kubernetes version of a DPUCluster that names none.
        replicas: API servers of each control plane; 0: as many as there are nodes for them, three
            at most.
        placement: ``control-plane``: on nodes with that role (or ``master``) only; ``any``.
        service_cidr: Of the tenants' Services.
        pod_cidr: Of the tenants' pods.
        admission_controllers: Enabled in the tenants beside Kubernetes' own defaults.
        addons: Kamaji's add-ons, of ``coreDNS`` and ``kubeProxy``.
        registry: For Kubernetes' images; empty: Kamaji's default.
        requests: Of CPU and memory, for ``apiServer``, ``controllerManager`` and ``scheduler``.
        keepalived_image: With keepalived, curl and a shell; best pinned by digest.
        keepalived_pull_secrets: Names of Secrets in the namespace of each DPUCluster.
        keepalived_unicast: Announce to each node by itself where multicast does not pass.
    """

    datastore: str = "default"
    default_version: str = "v1.30.2"
    replicas: int = 0
    placement: Literal["control-plane", "any"] = "control-plane"
    service_cidr: str = "10.96.0.0/16"
    pod_cidr: str = "10.244.0.0/16"
    admission_controllers: tuple[str, ...] = ("ResourceQuota", "LimitRanger")
    addons: tuple[str, ...] = ("coreDNS", "kubeProxy")
    registry: str = ""
    requests: Mapping[str, Mapping[str, str]] = dataclasses.field(
        default_factory=lambda: {
            "apiServer": _requests("250m", "512Mi"),
            "controllerManager": _requests("125m", "256Mi"),
            "scheduler": _requests("125m", "256Mi"),
        }
    )
    keepalived_image: str = DEFAULT_IMAGE
    keepalived_pull_secrets: tuple[str, ...] = ()
    keepalived_unicast: bool = False
