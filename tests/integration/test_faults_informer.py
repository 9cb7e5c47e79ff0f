"""An informer on a bad connection: it converges, misses no deletion and never runs hot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from dpucluster.api.meta import Key, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import wire
from dpucluster.kube.resource import Resource
from dpucluster.runtime import informer
from tests.support import clients, journal
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

T = TypeVar("T")

CONFIGMAPS = Resource(PartialObject, "", "v1", "configmaps", "ConfigMap")
PATH = "/configmaps$"
SILENCE = 1.0
COOL = 8
"""Requests in five seconds that a failing server may get: 0.5 + 1 + 2 … s apart are five."""


class Impatient(kube_client.Client):
    """A client whose watches take a short silence for a dead connection."""

    async def watch(
        self, resource: Resource[T], namespace: str = "", **options: Any
    ) -> AsyncGenerator[wire.WatchEvent[T], None]:
        """As the client's, with ``silence``."""
        options["silence"] = SILENCE
        async with contextlib.aclosing(super().watch(resource, namespace, **options)) as events:
            async for event in events:
                yield event


class Followed:
    """An informer at work, everything it told, and a direct way to the server behind it."""

    def __init__(self, proxy: ApiProxy, api: KubeApi, namespace: str) -> None:
        self.proxy = proxy
        self.api = api
        self.namespace = namespace
        self.told: dict[str, list[str]] = {}

    def start(self, client: kube_client.Client) -> None:
        """Make the informer; ``run`` it in a task."""
        self.informer = informer.Informer(client, CONFIGMAPS, namespaces=[self.namespace])
        self.informer.on_change(self._note)

    def _note(self, delta: informer.Delta[PartialObject]) -> None:
        what = "gone" if delta.new is None else "new" if delta.old is None else "changed"
        self.told.setdefault(delta.key.name, []).append(what)

    async def create(self, name: str) -> None:
        """Create an object, not through the proxy."""
        await asyncio.to_thread(self.api.create, "configmaps", self._manifest(name))

    async def change(self, name: str) -> None:
        """Change it."""
        patch = {"data": {"v": str(random.random())}}  # noqa: S311 - any other value
        await asyncio.to_thread(self.api.patch, "configmaps", name, self.namespace, patch)

    async def delete(self, name: str) -> None:
        """Delete it."""
        await asyncio.to_thread(self.api.delete, "configmaps", name, self.namespace)

    async def truth(self) -> dict[str, str]:
        """Name and version of everything that is there."""
        found = await asyncio.to_thread(self.api.list, "configmaps", self.namespace)
        return {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in found}

    def cached(self) -> dict[str, str]:
        """The same, as the informer believes."""
        values = self.informer.values()
        return {o.metadata.name: o.metadata.resource_version for o in values}

    async def converges(self, within: float = PATIENCE) -> None:
        """Return when the cache is as the server is (nobody writes meanwhile)."""
        end = asyncio.get_running_loop().time() + within
        while (truth := await self.truth()) != self.cached():
            assert asyncio.get_running_loop().time() < end, "the cache does not converge"
            await asyncio.sleep(0.05)
        present = {name for name, told in self.told.items() if told[-1] != "gone"}
        assert set(truth) == present

    def lists(self) -> list[journal.Seen]:
        """Lists of the informer so far."""
        return self.proxy.requests("GET", PATH, watch=False)

    def watches(self) -> list[journal.Seen]:
        """Watches of the informer so far."""
        return self.proxy.requests("GET", PATH, watch=True)

    def _manifest(self, name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@pytest.fixture
async def unstarted(proxy: ApiProxy, api: KubeApi, namespace: str) -> Followed:
    """Two objects on the server, nobody follows yet."""
    followed = Followed(proxy, api, namespace)
    for name in ("one", "two"):
        await followed.create(name)
    return followed


@pytest.fixture
async def running(unstarted: Followed, proxy: ApiProxy) -> AsyncIterator[Followed]:
    """An informer that runs; whether it is synced is up to the faults."""
    followed = unstarted
    secret = clients.through(proxy).connection
    async with Impatient(secret, timeout=6 * SILENCE) as client:
        followed.start(client)
        task = asyncio.create_task(followed.informer.run())
        yield followed
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def followed(running: Followed) -> Followed:
    """An informer that has synced and watches."""
    await clients.eventually(running.informer.synced.is_set)
    await clients.eventually(lambda: running.proxy.open_watches == 1)
    return running


async def test_a_cut_watch_goes_on_where_it_was(followed: Followed) -> None:
    """What happens while a watch is cut is delivered afterwards, without a new list."""
    for half_line in (False, True, False):
        with followed.proxy.held():
            followed.proxy.cut_watches(half_line=half_line)
            await followed.create(f"new-{len(followed.told)}")
            await followed.change("one")
        await followed.converges()
    await followed.delete("two")
    await followed.converges()
    assert 1 == len(followed.lists())
    assert ["new", "gone"] == followed.told["two"]


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_deletion_is_not_missed_by_410(followed: Followed, *, as_event: bool) -> None:
    """A version that is too old costs a list; what vanished meanwhile is told as deleted."""
    with followed.proxy.held():
        followed.proxy.cut_watches()
        if as_event:
            followed.proxy.error_event(410, path=PATH)
        else:
            followed.proxy.answer(410, watch=True, path=PATH)
        await followed.delete("one")
        await followed.delete("two")
        await followed.create("two")
        await followed.create("three")
    await followed.converges()
    assert 2 == len(followed.lists())
    assert ["new", "gone"] == followed.told["one"]
    assert "new" == followed.told["three"][0]


async def test_a_deletion_is_not_missed_while_refused(followed: Followed) -> None:
    """A server that was down for a while is followed again as soon as it is back."""
    followed.proxy.refuse()
    await followed.delete("one")
    await asyncio.sleep(2 * SILENCE)
    followed.proxy.accept()
    await followed.converges()
    assert ["new", "gone"] == followed.told["one"]


async def test_a_half_open_watch_is_noticed(followed: Followed) -> None:
    """A connection that is open and dead is left for a new one."""
    followed.proxy.freeze()
    await followed.delete("one")
    await followed.change("two")
    await followed.converges()
    assert 1 == len(followed.lists())


async def test_a_failing_start_is_survived(unstarted: Followed, proxy: ApiProxy) -> None:
    """An informer that starts while the server fails syncs as soon as it does not."""
    proxy.answer(500, times=2, path=PATH)
    proxy.answer(503, times=1, path=PATH, retry_after=1)
    async with clients.through(proxy) as client:
        unstarted.start(client)
        task = asyncio.create_task(unstarted.informer.run())
        await clients.eventually(unstarted.informer.synced.is_set)
        await unstarted.converges()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert [500, 500, 503, 200] == [s.status for s in unstarted.lists()]


async def test_patience_is_kept(followed: Followed) -> None:
    """A 429 with Retry-After puts the next watch off for that long; nothing is listed again."""
    before = len(followed.watches())
    followed.proxy.answer(429, times=2, watch=True, path=PATH, retry_after=2)
    followed.proxy.cut_watches()
    await followed.delete("one")
    await followed.converges()
    later = followed.watches()[before:]
    assert [429, 429, 200] == [s.status for s in later]
    assert all(b.at - a.at >= 2.0 for a, b in itertools.pairwise(later))
    assert 1 == len(followed.lists())


@pytest.mark.parametrize("fault", ["410", "410-event", "500", "empty", "cut", "refused"])
async def test_no_hot_loop(followed: Followed, fault: str) -> None:
    """A server that fails every watch at once, in whichever way, is left alone in between."""
    proxy = followed.proxy
    faults: dict[str, Callable[[], object]] = {
        "410": lambda: proxy.answer(410, times=999, watch=True, path=PATH),
        "410-event": lambda: proxy.error_event(410, times=999, path=PATH),
        "500": lambda: proxy.answer(500, times=999, path=PATH),
        "empty": lambda: proxy.empty_watches(times=999, path=PATH),
        "cut": lambda: proxy.lose_reply(times=999, path=PATH),
        "refused": lambda: proxy.refuse(cut=False),
    }
    faults[fault]()
    mark = journal.now()
    proxy.cut_watches()
    await followed.delete("one")
    await asyncio.sleep(5)
    seen = proxy.requests("GET", PATH, since=mark, until=mark + 5)
    assert COOL >= len([s for s in seen if s.is_watch])
    assert COOL >= len([s for s in seen if s.is_list])
    proxy.clear()
    await followed.converges()


async def test_a_slow_list_arrives(unstarted: Followed, proxy: ApiProxy) -> None:
    """A list that trickles in is taken when it is complete, not before."""
    for number in range(60):
        await unstarted.create(f"many-{number}")
    proxy.trickle(30_000)
    async with clients.through(proxy) as client:
        unstarted.start(client)
        task = asyncio.create_task(unstarted.informer.run())
        await clients.eventually(lambda: bool(unstarted.lists()))
        assert not unstarted.informer.values()
        await clients.eventually(unstarted.informer.synced.is_set)
        assert 62 <= len(unstarted.informer.values())  # the controller manager makes one, too
        await unstarted.delete("one")
        await unstarted.converges()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "seed", [3, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 12))]
)
async def test_everything_at_once(followed: Followed, seed: int) -> None:
    """Through a storm of faults every deletion is told, and in the end the cache is right."""
    dice = random.Random(seed)  # noqa: S311 - a storm that can be repeated
    proxy = followed.proxy
    faults = [
        proxy.cut_watches,
        lambda: proxy.cut_watches(half_line=True),
        proxy.end_watches,
        lambda: proxy.end_watches(error=410),
        lambda: proxy.end_watches(error=500),
        lambda: proxy.answer(429, path=PATH, retry_after=1),
        lambda: proxy.answer(410, path=PATH, watch=True),
        lambda: proxy.lose_reply(path=PATH),
        proxy.freeze,
        proxy.cut_all,
    ]
    mark = journal.now()
    for number in range(60):
        await followed.create(f"storm-{number}")
        if number % 3 == 0:
            await asyncio.to_thread(dice.choice(faults))
        if number >= 5 and number % 2:
            await followed.delete(f"storm-{number - 5}")
        await asyncio.sleep(0.1)
    await followed.converges()
    deleted = {f"storm-{n - 5}" for n in range(5, 60, 2)}
    heard = {name for name, told in followed.told.items() if "new" in told}
    assert all(followed.told[name][-1] == "gone" for name in deleted & heard)
    assert followed.informer.get(Key(followed.namespace, "storm-59")) is not None
    assert 12 >= journal.peak(proxy.requests("GET", PATH, since=mark))
