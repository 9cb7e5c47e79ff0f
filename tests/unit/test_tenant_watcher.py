"""One tenant followed through time: outages, rotation, odd Secrets. The clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster.api.meta import Key
from dpucluster.kube.untrusted import UntrustedKubeconfig
from dpucluster.tenant import health as tenant_health
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import ProbeOptions, ProbeResult
from dpucluster.tenant.pace import Pace
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.secret import Target
from dpucluster.tenant.state import Survey, TenantState
from dpucluster.tenant.watcher import Shared, Watcher
from tests.support.clock import FakeClock, settle

KEY = Key("ns", "dpu-1")
INVALID = Problem("KubeconfigInvalid", "not YAML")
MISSING = Problem("SecretNotFound", "no such Secret")
REFUSED = Problem("Unauthorized", "401")


def kubeconfig(token: str) -> UntrustedKubeconfig:
    return UntrustedKubeconfig(
        server="https://tenant:6443",
        tls_server_name="",
        ca_data=b"",
        client_cert=None,
        client_key=None,
        token=token,
        cluster_name="c",
        user_name="u",
        context="x",
        namespace="",
    )


class World:
    """A Secret, an API server that accepts some tokens, and a watcher between them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.secret: Diagnosis | None = Diagnosis(problem=MISSING)
        self.accepted: set[str] = set()
        self.answer_after = 0.01
        self.survey_after = 0.0
        self.survey_error: Exception | None = None
        self.error_when_cancelled: Exception | None = None
        self.is_admin: bool | None = True
        self.reviews = 0
        self.connects = 0
        self.probes: list[tuple[float, str, bool]] = []
        self.open: list[Connection] = []
        self.told: list[TenantState] = []
        self.retry_after: float | None = None
        self._read: Diagnosis | None = None
        shared = Shared(
            options=ProbeOptions(),
            clock=self.clock,
            pace=Pace(self.clock),
            connect=self.connect,
            probed=lambda _: None,
        )
        self.watcher = Watcher(
            Target(KEY, "uid", "static", "s"),
            self,
            shared,
            changed=lambda _, new: self.told.append(new),
            kinship=lambda _diagnosis, _identity: (),
        )

    def connect(self, diagnosis: Diagnosis) -> Connection:
        """Count what is made."""
        self.connects += 1
        return Connection(self, diagnosis)

    def put(self, token: str) -> None:
        """Write a kubeconfig into the Secret; the watcher is told as by the informer."""
        self.become(Diagnosis(kubeconfig=kubeconfig(token), where="here"))

    def become(self, diagnosis: Diagnosis) -> None:
        """Let the Secret be worth this."""
        self.secret = diagnosis
        self.watcher.wake()

    async def changed(self) -> Diagnosis | None:
        """What ``SecretReader`` does, without reading."""
        if self.secret == self._read:
            return None
        self._read = self.secret
        return self.secret

    def unnamed(self) -> Diagnosis | None:
        """One is named."""
        return None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """The watcher runs inside."""
        task = asyncio.create_task(self.watcher.run())
        await settle()
        yield self
        task.cancel()
        await asyncio.wait({task})

    async def ready(self) -> None:
        """Bring the cluster to a first success."""
        self.accepted.add("old")
        self.put("old")
        await self.clock.advance(1)
        assert self.watcher.state.health.ok

    @property
    def is_down(self) -> bool:
        """Whether a Ready cluster would be turned over now."""
        return tenant_health.is_down(self.watcher.state.health, was_ready=True)

    def was_down(self) -> bool:
        """Whether a Ready cluster would ever have been turned over by what was told."""
        return any(tenant_health.is_down(s.health, was_ready=True) for s in self.told)


@dataclasses.dataclass(eq=False)
class Connection:
    """Stands in for the network: accepts what the world accepts."""

    world: World
    diagnosis: Diagnosis
    closed: bool = False
    rests: int = 0
    asking: int = 0
    kubeconfig: UntrustedKubeconfig = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        assert self.diagnosis.kubeconfig is not None
        self.kubeconfig = self.diagnosis.kubeconfig
        self.world.open.append(self)

    async def probe(self) -> ProbeResult:
        """As the world says when the answer comes."""
        started = self.world.clock.monotonic()
        token = self.kubeconfig.token or ""
        try:
            await self._asked(self.world.answer_after)
        except asyncio.CancelledError:
            if self.world.error_when_cancelled is not None:
                raise self.world.error_when_cancelled from None
            raise
        ok = token in self.world.accepted
        self.world.probes.append((started - 1000, token, ok))
        if ok:
            return ProbeResult(ok=True, identity="id", started=started)
        return ProbeResult(ok=False, problem=REFUSED, started=started)

    async def survey(self) -> Survey:
        """Always the same."""
        await self._asked(self.world.survey_after)
        if self.world.survey_error is not None:
            raise self.world.survey_error
        return Survey("v1", 1)

    async def is_cluster_admin(self) -> bool | None:
        """As the world says."""
        self.world.reviews += 1
        await self._asked(self.world.survey_after)
        return self.world.is_admin

    async def _asked(self, seconds: float) -> None:
        self.asking += 1
        try:
            await self.world.clock.sleep(seconds)
        finally:
            self.asking -= 1

    async def rest(self) -> None:
        """Neither a closed connection nor one in use is asked to rest: questions would fail."""
        assert not self.closed
        assert not self.asking
        self.rests += 1

    async def aclose(self) -> None:
        """Closed once."""
        self.closed = True
        self.world.open.remove(self)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World().running() as found:
        yield found


async def test_secret_that_comes_later(world: World) -> None:
    """Missing first, then there: told once each, together with the answer."""
    assert [MISSING] == [state.diagnosis and state.diagnosis.problem for state in world.told]
    await world.ready()
    assert [None, True, True] == [state.health.ok for state in world.told]
    assert "v1" == world.watcher.state.version


async def test_healthy_cluster_is_silent(world: World) -> None:
    """An hour of good answers tells nobody anything, and leaves one connection."""
    await world.ready()
    told = len(world.told)
    await world.clock.advance(3600)
    assert told == len(world.told)
    assert 3600 / 33 <= len(world.probes) <= 3600 / 27 + 2
    assert 1 == len(world.open)


async def test_outage_is_told_at_the_third_failure_and_once(world: World) -> None:
    """Two news in an hour of outage: the first failure, and that it lasts."""
    await world.ready()
    told = len(world.told)
    world.accepted.clear()
    await world.clock.advance(3600)
    assert world.is_down
    assert told + 2 == len(world.told)
    assert len(world.probes) < 50


async def test_blip_is_not_seen(world: World) -> None:
    """Five seconds without an answer never make a Ready cluster NotReady."""
    await world.ready()
    await world.clock.advance(100)
    last = world.probes[-1][0]
    await world.clock.advance(27 - (world.clock.monotonic() - 1000 - last) % 27)
    world.accepted.clear()
    await world.clock.advance(5)
    world.accepted.add("old")
    await world.clock.advance(60)
    assert not world.was_down()
    assert world.watcher.state.health.ok


async def test_new_credentials_replace_old_ones_at_once(world: World) -> None:
    """A rotated Secret is tried when it is written; the old connection is closed."""
    await world.ready()
    world.accepted.add("new")
    world.put("new")
    await world.clock.advance(0.1)
    assert ["new"] == [c.kubeconfig.token for c in world.open]
    await world.clock.advance(100)
    assert {"new"} == {token for when, token, _ in world.probes if when > 2}
    assert not world.was_down()


async def test_old_credentials_serve_while_new_ones_do_not_work(world: World) -> None:
    """Health stays with the old ones; a warning says that the new ones fail."""
    await world.ready()
    world.put("wrong")
    await world.clock.advance(120)
    assert world.watcher.state.health.ok
    assert "NewKubeconfigFailing" in [w.reason for w in world.watcher.state.warnings]
    assert not world.was_down()
    world.accepted.add("wrong")
    await world.clock.advance(120)
    assert () == world.watcher.state.warnings
    assert ["wrong"] == [c.kubeconfig.token for c in world.open]


async def test_old_credentials_are_let_go_when_both_fail(world: World) -> None:
    """After an outage only the Secret's content counts, as it would after a restart."""
    await world.ready()
    world.put("wrong")
    await world.clock.advance(10)
    world.accepted.clear()
    await world.clock.advance(120)
    assert world.is_down
    world.accepted.add("old")
    await world.clock.advance(300)
    assert world.watcher.state.health.ok is False
    assert ["wrong"] == [c.kubeconfig.token for c in world.open]


async def test_broken_content_ends_the_connection(world: World) -> None:
    """The diagnosis is told at once, and nobody believes in a Secret that is not there any more."""
    await world.ready()
    world.become(Diagnosis(problem=INVALID))
    await world.clock.advance(0.1)
    state = world.told[-1]
    assert state.diagnosis is not None
    assert (INVALID, None) == (state.diagnosis.problem, state.health.ok)
    assert [] == world.open


async def test_deleted_secret_ends_the_connection(world: World) -> None:
    """What was learned through a Secret is not known any more when it is gone."""
    await world.ready()
    world.become(Diagnosis(problem=MISSING))
    await world.clock.advance(0.1)
    assert [] == world.open
    state = world.told[-1]
    assert (None, "", "") == (state.health.ok, state.identity, state.version)


async def test_corrected_secret_interrupts_a_hanging_probe(world: World) -> None:
    """Nobody waits for a black hole's time limit before new content is tried."""
    world.answer_after = 5.0
    world.put("lost")
    await world.clock.advance(1)
    world.answer_after = 0.01
    world.accepted.add("found")
    world.put("found")
    await world.clock.advance(0.1)
    assert world.watcher.state.health.ok


async def test_touched_secret_does_not_disturb_a_probe(world: World) -> None:
    """A Secret whose labels change all the time does not keep a black hole from its verdict."""
    world.answer_after = 5.0
    world.put("lost")
    for _ in range(60):
        await world.clock.advance(0.1)
        world.watcher.wake()
    assert world.watcher.state.health.ok is False


async def test_back_off_ends_with_a_change(world: World) -> None:
    """A cluster that was down for an hour is tried at once when its Secret changes."""
    world.put("lost")
    await world.clock.advance(3600)
    world.accepted.add("found")
    world.put("found")
    await world.clock.advance(0.1)
    assert world.watcher.state.health.ok


async def test_new_content_is_tried_with_fresh_patience(world: World) -> None:
    """Also when it fails: three tries in six seconds, not one in two minutes."""
    world.put("lost")
    await world.clock.advance(3600)
    world.put("lost as well")
    await world.clock.advance(7)
    assert 3 == len([token for _, token, _ in world.probes if token == "lost as well"])


async def test_secret_that_cannot_be_read_is_tried_again(world: World) -> None:
    """The management API server's own trouble is waited out."""
    await world.ready()
    world.retry_after = 2.0
    world.watcher.wake()
    await world.clock.advance(0.1)
    probes = len(world.probes)
    await world.clock.advance(10)
    assert probes + 4 <= len(world.probes)


async def test_nothing_is_left_open_at_the_end() -> None:
    """Cancelling a watcher closes what it holds, also in the middle of a probe."""
    world = World()
    async with world.running():
        await world.ready()
        world.answer_after = 100.0
        world.put("slow")
        await world.clock.advance(1)
        assert 2 == len(world.open)
    assert [] == world.open


async def test_survey_that_ends_does_not_disturb_a_probe(world: World) -> None:
    """Of a look and a survey the one that ends last closes the connection, once."""
    world.survey_after = 1.0
    world.answer_after = 0.1
    await world.ready()
    (connection,) = world.open
    assert (1, 0) == (connection.asking, connection.rests)
    world.answer_after = 5.0
    world.watcher.wake()
    await world.clock.advance(2)
    assert (1, 0) == (connection.asking, connection.rests)
    await world.clock.advance(5)
    assert (0, 1) == (connection.asking, connection.rests)
    assert all(ok for _, _, ok in world.probes)


async def test_survey_outlasts_a_look(world: World) -> None:
    """A look that ends meanwhile leaves the connection to the survey: one handshake for both."""
    world.survey_after = 5.0
    await world.ready()
    (connection,) = world.open
    assert (1, 0) == (connection.asking, connection.rests)
    await world.clock.advance(10)
    assert (0, 1) == (connection.asking, connection.rests)


async def test_version_and_nodes_are_told_before_the_rights(world: World) -> None:
    """One news brings both, and the last question does not hold it up."""
    world.survey_after = 1.0
    await world.ready()
    told = len(world.told)
    await world.clock.advance(0.2)
    assert 1 == world.reviews
    assert ("v1", 1) == (world.watcher.state.version, world.watcher.state.nodes_count)
    assert told + 1 == len(world.told)
    await world.clock.advance(10)
    assert told + 1 == len(world.told)


async def test_rights_are_asked_for_once_per_connection(world: World) -> None:
    """A day of surveys asks once; new credentials are asked about anew."""
    await world.ready()
    await world.clock.advance(86_400)
    assert 1 == world.reviews
    world.accepted.add("new")
    world.put("new")
    await world.clock.advance(3600)
    assert 2 == world.reviews


async def test_missing_rights_are_warned_of_until_they_are_granted(world: World) -> None:
    """Who follows the warning's advice sees it go with the next survey."""
    world.is_admin = False
    await world.ready()
    assert ["NotClusterAdmin"] == [w.reason for w in world.watcher.state.warnings]
    world.is_admin = True
    await world.clock.advance(400)
    assert () == world.watcher.state.warnings


async def test_survey_that_fails_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error of a survey is logged, leaves nothing open and stops no later one."""
    world.survey_error = RuntimeError("odd")
    await world.ready()
    (connection,) = world.open
    assert 1 == connection.rests
    assert ["surveying a tenant failed"] == [record.getMessage() for record in caplog.records]
    world.survey_error = None
    await world.clock.advance(100)
    assert "v1" == world.watcher.state.version


async def test_connection_that_goes_takes_its_survey_along(world: World) -> None:
    """A survey of an old connection neither ends nor replaces that of the next one."""
    world.survey_after = 5.0
    await world.ready()
    world.accepted.add("new")
    world.put("new")
    await world.clock.advance(1)
    (connection,) = world.open
    assert ("new", 1) == (connection.kubeconfig.token, connection.asking)
    await world.clock.advance(20)
    assert "v1" == world.watcher.state.version
    assert (0, 1) == (connection.asking, connection.rests)


async def test_secret_that_is_changed_back_needs_no_connection(world: World) -> None:
    """Content that the connection in use was made with is not connected with again."""
    await world.ready()
    world.put("wrong")
    await world.clock.advance(1)
    world.put("old")
    await world.clock.advance(1)
    assert 2 == world.connects
    assert ["old"] == [connection.kubeconfig.token for connection in world.open]


async def test_probe_given_up_fails_silently(world: World) -> None:
    """What a probe raises because it was given up is nobody's news."""
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    world.answer_after, world.error_when_cancelled = 5.0, RuntimeError("odd")
    world.put("lost")
    await world.clock.advance(1)
    world.put("found")
    await world.clock.advance(1)
    world.error_when_cancelled = None
    await world.clock.advance(60)
    gc.collect()
    assert [] == lost


Step = Callable[[World], None]
STEPS: dict[str, Step] = {
    "accept new": lambda world: world.accepted.add("new"),
    "revoke old": lambda world: world.accepted.discard("old"),
    "write new": lambda world: world.put("new"),
}


@given(
    order=st.permutations(list(STEPS)),
    gaps=st.lists(st.floats(min_value=0, max_value=2.4), min_size=3, max_size=3),
    phase=st.floats(min_value=0, max_value=33),
)
async def test_rotation_in_any_order_is_never_seen(
    order: list[str], gaps: list[float], phase: float
) -> None:
    """New credentials, new Secret, old ones revoked: within five seconds in any order."""
    async with World().running() as world:
        await world.ready()
        await world.clock.advance(phase)
        for step, gap in zip(order, gaps, strict=True):
            STEPS[step](world)
            await world.clock.advance(gap)
        await world.clock.advance(30)
        assert not world.was_down()
        assert world.watcher.state.health.ok
        assert ["new"] == [c.kubeconfig.token for c in world.open]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put a", "put b", "broken", "gone", "accept", "refuse", "wait"]),
            st.floats(min_value=0, max_value=20),
        ),
        max_size=20,
    )
)
async def test_any_history_ends_with_the_truth(steps: list[tuple[str, float]]) -> None:
    """Whatever happened: once it is quiet, the state is what the Secret and the server say."""
    acts: dict[str, Step] = {
        "put a": lambda world: world.put("a"),
        "put b": lambda world: world.put("b"),
        "broken": lambda world: world.become(Diagnosis(problem=INVALID)),
        "gone": lambda world: world.become(Diagnosis(problem=MISSING)),
        "accept": lambda world: world.accepted.update("ab"),
        "refuse": lambda world: world.accepted.clear(),
        "wait": lambda _: None,
    }
    async with World().running() as world:
        for name, pause in steps:
            acts[name](world)
            await world.clock.advance(pause)
            assert len(world.open) <= 2
        world.accepted.add("b")
        world.put("b")
        await world.clock.advance(300)
        assert world.watcher.state.health.ok
        assert ["b"] == [c.kubeconfig.token for c in world.open]
        assert world.watcher.state == world.told[-1]
