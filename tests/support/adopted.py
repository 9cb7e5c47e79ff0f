"""Many static DPUClusters at once, each with a kubeconfig Secret without a fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE

VERSION = "v1.34.4"


@dataclasses.dataclass(frozen=True)
class Adopted:
    """``count`` clusters named ``<prefix>-<n>`` in one namespace, all leading to one tenant."""

    api: KubeApi
    namespace: str
    tenant: ControlPlane
    count: int
    prefix: str = "adopted"

    @property
    def names(self) -> list[str]:
        """All of them, in order."""
        return [f"{self.prefix}-{n}" for n in range(self.count)]

    def create(self) -> None:
        """The Secrets first, then the DPUClusters."""
        for obj in self.secrets():
            self.api.create("secrets", obj)
        for name in self.names:
            manifest = cluster.dpucluster(name, self.namespace, version=VERSION)
            self.api.create("dpuclusters", manifest)

    def secrets(self) -> Iterator[cluster.Object]:
        """Each with a client certificate of its own and the cluster entry DPF asks for."""
        for name in self.names:
            text = self.tenant.client_kubeconfig(cluster=name)
            yield cluster.raw_secret(
                cluster.secret_name(name), self.namespace, {"admin.conf": text}
            )

    def wait_ready(self, timeout: float = PATIENCE) -> list[cluster.Object]:
        """All of them as soon as every one is Ready."""
        is_ready = cluster.is_condition("Ready", "True")
        return cluster.wait_until(
            lambda: self.api.list("dpuclusters", self.namespace),
            lambda found: len(found) == self.count and all(map(is_ready, found)),
            timeout=timeout,
            what=f"{self.count} clusters Ready",
        )

    def delete(self, timeout: float = PATIENCE) -> None:
        """Delete them and wait until they are gone."""
        for name in self.names:
            self.api.delete("dpuclusters", name, self.namespace)
        cluster.wait_until(
            lambda: len(self.api.list("dpuclusters", self.namespace)),
            lambda left: left == 0,
            timeout=timeout,
            what="all clusters gone",
        )
