"""Which DPUClusters the Kamaji manager looks at when something changes, and which it does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key, ObjectMeta, PartialObject
from dpucluster.kube import kinds as kube_kinds
from dpucluster.managers.kamaji import kinds, watches
from dpucluster.runtime.store import Delta, HasMetadata, Store
from dpucluster.sdk import Resource
from tests.support import build, kamaji

STATIC = build.cluster("static", uid="s")
ONE = kamaji.cluster("one", uid="1")
TWO = kamaji.cluster("two", uid="2")
FREE = kamaji.cluster("free", uid="3", held=False)


def concerned(
    resource: Resource[Any], old: Any, new: Any, clusters: Iterable[DPUCluster] = ()
) -> list[Key]:
    """The keys that the manager's own watch of that kind names."""
    (watch,) = [w for w in watches.WATCHES if w.resource is resource]
    (own,) = [w for w in watches.WATCHES if w.resource is kube_kinds.DPUCLUSTERS]
    cache: Any = Store(own.indexes)
    cache.replace(clusters or (STATIC, ONE, TWO, FREE))
    which: HasMetadata = new or old
    return sorted(watch.concerned(Delta(which.metadata.key, old, new), cache))


OWNED = [kinds.SERVICES, kinds.CONFIG_MAPS, kinds.DAEMON_SETS, kinds.CONTROL_PLANES]


@pytest.mark.parametrize("resource", OWNED, ids=lambda resource: resource.kind)
def test_children_lead_to_their_owner(resource: Resource[Any]) -> None:
    """K1: Made, changed or deleted, a child has its owner looked at, whatever its own name."""
    child = resource.type(kamaji.metadata(ONE, "any-name"))
    for old, new in ((None, child), (child, child), (child, None)):
        assert {ONE.key} == set(concerned(resource, old, new))


@pytest.mark.parametrize("resource", OWNED, ids=lambda resource: resource.kind)
def test_foreign_objects_lead_nowhere(resource: Resource[Any]) -> None:
    """K15: An object of a cluster's name that nobody here owns has nothing looked at."""
    other = resource.type(ObjectMeta(name="one", namespace="ns"))
    assert [] == concerned(resource, None, other)


def test_an_owner_that_is_removed_is_told() -> None:
    """K16: Who takes the owner reference away has the owner looked at all the same."""
    mine = PartialObject(kamaji.metadata(ONE))
    theirs = PartialObject(ObjectMeta(name="one", namespace="ns"))
    assert [ONE.key] == concerned(kinds.SERVICES, mine, theirs)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("one-admin-kubeconfig", [ONE.key]),
        ("static-admin-kubeconfig", []),
        ("absent-admin-kubeconfig", []),
        ("one-ca", []),
        ("one", []),
    ],
)
def test_admin_secrets_lead_to_their_cluster(name: str, keys: list[Key]) -> None:
    """K16: The admin Secret of a Kamaji cluster counts, and no other of the many there are."""
    secret = PartialObject(ObjectMeta(name=name, namespace="ns"))
    assert keys == concerned(kube_kinds.SECRETS_METADATA, None, secret)
    assert keys == concerned(kube_kinds.SECRETS_METADATA, secret, None)


def test_heartbeats_of_nodes_are_no_news() -> None:
    """K17: Only labels and addresses of a node count, which tells of itself all the time."""
    node = kamaji.node("n", "10.0.0.1")
    beat = msgspec.structs.replace(
        node, metadata=msgspec.structs.replace(node.metadata, resource_version="9")
    )
    moved = kamaji.node("n", "10.0.0.2")
    labelled = kamaji.node("n", "10.0.0.1", zone="1")
    everyone = [FREE.key, ONE.key, TWO.key]
    assert [] == concerned(kinds.NODES, node, beat)
    for old, new in ((node, moved), (node, labelled), (None, node), (node, None)):
        assert everyone == concerned(kinds.NODES, old, new)


def test_data_stores_that_turn_ready() -> None:
    """A DataStore that comes, goes or turns ready concerns all; one that is only used, nobody."""
    waiting, ready = kamaji.data_store(ready=False), kamaji.data_store()
    everyone = [FREE.key, ONE.key, TWO.key]
    assert everyone == concerned(kinds.DATA_STORES, waiting, ready)
    assert everyone == concerned(kinds.DATA_STORES, None, ready)
    assert [] == concerned(kinds.DATA_STORES, ready, kamaji.data_store())


def test_an_address_that_is_given_up() -> None:
    """K23: When a cluster goes, or wants another address, those that share the claim are told."""
    moved = kamaji.cluster("one", uid="1", endpoint=kamaji.keepalived(vip="10.0.0.9", router=9))
    assert [TWO.key] == sorted(set(concerned(kube_kinds.DPUCLUSTERS, ONE, None, [TWO, FREE])))
    assert {TWO.key} == set(concerned(kube_kinds.DPUCLUSTERS, ONE, moved, [moved, TWO]))
    assert [] == concerned(kube_kinds.DPUCLUSTERS, ONE, ONE)
    assert [] == concerned(kube_kinds.DPUCLUSTERS, None, FREE)


def test_an_address_that_is_served_no_more() -> None:
    """Whoever waits for the address of a control plane is looked at when it is another, or gone."""
    waits = kamaji.cluster("waits", uid="4")
    old = kamaji.control_plane(ONE)
    moved = msgspec.structs.replace(old, spec={**old.spec, "networkProfile": {"address": "::1"}})
    for new in (moved, None):
        found = concerned(kinds.CONTROL_PLANES, old, new, (ONE, waits))
        assert waits.key in found
    assert waits.key not in concerned(kinds.CONTROL_PLANES, old, old, (ONE, waits))
