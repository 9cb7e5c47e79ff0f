"""What reconciling costs the API server, counted from its own audit log."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos
from tests.support.adopted import Adopted
from tests.support.audit import AuditLog, Entry
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi

COUNT = 12
QUIET = [20.0, pytest.param(60.0, marks=pytest.mark.soak)]
"""Seconds: ten probe intervals of the processes here, or thirty."""
ROLES = ("lifecycle", "static", "--probe-interval=2s", chaos.STEADY)
AGENT = "dpucluster/"
ALREADY_TOLD = 409
"""A warning that still holds after a restart has the same Event name: nothing new is stored."""


@pytest.fixture
def adopted(own_management: ControlPlane, shared_tenant: ControlPlane) -> Iterator[Adopted]:
    with contextlib.closing(KubeApi(own_management.kubeconfig)) as api:
        yield Adopted(api, "default", shared_tenant, COUNT)


def writes(audit: AuditLog) -> list[Entry]:
    """Everything our processes wrote since the mark, Leases apart."""
    return [e for e in audit.writes(user_agent=AGENT) if e.resource != "leases"]


@pytest.mark.parametrize("quiet", QUIET)
def test_three_writes_and_one_event_then_silence(
    own_management: ControlPlane, adopted: Adopted, tmp_path: Path, quiet: float
) -> None:
    """Create → Ready: 3 writes a cluster, one Event, no 409; then none, also after a restart."""
    assert own_management.audit_log is not None
    audit = AuditLog(own_management.audit_log)
    with Controllers(own_management.kubeconfig, tmp_path / "run.log", *ROLES) as controllers:
        controllers.wait_log("became leader", times=2)
        bring_up(adopted, audit)
        audit.mark()
        time.sleep(quiet)
        assert [] == writes(audit)
        controllers.stop()
        audit.mark()
        controllers.start()
        controllers.wait_log("became leader", times=4)
        time.sleep(8.0)  # the first verdicts of all clusters, and what might follow
        assert [] == [e for e in writes(audit) if e.status != ALREADY_TOLD]
        assert "WARN" not in controllers.text
        assert "ERROR" not in controllers.text


def bring_up(adopted: Adopted, audit: AuditLog) -> None:
    """First one cluster alone, then all of them: the cost of each is the same."""
    alone = dataclasses.replace(adopted, count=1, prefix="alone", namespace="kube-public")
    for clusters in (alone, adopted):
        audit.mark()
        clusters.create()
        clusters.wait_ready()
        time.sleep(2.0)  # for what might still come
        done = [e for e in writes(audit) if e.namespace == clusters.namespace]
        assert [] == [e for e in done if e.status >= 400]
        per_cluster = collections.Counter(e.name for e in done if e.resource == "dpuclusters")
        assert dict.fromkeys(clusters.names, 3) == dict(per_cluster)
        told = [
            (e["regarding"]["name"], e["reason"])
            for e in adopted.api.list("events", clusters.namespace)
            if e["reason"] != "SharedTenant"  # the tests adopt one tenant many times
        ]
        assert sorted((name, "HealthCheckPassed") for name in clusters.names) == sorted(told)
