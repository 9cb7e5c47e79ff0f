"""The event recorder on the real API server, and on a bad connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator

import pytest

from dpucluster.api.meta import ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.kube.kinds import Event, ObjectReference
from dpucluster.runtime import events
from dpucluster.runtime import metrics as runtime_metrics
from tests.support import clients
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

NAMES = itertools.count()


@pytest.fixture
def metrics() -> runtime_metrics.Metrics:
    return runtime_metrics.Metrics()


@pytest.fixture
def recorder(client: kube_client.Client, metrics: runtime_metrics.Metrics) -> events.EventRecorder:
    return events.EventRecorder(
        client, controller="test.example.com", instance="pod-1", metrics=metrics
    )


@contextlib.asynccontextmanager
async def running(recorder: events.EventRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def about(namespace: str, name: str = "a") -> ObjectReference:
    metadata = ObjectMeta(
        name=name, namespace=namespace, uid=f"uid-{namespace}-{name}", resource_version="7"
    )
    return kinds.reference(kinds.SECRETS, metadata)


def tell(recorder: events.EventRecorder, regarding: ObjectReference, note: str = "n") -> None:
    recorder.emit(regarding, type_="Warning", reason="Broken", action="Look", note=note)


async def stored(client: kube_client.Client, namespace: str) -> list[Event]:
    return (await client.list(kinds.EVENTS, namespace)).items


async def test_event_is_stored(
    client: kube_client.Client, recorder: events.EventRecorder, namespace: str
) -> None:
    """The server takes the Event, with everything that kubectl shows of it."""
    async with running(recorder):
        tell(recorder, about(namespace))
        assert await recorder.flush(PATIENCE)
    (event,) = await stored(client, namespace)
    assert ("Warning", "Broken", "Look", "n") == (
        event.type,
        event.reason,
        event.action,
        event.note,
    )
    assert about(namespace) == event.regarding
    assert ("test.example.com", "pod-1") == (event.reporting_controller, event.reporting_instance)
    assert event.event_time


@pytest.mark.parametrize(
    "note", ["é" * 2000, "\U0001f600" * 2000, "x" * 5000, "tab\t line\n \u2028"]
)
async def test_any_note_is_accepted(
    client: kube_client.Client, recorder: events.EventRecorder, namespace: str, note: str
) -> None:
    """Whatever a note says and however long it is, the server takes it."""
    async with running(recorder):
        tell(recorder, about(namespace, "x" * 250), note)
        assert await recorder.flush(PATIENCE)
    assert [events.cut(note, 1024)] == [e.note for e in await stored(client, namespace)]


async def test_same_fact_twice(
    client: kube_client.Client,
    recorder: events.EventRecorder,
    namespace: str,
    metrics: runtime_metrics.Metrics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same fact told twice, also by a successor, is one Event and no trouble."""
    async with running(recorder):
        for _ in range(3):
            tell(recorder, about(namespace))
        tell(recorder, about(namespace), "something else")
        assert await recorder.flush(PATIENCE)
    assert 2 == len(await stored(client, namespace))
    assert [] == [r for r in caplog.records if r.levelno >= logging.INFO]
    assert 0.0 == metrics.sample("dpucluster_events_dropped_total", reason="refused")


async def test_cluster_scoped(client: kube_client.Client, recorder: events.EventRecorder) -> None:
    """An Event about a cluster-scoped object is taken, in the namespace default."""
    unique = f"node-{next(NAMES)}-{id(recorder)}"
    regarding = kinds.reference(kinds.NODES, ObjectMeta(name=unique, uid=unique))
    async with running(recorder):
        tell(recorder, regarding)
        assert await recorder.flush(PATIENCE)
    assert [unique] == [
        e.regarding.name for e in await stored(client, "default") if e.regarding.name == unique
    ]


async def test_server_away(
    client: kube_client.Client, recorder: events.EventRecorder, proxy: ApiProxy, namespace: str
) -> None:
    """Events wait for a server that is away; telling them never does."""
    async with running(recorder):
        proxy.refuse()
        for name in ("a", "b"):
            tell(recorder, about(namespace, name))
        assert not await recorder.flush(0.2)
        proxy.accept()
        assert await recorder.flush(PATIENCE)
    assert ["a", "b"] == sorted(e.regarding.name for e in await stored(client, namespace))


async def test_patience_that_is_asked_for(
    client: kube_client.Client, recorder: events.EventRecorder, proxy: ApiProxy, namespace: str
) -> None:
    """A server that asks for patience gets the Event later."""
    proxy.answer(429, method="POST", path="events", retry_after=2)
    async with running(recorder):
        tell(recorder, about(namespace))
        assert await recorder.flush(PATIENCE)
    assert 1 == len(await stored(client, namespace))
    first, second = proxy.requests("POST", "events")
    assert second.at - first.at >= 2


async def test_failing_event_holds_up_nobody(
    client: kube_client.Client, recorder: events.EventRecorder, proxy: ApiProxy, namespace: str
) -> None:
    """Others are told while one fails; it comes later, after it those about the same object."""
    fault = proxy.answer(500, times=99, method="POST", path="/namespaces/bad/")
    bad = [about("bad", f"{namespace}-{n}") for n in range(2 * events.SENDERS)]
    async with running(recorder):
        for regarding in bad:
            tell(recorder, regarding, "first")
            tell(recorder, regarding, "second")
        for n in range(20):
            tell(recorder, about(namespace, f"good-{n}"))
        path = f"/namespaces/{namespace}/"
        await clients.eventually(lambda: len(proxy.requests("POST", path)) >= 20)
        assert fault.times < 99
        assert not await recorder.flush(0.1)
        proxy.clear()
        proxy.answer(404, times=99, method="POST", path="/namespaces/bad/")
        assert await recorder.flush(PATIENCE)
    assert 20 == len(await stored(client, namespace))


async def test_order_of_one_object(
    client: kube_client.Client, recorder: events.EventRecorder, proxy: ApiProxy, namespace: str
) -> None:
    """What is told about one object arrives in that order, whatever fails in between."""
    async with running(recorder):
        proxy.answer(500, times=2, method="POST", path="events")
        for n in range(10):
            for name in ("a", "b", "c"):
                tell(recorder, about(namespace, name), f"note {n}")
        assert await recorder.flush(PATIENCE)
    found = sorted(await stored(client, namespace), key=lambda e: int(e.metadata.resource_version))
    for name in ("a", "b", "c"):
        notes = [e.note for e in found if e.regarding.name == name]
        assert [f"note {n}" for n in range(10)] == notes


async def test_giving_up(
    recorder: events.EventRecorder,
    proxy: ApiProxy,
    namespace: str,
    metrics: runtime_metrics.Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An Event that always fails is dropped and counted in the end, and the next one follows."""
    monkeypatch.setattr(events, "MAX_ATTEMPTS", 3)
    proxy.answer(500, times=3, method="POST", path="events")
    async with running(recorder):
        tell(recorder, about(namespace), "lost")
        tell(recorder, about(namespace), "told")
        assert await recorder.flush(PATIENCE)
    assert ["told"] == [e.note for e in await stored(recorder._client, namespace)]
    assert 1.0 == metrics.sample("dpucluster_events_dropped_total", reason="unreachable")


async def test_refusal(
    recorder: events.EventRecorder,
    proxy: ApiProxy,
    namespace: str,
    metrics: runtime_metrics.Metrics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events that are refused are dropped, counted, told once, and hold up no other."""
    proxy.answer(403, times=3, method="POST", path="events")
    async with running(recorder):
        for name in ("a", "b", "c", "d"):
            tell(recorder, about(namespace, name))
        assert await recorder.flush(PATIENCE)
    assert 1 == len(await stored(recorder._client, namespace))
    assert 3.0 == metrics.sample("dpucluster_events_dropped_total", reason="refused")
    assert 1 == len([r for r in caplog.records if r.levelno >= logging.WARNING])


async def test_too_many(
    recorder: events.EventRecorder,
    namespace: str,
    metrics: runtime_metrics.Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When too many wait the oldest are dropped and counted."""
    monkeypatch.setattr(events, "MAX_WAITING", 3)
    for name in "abcde":
        tell(recorder, about(namespace, name))
    assert 2.0 == metrics.sample("dpucluster_events_dropped_total", reason="overflow")
    async with running(recorder):
        assert await recorder.flush(PATIENCE)
    told = await stored(recorder._client, namespace)
    assert ["c", "d", "e"] == sorted(e.regarding.name for e in told)
