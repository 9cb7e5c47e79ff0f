"""Two processes with the same roles: exactly one acts, whatever happens to it.

Every process has a user of its own, so that the audit log tells them apart, and holds its Leases
in that user's name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpucluster.api import contract
from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, cluster
from tests.support.audit import AuditLog, Entry
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.proxy import ApiProxy

LIFECYCLE = contract.lease_name(contract.COMPONENT_LIFECYCLE)
STATIC = contract.lease_name(contract.COMPONENT_STATIC)
OPERATOR = contract.lease_name(contract.COMPONENT_OPERATOR)
CONFIG = "dpfoperatorconfig"
LEASE_DURATION = 9.0
"""Of ``chaos.CALM_ELECTION``."""
LONG_ELECTION = (
    "--leader-elect-lease-duration=90s",
    "--leader-elect-renew-deadline=60s",
    "--leader-elect-retry-period=500ms",
)
"""Who waits for such a Lease to run out waits longer than any test does."""
LEAVES_WITHIN = 28.0
"""Seconds; ten are promised, the rest is for a busy machine to end a process. What hangs here would
hang for half a minute (a request) or for ever, if nobody cut it off."""
CROWD = 24
"""So many clusters that some work is always under way while they become Ready."""
SYSTEM = contract.OPERATOR_NAMESPACE


@dataclass
class Scene:
    """One namespace, its Leases, its clusters, and who wrote there."""

    management: ControlPlane
    namespace: str
    tenant: ControlPlane
    directory: Path
    api: KubeApi

    def __post_init__(self) -> None:
        """Nothing was written yet."""
        assert self.management.audit_log is not None
        self.audit = AuditLog(self.management.audit_log)
        self.audit.mark()

    def replica(self, user: str, *args: str) -> Controllers:
        """A process that acts as ``user`` and holds Leases by that name; not started."""
        kubeconfig = self.directory / f"{user}.kubeconfig"
        groups = ("system:masters",)
        kubeconfig.write_text(self.management.client_kubeconfig(user=user, groups=groups))
        log = self.directory / f"{user}.log"
        return Controllers(kubeconfig, log, *args, POD_NAME=user)

    def static(self, user: str) -> Controllers:
        """A replica with both roles of the static path, for this namespace."""
        return self.replica(
            user, "lifecycle", "static", *chaos.scoped(self.namespace, chaos.CALM_ELECTION)
        )

    def fleet(self, prefix: str, count: int) -> chaos.Fleet:
        """``count`` clusters that are still to be created."""
        dice = chaos.dice(0, prefix)
        return chaos.Fleet(self.api, self.namespace, self.tenant, count, dice, prefix)

    def converged(self, prefix: str, count: int) -> chaos.Fleet:
        """``count`` clusters, created and Ready."""
        fleet = self.fleet(prefix, count)
        fleet.create()
        fleet.wait_converged()
        return fleet

    def lease(self, name: str) -> cluster.Object:
        """The spec of a Lease; empty while there is none."""
        found = self.api.get("leases", name, self.namespace) or {"spec": {}}
        spec: cluster.Object = found["spec"]
        return spec

    def holder(self, name: str) -> str:
        """Who holds a Lease; empty: nobody."""
        return str(self.lease(name).get("holderIdentity", ""))

    def wait_holder(self, name: str, holds: Callable[[str], bool], timeout: float = 30.0) -> str:
        """The holder as soon as ``holds`` accepts it."""
        return cluster.wait_until(
            lambda: self.holder(name), holds, timeout=timeout, what=f"holder of {name}"
        )

    def wait_leads(self, user: str, *names: str, timeout: float = 30.0) -> None:
        """Return when ``user`` holds these Leases."""
        for name in names:
            self.wait_holder(name, lambda holder: holder == user, timeout)

    def writes(self, user: str) -> list[Entry]:
        """What ``user`` wrote since the audit log's mark."""
        return [e for e in self.audit.writes() if e.user == user]


@pytest.fixture
def scene(
    management: ControlPlane, namespace: str, shared_tenant: ControlPlane, tmp_path: Path
) -> Iterator[Scene]:
    with contextlib.closing(KubeApi(management.kubeconfig)) as api:
        yield Scene(management, namespace, shared_tenant, tmp_path, api)


def instant(text: str) -> dt.datetime:
    """A time as a Lease has it."""
    return dt.datetime.fromisoformat(text)


@contextlib.contextmanager
def pair(first: Controllers, second: Controllers, leases: int = 2) -> Iterator[None]:
    """``first`` leads, ``second`` follows; both end with the block."""
    with first:
        first.wait_log("became leader", times=leases)
        with second:
            second.wait_log("another process leads", times=leases)
            yield


def test_a_killed_leader_is_replaced(scene: Scene) -> None:
    """One writes; killed, the other takes over once the Lease has run out, and nothing falls."""
    one, two = scene.static("one"), scene.static("two")
    watched = chaos.WatchLog(scene.management.kubeconfig, scene.namespace)
    with pair(one, two), watched:
        old = scene.converged("old", 6)
        assert not scene.writes("two")
        before = old.versions()
        renewed = {name: instant(scene.lease(name)["renewTime"]) for name in (LIFECYCLE, STATIC)}
        one.kill()
        new = scene.converged("new", 6)
        for name, last in renewed.items():
            taken = scene.lease(name)
            assert "two" == taken["holderIdentity"]
            assert 1 == taken["leaseTransitions"]
            waited = (instant(taken["acquireTime"]) - last).total_seconds()
            assert LEASE_DURATION <= waited <= 5 * LEASE_DURATION
        assert before == {name: v for name, v in new.versions().items() if name in before}
        assert [] == watched.falls()


def test_a_frozen_leader_wakes_as_a_follower(scene: Scene) -> None:
    """Frozen in the middle of its work and replaced, it writes nothing when it wakes, and lives."""
    one, two = scene.static("one"), scene.static("two")
    watched = chaos.WatchLog(scene.management.kubeconfig, scene.namespace)
    with pair(one, two), watched:
        freeze_and_wake(scene, one, "one", other="two", at="Creating")
        freeze_and_wake(scene, two, "two", other="one", at="Ready")
        assert [] == watched.falls()


def freeze_and_wake(scene: Scene, leader: Controllers, user: str, *, other: str, at: str) -> None:
    """Freeze ``user``, who leads, as soon as a cluster has the phase ``at``, and wake it.

    Meanwhile ``other`` has done all the work.
    """
    fleet = scene.fleet(f"before-{other}", CROWD)
    lost, follows = (leader.text.count(t) for t in ("lost leadership", "another process leads"))
    with chaos.beside(fleet.create):
        wait_phase(scene, fleet.prefix, at)
        leader.send(signal.SIGSTOP)
    scene.wait_leads(other, LIFECYCLE, STATIC)
    scene.audit.mark()
    fleet.wait_converged()
    assert scene.writes(other)
    woken = dt.datetime.now(dt.UTC)
    leader.send(signal.SIGCONT)
    leader.wait_log("lost leadership", times=lost + 2)
    leader.wait_log("another process leads", times=follows + 2)
    scene.converged(f"after-{other}", 3)
    assert not (late := written_since(scene, user, woken)), "\n".join(map(str, late))


def written_since(scene: Scene, user: str, woken: dt.datetime) -> list[Entry]:
    """Writes that ``user`` began since then, or that it began before and that took effect since.

    What it began before, and what was cut off when it woke, is not counted: a server that is
    slow enough has it still in hand.
    """
    late = [e for e in scene.writes(user) if e.at > woken]
    return [e for e in late if e.received > woken or e.status < 300]


def wait_phase(scene: Scene, prefix: str, wanted: str) -> None:
    """Return as soon as one of these clusters has come as far as that phase."""
    way = ["Creating", "Ready"]
    reached = set(way[way.index(wanted) :])

    def phases() -> list[str]:
        found = scene.api.list("dpuclusters", scene.namespace)
        return [cluster.phase(o) for o in found if o["metadata"]["name"].startswith(prefix)]

    cluster.wait_until(
        phases, lambda seen: bool(reached & set(seen)), what=f"the first is {wanted}"
    )


def test_sigterm_hands_over_at_once(scene: Scene) -> None:
    """Asked to stop, the leader lets its Leases go: nobody waits for them to run out."""
    roles = ("lifecycle", "static", *chaos.scoped(scene.namespace, LONG_ELECTION))
    one, two = scene.replica("one", *roles), scene.replica("two", *roles)
    with pair(one, two), chaos.WatchLog(scene.management.kubeconfig, scene.namespace) as watched:
        scene.converged("before", 3)
        assert 0 == one.stop()
        scene.wait_leads("two", LIFECYCLE, STATIC)
        scene.converged("after", 3)
        assert [] == watched.falls()
        assert 0 == two.stop()
        assert "" == scene.holder(LIFECYCLE)
        assert "" == scene.holder(STATIC)


@pytest.fixture
def config(scene: Scene) -> Iterator[cluster.Object]:
    """The DPFOperatorConfig; only one process may write its status."""
    yield scene.api.create("dpfoperatorconfigs", cluster.operator_config())
    scene.api.delete("dpfoperatorconfigs", CONFIG, SYSTEM)
    finalizers: cluster.Object = {"metadata": {"finalizers": []}}
    if scene.api.get("dpfoperatorconfigs", CONFIG, SYSTEM) is not None:
        scene.api.patch("dpfoperatorconfigs", CONFIG, SYSTEM, finalizers)


def test_one_operator_writes_and_roles_follow(scene: Scene, config: cluster.Object) -> None:
    """Of two replicas one writes the config's status; a role switched off releases its Lease."""
    del config
    flags = chaos.scoped(scene.namespace, chaos.CALM_ELECTION)
    one, two = scene.replica("one", *flags), scene.replica("two", *flags)
    with pair(one, two, leases=3):
        wait_config(scene, "Ready", "True")
        scene.converged("on", 3)
        assert CONFIG in {e.name for e in scene.writes("one")}
        assert not scene.writes("two")
        switch = scene.api.patch
        switch("dpfoperatorconfigs", CONFIG, SYSTEM, {"spec": {"staticClusterManager": None}})
        scene.wait_holder(STATIC, lambda holder: not holder)
        assert "one" == scene.holder(LIFECYCLE) == scene.holder(OPERATOR)
        one.kill()
        switch(
            "dpfoperatorconfigs",
            CONFIG,
            SYSTEM,
            {"spec": {"staticClusterManager": {}, "multus": {}}},
        )
        scene.wait_leads("two", OPERATOR, LIFECYCLE, STATIC)
        wait_config(scene, "SystemComponentsReconciled", "True", "multus")
        scene.converged("again", 3)


def wait_config(scene: Scene, type_: str, status: str, text: str = "") -> None:
    """Return when the config has that condition, with ``text`` in its message."""

    def holds(obj: cluster.Object | None) -> bool:
        found = cluster.condition(obj, type_)
        return found.get("status") == status and text in found.get("message", "")

    cluster.wait_for(scene.api, CONFIG, holds, namespace=SYSTEM, plural="dpfoperatorconfigs")


@pytest.fixture
def proxied(scene: Scene) -> Iterator[tuple[ApiProxy, Controllers]]:
    """A process that leads behind a proxy; its Leases outlive every trouble of a test."""
    with ApiProxy(scene.management.kubeconfig) as proxy:
        kubeconfig = proxy.write_kubeconfig(scene.directory / "proxied.kubeconfig")
        roles = ("lifecycle", "static", *chaos.scoped(scene.namespace, LONG_ELECTION))
        with Controllers(kubeconfig, scene.directory / "proxied.log", *roles) as running:
            running.wait_log("became leader", times=2)
            yield proxy, running


def hanging_write(proxy: ApiProxy, scene: Scene) -> None:
    """A write that is not answered."""
    fault = proxy.hang(times=100_000, method="PATCH", path="dpuclusters")
    scene.fleet("hangs", 3).create()
    cluster.wait_until(lambda: fault.times, lambda left: left < 100_000, what="a write hangs")


def test_ends_in_time_when_the_api_server_is_gone(
    scene: Scene, proxied: tuple[ApiProxy, Controllers]
) -> None:
    """SIGTERM ends it within ten seconds, though nobody takes its Leases back."""
    proxy, running = proxied
    proxy.refuse()
    scene.fleet("late", 3).create()
    time.sleep(1.0)
    assert stop_seconds(running) < LEAVES_WITHIN


def test_ends_in_time_when_the_api_server_is_silent(
    scene: Scene, proxied: tuple[ApiProxy, Controllers]
) -> None:
    """SIGTERM ends it within ten seconds, though its writes and its Leases hang in the air."""
    proxy, running = proxied
    hanging_write(proxy, scene)
    proxy.freeze()
    proxy.hang(times=100_000)
    assert stop_seconds(running) < LEAVES_WITHIN


def test_ends_in_time_before_it_has_begun(scene: Scene) -> None:
    """SIGTERM ends a process, too, that has never reached its API server."""
    with ApiProxy(scene.management.kubeconfig) as proxy:
        proxy.refuse()
        kubeconfig = proxy.write_kubeconfig(scene.directory / "proxied.kubeconfig")
        with Controllers(kubeconfig, scene.directory / "early.log") as running:
            running.wait_log("list or watch failed")
            assert stop_seconds(running) < LEAVES_WITHIN


def stop_seconds(running: Controllers) -> float:
    """How long it takes to stop, with exit code 0."""
    asked = time.monotonic()
    assert 0 == running.stop()
    return time.monotonic() - asked


def test_a_second_sigterm_ends_it_at_once(
    scene: Scene, proxied: tuple[ApiProxy, Controllers]
) -> None:
    """Who asks twice is not made to wait: exit code 143."""
    proxy, running = proxied
    hanging_write(proxy, scene)
    running.send(signal.SIGTERM)
    running.wait_log("stopping signal=SIGTERM")
    running.send(signal.SIGTERM)
    assert 143 == running.wait()
