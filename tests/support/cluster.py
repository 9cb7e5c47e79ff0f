"""Manifests with keyword modifiers, and waiting for what a controller makes of them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE

T = TypeVar("T")
Object = dict[str, Any]

NAMESPACE = "dpf-operator-system"
PAUSE = 0.1
"""Between two looks: short beside what is waited for, long beside what a look costs."""


def dpucluster(
    name: str,
    namespace: str = NAMESPACE,
    *,
    type_: str = "static",
    kubeconfig: str | None = None,
    **spec: Any,
) -> Object:
    """A DPUCluster; ``kubeconfig`` is the Secret's name (None: ``<name>-admin-kubeconfig``)."""
    wanted: Object = {"type": type_, **spec}
    if kubeconfig is None and type_ == "static":
        kubeconfig = secret_name(name)
    if kubeconfig:
        wanted["kubeconfig"] = kubeconfig
    return {
        "apiVersion": "provisioning.dpu.nvidia.com/v1alpha1",
        "kind": "DPUCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": wanted,
    }


def secret(name: str, namespace: str = NAMESPACE, **data: bytes | str) -> Object:
    """A Secret; a keyword's ``_`` stands for ``.`` (``admin_conf=…`` is the key ``admin.conf``)."""
    return raw_secret(name, namespace, {key.replace("_", "."): v for key, v in data.items()})


def raw_secret(name: str, namespace: str, data: Mapping[str, bytes | str]) -> Object:
    """A Secret with exactly these keys."""
    encoded = {
        key: base64.b64encode(v.encode() if isinstance(v, str) else v).decode()
        for key, v in data.items()
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": encoded,
    }


def operator_config(
    name: str = "dpfoperatorconfig", namespace: str = NAMESPACE, **spec: Any
) -> Object:
    """A DPFOperatorConfig as the guide has it; ``staticClusterManager=None`` removes a field."""
    wanted: Object = {
        "provisioningController": {"bfbPVCName": "bfb-pvc"},
        "staticClusterManager": {},
        **spec,
    }
    return {
        "apiVersion": "operator.dpu.nvidia.com/v1alpha1",
        "kind": "DPFOperatorConfig",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {key: value for key, value in wanted.items() if value is not None},
    }


def secret_name(cluster: str) -> str:
    """The Secret that ``dpucluster`` names unless told otherwise."""
    return f"{cluster}-admin-kubeconfig"


def condition(obj: Object | None, type_: str) -> Object:
    """The condition of that type, or an empty one."""
    found = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == type_), {})


def is_condition(type_: str, status: str, reason: str = "") -> Callable[[Object | None], bool]:
    """A predicate: the object has that condition (``reason``: any, when empty)."""

    def holds(obj: Object | None) -> bool:
        found = condition(obj, type_)
        return found.get("status") == status and reason in {"", found.get("reason")}

    return holds


def phase(obj: Object | None) -> str:
    """``status.phase``, or an empty string."""
    return str(((obj or {}).get("status") or {}).get("phase", ""))


def wait_until(
    read: Callable[[], T], holds: Callable[[T], bool], *, timeout: float = PATIENCE, what: str = ""
) -> T:
    """What ``read`` returns as soon as ``holds`` accepts it; fails with the last value."""
    end = time.monotonic() + timeout
    while True:
        value = read()
        if holds(value):
            return value
        if time.monotonic() > end:
            shown = json.dumps(value, indent=1, default=str)[:4000]
            message = f"not within {timeout:g} s: {what or holds}; last seen: {shown}"
            raise AssertionError(message)
        time.sleep(PAUSE)


def wait_for(
    api: KubeApi,
    name: str,
    holds: Callable[[Object | None], bool],
    *,
    namespace: str = NAMESPACE,
    plural: str = "dpuclusters",
    timeout: float = PATIENCE,
) -> Object:
    """The object (by default a DPUCluster) as soon as ``holds`` accepts it."""
    found = wait_until(
        lambda: api.get(plural, name, namespace), holds, timeout=timeout, what=f"{plural} {name}"
    )
    return found if found is not None else {}


def wait_ready(
    api: KubeApi, name: str, *, namespace: str = NAMESPACE, timeout: float = PATIENCE
) -> Object:
    """The DPUCluster as soon as its ``Ready`` is True."""
    return wait_for(api, name, is_condition("Ready", "True"), namespace=namespace, timeout=timeout)


def wait_gone(
    api: KubeApi,
    name: str,
    *,
    namespace: str = NAMESPACE,
    plural: str = "dpuclusters",
    timeout: float = PATIENCE,
) -> None:
    """Return as soon as there is no such object."""
    wait_until(
        lambda: api.get(plural, name, namespace),
        lambda obj: obj is None,
        timeout=timeout,
        what=f"{plural} {name} is gone",
    )
