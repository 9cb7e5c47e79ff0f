"""One cache for each kind, whoever watches it; and clear words for an author's mistake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta, OwnerReference, PartialObject
from dpucluster.kube import kinds, wire
from dpucluster.kube.resource import Resource
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.sdk import Delta, Watch, caches
from tests.support.clock import FakeClock, settle

THINGS = Resource(PartialObject, "example.com", "v1", "things", "Thing")
NODES = Resource(PartialObject, "", "v1", "nodes", "Node", namespaced=False)


class Server:
    """A source that holds ``objects`` by kind and remembers what it was asked."""

    def __init__(self) -> None:
        self.objects: dict[Any, list[PartialObject]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.told: asyncio.Queue[Any] = asyncio.Queue()

    async def list(self, resource: Any, namespace: str = "", *, label_selector: str = "") -> Any:
        """Implements Source."""
        self.asked.append((resource.plural, namespace, label_selector))
        return wire.Listing(self.objects.get(resource, []), [], "1")

    async def watch(self, resource: Any, namespace: str = "", **_: Any) -> AsyncGenerator[Any]:
        """Implements Source."""
        del namespace
        while resource is THINGS:
            yield await self.told.get()
        await asyncio.Event().wait()


def thing(name: str, *owners: str, version: str = "1") -> PartialObject:
    references = tuple(
        OwnerReference(kinds.DPUCLUSTERS.api_version, kinds.DPUCLUSTERS.kind, owner, f"uid-{owner}")
        for owner in owners
    )
    return PartialObject(
        ObjectMeta(
            name=name,
            namespace="ns",
            resource_version=version,
            uid=name,
            owner_references=references,
        )
    )


class Scene:
    """Caches over a server, and the keys they had looked at."""

    def __init__(self, *watches: Watch[Any], namespaces: tuple[str, ...] = ()) -> None:
        self.server = Server()
        self.looked_at: list[Key] = []
        source: Any = self.server
        self.caches = caches.Caches(
            source,
            watches,
            namespaces=namespaces,
            enqueue=self.looked_at.append,
            clock=FakeClock(),
            metrics=runtime_metrics.Metrics(),
        )

    @property
    def listed(self) -> set[str]:
        """The kinds that were asked for."""
        return {plural for plural, _, _ in self.server.asked}


def test_a_kind_that_nobody_declared() -> None:
    """To read it is the author's mistake, and the message says what to add."""
    with pytest.raises(errors.ManagerError, match=r"things are read .* no Watch .* add one"):
        Scene().caches.of(THINGS)


def test_different_label_selectors() -> None:
    """Two managers that want other parts of one kind are told to agree, with both selectors."""
    with pytest.raises(errors.ManagerError, match=r"things .* label selectors \('', 'a=b'\)"):
        Scene(Watch(THINGS), Watch(THINGS, label_selector="a=b"))


def test_one_cache_for_all() -> None:
    """Whoever watches a kind gets the same cache, with the indexes of all."""
    one = Watch(THINGS, indexes={"one": lambda obj: [Key("", obj.metadata.name)]})
    two = Watch(THINGS, indexes={"two": lambda obj: [Key("", obj.metadata.name)]})
    found = Scene(one, two).caches.of(THINGS)
    found.add(thing("a"))
    assert [thing("a")] == found.by("one", Key("", "a")) == found.by("two", Key("", "a"))


async def test_what_nobody_runs_is_not_followed() -> None:
    """A kind of a manager that is switched off is not asked for; ready() begins it, once."""
    watch = Watch(THINGS)
    scene = Scene(watch)
    running = asyncio.create_task(scene.caches.run())
    await scene.caches.ready(caches.ALWAYS)
    assert {"dpuclusters", "secrets"} == scene.listed
    assert not scene.caches.is_synced([watch])
    await scene.caches.ready([watch])
    await scene.caches.ready([watch])
    assert scene.caches.is_synced([watch])
    assert 1 == [plural for plural, _, _ in scene.server.asked].count("things")
    running.cancel()


async def test_namespaces_and_selectors() -> None:
    """Namespaced kinds are followed where the host looks, others everywhere; each as selected."""
    watches = (Watch(THINGS, label_selector="a=b"), Watch(NODES))
    scene = Scene(*watches, namespaces=("one", "two"))
    running = asyncio.create_task(scene.caches.run())
    await scene.caches.ready(watches)
    asked = {each for each in scene.server.asked if each[0] in {"things", "nodes"}}
    assert {("things", "one", "a=b"), ("things", "two", "a=b"), ("nodes", "", "")} == asked
    running.cancel()


async def test_changes_look_at_the_clusters_concerned() -> None:
    """The owner before and after is looked at; an own write is followed up by who made it."""
    watch = Watch(THINGS)
    scene = Scene(watch)
    running = asyncio.create_task(scene.caches.run())
    await scene.caches.ready([watch])
    scene.server.told.put_nowait(wire.Added(thing("a", "c")))
    await settle()
    scene.server.told.put_nowait(wire.Modified(thing("a", "d", version="2")))
    await settle()
    assert [Key("ns", "c"), Key("ns", "c"), Key("ns", "d")] == scene.looked_at
    scene.caches.of(THINGS).add(thing("b", "c"))
    assert 3 == len(scene.looked_at)
    running.cancel()


def test_owners_of_other_groups() -> None:
    """A DPUCluster of any version counts, a kind of that name in another group does not."""
    ours, later, other = (
        OwnerReference(api_version, "DPUCluster", name, "u")
        for api_version, name in (
            ("provisioning.dpu.nvidia.com/v1alpha1", "a"),
            ("provisioning.dpu.nvidia.com/v1", "b"),
            ("cluster-manager.dpu.nvidia.com/v1alpha1", "c"),
        )
    )
    found = PartialObject(ObjectMeta(namespace="ns", owner_references=(ours, later, other)))
    delta: Any = Delta(Key("ns", "x"), None, found)
    nobody: Any = None
    assert [Key("ns", "a"), Key("ns", "b")] == list(Watch(THINGS).concerned(delta, nobody))
