"""Which key may run when: the schedule against a model of sets, and the queue around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dpucluster.api.meta import Key
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import queue as work_queue
from dpucluster.runtime import schedule
from tests.support.clock import FakeClock, settle

KEYS = [Key("ns", name) for name in "abcd"]
A, B, C, _ = KEYS


class Model(RuleBasedStateMachine):
    """What a key is in is kept in plain sets here."""

    def __init__(self) -> None:
        super().__init__()
        self.real = schedule.Schedule()
        self.now = 0.0
        self.ready: list[Key] = []
        self.patient: list[Key] = []
        self.running: set[Key] = set()
        self.again: set[Key] = set()
        self.due: dict[Key, float] = {}
        self.hurried: set[Key] = set()

    def model_add(self, key: Key, *, patient: bool) -> bool:
        """What adding does to the model."""
        if key in self.ready or key in self.again:
            return False
        if key in self.running:
            self.again.add(key)
            return True
        if key not in self.patient:
            (self.patient if patient else self.ready).append(key)
            return True
        if not patient:
            self.patient.remove(key)
            self.ready.append(key)
        return False

    @rule(key=st.sampled_from(KEYS), patient=st.booleans())
    def add(self, key: Key, patient: bool) -> None:
        """A key is added."""
        expected = self.model_add(key, patient=patient)
        assert expected == self.real.add(key, self.now, patient=patient)

    @rule(key=st.sampled_from(KEYS), delay=st.integers(1, 10), patient=st.booleans())
    def add_later(self, key: Key, delay: int, patient: bool) -> None:
        """A key is added for later; the earlier of two times counts, and the lesser patience."""
        self.real.add_at(key, self.now + delay, patient=patient)
        if not patient:
            self.hurried.add(key)
        self.due[key] = min(self.due.get(key, self.now + delay), self.now + delay)

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        """Time passes, and those whose time has come become ready in the order of their times."""
        self.now += seconds
        self.real.promote(self.now)
        reached = sorted(k for k, when in self.due.items() if when <= self.now)
        for key in reached:
            del self.due[key]
            self.model_add(key, patient=key not in self.hurried)
            self.hurried.discard(key)
        # Two of the same time may come in any order: take over the real one's.
        self.ready.sort(key=list(self.real._ready).index)
        self.patient.sort(key=list(self.real._patient).index)

    @precondition(lambda self: self.ready or self.patient)
    @rule()
    def start(self) -> None:
        """The key that was ready first is taken, a patient one if there is no other."""
        taken = self.real.start(self.now)
        assert taken is not None
        assert (self.ready or self.patient).pop(0) == taken[0]
        assert taken[0] not in self.running, "never in two hands"
        self.running.add(taken[0])

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """A running key is done, and ready again if it was added meanwhile."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.real.done(key, self.now)
        self.running.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.ready.append(key)

    @invariant()
    def same(self) -> None:
        """Both agree on what is ready, running, and due next."""
        assert self.ready == list(self.real._ready)
        assert self.patient == list(self.real._patient)
        assert self.real.depth == len(self.ready) + len(self.patient)
        assert self.running == set(self.real._running)
        assert min(self.due.values(), default=None) == self.real.next_due()
        assert self.due == self.real._due


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=30)


def test_retry_delays() -> None:
    """Retries of one key come after 5 ms, doubling, and never later than after 120 s."""
    delays = [schedule.retry_delay(n) for n in (0, 1, 2, 10, 15, 10_000)]
    assert [0.005, 0.01, 0.02, 5.12, 120.0, 120.0] == delays


def test_done_without_start() -> None:
    """Giving back a key that was not handed out is an error of the program."""
    with pytest.raises(KeyError):
        schedule.Schedule().done(A, 0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics() -> runtime_metrics.Metrics:
    return runtime_metrics.Metrics()


@pytest.fixture
async def queue(
    clock: FakeClock, metrics: runtime_metrics.Metrics
) -> AsyncIterator[work_queue.WorkQueue]:
    made = work_queue.WorkQueue("q", clock=clock, metrics=metrics)
    yield made
    made.shut_down()
    await settle()


async def test_each_key_once(queue: work_queue.WorkQueue) -> None:
    """A key added many times before it is taken is handed out once."""
    for key in (A, B, A, A, B):
        queue.add(key)
    assert [A, B] == [await queue.get(), await queue.get()]
    assert 0 == len(queue)


async def test_begun_before_new(queue: work_queue.WorkQueue, clock: FakeClock) -> None:
    """Patient keys are handed out after all others, also when they were added long before."""
    queue.add(A, patient=True)
    queue.add_after(B, 1, patient=True)
    await clock.advance(1)
    queue.add(C)
    queue.add(B)
    assert [C, B, A] == [await queue.get() for _ in range(3)]


async def test_added_while_running(queue: work_queue.WorkQueue) -> None:
    """A key that is added while a worker has it comes back only after that worker is done."""
    queue.add(A)
    await queue.get()
    queue.add(A)
    second = asyncio.create_task(queue.get())
    await settle()
    assert not second.done()
    queue.done(A)
    assert await second == A


async def test_earlier_delay_wins(queue: work_queue.WorkQueue, clock: FakeClock) -> None:
    """Of two delays the earlier counts, whichever was given first, and the key comes once."""
    queue.add_after(A, 30)
    queue.add_after(A, 10)
    queue.add_after(A, 20)
    await clock.advance(9)
    assert 0 == len(queue)
    await clock.advance(1)
    assert await queue.get() == A
    queue.done(A)
    await clock.advance(60)
    assert 0 == len(queue)


async def test_delays_of_many_keys(queue: work_queue.WorkQueue, clock: FakeClock) -> None:
    """Each key comes at its own time."""
    queue.add_after(A, 5)
    queue.add_after(B, 3)
    queue.add_after(C, 7)
    seen = []
    for _ in range(10):
        await clock.advance(1)
        while len(queue):
            key = await queue.get()
            assert key is not None
            queue.done(key)
            seen.append((key.name, clock.monotonic() - 1000))
    assert [("b", 3.0), ("a", 5.0), ("c", 7.0)] == seen


async def test_delayed_key_added_at_once_comes_again(
    queue: work_queue.WorkQueue, clock: FakeClock
) -> None:
    """A key that is wanted now and in 5 s is handed out now and in 5 s."""
    queue.add_after(A, 5)
    queue.add(A)
    assert await queue.get() == A
    queue.done(A)
    await clock.advance(5)
    assert await queue.get() == A


async def test_rate_limit_is_per_key_and_forgotten(
    queue: work_queue.WorkQueue, clock: FakeClock, metrics: runtime_metrics.Metrics
) -> None:
    """A key that fails waits longer each time; another key does not; forgetting starts anew."""
    for _ in range(8):
        queue.add_rate_limited(A)
        await clock.advance(120)
        assert await queue.get() == A
        queue.done(A)
    queue.add_rate_limited(A)
    queue.add_rate_limited(B)
    await clock.advance(0.006)
    assert await queue.get() == B
    await clock.advance(1.26)
    assert 0 == len(queue)
    await clock.advance(0.02)
    assert await queue.get() == A
    queue.done(A)
    queue.forget(A)
    queue.add_rate_limited(A)
    await clock.advance(0.006)
    assert 1 == len(queue)
    assert 11.0 == metrics.sample("workqueue_retries_total", name="q")


async def test_shut_down(queue: work_queue.WorkQueue, clock: FakeClock) -> None:
    """After shutting down nobody gets a key, neither those who wait nor those who come."""
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    queue.add_after(A, 1)
    await settle()
    queue.shut_down()
    queue.add(B)
    queue.add_after(C, 1)
    await clock.advance(5)
    assert [None, None, None] == [await one for one in waiting]
    assert await queue.get() is None
    assert 0 == clock.sleepers


async def test_cancelled_getter_loses_nothing(queue: work_queue.WorkQueue) -> None:
    """A worker that is cancelled in the moment of its turn leaves the key to another one."""
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add(A)
    first.cancel()
    assert await second == A
    assert first.cancelled()


async def test_queue_metrics(
    queue: work_queue.WorkQueue, clock: FakeClock, metrics: runtime_metrics.Metrics
) -> None:
    """Depth, adds, waiting and working times are counted under client-go's names."""
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert 2.0 == metrics.sample("workqueue_depth", name="q")
    assert 2.0 == metrics.sample("workqueue_adds_total", name="q")
    clock.skip(3)
    await queue.get()
    assert 3.0 == metrics.sample("workqueue_queue_duration_seconds_sum", name="q")
    await queue.get()
    clock.skip(2)
    queue.done(A)
    assert 2.0 == metrics.sample("workqueue_work_duration_seconds_sum", name="q")
    assert 2.0 == metrics.sample("workqueue_unfinished_work_seconds", name="q")
    assert 2.0 == metrics.sample("workqueue_longest_running_processor_seconds", name="q")
