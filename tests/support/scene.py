"""One namespace in which a test plays a user: Secrets and DPUClusters, made, changed, watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import cluster
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE

Object = dict[str, Any]
KEY = "admin.conf"
PAUSED = "provisioning.dpu.nvidia.com/paused"

SOON = PATIENCE
"""Seconds for what is to be noticed at once: a loaded machine may take some of them, a probe
interval of ten minutes would take all."""


@dataclass(frozen=True)
class Scene:
    """The user's hands and eyes in ``namespace``."""

    api: KubeApi
    namespace: str

    def create(self, name: str, *, metadata: Object | None = None, **spec: Any) -> Object:
        """A static DPUCluster; ``metadata`` is added to its own."""
        manifest = cluster.dpucluster(name, self.namespace, **spec)
        manifest["metadata"] |= metadata or {}
        return self.api.create("dpuclusters", manifest)

    def hold(self, name: str, kubeconfig: bytes | str, key: str = KEY) -> Object:
        """Create or change the Secret of that cluster."""
        secret = cluster.secret_name(name)
        return self.api.apply(
            "secrets", cluster.raw_secret(secret, self.namespace, {key: kubeconfig})
        )

    def drop(self, name: str) -> None:
        """Delete the Secret of that cluster."""
        assert self.api.delete("secrets", cluster.secret_name(name), self.namespace)

    def adopt(self, name: str, kubeconfig: bytes | str, **spec: Any) -> None:
        """Both, and wait until it is Ready."""
        self.hold(name, kubeconfig)
        self.create(name, **spec)
        self.wait_ready(name)

    def get(self, name: str) -> Object:
        """The DPUCluster as it is now."""
        found = self.api.get("dpuclusters", name, self.namespace)
        assert found is not None, f"there is no DPUCluster {name}"
        return found

    def wait(
        self, name: str, holds: Callable[[Object | None], bool], timeout: float = SOON
    ) -> Object:
        """The DPUCluster as soon as ``holds`` accepts it."""
        return cluster.wait_for(self.api, name, holds, namespace=self.namespace, timeout=timeout)

    def wait_condition(
        self, name: str, type_: str, status: str, reason: str = "", timeout: float = SOON
    ) -> Object:
        """That condition as soon as it is so."""
        found = self.wait(name, cluster.is_condition(type_, status, reason), timeout)
        return cluster.condition(found, type_)

    def wait_ready(self, name: str, timeout: float = SOON) -> Object:
        """The DPUCluster as soon as it is Ready in condition and phase."""
        return self.wait(name, is_ready, timeout)

    def patch(self, name: str, patch: Object, subresource: str = "") -> Object:
        """Merge a patch into the DPUCluster."""
        return self.api.patch("dpuclusters", name, self.namespace, patch, subresource)

    def annotate(self, name: str, **annotations: str | None) -> Object:
        """Set annotations; a keyword's ``_`` stands for ``-``."""
        renamed = {key.replace("_", "-"): value for key, value in annotations.items()}
        return self.patch(name, {"metadata": {"annotations": renamed}})

    def pause(self, name: str, *, paused: bool = True) -> Object:
        """Set or remove the pause annotation."""
        annotations = {PAUSED: "true" if paused else None}
        return self.patch(name, {"metadata": {"annotations": annotations}})

    def delete(self, name: str) -> None:
        """Ask for the DPUCluster's deletion."""
        assert self.api.delete("dpuclusters", name, self.namespace)

    def wait_gone(self, name: str, timeout: float = SOON) -> None:
        """Return as soon as there is no such DPUCluster."""
        cluster.wait_gone(self.api, name, namespace=self.namespace, timeout=timeout)

    def events(self, name: str) -> list[str]:
        """The reasons of all Events about that DPUCluster, in order."""
        found = self.api.list("events", self.namespace)
        return sorted(e["reason"] for e in found if e["regarding"].get("name") == name)


def is_ready(obj: Object | None) -> bool:
    """Whether condition and phase say so."""
    return cluster.is_condition("Ready", "True")(obj) and cluster.phase(obj) == "Ready"


def is_unready(obj: Object | None) -> bool:
    """Whether ``Ready`` is False and the phase agrees."""
    return cluster.is_condition("Ready", "False")(obj) and cluster.phase(obj) == "NotReady"


def is_down(reason: str) -> Callable[[Object | None], bool]:
    """The same, with that reason."""

    def holds(obj: Object | None) -> bool:
        return is_unready(obj) and cluster.condition(obj, "Ready")["reason"] == reason

    return holds
