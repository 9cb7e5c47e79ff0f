"""The fence in front of writes, at the last moment there is."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.api.meta import ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import events
from tests.support import clients, loops
from tests.support.proxy import ApiProxy

BIG = {"metadata": {"annotations": {"example.com/text": "x" * 2000}}}


def objects_at(call: int) -> Callable[[], None]:
    """A guard that objects when it is asked for the ``call``-th time."""
    calls = itertools.count(1)

    def guard() -> None:
        if next(calls) >= call:
            raise errors.LeadershipLost("the Lease is not held")

    return guard


@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize("call", [1, 2])
def test_what_the_guard_refuses_never_arrives(proxy: ApiProxy, loop: str, call: int) -> None:
    """Refused before it is written, or when all of it is: no byte of the write goes out."""

    async def write() -> list[Any]:
        async with clients.through(proxy) as client:
            await client.get(kinds.NAMESPACES, "default")  # so that a connection is there
            tries: list[Callable[[kube_client.Client], Awaitable[Any]]] = [
                lambda c: c.merge_patch(kinds.NAMESPACES, "default", BIG),
                lambda c: c.create(kinds.NAMESPACES, {"metadata": {"name": "no"}}),
                lambda c: c.delete(kinds.NAMESPACES, "no"),
            ]
            found = [await _outcome(one(client.fenced(objects_at(call)))) for one in tries]
            await client.get(kinds.NAMESPACES, "default")  # a reset connection is replaced
            return found

    with loops.runner(loops.KINDS[loop]) as runner:
        found = runner.run(write())
    assert [errors.LeadershipLost] * 3 == [type(error) for error in found]
    assert {"GET"} == {seen.method for seen in proxy.requests()}


async def _outcome(write: Any) -> Any:
    try:
        return await write
    except errors.DpuClusterError as error:
        return error


@pytest.mark.parametrize("loop", loops.KINDS)
def test_the_fence_costs_no_time(proxy: ApiProxy, loop: str) -> None:
    """What the guard lets pass goes at once: it does not wait for the kernel's 200 ms."""

    async def write(client: kube_client.Client) -> float:
        started = time.monotonic()
        await client.merge_patch(kinds.NAMESPACES, "default", {})
        return time.monotonic() - started

    async def by_turns() -> tuple[float, float]:
        """The median write with a fence and without, equally hindered by whatever else runs."""
        async with clients.through(proxy) as client:
            fenced = client.fenced(lambda: None)
            both = [(await write(fenced), await write(client)) for _ in range(20)]
        with_fence, without = map(statistics.median, zip(*both, strict=True))
        return with_fence, without

    with loops.runner(loops.KINDS[loop]) as runner:
        with_fence, without = runner.run(by_turns())
    assert with_fence < without + 0.1


async def test_events_of_a_lost_role_are_dropped(proxy: ApiProxy, namespace: str) -> None:
    """An Event whose guard objects when its turn comes is not sent; the next one is."""
    about = kinds.reference(
        kinds.SECRETS, ObjectMeta(name="a", namespace=namespace, uid="uid-a", resource_version="1")
    )
    async with clients.through(proxy) as client:
        recorder = events.EventRecorder(client, controller="test.example.com", instance="pod-1")
        sending = asyncio.create_task(recorder.run())
        for note, guard in {"lost": objects_at(1), "held": lambda: None}.items():
            recorder.emit(
                about, type_="Normal", reason="Test", action="Look", note=note, guard=guard
            )
        assert await recorder.flush(10)
        sending.cancel()
        stored = (await client.list(kinds.EVENTS, namespace)).items
    assert ["held"] == [event.note for event in stored]
