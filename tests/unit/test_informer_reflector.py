"""The reflector between a source that fails by script and a clock that the test moves.

How it gets on with a real API server is tested in ``tests/integration``; here hours pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta, PartialObject
from dpucluster.kube import kinds, wire
from dpucluster.runtime import informer, reflector
from dpucluster.runtime import metrics as runtime_metrics
from tests.support.clock import FakeClock, settle

Watch = Callable[[], AsyncGenerator[Any, None]]

NOTHING: tuple[wire.Bookmark, ...] = ()


def thing(name: str, version: str) -> PartialObject:
    return PartialObject(ObjectMeta(name=name, namespace="ns", resource_version=version, uid=name))


class Script:
    """A source whose lists are ``listing`` (or raise it) and whose watches are ``watching``."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.listing: Any = wire.Listing([], [], "1")
        self.watching: Watch = self.quiet
        self.versions: list[str] = []
        self.selectors: set[str] = set()
        self.lists = 0

    async def quiet(self) -> AsyncGenerator[Any, None]:
        """Nothing ever happens."""
        await asyncio.Event().wait()
        yield

    async def list(self, resource: Any, namespace: str = "", *, label_selector: str = "") -> Any:
        """Implements Source."""
        del resource, namespace
        self.selectors.add(label_selector)
        self.lists += 1
        if isinstance(self.listing, Exception):
            raise self.listing
        return self.listing

    async def watch(
        self,
        resource: Any,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        server_timeout: int = 0,
    ) -> AsyncGenerator[Any, None]:
        """Implements Source."""
        del resource, namespace, server_timeout
        self.selectors.add(label_selector)
        self.versions.append(resource_version)
        async with contextlib.aclosing(self.watching()) as events:
            async for event in events:
                yield event

    @property
    def requests(self) -> int:
        """How often it was asked."""
        return self.lists + len(self.versions)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def script(clock: FakeClock) -> Script:
    return Script(clock)


@pytest.fixture
def metrics() -> runtime_metrics.Metrics:
    return runtime_metrics.Metrics()


@pytest.fixture
def cache(
    script: Script, clock: FakeClock, metrics: runtime_metrics.Metrics
) -> informer.Informer[PartialObject]:
    return informer.Informer(script, kinds.SECRETS_METADATA, clock=clock, metrics=metrics)


@contextlib.asynccontextmanager
async def running(cache: informer.Informer[PartialObject]) -> AsyncIterator[None]:
    task = asyncio.create_task(cache.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def fails(error: Exception) -> Watch:
    """A watch that ends with ``error`` at once."""

    async def watching() -> AsyncGenerator[Any, None]:
        for event in NOTHING:
            yield event
        raise error

    return watching


async def closed() -> AsyncGenerator[Any, None]:
    """A watch that the server closes at once."""
    for event in NOTHING:
        yield event


async def one_bookmark() -> AsyncGenerator[Any, None]:
    """A watch that tells a bookmark and ends."""
    yield wire.Bookmark("7")


def undecodable(*names: str, version: str = "1", namespace: str = "ns") -> wire.Listing[Any]:
    """A list in which nothing can be read."""
    keys = [Key(namespace, name) for name in names]
    return wire.Listing([], [wire.Undecodable(key, "?", version) for key in keys], "1")


def test_unreadable_objects_are_remembered_while_they_are_there(
    cache: informer.Informer[PartialObject], metrics: runtime_metrics.Metrics
) -> None:
    """Each is told once for a version; one that is gone from the list takes up no room."""
    for listing in (undecodable("a", "b"), undecodable("a"), undecodable("a")):
        cache.replace(listing, "")
    assert {Key("ns", "a"): "1"} == cache._unreadable
    assert 2 == metrics.sample("dpucluster_informer_undecodable_total", kind="Secret")
    cache.replace(undecodable("c", namespace="other"), "other")
    assert {Key("ns", "a"), Key("other", "c")} == cache._unreadable.keys()
    cache.replace(undecodable(), "ns")
    assert [Key("other", "c")] == list(cache._unreadable)


HOT: dict[str, Watch] = {
    "410": fails(errors.Gone("too old", status=410)),
    "cut": fails(errors.ConnectFailed("cut")),
    "500": fails(errors.ServerError("oops", status=500)),
    "nonsense": fails(errors.DecodeError("?")),
    "closed": closed,
}


@pytest.mark.parametrize("watching", HOT.values(), ids=HOT.keys())
async def test_failing_for_ever(
    script: Script,
    clock: FakeClock,
    cache: informer.Informer[PartialObject],
    caplog: pytest.LogCaptureFixture,
    watching: Watch,
) -> None:
    """An hour of watches that fail at once: a request every quarter of a minute, and one line."""
    script.watching = watching
    async with running(cache):
        await clock.advance(3600)
        assert cache.synced.is_set()
        assert 120 <= script.requests <= 300
        assert 1 == len([r for r in caplog.records if r.levelno >= logging.WARNING])


async def test_progress_that_ends_at_once(
    script: Script, clock: FakeClock, cache: informer.Informer[PartialObject]
) -> None:
    """Even watches that tell something and end at once are opened twice a second at most."""
    script.watching = one_bookmark
    async with running(cache):
        await clock.advance(60)
        assert cache.synced.is_set()
        assert 1 == script.lists
        assert 40 <= len(script.versions) <= 121
        assert "7" == script.versions[-1]


async def test_list_that_fails(
    script: Script, clock: FakeClock, cache: informer.Informer[PartialObject]
) -> None:
    """While no list is had the cache is not complete; when one is, it is."""
    script.listing = errors.Forbidden("no right", status=403)
    async with running(cache):
        await clock.advance(600)
        assert not cache.synced.is_set()
        assert script.lists < 40
        script.listing = wire.Listing([thing("a", "3")], [], "3")
        await clock.advance(31)
        assert cache.synced.is_set()
        assert thing("a", "3") == cache.get(Key("ns", "a"))


async def test_versions_told(
    script: Script, clock: FakeClock, cache: informer.Informer[PartialObject]
) -> None:
    """Each watch begins at the last version told: of objects, deletions, bookmarks, bad ones."""
    told: list[list[Any]] = [
        [wire.Added(thing("a", "2"))],
        [wire.Deleted(thing("a", "3"))],
        [wire.Bookmark("4")],
        [wire.Undecodable(Key("ns", "bad"), "?", "5")],
        [wire.Undecodable(None, "?")],
    ]

    async def watching() -> AsyncGenerator[Any, None]:
        if not told:
            await asyncio.Event().wait()
        for event in told.pop(0):
            yield event

    script.watching = watching
    async with running(cache):
        await clock.advance(30)
        assert [] == cache.values()
        assert ["1", "2", "3", "4", "5", "5"] == script.versions


async def test_error_of_this_program(
    script: Script,
    clock: FakeClock,
    cache: informer.Informer[PartialObject],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error nobody thought of is logged with its traceback, and the informer goes on."""
    script.listing = ZeroDivisionError("oops")
    async with running(cache):
        await clock.advance(60)
        (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert record.exc_info is not None
        script.listing = wire.Listing([], [], "1")
        await clock.advance(31)
        assert cache.synced.is_set()


async def test_recovery_is_told_once(
    script: Script,
    clock: FakeClock,
    cache: informer.Informer[PartialObject],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure and its end are one line each, and a new failure after that is news."""
    caplog.set_level(logging.INFO)
    script.watching = fails(errors.Gone("too old", status=410))
    async with running(cache):
        await clock.advance(60)
        script.watching = one_bookmark
        await clock.advance(60)
        script.watching = fails(errors.Gone("too old", status=410))
        await clock.advance(60)
        failed = "list or watch failed, trying again"
        again = "list and watch work again"
        relevant = [m for m in caplog.messages if m in {failed, again}]
        assert [failed, again] == relevant[:2]
        assert cache.synced.is_set()


async def test_gauges(
    script: Script,
    cache: informer.Informer[PartialObject],
    metrics: runtime_metrics.Metrics,
) -> None:
    """How many objects are cached, and whether all are, can be read from the metrics."""
    assert 0.0 == metrics.sample("dpucluster_informer_synced", kind="Secret")
    script.listing = wire.Listing([thing("a", "1"), thing("b", "1")], [], "1")
    async with running(cache):
        await settle()
        assert cache.synced.is_set()
        assert 1.0 == metrics.sample("dpucluster_informer_synced", kind="Secret")
        assert 2.0 == metrics.sample("dpucluster_informer_objects", kind="Secret")
        assert 1.0 == metrics.sample("dpucluster_informer_lists_total", kind="Secret")


async def test_only_what_is_selected_is_asked_for(script: Script, clock: FakeClock) -> None:
    """The label selector goes with every list and every watch, also after a failure."""
    script.listing = errors.ServerError("oops", status=500)
    selected = informer.Informer(script, kinds.SECRETS_METADATA, label_selector="a=b", clock=clock)
    async with running(selected):
        await clock.advance(1)
        script.listing = wire.Listing([], [], "1")
        await clock.advance(31)
        assert script.versions
        assert {"a=b"} == script.selectors


NOT_THERE = errors.NotFound("no such kind", status=404)


@pytest.fixture
def optional(
    script: Script, clock: FakeClock, metrics: runtime_metrics.Metrics
) -> informer.Informer[PartialObject]:
    """The cache of a kind that may not be installed."""
    return informer.Informer(
        script, kinds.SECRETS_METADATA, optional=True, clock=clock, metrics=metrics
    )


def is_installed(cache: informer.Informer[PartialObject]) -> bool:
    return cache.is_installed


async def test_a_kind_that_is_not_installed(
    script: Script,
    clock: FakeClock,
    optional: informer.Informer[PartialObject],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It counts as complete and empty, without a warning, and is seen soon after it comes."""
    caplog.set_level(logging.INFO)
    script.listing = NOT_THERE
    async with running(optional):
        await clock.advance(600)
        assert optional.synced.is_set()
        assert not is_installed(optional)
        assert 1 == caplog.messages.count("kind is not installed")
        assert [] == [r for r in caplog.records if r.levelno >= logging.WARNING]
        script.listing = wire.Listing([thing("a", "3")], [], "3")
        await clock.advance(reflector.INSTALLED_SECONDS)
        assert is_installed(optional)
        assert [thing("a", "3")] == optional.values()


async def test_a_kind_that_is_removed(
    script: Script, clock: FakeClock, optional: informer.Informer[PartialObject]
) -> None:
    """Its objects are gone with it: the handlers are told, the cache is empty."""
    gone: list[Key] = []
    ended = asyncio.Event()
    optional.on_change(lambda delta: gone.append(delta.key) if delta.new is None else None)

    async def watching() -> AsyncGenerator[Any, None]:
        await ended.wait()
        for event in NOTHING:
            yield event
        raise NOT_THERE

    script.listing = wire.Listing([thing("a", "3")], [], "3")
    script.watching = watching
    async with running(optional):
        await clock.advance(1)
        assert is_installed(optional)
        script.listing = NOT_THERE
        ended.set()
        await clock.advance(60)
        assert not is_installed(optional)
        assert [Key("ns", "a")] == gone
        assert [] == optional.values()


async def test_a_missing_kind_that_is_needed(
    script: Script, clock: FakeClock, cache: informer.Informer[PartialObject]
) -> None:
    """A 404 for a kind that is not optional is a failure: the cache is not complete."""
    script.listing = NOT_THERE
    async with running(cache):
        await clock.advance(60)
        assert not cache.synced.is_set()
        assert cache.is_installed


async def test_absent_in_one_namespace_of_two(
    script: Script, clock: FakeClock, metrics: runtime_metrics.Metrics
) -> None:
    """With several namespaces the cache is complete once each of them was heard of."""
    two = informer.Informer(
        script,
        kinds.SECRETS_METADATA,
        namespaces=("one", "two"),
        optional=True,
        clock=clock,
        metrics=metrics,
    )
    two.absent("one")
    assert not two.synced.is_set()
    two.absent("two")
    assert two.synced.is_set()
    assert not is_installed(two)
    two.replace(wire.Listing([], [], "1"), "one")
    assert is_installed(two)


def test_own_creations_are_cached_at_once(cache: informer.Informer[PartialObject]) -> None:
    """The reply of a create is in the cache before its event, and told as this process's own."""
    told: list[tuple[Key, bool]] = []
    cache.on_change(lambda delta: told.append((delta.key, delta.own)))
    cache.add(thing("a", "1"))
    assert thing("a", "1") == cache.get(Key("ns", "a"))
    cache.apply(wire.Added(thing("a", "1")))
    assert [(Key("ns", "a"), True)] == told


def test_watches_end_apart() -> None:
    """Watches are asked to stay for different times, below the five minutes of load balancers."""
    low, high = reflector.WATCH_SECONDS
    assert 60 < low < high < 300
