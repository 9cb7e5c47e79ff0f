"""What Kamaji clusters cost the API server, counted from its own audit log."""

from __future__ import annotations

import collections
import time
from pathlib import Path

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import kamaji_scene
from tests.support.audit import AuditLog, Entry, counts
from tests.support.kamaji_scene import KamajiScene

CHILDREN, MAIN, STATUS = 5, 2, 2
"""Each child once (the two Services, TenantControlPlane, ConfigMap, DaemonSet); finalizers and
kubeconfig; phase Creating and Ready: 9 in all."""
QUICK, SLOW = 2, 4
"""Between those two a user may see that the control plane comes up, and that keepalived is up
before it; where all of it takes longer than PATIENCE, also that Kamaji has not looked yet, and
that no pod is ready. Each is one more write of status."""
PATIENCE = 10.0
"""Seconds after which the manager tells what is late; ``manager.PODS_SECONDS``."""
COUNTS = [20, pytest.param(300, marks=pytest.mark.soak)]
QUIET = 4.0
"""Seconds in which a controller that wants to write would have done so."""
OTHERS = frozenset({"leases", "events"})
FAILED = 400


@pytest.mark.parametrize("count", COUNTS)
def test_nine_writes_then_silence(
    kamaji_management: ControlPlane, shared_tenant: ControlPlane, tmp_path: Path, count: int
) -> None:
    """K17: 9 writes a cluster beside the states seen between, none refused; then none at all."""
    assert kamaji_management.audit_log is not None
    audit = AuditLog(kamaji_management.audit_log)
    log = tmp_path / "run.log"
    with kamaji_scene.opened(kamaji_management, shared_tenant, log) as user:
        audit.mark()
        began = time.monotonic()
        names = [f"many-{n}" for n in range(count)]
        for name in names:
            user.held(name)
        for name in names:
            user.wait_ready(name, timeout=30 + count)
        states = QUICK if time.monotonic() - began < PATIENCE else SLOW
        time.sleep(QUIET / 2)
        done = writes(audit, user)
        assert [] == [e for e in done if e.status >= FAILED]
        found = collections.Counter(part_of(e) for e in done)
        assert (CHILDREN * count, MAIN * count) == (found["children"], found["main"])
        assert found["status"] <= (STATUS + states) * count
        audit.mark()
        time.sleep(QUIET)
        assert {} == counts(writes(audit, user))
        restart(user)
        audit.mark()
        time.sleep(QUIET)
        assert {} == counts(writes(audit, user))
        assert [] == user.worries


def restart(user: KamajiScene) -> None:
    user.controllers.stop()
    user.controllers.start()
    user.controllers.wait_log("became leader", times=4)


def writes(audit: AuditLog, user: KamajiScene) -> list[Entry]:
    """Everything our process wrote since the mark, Leases and Events apart."""
    found = audit.writes(namespace=user.namespace, user_agent="dpucluster/")
    return [e for e in found if e.resource not in OTHERS]


def part_of(entry: Entry) -> str:
    """Whose part of the budget it is."""
    if entry.resource != "dpuclusters":
        return "children"
    return entry.subresource or "main"
