"""Two electors and one Lease on the real API server, through good days and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.localplane.plane import ControlPlane
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import lease
from dpucluster.runtime import metrics as runtime_metrics
from tests.support import clients, journal
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

DURATION = 6.0
TIMING: dict[str, Any] = {"lease_duration": DURATION, "renew_deadline": 4.5, "retry_period": 0.25}
"""Short, so that what has to run out does so in seconds, and long enough for a busy machine."""
LASTING: dict[str, Any] = {"lease_duration": 900.0, "renew_deadline": 600.0, "retry_period": 0.25}
"""Who waits for such a Lease to run out waits longer than any test does."""


@pytest.fixture
def other_proxy(management: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(management.kubeconfig) as running:
        yield running


@pytest.fixture
async def other_client(other_proxy: ApiProxy) -> AsyncIterator[kube_client.Client]:
    async with clients.through(other_proxy) as running:
        yield running


@pytest.fixture
def name() -> str:
    """A Lease of its own."""
    return f"lease-{uuid.uuid4().hex[:10]}"


class Skewed(clocks.SystemClock):
    """A machine whose wall clock is wrong."""

    def __init__(self, skew: dt.timedelta) -> None:
        self._skew = skew

    def now(self) -> dt.datetime:
        """The wrong time."""
        return super().now() + self._skew


class Freezing(clocks.SystemClock):
    """A process that can be stopped, as by SIGSTOP: its sleeps do not end before it wakes."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.awake.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, and stay asleep while frozen."""
        await super().sleep(seconds)
        await self.awake.wait()


class Killed(lease.LeaderElector):
    """A process that is killed releases nothing."""

    async def _release(self) -> None:
        """Not any more."""


class Candidate:
    """An elector that runs, and what it told."""

    def __init__(
        self,
        client: kube_client.Client,
        name: str,
        identity: str,
        *,
        kind: type[lease.LeaderElector] = lease.LeaderElector,
        **options: Any,
    ) -> None:
        self.metrics = runtime_metrics.Metrics()
        self.history: list[str] = []
        self.name = name
        self.elector = kind(
            client,
            name=name,
            namespace="default",
            identity=identity,
            metrics=self.metrics,
            **{**TIMING, **options},
        )

    def started(self) -> None:
        """Leadership began."""
        self.history.append("started")

    async def stopped(self) -> None:
        """Leadership ended."""
        self.history.append("stopped")

    @property
    def leads(self) -> bool:
        """Whether it would write now."""
        return self.elector.is_leader()

    @property
    def gauge(self) -> float:
        """What its metrics say."""
        return self.metrics.sample("leader_election_master_status", name=self.name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Candidate]:
        """Take part inside of this block."""
        task = asyncio.create_task(self.elector.run(self.started, self.stopped))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def read(client: kube_client.Client, name: str) -> kinds.LeaseSpec:
    return (await client.get(kinds.LEASES, name, "default")).spec


async def never_both(one: Candidate, other: Candidate, seconds: float) -> None:
    """Watch for ``seconds`` that the two never lead at the same moment."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert not (one.leads and other.leads)
        await asyncio.sleep(0.01)


async def until_led_by(one: Candidate, other: Candidate) -> None:
    """Wait until ``one`` leads; the two never do at the same moment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            leading = [c for c in (one, other) if c.leads]
            assert len(leading) <= 1
            if leading == [one]:
                return
            await asyncio.sleep(0.01)


async def test_first_one_leads(client: kube_client.Client, name: str) -> None:
    """One of two leads and says so; the other knows who does and may not write."""
    timing: dict[str, Any] = {"lease_duration": 12.0, "renew_deadline": 10.0}
    async with Candidate(client, name, "one", **timing).running() as one:
        await clients.eventually(lambda: one.leads)
        async with Candidate(client, name, "two").running() as two:
            await clients.eventually(lambda: two.elector.holder == "one")
            await never_both(one, two, timing["lease_duration"] + 1)
            assert one.leads
            assert (["started"], []) == (one.history, two.history)
            assert (1.0, 0.0) == (one.gauge, two.gauge)
            one.elector.check()
            with pytest.raises(errors.LeadershipLost):
                two.elector.check()


async def test_what_is_written(client: kube_client.Client, name: str) -> None:
    """The Lease carries what client-go's elector and kubectl read; only renewTime moves on."""
    async with Candidate(client, name, "one").running() as one:
        await clients.eventually(lambda: one.leads)
        first = later = await read(client, name)
        while first.renew_time == later.renew_time:
            await asyncio.sleep(0.1)
            later = await read(client, name)
    assert ("one", 6, 0) == (
        first.holder_identity,
        first.lease_duration_seconds,
        first.lease_transitions,
    )
    assert first.acquire_time == later.acquire_time
    assert first.renew_time is not None
    assert later.renew_time is not None
    assert first.renew_time < later.renew_time


async def test_release_hands_over_at_once(client: kube_client.Client, name: str) -> None:
    """Stopping releases the Lease after on_stopped, and the other one need not wait it out."""
    one, two = (Candidate(client, name, who, **LASTING) for who in ("one", "two"))
    async with two.running():
        await clients.eventually(lambda: two.leads)
    async with one.running():
        await clients.eventually(lambda: one.leads)
        waiting = contextlib.AsyncExitStack()
        await waiting.enter_async_context(two.running())
        await clients.eventually(lambda: two.elector.holder == "one")
    async with waiting:
        assert ["started", "stopped"] == one.history
        assert "" == ((await read(client, name)).holder_identity or "") or two.leads
        await clients.eventually(lambda: two.leads)
        assert 2 == (await read(client, name)).lease_transitions


async def test_stopped_while_taking_the_lease(
    client: kube_client.Client, proxy: ApiProxy, name: str
) -> None:
    """A Lease that was got by a write without an answer is released, too; nobody waits it out."""
    proxy.lose_reply(method="POST", path="leases")
    one = Candidate(client, name, "one", **{**LASTING, "retry_period": 300.0})
    two = Candidate(client, name, "two", **LASTING)
    async with one.running():
        await clients.eventually(lambda: bool(proxy.requests("POST", "leases", status=journal.CUT)))
        await clients.eventually(lambda: one.elector._is_unsure)
    assert "" == ((await read(client, name)).holder_identity or "")
    async with two.running():
        await clients.eventually(lambda: two.leads)
    assert [] == one.history


async def test_stopped_while_another_one_leads(client: kube_client.Client, name: str) -> None:
    """Who stops without leading releases nothing that belongs to somebody else."""
    one, two = Candidate(client, name, "one"), Candidate(client, name, "two")
    async with one.running():
        await clients.eventually(lambda: one.leads)
        async with two.running():
            await clients.eventually(lambda: two.elector.holder == "one")
            two.elector._is_unsure = True
        assert "one" == (await read(client, name)).holder_identity


async def test_restart_with_the_same_identity(client: kube_client.Client, name: str) -> None:
    """A container that is started again in its pod goes on at once, also after a kill."""
    one = Candidate(client, name, "pod", kind=Killed, **LASTING)
    async with one.running():
        await clients.eventually(lambda: one.leads)
    again = Candidate(client, name, "pod", **LASTING)
    async with again.running():
        await clients.eventually(lambda: again.leads)
        assert 0 == (await read(client, name)).lease_transitions


async def test_killed_leader(client: kube_client.Client, name: str) -> None:
    """After a leader that was killed the other one leads when the Lease has run out."""
    one = Candidate(client, name, "one", kind=Killed)
    two = Candidate(client, name, "two")
    async with two.running():
        await clients.eventually(lambda: two.leads)
    async with one.running():
        await clients.eventually(lambda: one.leads)
    async with two.running():
        assert not two.leads
        await until_led_by(two, one)
        spec = await read(client, name)
        assert ("two", 2) == (spec.holder_identity, spec.lease_transitions)


async def test_frozen_leader(
    client: kube_client.Client, other_client: kube_client.Client, name: str
) -> None:
    """A leader that is frozen may write nothing when it wakes, and finds out by itself."""
    clock = Freezing()
    one = Candidate(client, name, "one", clock=clock)
    two = Candidate(other_client, name, "two", **LASTING)
    async with one.running():
        await clients.eventually(lambda: one.leads)
        async with two.running():
            clock.awake.clear()
            await until_led_by(two, one)
            with pytest.raises(errors.LeadershipLost):
                one.elector.check()
            clock.awake.set()
            await clients.eventually(lambda: one.history == ["started", "stopped"])
            await clients.eventually(lambda: one.elector.holder == "two")
            await never_both(one, two, 1)
            assert two.leads


@pytest.mark.parametrize("hours", [-24, 24])
async def test_skewed_wall_clocks(client: kube_client.Client, name: str, hours: int) -> None:
    """A day between the wall clocks of two machines neither steals a Lease nor keeps it."""
    wrong = Skewed(dt.timedelta(hours=hours))
    one, two = (
        Candidate(client, name, "one", clock=wrong, **LASTING),
        Candidate(client, name, "two"),
    )
    async with one.running():
        await clients.eventually(lambda: one.leads)
        async with two.running():
            await clients.eventually(lambda: two.elector.holder == "one")
            await never_both(one, two, 2)
            assert (["started"], []) == (one.history, two.history)
    killed = Candidate(client, name, "killed", clock=wrong, kind=Killed)
    async with killed.running():
        await clients.eventually(lambda: killed.leads)
    async with two.running():
        await until_led_by(two, killed)


TROUBLES: dict[str, Callable[[ApiProxy], object]] = {
    "away": lambda proxy: proxy.refuse(),
    "silent": lambda proxy: proxy.hang(times=999, path="leases"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_no_api(
    client: kube_client.Client,
    proxy: ApiProxy,
    other_client: kube_client.Client,
    name: str,
    trouble: str,
) -> None:
    """A leader cut off from the API stops before another one may start, and joins again later.

    Also when the API accepts requests and never answers: no request may hold it up.
    """
    one, two = Candidate(client, name, "one"), Candidate(other_client, name, "two")
    async with one.running():
        await clients.eventually(lambda: one.leads)
        async with two.running():
            await clients.eventually(lambda: two.elector.holder == "one")
            TROUBLES[trouble](proxy)
            await until_led_by(two, one)
            assert ["started", "stopped"] == one.history
            assert 0.0 == one.gauge
            proxy.clear()
            await clients.eventually(lambda: one.elector.holder == "two")
        await clients.eventually(lambda: one.leads)


def renewals(proxy: ApiProxy) -> list[int]:
    """The statuses of all renewals so far."""
    return [seen.status for seen in proxy.requests("PATCH", "leases")]


async def test_short_trouble(client: kube_client.Client, proxy: ApiProxy, name: str) -> None:
    """Some failing renewals within the deadline cost nothing."""
    async with Candidate(client, name, "one", **LASTING).running() as one:
        await clients.eventually(lambda: one.leads)
        fault = proxy.answer(500, times=3, path="leases")
        await clients.eventually(lambda: fault.times == 0 and [200, 200] == renewals(proxy)[-2:])
        assert one.leads
        assert ["started"] == one.history


async def test_lost_reply(client: kube_client.Client, proxy: ApiProxy, name: str) -> None:
    """A renewal that was done but whose reply was lost is a conflict at the next one, no more."""
    async with Candidate(client, name, "one", **LASTING).running() as one:
        await clients.eventually(lambda: one.leads)
        proxy.lose_reply(method="PATCH", path="leases")
        await clients.eventually(
            lambda: journal.CUT in renewals(proxy) and [200, 200] == renewals(proxy)[-2:]
        )
        assert one.leads
        assert ["started"] == one.history


async def test_deleted_lease(client: kube_client.Client, name: str) -> None:
    """Who deletes the Lease ends a term; the next one begins with a new Lease."""
    async with Candidate(client, name, "one").running() as one:
        await clients.eventually(lambda: one.leads)
        await client.delete(kinds.LEASES, name, "default")
        await clients.eventually(lambda: one.history == ["started", "stopped", "started"])


async def test_fenced_client(client: kube_client.Client, name: str) -> None:
    """What is written through a fenced client stops with leadership."""
    one = Candidate(client, name, "one")
    fenced = client.fenced(one.elector.check)
    body = {"metadata": {"name": f"fenced-{name}"}}
    with pytest.raises(errors.LeadershipLost):
        await fenced.create(kinds.NAMESPACES, body)
    async with one.running():
        await clients.eventually(lambda: one.leads)
        await fenced.create(kinds.NAMESPACES, body)
    with pytest.raises(errors.LeadershipLost):
        await fenced.delete(kinds.NAMESPACES, f"fenced-{name}")
    await client.delete(kinds.NAMESPACES, f"fenced-{name}")
