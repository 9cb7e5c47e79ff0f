"""``dpucluster run`` behind a bad connection to its own API server.

Whatever happens on the way: it converges, no deletion is missed, nobody is called NotReady who
is not, and nothing runs hot (requests are counted by the proxy).
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from dpucluster.api import contract
from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster, journal, planes
from tests.support.adopted import Adopted
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy

OLD = 5
"""Clusters that are Ready before the trouble begins."""
ELECTION = (*chaos.CALM_ELECTION, "--leader-elect-retry-period=1s", chaos.STEADY)
CLUSTERS = "/dpuclusters"
LOST = "lost leadership"
TROUBLE = 4.0
"""Seconds that a fault lasts where it lasts."""
BURST = 120
"""Requests in ``TROUBLE`` seconds: six clusters made or deleted at once and their Events are 40,
lists, watches and what has to be done twice as many again. A hot loop makes thousands."""
SIMMER = 40
"""Requests in the second half of it, when only the fault itself can be the reason."""


@dataclass(frozen=True)
class Scene:
    """Controllers that see the management plane only through ``proxy``, and ``OLD`` clusters."""

    proxy: ApiProxy
    api: KubeApi
    old: Adopted
    running: Controllers
    since: dict[str, str]
    serial: Iterator[int] = field(default_factory=itertools.count)

    def ready_since(self) -> dict[str, str]:
        """When each old cluster became Ready; empty: it is not."""
        found = {}
        for name in self.old.names:
            ready = cluster.condition(
                self.api.get("dpuclusters", name, self.old.namespace), "Ready"
            )
            found[name] = ready["lastTransitionTime"] if ready.get("status") == "True" else ""
        return found

    def more(self, prefix: str, count: int = 3) -> Adopted:
        """Other clusters, made not through the proxy."""
        name = f"{prefix}-{next(self.serial)}"
        return Adopted(self.api, self.old.namespace, self.old.tenant, count, name)

    def wait_ready(self, clusters: Adopted, timeout: float = PATIENCE) -> None:
        """Return when all of ``clusters`` are Ready."""
        for name in clusters.names:
            cluster.wait_ready(self.api, name, namespace=clusters.namespace, timeout=timeout)

    def delete(self, clusters: Adopted) -> None:
        """Ask for the deletion of ``clusters``."""
        for name in clusters.names:
            self.api.delete("dpuclusters", name, clusters.namespace)

    def wait_gone(self, clusters: Adopted, timeout: float = PATIENCE) -> None:
        """Return when all of ``clusters`` are gone."""
        for name in clusters.names:
            cluster.wait_gone(self.api, name, namespace=clusters.namespace, timeout=timeout)


@pytest.fixture(scope="module")
def stage(
    management: ControlPlane,
    shared_tenant: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """One process for all tests here: what one of them leaves behind shows in the next."""
    namespace = planes.new_namespace(management)
    tmp_path = tmp_path_factory.mktemp("faults")
    api = KubeApi(management.kubeconfig)
    old = Adopted(api, namespace, shared_tenant, OLD, "old")
    flags = (f"--namespace={namespace}", f"--leader-elect-namespace={namespace}", *ELECTION)
    with contextlib.closing(api), ApiProxy(management.kubeconfig) as proxy:
        kubeconfig = proxy.write_kubeconfig(tmp_path / "proxied")
        log = tmp_path / "run.log"
        with Controllers(kubeconfig, log, "static", "lifecycle", "-v", *flags) as running:
            old.create()
            made = Scene(proxy, api, old, running, {})
            made.wait_ready(old)
            yield Scene(proxy, api, old, running, made.ready_since())
            proxy.clear()
            made.delete(old)
            made.wait_gone(old)
            assert "Traceback" not in running.text
            assert 0 == running.stop()


@pytest.fixture
def scene(stage: Scene) -> Iterator[Scene]:
    """The stage without a fault."""
    yield stage
    stage.proxy.clear()


def cut_again_and_again(proxy: ApiProxy) -> None:
    for _ in range(10):
        proxy.cut_all()
        time.sleep(0.3)


FAULTS: dict[str, Callable[[ApiProxy], object]] = {
    "watches cut": lambda p: p.cut_watches(half_line=True),
    "watches ended": lambda p: p.end_watches(),
    "410 in the stream": lambda p: p.end_watches(error=410),
    "410 for every watch": lambda p: (p.answer(410, times=99, watch=True), p.cut_watches()),
    "429 with Retry-After": lambda p: (p.answer(429, times=30, retry_after=1), p.cut_watches()),
    "500": lambda p: (p.answer(500, times=30), p.cut_watches()),
    "503": lambda p: (p.answer(503, times=30, retry_after=1), p.cut_watches()),
    "409 for writes": lambda p: p.answer(409, times=12, method="PATCH", path=CLUSTERS),
    "429 for writes": lambda p: p.answer(
        429, times=9, method="PATCH", path=CLUSTERS, retry_after=1
    ),
    "replies lost": lambda p: p.lose_reply(times=9, method="PATCH", path=CLUSTERS),
    "half-open": lambda p: p.freeze(),
    "slow": lambda p: p.trickle(50_000),
    "refused": lambda p: p.refuse(),
    "cut again and again": cut_again_and_again,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_survived(scene: Scene, fault: str) -> None:
    """Clusters made and deleted during the fault end as they must; the others notice nothing."""
    gone, new = scene.more("gone"), scene.more("new")
    gone.create()
    scene.wait_ready(gone)
    mark = journal.now()
    FAULTS[fault](scene.proxy)
    new.create()
    scene.delete(gone)
    asked = journal.now()
    time.sleep(TROUBLE)
    burst = scene.proxy.requests(since=mark, until=asked + TROUBLE)
    simmer = [seen for seen in burst if seen.at > asked + TROUBLE / 2]
    scene.proxy.clear()
    scene.wait_ready(new)
    scene.wait_gone(gone)
    assert scene.since == scene.ready_since()
    assert BURST >= len(burst)
    assert SIMMER >= len(simmer)
    scene.delete(new)
    scene.wait_gone(new)


def test_a_conflict_that_never_ends_is_no_loop(scene: Scene) -> None:
    """Endless 409s are answered by looking again, not by hammering; then all is well."""
    scene.proxy.answer(409, times=10_000, method="PATCH", path=CLUSTERS)
    mark = journal.now()
    new = scene.more("new", 1)
    new.create()
    time.sleep(TROUBLE)
    refused = scene.proxy.requests("PATCH", CLUSTERS, since=mark, until=mark + TROUBLE)
    cluster.wait_until(
        lambda: len(scene.proxy.requests("PATCH", CLUSTERS, since=mark)), lambda n: n >= 2
    )
    scene.proxy.clear()
    assert len(refused) <= 40
    scene.wait_ready(new)
    scene.delete(new)
    scene.wait_gone(new)


def test_nothing_is_written_without_the_lease(scene: Scene) -> None:
    """When renewals fail for longer than the deadline, no cluster is written until one succeeds."""
    earlier = scene.running.text.count(LOST)
    scene.proxy.answer(500, times=10_000, path="/leases/")
    scene.running.wait_log(LOST, times=earlier + 2)  # two roles
    time.sleep(1)
    mark = journal.now()
    new = scene.more("new", 1)
    new.create()
    time.sleep(TROUBLE)
    assert [] == scene.proxy.requests("PATCH", CLUSTERS, since=mark)
    assert [] == scene.proxy.requests("POST", "/events", since=mark)
    scene.proxy.clear()
    scene.wait_ready(new)
    assert scene.since == scene.ready_since()
    scene.delete(new)
    scene.wait_gone(new)


def test_a_quiet_system_asks_for_little(scene: Scene) -> None:
    """Converged clusters cost no request but the renewals of two Leases."""

    def others(since: float) -> list[journal.Seen]:
        return [s for s in scene.proxy.requests(since=since) if not is_renewal(s)]

    cluster.wait_until(
        lambda: others(journal.now() - 2), lambda seen: not seen, what="the last test has ended"
    )
    mark = journal.now()
    time.sleep(TROUBLE)
    assert [] == [s for s in others(mark) if not is_routine(scene, s)]
    renewals = [s for s in scene.proxy.requests(since=mark, until=mark + TROUBLE) if is_renewal(s)]
    assert 2 * (TROUBLE + 1) >= len(renewals) >= 2


def is_renewal(seen: journal.Seen) -> bool:
    """Whether a Lease was renewed."""
    return contract.lease_name("") in seen.path and seen.method == "PATCH"


def is_routine(scene: Scene, seen: journal.Seen) -> bool:
    """Whether this is a watch that goes on after minutes, as it is asked to end."""
    before = [s.at for s in scene.proxy.requests(path=f"^{seen.path}$", watch=True)]
    return seen.is_watch and not any(200 > seen.at - at > 0 for at in before)


@pytest.mark.soak
def test_storm(scene: Scene) -> None:
    """Minutes of random faults with churn: everything converges, the old ones notice nothing."""
    dice = random.Random(1)  # noqa: S311 - a storm that can be repeated
    generation = [scene.more(f"storm-{n}", 2) for n in range(30)]
    for number, clusters in enumerate(generation):
        FAULTS[dice.choice(list(FAULTS))](scene.proxy)
        clusters.create()
        if number >= 2:
            scene.delete(generation[number - 2])
        time.sleep(dice.uniform(0, 4))
        if dice.random() < 0.3:
            scene.proxy.clear()
    scene.proxy.clear()
    for clusters in generation[-2:]:
        scene.wait_ready(clusters)
        scene.delete(clusters)
    for clusters in generation:
        scene.wait_gone(clusters)
    assert scene.since == scene.ready_since()
