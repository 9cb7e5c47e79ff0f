"""What the Kamaji manager watches, and which clusters a change has to do with. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dpucluster.managers.kamaji import endpoint
from dpucluster.managers.kamaji.kinds import (
    CONFIG_MAPS,
    CONTROL_PLANES,
    DAEMON_SETS,
    DATA_STORES,
    NODES,
    SERVICES,
    DataStore,
    Node,
    TenantControlPlane,
)
from dpucluster.sdk import (
    DPUCLUSTERS,
    LABEL_CLUSTER,
    SECRETS_METADATA,
    TYPE_KAMAJI,
    Cached,
    Delta,
    DPUCluster,
    Key,
    PartialObject,
    Watch,
    owners,
)

CLAIMS: Final = "kamaji-claims"
"""Index of DPUClusters by what they ask for."""
SERVED: Final = "kamaji-served"
"""Index of control planes by the address that they have."""
SECRET_SUFFIX: Final = "-admin-kubeconfig"  # noqa: S105 - of a name


def served(control_plane: TenantControlPlane) -> list[Key]:
    """The address that a control plane serves on, as the claim to it."""
    return [endpoint.claim_of(control_plane.address)] if control_plane.address else []


def _all_kamaji(clusters: Cached[DPUCluster]) -> Iterable[Key]:
    return (c.key for c in clusters.values() if c.spec.type == TYPE_KAMAJI)


def _nodes_changed(delta: Delta[Node], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    """Only what a plan rests on counts: a node tells of itself every few minutes."""
    old, new = (_facts(node) for node in (delta.old, delta.new))
    return () if old == new else _all_kamaji(clusters)


def _facts(node: Node | None) -> object:
    return None if node is None else (node.metadata.labels, node.status)


def _stores_changed(delta: Delta[DataStore], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    old, new = ((None if d is None else d.status) for d in (delta.old, delta.new))
    return () if old == new else _all_kamaji(clusters)


def _secrets_changed(delta: Delta[PartialObject], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    name = delta.key.name.removesuffix(SECRET_SUFFIX)
    if name == delta.key.name:
        return ()
    found = clusters.get(Key(delta.key.namespace, name))
    return (found.key,) if found is not None and found.spec.type == TYPE_KAMAJI else ()


def _clusters_changed(delta: Delta[DPUCluster], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    """What a cluster claims no more may be had by the others that wanted it."""
    old = endpoint.claims(delta.old) if delta.old is not None else []
    new = endpoint.claims(delta.new) if delta.new is not None else []
    if old == new:
        return
    for claim in {*old, *new}:
        for other in clusters.by(CLAIMS, claim):
            if other.key != delta.key:
                yield other.key


def _control_planes_changed(
    delta: Delta[TenantControlPlane], clusters: Cached[DPUCluster]
) -> Iterable[Key]:
    """Its owner, and whoever waits for an address that it serves on no more."""
    yield from owners(delta, clusters)
    old = served(delta.old) if delta.old is not None else []
    new = served(delta.new) if delta.new is not None else []
    if old != new:
        for claim in old:
            yield from (c.key for c in clusters.by(CLAIMS, claim))


WATCHES: Final[tuple[Watch[Any], ...]] = (
    Watch(DPUCLUSTERS, concerned=_clusters_changed, indexes={CLAIMS: endpoint.claims}),
    Watch(SECRETS_METADATA, concerned=_secrets_changed),
    Watch(SERVICES, label_selector=LABEL_CLUSTER),
    Watch(CONFIG_MAPS, label_selector=LABEL_CLUSTER),
    Watch(DAEMON_SETS, label_selector=LABEL_CLUSTER),
    Watch(NODES, concerned=_nodes_changed),
    Watch(
        CONTROL_PLANES, concerned=_control_planes_changed, indexes={SERVED: served}, optional=True
    ),
    Watch(DATA_STORES, concerned=_stores_changed, optional=True),
)
