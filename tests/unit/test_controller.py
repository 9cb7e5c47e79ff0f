"""Workers: what follows from each way a reconciliation can end, and who disturbs whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from dpucluster import errors
from dpucluster.api.meta import Key
from dpucluster.runtime import controller as controllers
from dpucluster.runtime import metrics as runtime_metrics
from tests.support.clock import FakeClock, settle

A, B = Key("ns", "a"), Key("ns", "b")

Behaviour = Callable[[], Awaitable[float | None]]


class Bench:
    """A running controller whose reconciliations do what the test says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.metrics = runtime_metrics.Metrics()
        self.calls: list[Key] = []
        self.answers: dict[Key, Any] = {}
        self.controller = controllers.Controller(
            "c", self._reconcile, workers=2, clock=self.clock, metrics=self.metrics
        )

    async def _reconcile(self, key: Key) -> float | None:
        self.calls.append(key)
        answer = self.answers.get(key)
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            return await cast("Behaviour", answer)()
        return cast("float | None", answer)

    def results(self, result: str) -> float:
        """How many reconciliations ended like this."""
        return self.metrics.sample(
            "controller_runtime_reconcile_total", controller="c", result=result
        )

    @property
    def errors(self) -> float:
        """How many reconciliations failed."""
        return self.metrics.sample("controller_runtime_reconcile_errors_total", controller="c")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    running = asyncio.create_task(made.controller.run())
    await settle()
    yield made
    await made.controller.drain(0)
    await running


async def test_success(bench: Bench) -> None:
    """A reconciliation with nothing more to do runs once."""
    bench.controller.enqueue(A)
    await bench.clock.advance(1000)
    assert [A] == bench.calls
    assert 1.0 == bench.results("success")
    assert 0.0 == bench.errors


async def test_requeue_after(bench: Bench) -> None:
    """The returned delay brings the key back, no earlier and no later."""
    bench.answers[A] = 30.0
    bench.controller.enqueue(A)
    await bench.clock.advance(29.9)
    assert 1 == len(bench.calls)
    await bench.clock.advance(0.1)
    assert 2 == len(bench.calls)
    assert 2.0 == bench.results("requeue_after")


async def test_enqueue_after(bench: Bench) -> None:
    """A key can be asked for later."""
    bench.controller.enqueue(A, after=5)
    await bench.clock.advance(4.9)
    assert [] == bench.calls
    await bench.clock.advance(0.2)
    assert [A] == bench.calls


async def test_conflict_is_no_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A conflict is looked at again at once, counted, not logged, and not an error."""
    bench.answers[A] = errors.Conflict("moved on", status=409)
    bench.controller.enqueue(A)
    await settle()
    bench.answers[A] = None
    await bench.clock.advance(0.006)
    assert [A, A] == bench.calls
    assert (1.0, 0.0) == (bench.results("requeue"), bench.errors)
    assert 1.0 == bench.metrics.sample("dpucluster_reconcile_conflicts_total", controller="c")
    assert [] == [r for r in caplog.records if r.levelno >= logging.INFO]


async def test_endless_conflict_is_no_hot_loop(bench: Bench) -> None:
    """An object that conflicts for ever costs a few tries, not a storm."""
    bench.answers[A] = errors.Conflict("always", status=409)
    bench.controller.enqueue(A)
    await bench.clock.advance(60)
    assert len(bench.calls) < 20


async def test_leadership_lost_is_dropped(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A write that was held back is not tried again by this process, and not worth a line."""
    bench.answers[A] = errors.LeadershipLost("not held")
    bench.controller.enqueue(A)
    await bench.clock.advance(1000)
    assert [A] == bench.calls
    assert 0.0 == bench.errors
    assert [] == [r for r in caplog.records if r.levelno >= logging.INFO]


async def test_retry_after_is_honoured(bench: Bench) -> None:
    """A server that asks for patience gets as much as it asked for."""
    bench.answers[A] = errors.TooManyRequests("slow", status=429, retry_after=7.0)
    bench.controller.enqueue(A)
    await bench.clock.advance(6.9)
    assert 1 == len(bench.calls)
    await bench.clock.advance(0.2)
    assert 2 == len(bench.calls)
    assert 0.0 == bench.errors


async def test_retry_after_is_bounded(bench: Bench) -> None:
    """A server that asks for a day gets two minutes."""
    bench.answers[A] = errors.TooManyRequests("slow", status=429, retry_after=86_400.0)
    bench.controller.enqueue(A)
    await bench.clock.advance(121)
    assert 2 == len(bench.calls)


async def test_expected_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An expected error is one line without a traceback, retried ever more slowly, told once."""
    bench.answers[A] = errors.Forbidden("no right", status=403)
    bench.controller.enqueue(A)
    await bench.clock.advance(10)
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [("reconciliation failed", None)] == [(r.getMessage(), r.exc_info) for r in warnings]
    assert 10 < len(bench.calls) < 15
    assert len(bench.calls) == bench.errors
    assert 0 < bench.metrics.sample("workqueue_retries_total", name="c")


async def test_unexpected_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the program is logged with its traceback and retried; success ends it."""
    bench.answers[A] = ZeroDivisionError("oops")
    bench.controller.enqueue(A)
    await bench.clock.advance(1)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.exc_info is not None
    bench.answers[A] = None
    with caplog.at_level(logging.INFO):
        await bench.clock.advance(10)
    assert "recovered" in caplog.messages


async def test_leaked_cancellation_keeps_the_worker(bench: Bench) -> None:
    """A cancellation that leaks out of a reconciliation is an error; no worker is lost by it."""
    bench.answers[A] = asyncio.CancelledError()
    bench.controller.enqueue(A)
    await bench.clock.advance(1)
    assert bench.errors > 2
    bench.controller.enqueue(B)
    await settle()
    assert B in bench.calls


async def test_bad_key_disturbs_no_other(bench: Bench) -> None:
    """While one key hangs and is enqueued again and again, others run; it never runs twice."""
    started = 0

    async def hang() -> float | None:
        nonlocal started
        started += 1
        await asyncio.Event().wait()
        return None

    bench.answers[A] = hang
    for _ in range(5):
        bench.controller.enqueue(A)
        bench.controller.enqueue(B)
        await settle()
    assert 1 == started
    assert 5 == bench.calls.count(B)
    assert 1.0 == bench.metrics.sample("controller_runtime_active_workers", controller="c")


async def test_drain_lets_work_end() -> None:
    """Draining starts nothing new, waits for what runs, and then the run is over."""
    bench = Bench()
    finish = asyncio.Event()

    async def work() -> float | None:
        await finish.wait()
        return 5.0

    bench.answers[A] = work
    running = asyncio.create_task(bench.controller.run())
    bench.controller.enqueue(A)
    await settle()
    draining = asyncio.create_task(bench.controller.drain(60))
    await settle()
    bench.controller.enqueue(B)
    assert not draining.done()
    finish.set()
    assert await draining
    await running
    assert [A] == bench.calls


async def test_drain_cuts_off_what_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """What does not end in time is cancelled and said so."""
    bench = Bench()
    bench.answers[A] = lambda: asyncio.Event().wait()
    running = asyncio.create_task(bench.controller.run())
    bench.controller.enqueue(A)
    await settle()
    assert not await bench.controller.drain(0)
    await running
    assert ["reconciliations were cut off"] == caplog.messages


async def test_cancelled_run_ends() -> None:
    """Cancelling the run cancels what runs."""
    bench = Bench()
    bench.answers[A] = lambda: asyncio.Event().wait()
    running = asyncio.create_task(bench.controller.run())
    bench.controller.enqueue(A)
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
