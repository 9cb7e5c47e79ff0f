"""The informer on the real API server, and on a bad connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.resource import Resource
from dpucluster.localplane.plane import ControlPlane
from dpucluster.runtime import informer
from dpucluster.runtime import metrics as runtime_metrics
from tests.support import clients, journal, planes
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

NAMES = itertools.count()


class ConfigMap(msgspec.Struct, frozen=True):
    """As far as these tests look."""

    metadata: ObjectMeta
    data: dict[str, str] = {}


class Strict(msgspec.Struct, frozen=True):
    """A ConfigMap whose data must be a single known field."""

    metadata: ObjectMeta
    data: StrictData


class StrictData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What such a ConfigMap may hold."""

    good: str


CONFIGMAPS = Resource(ConfigMap, "", "v1", "configmaps", "ConfigMap")
STRICT = Resource(Strict, "", "v1", "configmaps", "ConfigMap")
ABSENT = Resource(PartialObject, "nowhere.example.com", "v1", "things", "Thing", metadata_only=True)


@pytest.fixture
def place(furnished: str) -> str:
    return furnished


def config_map(place: str, name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": place},
        "data": data,
    }


class Followed:
    """An informer that runs, and what it told."""

    def __init__(self, made: informer.Informer[Any]) -> None:
        self.informer = made
        self.deltas: list[informer.Delta[Any]] = []
        made.on_change(self.deltas.append)

    def names(self, place: str) -> list[str]:
        """Whose objects of that namespace are cached, without those the server makes itself."""
        found = (o.metadata for o in self.informer.values())
        return sorted(
            m.name for m in found if m.namespace == place and m.name != "kube-root-ca.crt"
        )

    def value(self, place: str, name: str) -> str | None:
        """What the cached object holds."""
        obj = self.informer.get(Key(place, name))
        return None if obj is None else obj.data.get("v")


@contextlib.asynccontextmanager
async def following(made: informer.Informer[Any], *, wait: bool = True) -> AsyncIterator[Followed]:
    followed = Followed(made)
    running = asyncio.create_task(made.run())
    try:
        if wait:
            await asyncio.wait_for(made.synced.wait(), PATIENCE)
        yield followed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def of_place(client: kube_client.Client, *places: str, **options: Any) -> informer.Informer[Any]:
    return informer.Informer(client, CONFIGMAPS, namespaces=places, **options)


async def test_follows(client: kube_client.Client, api: KubeApi, place: str) -> None:
    """What was there, what comes, what changes and what goes arrives, in order and once."""
    api.create("configmaps", config_map(place, "a", v="1"))
    async with following(of_place(client, place)) as seen:
        assert "1" == seen.value(place, "a")
        seen.deltas.clear()
        api.create("configmaps", config_map(place, "b", v="1"))
        api.patch("configmaps", "b", place, {"data": {"v": "2"}})
        api.delete("configmaps", "a", place)
        await clients.eventually(lambda: seen.names(place) == ["b"])
        told = [(d.key.name, value(d.old), value(d.new)) for d in seen.deltas]
        assert [("b", None, "1"), ("b", "1", "2"), ("a", "1", None)] == told


def value(obj: ConfigMap | None) -> str | None:
    return None if obj is None else obj.data["v"]


async def test_namespaces(
    client: kube_client.Client,
    management: ControlPlane,
    api: KubeApi,
    proxy: ApiProxy,
    place: str,
) -> None:
    """Several namespaces feed one cache; a relist of one leaves the other's objects alone."""
    other = planes.new_namespace(management)
    planes.wait_furnished(api, other)
    api.create("configmaps", config_map(place, "a", v="1"))
    api.create("configmaps", config_map(other, "b", v="1"))
    async with following(of_place(client, place, other)) as seen:
        assert (["a"], ["b"]) == (seen.names(place), seen.names(other))
        await clients.eventually(lambda: proxy.open_watches > 1)
        seen.deltas.clear()
        proxy.error_event(410, path=f"{other}/configmaps")
        with proxy.held():
            proxy.cut_watches(f"{other}/configmaps")
            api.delete("configmaps", "b", other)
        await clients.eventually(lambda: not seen.names(other))
        assert ["a"] == seen.names(place)
        assert [Key(other, "b")] == [d.key for d in seen.deltas]
        assert 3 == len(lists(proxy))


async def test_missed_deletion_is_delivered(
    client: kube_client.Client, api: KubeApi, proxy: ApiProxy, place: str
) -> None:
    """After 410 everything is listed again, and what was deleted meanwhile is told as gone."""
    for name in ("a", "b"):
        api.create("configmaps", config_map(place, name, v="1"))
    async with following(of_place(client, place)) as seen:
        await clients.eventually(lambda: proxy.open_watches > 0)
        proxy.error_event(410, path="configmaps")
        with proxy.held():
            proxy.cut_watches()
            api.delete("configmaps", "a", place)
            api.patch("configmaps", "b", place, {"data": {"v": "2"}})
        await clients.eventually(lambda: seen.names(place) == ["b"])
        assert "2" == seen.value(place, "b")
        assert 2 == len(lists(proxy))


def lists(proxy: ApiProxy) -> list[journal.Seen]:
    return [s for s in proxy.requests("GET", "configmaps") if s.is_list]


def watches(proxy: ApiProxy) -> list[journal.Seen]:
    return proxy.requests("GET", "configmaps", watch=True)


Ending = Callable[[ApiProxy], object]

ENDINGS: dict[str, Ending] = {
    "cut": lambda proxy: proxy.cut_watches(),
    "cut in the middle of a line": lambda proxy: proxy.cut_watches(half_line=True),
    "closed in good order": lambda proxy: proxy.end_watches(),
    "every connection cut": lambda proxy: proxy.cut_all(),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_resumes(
    client: kube_client.Client, api: KubeApi, proxy: ApiProxy, place: str, ending: Ending
) -> None:
    """After its end a watch goes on from the last version: nothing is listed again or lost."""
    async with following(of_place(client, place)) as seen:
        await clients.eventually(lambda: proxy.open_watches > 0)
        api.create("configmaps", config_map(place, "before", v="1"))
        await clients.eventually(lambda: seen.names(place) == ["before"])
        with proxy.held():
            ending(proxy)
            api.create("configmaps", config_map(place, "a", v="1"))
            api.delete("configmaps", "before", place)
        await clients.eventually(lambda: seen.names(place) == ["a"])
        assert 1 == len(lists(proxy))


async def test_server_away_and_back(
    client: kube_client.Client,
    api: KubeApi,
    proxy: ApiProxy,
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that cannot be reached for a while is found again; it is told, and not often."""
    caplog.set_level(logging.INFO, "dpucluster")
    async with following(of_place(client, place)) as seen:
        await clients.eventually(lambda: proxy.open_watches > 0)
        proxy.refuse()
        await asyncio.sleep(3)
        api.create("configmaps", config_map(place, "a", v="1"))
        proxy.accept()
        await clients.eventually(lambda: seen.names(place) == ["a"])
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 3
    assert "list and watch work again" in caplog.messages


Trouble = Callable[[ApiProxy], object]

TROUBLES: dict[str, Trouble] = {
    "410 to every watch": lambda proxy: proxy.answer(410, times=999, path="configmaps", watch=True),
    "410 in every watch": lambda proxy: proxy.error_event(410, times=999, path="configmaps"),
    "500 to every watch": lambda proxy: proxy.answer(500, times=999, path="configmaps", watch=True),
    "403 to everything": lambda proxy: proxy.answer(403, times=999, path="configmaps"),
    "401 to everything": lambda proxy: proxy.answer(401, times=999, path="configmaps"),
    "connection refused": lambda proxy: proxy.refuse(),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
async def test_no_hot_loop(
    client: kube_client.Client, api: KubeApi, proxy: ApiProxy, place: str, trouble: Trouble
) -> None:
    """A server that answers everything at once, but never well, is asked a few times a second.

    And when it is well again, everything arrives.
    """
    async with following(of_place(client, place)) as seen:
        await clients.eventually(lambda: proxy.open_watches > 0)
        start = journal.now()
        trouble(proxy)
        proxy.cut_watches()
        await asyncio.sleep(4)
        asked = proxy.requests("GET", "configmaps", since=start, until=start + 4)
        assert len(asked) <= 12
        assert journal.peak(asked) <= 6
        api.create("configmaps", config_map(place, "a", v="1"))
        proxy.clear()
        await clients.eventually(lambda: seen.names(place) == ["a"])


async def test_watch_that_is_cut_for_ever(
    client: kube_client.Client, proxy: ApiProxy, place: str
) -> None:
    """A server that accepts every watch and cuts it at once is not asked in a hot loop."""
    async with following(of_place(client, place)):
        start = journal.now()

        async def cut() -> None:
            while True:
                proxy.cut_watches()
                await asyncio.sleep(0.01)

        cutting = asyncio.create_task(cut())
        await asyncio.sleep(4)
        cutting.cancel()
        asked = proxy.requests("GET", "configmaps", since=start, until=start + 4)
        assert len(asked) <= 8


async def test_patience_that_is_asked_for(
    client: kube_client.Client, proxy: ApiProxy, place: str
) -> None:
    """A watch that is answered 429 with Retry-After is tried again no earlier."""
    async with following(of_place(client, place)):
        await clients.eventually(lambda: proxy.open_watches > 0)
        proxy.answer(429, path="configmaps", watch=True, retry_after=3)
        proxy.cut_watches()
        await clients.eventually(lambda: len(watches(proxy)) >= 3)
        refused, again = watches(proxy)[-2:]
        assert again.at - refused.at >= 3


async def test_undecodable_object(
    client: kube_client.Client,
    api: KubeApi,
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An object that does not fit spoils only itself, keeps its last state, and can be deleted."""
    metrics = runtime_metrics.Metrics()
    api.create("configmaps", config_map(place, "bad", wrong="1"))
    api.create("configmaps", config_map(place, "turns", good="1"))
    made = informer.Informer(client, STRICT, namespaces=[place], metrics=metrics)
    async with following(made) as seen:
        assert ["turns"] == seen.names(place)
        api.patch("configmaps", "turns", place, {"data": {"wrong": "1"}})
        api.create("configmaps", config_map(place, "fine", good="1"))
        await clients.eventually(lambda: seen.names(place) == ["fine", "turns"])
        api.patch("configmaps", "bad", place, {"data": {"wrong": None, "good": "1"}})
        await clients.eventually(lambda: "bad" in seen.names(place))
        api.delete("configmaps", "turns", place)
        await clients.eventually(lambda: seen.names(place) == ["bad", "fine"])
    left_out = [r for r in caplog.records if r.getMessage().startswith("object does not fit")]
    told = sorted(str(vars(r)["object"]) for r in left_out if "root-ca" not in str(vars(r)))
    assert [f"{place}/bad", f"{place}/turns"] == told
    assert 2 <= metrics.sample("dpucluster_informer_undecodable_total", kind="ConfigMap")


async def test_own_write(client: kube_client.Client, api: KubeApi, place: str) -> None:
    """The reply of an own write is in the cache at once, and its echo is not told again."""
    api.create("configmaps", config_map(place, "a", v="1"))
    async with following(of_place(client, place)) as seen:
        seen.deltas.clear()
        for n in range(20):
            cached = seen.informer.get(Key(place, "a"))
            assert cached is not None
            before = cached.metadata.resource_version
            patch = {"metadata": {"resourceVersion": before}, "data": {"v": f"n{n}"}}
            reply = await client.merge_patch(CONFIGMAPS, "a", patch, place)
            seen.informer.put(reply, replacing=before)
            assert f"n{n}" == seen.value(place, "a")
        api.create("configmaps", config_map(place, "end", v="1"))
        await clients.eventually(lambda: "end" in seen.names(place))
        assert [f"n{n}" for n in range(20)] == [value(d.new) for d in seen.deltas[:-1]]


async def test_absent_kind(client: kube_client.Client, place: str) -> None:
    """A kind that is not installed: empty and complete where that is allowed, else not complete."""
    optional = informer.Informer(client, ABSENT, namespaces=[place], optional=True)
    async with following(optional):
        assert [] == optional.values()
    needed = informer.Informer(client, ABSENT, namespaces=[place])
    async with following(needed, wait=False):
        await asyncio.sleep(1)
        assert not needed.synced.is_set()


async def test_kind_that_is_installed_later(client: kube_client.Client, place: str) -> None:
    """A kind that was not installed at first is found when it is, and when it goes, it is empty."""
    group = f"g{next(NAMES)}.example.com"
    later = Resource(PartialObject, group, "v1", "laters", "Later", metadata_only=True)
    made = informer.Informer(client, later, namespaces=[place], optional=True)
    async with following(made):
        await client.create(kinds.CRDS, definition(group))
        await create_when_served(client, later, place)
        await clients.eventually(lambda: made.get(Key(place, "t")) is not None)
        await client.delete(kinds.CRDS, f"laters.{group}")
        await clients.eventually(lambda: made.get(Key(place, "t")) is None)


async def create_when_served(
    client: kube_client.Client, resource: Resource[PartialObject], place: str
) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.create(
                    resource, {"metadata": {"name": "t", "namespace": place}}, place
                )
            except errors.NotFound:
                await asyncio.sleep(0.1)
            else:
                return


def definition(group: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": f"laters.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": "laters",
                "singular": "later",
                "kind": "Later",
                "listKind": "LaterList",
            },
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_many_objects(client: kube_client.Client, api: KubeApi, place: str) -> None:
    """More objects than a page holds arrive complete, and an index finds them."""
    for n in range(520):
        api.create("configmaps", config_map(place, f"m{n}", v=str(n % 2)))

    def by_value(obj: ConfigMap) -> Iterable[Key]:
        return [Key("", obj.data["v"])] if "v" in obj.data else []

    async with following(of_place(client, place, indexes={"value": by_value})) as seen:
        assert 520 == len(seen.names(place))
        assert 260 == len(seen.informer.by("value", Key("", "1")))


async def test_failing_handler(
    client: kube_client.Client, api: KubeApi, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a handler raises is logged and stops neither the informer nor other handlers."""
    made = of_place(client, place)

    def fail(_delta: informer.Delta[Any]) -> None:
        raise ZeroDivisionError

    made.on_change(fail)
    async with following(made) as seen:
        api.create("configmaps", config_map(place, "a", v="1"))
        await clients.eventually(lambda: any(d.key.name == "a" for d in seen.deltas))
    assert "handler of changes failed" in caplog.messages
