"""Builders for the values unit tests are about; every field can be set by keyword."""

from __future__ import annotations

from dpucluster.api.dpucluster import DPUCluster, DPUClusterSpec, DPUClusterStatus, Phase
from dpucluster.api.meta import Condition, ObjectMeta
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import Health
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.state import TenantState

NOW = "2026-01-02T03:04:05Z"
BEFORE = "2026-01-01T00:00:00Z"

PROBLEM = Problem("Unreachable", "GET https://192.0.2.1:6443/readyz: connection refused")
BAD_SECRET = Problem("SecretNotFound", "Secret ns/kc does not exist; create it")


def condition(type_: str, status: str = "True", reason: str = "", message: str = "") -> Condition:
    """A condition that has stood since BEFORE."""
    return Condition(
        type=type_,
        status=status,
        reason=reason or type_,
        message=message,
        last_transition_time=BEFORE,
        observed_generation=1,
    )


def cluster(
    name: str = "c",
    *,
    uid: str = "uid-1",
    created: str = BEFORE,
    type_: str = "static",
    phase: Phase = Phase.CREATING,
    conditions: tuple[Condition, ...] = (),
    finalizers: tuple[str, ...] = (),
    deleting: bool = False,
    status: DPUClusterStatus | None = None,
    **spec: object,
) -> DPUCluster:
    """A DPUCluster ``ns/c`` (or ``name``) at generation 1."""
    return DPUCluster(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=uid,
            resource_version="7",
            generation=1,
            creation_timestamp=created,
            finalizers=finalizers,
            deletion_timestamp=BEFORE if deleting else None,
        ),
        spec=DPUClusterSpec(type=type_, **spec),  # type: ignore[arg-type]  # any field
        status=status or DPUClusterStatus(phase=phase, conditions=conditions),
    )


def tenant(
    *,
    problem: Problem | None = None,
    known: bool = True,
    ok: bool | None = True,
    failures: int = 0,
    span: float = 6.0,
    version: str = "v1.34.4",
    nodes_count: int | None = 0,
    warnings: tuple[Problem, ...] = (),
) -> TenantState:
    """A tenant; by default one that answered its last probe."""
    first = None if ok or ok is None else 100.0
    return TenantState(
        diagnosis=Diagnosis(problem=problem) if known else None,
        health=Health(
            ok=ok,
            problem=None if ok or ok is None else PROBLEM,
            failures=failures,
            first_failure=first,
            noticed=first,
            last_failure=None if first is None else first + span,
        ),
        version=version,
        nodes_count=nodes_count,
        identity="tenant-uid",
        warnings=warnings,
    )
