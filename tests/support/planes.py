"""Planes for tests: a factory of tenants on a shared etcd, and namespaces."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from dpucluster.localplane import etcd, install, plane
from tests.support import cluster
from tests.support.kubeapi import KubeApi


class Tenants:
    """Starts tenant API servers; ``tenants(2)`` returns two that are ready.

    Each has a prefix of its own in the shared etcd and a directory of its own; all are ended with
    the test.
    """

    def __init__(self, binaries: Mapping[str, Path], storage: etcd.Etcd, directory: Path) -> None:
        self._binaries = binaries
        self._storage = storage
        self._directory = directory
        self._count = itertools.count(1)
        self._made: list[plane.ControlPlane] = []

    def __call__(self, count: int = 1) -> list[plane.ControlPlane]:
        """``count`` more, started side by side."""
        made = [self.prepare() for _ in range(count)]
        for tenant in made:
            tenant.launch()
        for tenant in made:
            tenant.wait_ready()
        return made

    def prepare(self, name: str = "") -> plane.ControlPlane:
        """One that is not started yet: its kubeconfig is there, its port refuses."""
        number = next(self._count)
        # Unique in the shared etcd, which outlives a test.
        name = name or f"tenant-{number}-{uuid.uuid4().hex[:8]}"
        tenant = plane.ControlPlane(
            name,
            binaries=self._binaries,
            storage=self._storage,
            directory=self._directory / f"tenant-{number}",
        )
        self._made.append(tenant)
        return tenant

    def close(self) -> None:
        """End all of them."""
        for tenant in self._made:
            tenant.kill()
            tenant.close()


def new_namespace(management: plane.ControlPlane) -> str:
    """Make a namespace nobody else uses."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    install.apply_namespace(management.endpoint, name)
    return name


def wait_furnished(api: KubeApi, namespace: str) -> None:
    """Return when the controller manager has made what it makes in every namespace."""
    for plural, name in {"configmaps": "kube-root-ca.crt", "serviceaccounts": "default"}.items():
        cluster.wait_for(
            api, name, lambda made: made is not None, namespace=namespace, plural=plural
        )


def scratch(directory: Path) -> Iterator[Path]:
    """``directory``, removed afterwards: a plane's data are 130 MiB, of which pytest keeps many."""
    directory.mkdir(parents=True, exist_ok=True)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
