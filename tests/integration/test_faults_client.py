"""The client on a bad connection to the real API server: every fault has one clear outcome."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from dpucluster import errors
from dpucluster.api.meta import PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.resource import Resource
from tests.support import clients, journal
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

T = TypeVar("T")

BRIEF = 1.0
"""What a caller allows, where the limit is to be met."""
CONFIGMAPS = Resource(dict[str, Any], "", "v1", "configmaps", "ConfigMap")


def config_map(value: str = "x") -> dict[str, Any]:
    metadata = {"name": f"fault-{uuid.uuid4().hex[:8]}", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}


@pytest.fixture
def existing(api: KubeApi) -> Iterator[dict[str, Any]]:
    made = api.create("configmaps", config_map())
    yield made
    api.delete("configmaps", made["metadata"]["name"], "default")


async def next_event(
    events: AsyncIterator[kube_client.WatchEvent[T]],
) -> kube_client.WatchEvent[T]:
    """The next event that is no bookmark."""
    async with asyncio.timeout(PATIENCE):
        async for event in events:
            if not isinstance(event, kube_client.Bookmark):
                return event
    raise AssertionError("the watch ended")


async def drain(
    events: AsyncIterator[kube_client.WatchEvent[T]],
) -> list[kube_client.WatchEvent[T]]:
    """Everything until the end of the watch."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in events]


async def in_time(ask: Callable[[], Awaitable[T]]) -> T:
    """What ``ask`` returns, asked again while a busy machine is slower than ``BRIEF``."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(errors.TimedOut):
                return await ask()


async def test_reads_wait_as_they_are_told(proxy: ApiProxy, client: kube_client.Client) -> None:
    """A 429 with Retry-After delays a read; the caller does not notice."""
    proxy.answer(429, times=2, method="GET", path="/namespaces$", retry_after=1)
    listing = await client.list(kinds.NAMESPACES)
    assert "kube-system" in {n.metadata.name for n in listing.items}
    times = [s.at for s in proxy.requests(path="/namespaces$")]
    assert 3 == len(times)
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))


async def test_reads_give_up(proxy: ApiProxy, client: kube_client.Client) -> None:
    """A server that only ever says 429 is not asked for ever."""
    proxy.answer(429, times=1000, path="/namespaces$", retry_after=0)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.list(kinds.NAMESPACES)
    assert 0 == caught.value.retry_after
    assert 10 >= len(proxy.requests(path="/namespaces$"))


async def test_writes_are_sent_once(
    proxy: ApiProxy, client: kube_client.Client, existing: dict[str, Any]
) -> None:
    """A write that was refused for now is told, with the delay, and not repeated."""
    name = existing["metadata"]["name"]
    proxy.answer(429, method="PATCH", retry_after=7)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.merge_patch(CONFIGMAPS, name, {"data": {"v": "y"}}, "default")
    assert 7 == caught.value.retry_after
    assert 1 == len(proxy.requests("PATCH"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (422, errors.Invalid),
        (500, errors.ServerError),
        (503, errors.ServerError),
    ],
)
async def test_statuses_have_their_errors(
    proxy: ApiProxy, client: kube_client.Client, status: int, kind: type[errors.ApiError]
) -> None:
    """A failure is the exception of its status, and its message names the request."""
    proxy.answer(status, path="/configmaps/thing$")
    with pytest.raises(kind, match="configmaps default/thing") as caught:
        await client.get(CONFIGMAPS, "thing", "default")
    assert status == caught.value.status


async def test_a_stale_version_is_a_conflict(
    client: kube_client.Client, existing: dict[str, Any]
) -> None:
    """A patch with an old resourceVersion changes nothing: the real server's 409."""
    meta = existing["metadata"]
    version = {"metadata": {"resourceVersion": meta["resourceVersion"]}}
    await client.merge_patch(CONFIGMAPS, meta["name"], {**version, "data": {"v": "y"}}, "default")
    with pytest.raises(errors.Conflict):
        await client.merge_patch(
            CONFIGMAPS, meta["name"], {**version, "data": {"v": "z"}}, "default"
        )
    found = await client.get(CONFIGMAPS, meta["name"], "default")
    assert {"v": "y"} == found["data"]


async def test_a_lost_reply_is_told(
    proxy: ApiProxy, client: kube_client.Client, api: KubeApi
) -> None:
    """A write whose answer was lost fails, was done, and was not sent twice."""
    obj = config_map()
    name = obj["metadata"]["name"]
    await client.list(kinds.NAMESPACES)
    proxy.lose_reply(method="POST", path="/configmaps")
    with pytest.raises(errors.ConnectFailed, match=r"127\.0\.0\.1"):
        await client.create(CONFIGMAPS, obj, "default")
    assert 1 == len(proxy.requests("POST"))
    assert api.delete("configmaps", name, "default")


async def test_refused_connections_are_told(proxy: ApiProxy, client: kube_client.Client) -> None:
    """A server that is down is named; when it is back the same client works."""
    await client.list(kinds.NAMESPACES)
    proxy.refuse()
    with pytest.raises(errors.ConnectFailed, match=r"127\.0\.0\.1"):
        await client.list(kinds.NAMESPACES)
    proxy.accept()
    assert (await client.list(kinds.NAMESPACES)).items


async def test_silence_is_noticed(proxy: ApiProxy) -> None:
    """A half-open connection costs a request its time limit, and no more."""
    async with clients.through(proxy, timeout=BRIEF) as client:
        await in_time(lambda: client.list(kinds.NAMESPACES))
        proxy.freeze()
        with pytest.raises(errors.TimedOut, match=f"within {BRIEF:g} s"):
            await client.list(kinds.NAMESPACES)
        listing = await in_time(lambda: client.list(kinds.NAMESPACES))  # on a new connection
        assert listing.items


async def test_slow_answers_arrive_whole(
    proxy: ApiProxy, client: kube_client.Client, api: KubeApi
) -> None:
    """Many small pieces make the same object, also with line separators inside of values."""
    value = "a\u0085b\u2028c\n" * 300
    made = api.create("configmaps", config_map(value))
    proxy.trickle(20_000)
    found = await client.get(CONFIGMAPS, made["metadata"]["name"], "default")
    assert value == found["data"]["v"]
    api.delete("configmaps", made["metadata"]["name"], "default")


async def test_a_cut_watch_is_told(proxy: ApiProxy, client: kube_client.Client) -> None:
    """A watch that breaks inside an event fails; the half event is not delivered."""
    watch = client.watch(kinds.NAMESPACES, resource_version="0")
    async with contextlib.aclosing(watch) as events:
        await next_event(events)
        await asyncio.to_thread(proxy.cut_watches, half_line=True)
        with pytest.raises(errors.ConnectFailed):
            await drain(events)


async def test_an_ended_watch_just_ends(
    proxy: ApiProxy, client: kube_client.Client, furnished: str
) -> None:
    """The server's own end of a watch is no error."""
    watch = client.watch(CONFIGMAPS, furnished, resource_version="0")
    async with contextlib.aclosing(watch) as events:
        await next_event(events)
        await asyncio.to_thread(proxy.end_watches)
        rest = await drain(events)
    assert all(isinstance(e, kube_client.Added | kube_client.Bookmark) for e in rest)


@pytest.mark.parametrize("as_event", [True, False])
async def test_an_expired_watch_is_gone(
    proxy: ApiProxy, client: kube_client.Client, *, as_event: bool
) -> None:
    """410 as an ERROR event and 410 as a status both mean: list again."""
    if as_event:
        proxy.error_event(410)
    else:
        proxy.answer(410, watch=True)
    watch = client.watch(kinds.NAMESPACES, resource_version="1")
    async with contextlib.aclosing(watch) as events:
        with pytest.raises(errors.Gone):
            await next_event(events)


async def test_a_silent_watch_is_noticed(proxy: ApiProxy, client: kube_client.Client) -> None:
    """A watch on a half-open connection ends after the silence that its caller allows."""

    async def established() -> AsyncGenerator[kube_client.WatchEvent[PartialObject], None]:
        watch = client.watch(kinds.NAMESPACES, resource_version="0", silence=BRIEF)
        await next_event(watch)
        return watch

    async with contextlib.aclosing(await in_time(established)) as events:
        proxy.freeze()
        with pytest.raises(errors.TimedOut, match=f"within {BRIEF:g} s"):
            await drain(events)


async def test_pages_that_expire_are_read_again(
    proxy: ApiProxy, client: kube_client.Client, api: KubeApi, furnished: str
) -> None:
    """A continue token that is too old costs one more list, not an error."""
    for name in ("a", "b", "c"):
        manifest = {"metadata": {"name": name, "namespace": furnished}}
        api.create("configmaps", manifest)
    everything = await client.list(CONFIGMAPS, furnished)
    proxy.delay(0, times=1, path="/configmaps$")
    proxy.answer(410, path="/configmaps$")
    listing = await client.list(CONFIGMAPS, furnished, limit=2)
    names = [sorted(n["metadata"]["name"] for n in found.items) for found in (everything, listing)]
    assert ["a", "b", "c", "kube-root-ca.crt"] == names[0] == names[1]
    statuses = [s.status for s in proxy.requests(path="/configmaps$")]
    assert [200, 200, 410, 200] == statuses


async def test_no_connection_is_left(proxy: ApiProxy) -> None:
    """Watches that were left and requests that failed do not pile up connections."""
    async with clients.through(proxy) as client:
        for _ in range(5):
            watch = client.watch(kinds.NAMESPACES, resource_version="0")
            async with contextlib.aclosing(watch) as events:
                await next_event(events)
        await clients.eventually(lambda: proxy.open_watches == 0)
    assert 5 == len(proxy.requests(watch=True))
    assert 5 >= journal.peak(proxy.requests(), window=PATIENCE)
