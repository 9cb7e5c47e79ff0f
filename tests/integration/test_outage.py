"""Tenants that die, hang, hiccup and come back, seen by controllers with default thresholds.

All of it happens once, at the same time and among twenty black holes (``story``): one outage that
disturbed another cluster would show. Each test reads one promise off the watch log. Bounds on
time are the product's budgets and a margin for the machine.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from dpucluster.localplane import etcd as storage
from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, kubeconfigs, planes, scene
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.scene import Scene
from tests.support.tcp_proxy import TcpProxy
from tests.support.watchlog import Seen, WatchLog

INTERVAL = 5.0
ROLES = ("lifecycle", "static", f"--probe-interval={INTERVAL:g}s")
MARGIN = 30.0
"""Seconds that a busy machine may add to any budget. The budgets themselves are proved with a clock
that stands still (``test_health``, ``test_tenant_watcher``); here, that nothing breaks them."""
DEAD = INTERVAL + 10.0
BLACK_HOLE = INTERVAL + 20.0
BLIP = 5.0
BLIPS, PAUSE = 2, 6.5
"""Each at another moment between two probes."""
HEALTHY = [f"{n}" for n in range(5)]
HOLES = [f"hole-{n}" for n in range(20)]
PROXIES = ("holed", "refused", "held", "steady", "hole")


@dataclass
class Story:
    """What happened when (monotonic), and all that was seen of it."""

    log: WatchLog
    proxies: Mapping[str, TcpProxy]
    began: float = 0.0
    """When the outages began."""
    ended: float = 0.0
    back: dict[str, float] = field(default_factory=dict)
    """When each tenant surely answered again; it may have been seen to do so a moment before."""
    blips: list[tuple[float, float]] = field(default_factory=list)

    def way(self, name: str) -> float:
        """Seconds from the creation of a DPUCluster to Ready."""
        return self.ready(name).at - self.log.select(name)[0].at

    def ready(self, name: str, since: float = 0.0) -> Seen:
        """When it was Ready first."""
        return self.log.wait(name, scene.is_ready, since=since, timeout=0)

    def down(self, name: str) -> Seen:
        """When it was NotReady first."""
        return self.log.wait(name, scene.is_unready, since=self.began, timeout=0)

    def losses(self, name: str) -> list[str]:
        """What was told of a cluster after its first Ready that was not Ready."""
        seen = self.log.select(name, since=self.ready(name).at)
        return [str(s.object["status"]) for s in seen if not scene.is_ready(s.object)]


@pytest.fixture(scope="module")
def pair(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ControlPlane, ControlPlane]]:
    """Two tenants that may be ended and frozen."""
    factory = planes.Tenants(binaries, etcd, tmp_path_factory.mktemp("outage"))
    one, two = factory(2)
    yield one, two
    factory.close()


@pytest.fixture(scope="module")
def story(
    management: ControlPlane,
    shared_tenant: ControlPlane,
    pair: tuple[ControlPlane, ControlPlane],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    namespace = planes.new_namespace(management)
    log = tmp_path_factory.mktemp("outage") / "run.log"
    flags = (*ROLES, f"--namespace={namespace}", f"--leader-elect-namespace={namespace}")
    with contextlib.ExitStack() as stack:
        user = Scene(
            stack.enter_context(contextlib.closing(KubeApi(management.kubeconfig))), namespace
        )
        watch = stack.enter_context(WatchLog(management.kubeconfig, "dpuclusters", namespace))
        proxies = {
            name: stack.enter_context(TcpProxy("127.0.0.1", shared_tenant.port)) for name in PROXIES
        }
        controllers = stack.enter_context(Controllers(management.kubeconfig, log, *flags))
        controllers.wait_log("became leader", times=2)
        told = Story(watch, proxies)
        arrive(user, told, shared_tenant, pair)
        break_all(told, *pair)
        watch.catch_up()
        yield told


def arrive(
    user: Scene, told: Story, tenant: ControlPlane, pair: tuple[ControlPlane, ControlPlane]
) -> None:
    """Healthy clusters alone, the same among black holes, then those that will fail."""
    for name in HEALTHY:
        user.hold(f"alone-{name}", tenant.client_kubeconfig())
        user.hold(f"among-{name}", tenant.client_kubeconfig())
    for name in HOLES:
        user.hold(name, through(told.proxies["hole"], tenant))
    told.proxies["hole"].freeze()
    for name in HEALTHY:
        user.create(f"alone-{name}")
    settle(told, [f"alone-{name}" for name in HEALTHY])
    for name in HOLES:
        user.create(name)
    for name in HEALTHY:
        user.create(f"among-{name}")
    settle(told, [f"among-{name}" for name in HEALTHY])
    for name in ("holed", "refused", "held", "steady"):
        user.hold(name, through(told.proxies[name], tenant))
        user.create(name)
    for name, plane in zip(("killed", "frozen"), pair, strict=True):
        user.hold(name, plane.client_kubeconfig())
        user.create(name)
    settle(told, ["holed", "refused", "held", "steady", "killed", "frozen"])


def settle(told: Story, names: list[str]) -> None:
    """Wait until all of them are Ready."""
    for name in names:
        told.log.wait(name, scene.is_ready)


def break_all(told: Story, killed: ControlPlane, frozen: ControlPlane) -> None:
    """The outages, all at once, each ended as soon as it was seen."""
    told.began = time.monotonic()
    blips = threading.Thread(target=blip, args=(told,))
    blips.start()
    killed.kill()
    frozen.freeze()
    told.proxies["holed"].freeze()
    told.log.wait("killed", scene.is_unready, since=told.began)
    killed.start()
    told.back["killed"] = time.monotonic()
    for name, bring_back in (("frozen", frozen.thaw), ("holed", told.proxies["holed"].thaw)):
        told.log.wait(name, scene.is_unready, since=told.began)
        bring_back()
        told.back[name] = time.monotonic()
    blips.join()
    for name in told.back:
        told.log.wait(name, scene.is_ready, since=told.down(name).at)
    told.ended = time.monotonic()


def blip(told: Story) -> None:
    """Two tenants that hiccup: one refuses connections, the other one does not answer."""
    refused, held = told.proxies["refused"], told.proxies["held"]
    for _ in range(BLIPS):
        start = time.monotonic()
        refused.refuse()
        held.freeze()
        time.sleep(max(0.0, start + BLIP - time.monotonic()))
        refused.accept()
        held.thaw()
        told.blips.append((start, time.monotonic()))
        time.sleep(PAUSE)


def through(proxy: TcpProxy, tenant: ControlPlane) -> bytes:
    """The tenant's kubeconfig, by way of ``proxy``."""
    config = yaml.safe_load(tenant.client_kubeconfig())
    kubeconfigs.cluster(config)["server"] = proxy.url
    return kubeconfigs.text(config)


def test_a_dead_tenant_is_unreachable(story: Story) -> None:
    """Killed: NotReady/Unreachable within the probe interval and 10 s, not before 5 s."""
    seen = story.down("killed")
    assert "Unreachable" == cluster.condition(seen.object, "Ready")["reason"]
    assert BLIP <= seen.at - story.began <= DEAD + MARGIN


@pytest.mark.parametrize("name", ["frozen", "holed"])
def test_a_tenant_that_hangs_times_out(story: Story, name: str) -> None:
    """Frozen, black-holed: NotReady/Timeout within the probe interval and 20 s, not before 5 s."""
    seen = story.down(name)
    assert "Timeout" == cluster.condition(seen.object, "Ready")["reason"]
    assert BLIP <= seen.at - story.began <= BLACK_HOLE + MARGIN


@pytest.mark.parametrize("name", ["killed", "frozen", "holed"])
def test_what_comes_back_is_ready(story: Story, name: str) -> None:
    """One success is enough; the pause between two looks has not grown long meanwhile."""
    seen = story.ready(name, since=story.down(name).at)
    assert seen.at - story.back[name] <= 30.0 + MARGIN
    assert "HealthCheckPassed" == cluster.condition(seen.object, "Ready")["reason"]


@pytest.mark.parametrize("name", ["killed", "frozen", "holed"])
def test_an_outage_is_told_once(story: Story, name: str) -> None:
    """Ready turns False once and True once: no flapping on the way down or up."""
    told = [
        cluster.condition(s.object, "Ready")["status"]
        for s in story.log.select(name, since=story.ready(name).at)
    ]
    turns = [one for one, before in zip(told, ["", *told], strict=False) if one != before]
    assert ["True", "False", "True"] == turns


@pytest.mark.parametrize("name", ["refused", "held"])
def test_a_blip_is_not_seen(story: Story, name: str) -> None:
    """Five seconds without connections or without answers, twice: Ready all the while."""
    lengths = [end - start for start, end in story.blips]
    assert BLIPS == len(lengths)
    assert [] == story.losses(name), lengths


def test_probes_met_the_blips(story: Story) -> None:
    """The test before says something: probes did run into the silence."""
    met = [
        at
        for at in story.proxies["held"].accepted
        if any(start < at < end for start, end in story.blips)
    ]
    assert [] != met


def test_black_holes_do_not_delay_others_on_their_way(story: Story) -> None:
    """Healthy clusters created together with 20 black holes are Ready as soon as without them."""
    alone = max(story.way(f"alone-{name}") for name in HEALTHY)
    among = max(story.way(f"among-{name}") for name in HEALTHY)
    # One probe of a black hole takes 5 s: who is Ready before the first has its verdict, or as fast
    # as if it had been alone, did not wait for it.
    last = max(story.ready(f"among-{name}").at for name in HEALTHY)
    verdicts = [story.log.wait(name, scene.is_down("Timeout"), timeout=0).at for name in HOLES]
    assert among <= 3 * alone + 2.0 or last <= min(verdicts), (alone, among, last, verdicts)


def test_black_holes_time_out(story: Story) -> None:
    """Each black hole is told as what it is, by its own first probe."""
    for name in HOLES:
        seen = story.log.wait(name, scene.is_down("Timeout"), timeout=0)
        assert seen.at - story.log.select(name)[0].at <= 5.0 + MARGIN


def test_others_are_not_disturbed(story: Story) -> None:
    """Through all of it healthy clusters are probed in time, stay Ready and are not written to."""
    accepted = story.proxies["steady"].accepted
    times = [story.began, *(t for t in accepted if story.began < t < story.ended), story.ended]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(gaps) >= (story.ended - story.began) / (2 * INTERVAL)
    assert max(gaps) <= 2 * INTERVAL + MARGIN
    for name in ("steady", *(f"alone-{n}" for n in HEALTHY), *(f"among-{n}" for n in HEALTHY)):
        assert [] == story.losses(name)
        assert [] == story.log.select(name, since=story.began)
