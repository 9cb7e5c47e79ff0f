"""A hundred kubeconfig Secrets rotated while the old credentials are taken back for real."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpucluster.localplane import etcd as storage
from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos, scene, tenant_users
from tests.support.audit import AuditLog, Entry
from tests.support.cluster import wait_until
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.scene import Scene
from tests.support.watchlog import WatchLog

COUNT = 100
WAVES = 4
GAP = 2.5
"""Seconds between the end of the old credentials and the rotation, where that order is tested."""
INTERVAL = 5.0
"""Six times as many probes as by default, to meet the gap. How many failures turn a cluster over
is the default; only to be slow is none, for one machine is a hundred tenants here."""
ROLES = ("lifecycle", "static", f"--probe-interval={INTERVAL:g}s", chaos.STEADY)


@dataclass(frozen=True)
class Member:
    """One DPUCluster with the credentials it has and those it will get."""

    name: str
    issuer: tenant_users.Issuer
    old: str
    new: str
    """Kubeconfigs."""

    @classmethod
    def make(cls, name: str, issuer: tenant_users.Issuer) -> Member:
        """With both kubeconfigs issued."""
        return cls(name, issuer, issuer.issue(f"{name}-old"), issuer.issue(f"{name}-new"))

    def revoke(self) -> None:
        """Take the old credentials back."""
        self.issuer.revoke(f"{self.name}-old")


@dataclass(frozen=True)
class Fleet:
    """All of them, Ready with the old credentials, and what is seen of them."""

    user: Scene
    members: Sequence[Member]
    log: WatchLog
    audit: AuditLog
    """The tenant's."""

    def rotate(self, member: Member) -> None:
        """Put the new credentials into the Secret."""
        self.user.hold(member.name, member.new)

    def losses(self, names: Sequence[str], since: float) -> list[str]:
        """What was told of these clusters that was not Ready."""
        seen = [s for s in self.log.select(since=since) if s.name in names]
        return [f"{s.name}: {s.object['status']}" for s in seen if not scene.is_ready(s.object)]

    def probes(self) -> list[Entry]:
        """What the tenant was asked by the product's probes since the mark."""
        asked = self.audit.entries(resource="namespaces", user_agent="dpucluster/", verb="get")
        return [e for e in asked if e.name == "kube-system"]


@pytest.fixture
def tenant(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path: Path
) -> Iterator[ControlPlane]:
    """A tenant with an audit log."""
    directory = tmp_path / "tenant"
    name = f"rotation-{tmp_path.stat().st_ino}"
    with ControlPlane(
        name, binaries=binaries, storage=etcd, directory=directory, audit=True
    ) as plane:
        yield plane


@pytest.fixture
def fleet(
    management: ControlPlane, tenant: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[Fleet]:
    flags = (*ROLES, f"--namespace={namespace}", f"--leader-elect-namespace={namespace}")
    assert tenant.audit_log is not None
    with contextlib.ExitStack() as stack:
        api, theirs = (
            stack.enter_context(contextlib.closing(KubeApi(plane.kubeconfig)))
            for plane in (management, tenant)
        )
        log = stack.enter_context(WatchLog(management.kubeconfig, "dpuclusters", namespace))
        issuers = (
            tenant_users.Certificates(tenant, theirs),
            tenant_users.ServiceAccounts(tenant, theirs),
        )
        members = [Member.make(f"c-{n:03}", issuers[n % 2]) for n in range(COUNT)]
        made = Fleet(Scene(api, namespace), members, log, AuditLog(tenant.audit_log))
        for member in members:
            made.user.hold(member.name, member.old)
            made.user.create(member.name)
        controllers = Controllers(management.kubeconfig, tmp_path / "run.log", *flags)
        stack.enter_context(controllers)
        for member in members:
            log.wait(member.name, scene.is_ready)
        yield made


def test_rotation_is_not_seen(fleet: Fleet, tmp_path: Path) -> None:
    """100 rotations, old credentials refused before or right after: Ready all the while.

    The tenant's audit log shows that the old ones were refused and the new ones are in use.
    """
    fleet.audit.mark()
    start = time.monotonic()
    for n in range(WAVES):
        wave(fleet, fleet.members[n::WAVES])
    wait_in_use(fleet)
    assert any(e.status in {401, 403} for e in fleet.probes()), "no probe met the gap"
    for member in fleet.members:
        wait_refused(member, tmp_path / "old-kubeconfig")
    fleet.log.catch_up()
    assert [] == fleet.losses([m.name for m in fleet.members], start)
    take_back_the_new_ones(fleet, fleet.members[:2])
    fleet.log.catch_up()
    fleet.log.check()
    assert [] == fleet.losses([m.name for m in fleet.members[2:]], start)


def wave(fleet: Fleet, members: Sequence[Member]) -> None:
    """Half of them lose the old credentials before the rotation, half directly after it."""
    half = len(members) // 2
    for member in members[:half]:
        member.revoke()
    revoked = time.monotonic()
    for member in members[half:]:
        fleet.rotate(member)
        member.revoke()
    time.sleep(max(0.0, revoked + GAP - time.monotonic()))
    for member in members[:half]:
        fleet.rotate(member)


def wait_in_use(fleet: Fleet) -> None:
    """Return when every cluster was probed with its new credentials."""
    users = {m.issuer.user(f"{m.name}-new") for m in fleet.members}
    wait_until(
        lambda: sorted(users - {e.user for e in fleet.probes() if e.status == 200}),
        lambda waiting: not waiting,
        what="new credentials in use",
    )


def wait_refused(member: Member, scratch: Path) -> None:
    """Return when the old credentials are worth nothing any more, whoever shows them."""
    scratch.write_text(member.old)
    with contextlib.closing(KubeApi(scratch)) as holder:
        wait_until(
            lambda: holder.request("GET", "/api/v1/namespaces/kube-system")[0],
            lambda status: status in {401, 403},
            what=f"the old credentials of {member.name} are refused",
        )


def take_back_the_new_ones(fleet: Fleet, chosen: Sequence[Member]) -> None:
    """The same without a rotation is seen, with its reason; and mended by one, at once."""
    assert {"Forbidden", "Unauthorized"} == {m.issuer.refusal for m in chosen}
    start = time.monotonic()
    for member in chosen:
        member.issuer.revoke(f"{member.name}-new")
    for member in chosen:
        refused = scene.is_down(member.issuer.refusal)
        fleet.log.wait(member.name, refused, since=start)
        fleet.user.hold(member.name, member.issuer.issue(f"{member.name}-newest"))
        fleet.user.wait_ready(member.name)
