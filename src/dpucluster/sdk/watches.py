"""What a manager watches beside DPUClusters, declared as values; the host keeps the caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from dpucluster.api import contract
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import kinds
from dpucluster.kube.resource import Resource
from dpucluster.runtime.store import Delta, HasMetadata, IndexFunction

T = TypeVar("T", bound=HasMetadata)


class Cached(Protocol[T]):
    """One kind as the server has it, read without a request; ``runtime.informer.Informer``."""

    @property
    def is_installed(self) -> bool:
        """False while an optional kind is not there."""
        ...

    def get(self, key: Key) -> T | None:
        """The object, or None."""
        ...

    def values(self) -> list[T]:
        """All objects."""
        ...

    def by(self, index: str, key: Key) -> list[T]:
        """The objects that ``index`` files under ``key``."""
        ...

    def add(self, obj: T) -> None:
        """Take in the reply of an own create."""
        ...

    def put(self, obj: T, *, replacing: str) -> None:
        """Take in the reply of an own write over version ``replacing``."""
        ...


Concerned = Callable[[Delta[T], Cached[DPUCluster]], Iterable[Key]]
"""Which DPUClusters a change has to do with; pure and quick, for it is asked of every change."""


def owners(delta: Delta[Any], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    """The DPUClusters that own the object, before or after the change."""
    del clusters
    for obj in (delta.old, delta.new):
        if obj is not None:
            yield from owners_of(obj.metadata)


def owners_of(metadata: ObjectMeta) -> Iterable[Key]:
    """The DPUClusters that ``metadata.ownerReferences`` name, of whatever version."""
    for reference in metadata.owner_references:
        group, _, _ = reference.api_version.partition("/")
        if (group, reference.kind) == (contract.PROVISIONING_GROUP, kinds.DPUCLUSTERS.kind):
            yield Key(metadata.namespace, reference.name)


@dataclasses.dataclass(frozen=True, slots=True)
class Watch(Generic[T]):
    """One kind that a manager reads.

    Attributes:
        resource: The kind; typed with what the manager reads of it.
        concerned: Which DPUClusters are looked at when an object changes.
        label_selector: Only objects with these labels are kept.
        indexes: For ``Cached.by``.
        optional: The kind may not be installed, or be installed later.
    """

    resource: Resource[T]
    concerned: Concerned[T] = owners
    label_selector: str = ""
    indexes: Mapping[str, IndexFunction[T]] = dataclasses.field(default_factory=dict)
    optional: bool = False
