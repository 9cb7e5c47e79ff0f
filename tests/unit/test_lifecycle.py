"""The lifecycle's decisions, from state in to state out."""

from __future__ import annotations

import itertools

import pytest

from dpucluster.api.dpucluster import Phase
from dpucluster.api.meta import Condition, Key
from dpucluster.lifecycle import deletion, phase, readiness
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.state import TenantState
from tests.support import build

CREATED = build.condition("Created")
NOT_CREATED = build.condition("Created", "False", "SecretNotFound", "no Secret")
HOPELESS = build.condition("Created", "False", "InvalidSpec", "vip is no address")
READY = build.condition("Ready", reason="HealthCheckPassed")
NOT_READY = build.condition("Ready", "False", "Unreachable", "refused")


PHASES = [
    (Phase.PENDING, (), Phase.CREATING, "first sight is told at once"),
    (Phase.CREATING, (), Phase.CREATING, "nobody has said anything yet"),
    (Phase.CREATING, (NOT_CREATED,), Phase.CREATING, "the manager is still at work"),
    (Phase.CREATING, (NOT_CREATED, NOT_READY), Phase.CREATING, "a waiting Ready is no outage"),
    (Phase.CREATING, (CREATED, READY), Phase.READY, "made and healthy"),
    (Phase.CREATING, (CREATED, NOT_READY), Phase.NOT_READY, "made and not answering"),
    (Phase.READY, (CREATED, NOT_READY), Phase.NOT_READY, "an outage"),
    (Phase.READY, (NOT_CREATED, NOT_READY), Phase.NOT_READY, "its Secret went away"),
    (Phase.READY, (CREATED,), Phase.NOT_READY, "somebody removed Ready"),
    (Phase.NOT_READY, (CREATED, READY), Phase.READY, "it is back"),
    (Phase.NOT_READY, (NOT_CREATED, NOT_READY), Phase.NOT_READY, "never back to Creating"),
    (Phase.CREATING, (HOPELESS,), Phase.FAILED, "only an edit can mend the spec"),
    (Phase.READY, (HOPELESS, NOT_READY), Phase.FAILED, "an edit broke the spec"),
    (Phase.FAILED, (NOT_CREATED,), Phase.CREATING, "Failed is left as soon as it can"),
    (Phase.FAILED, (CREATED, READY), Phase.READY, "Failed is left for Ready directly"),
]


@pytest.mark.parametrize(("current", "conditions", "expected", "why"), PHASES)
def test_phase_follows_from_the_conditions(
    current: Phase, conditions: tuple[Condition, ...], expected: Phase, why: str
) -> None:
    """Each row of the phase table holds."""
    assert expected is phase.decide(current, conditions), why


def test_every_combination_has_a_phase_and_is_stable() -> None:
    """Deciding twice gives what deciding once gives, so a converged object is never written."""
    created = (None, CREATED, NOT_CREATED, HOPELESS)
    ready = (None, READY, NOT_READY)
    for current, c, r in itertools.product(Phase, created, ready):
        given = tuple(x for x in (c, r) if x is not None)
        once = phase.decide(current, given)
        assert once is phase.decide(once, given)
        assert once is not Phase.PENDING


def observed(*conditions: Condition, tenant: TenantState | None = None) -> readiness.Observed:
    cluster = build.cluster(conditions=conditions, kubeconfig="kc")
    return readiness.Observed(cluster, tenant or build.tenant(), failure_threshold=3)


def reason_of(verdict: readiness.Verdict) -> str | None:
    return None if verdict.ready is None else verdict.ready.reason


def test_a_healthy_tenant_is_ready() -> None:
    """All conditions True and an answer make Ready True."""
    verdict = readiness.decide(observed(CREATED))
    assert verdict.ready is not None
    assert ("True", "HealthCheckPassed") == (verdict.ready.status, verdict.ready.reason)


def test_ready_never_stands_while_another_condition_is_not_true() -> None:
    """A manager that takes Created back takes Ready with it, and the message says why."""
    verdict = readiness.decide(observed(NOT_CREATED, READY))
    assert "WaitingForControlPlane" == reason_of(verdict)
    assert verdict.ready is not None
    assert "Created is False (SecretNotFound): no Secret" == verdict.ready.message


def test_conditions_of_foreign_managers_hold_the_cluster_back() -> None:
    """NVIDIA's rule: every condition other than Ready must be True."""
    other = build.condition("KeepalivedReady", "False", "PodsNotReady")
    assert "WaitingForControlPlane" == reason_of(readiness.decide(observed(CREATED, other)))


@pytest.mark.parametrize(
    "type_", ["EtcdEncryptionRotationInProgress", "EtcdEncryptionRotationBlocked"]
)
def test_rotation_conditions_of_dpf_do_not_block(type_: str) -> None:
    """DPF v26.8 writes these with a healthy state of False."""
    other = build.condition(type_, "False")
    assert "HealthCheckPassed" == reason_of(readiness.decide(observed(CREATED, other)))


def test_a_first_failure_without_a_verdict_counts_at_once() -> None:
    """A cluster that never answered is NotReady after one try."""
    tenant = build.tenant(ok=False, failures=1, span=0.0)
    assert "Unreachable" == reason_of(readiness.decide(observed(CREATED, tenant=tenant)))


@pytest.mark.parametrize("failures", [1, 2])
def test_a_blip_is_not_seen(failures: int) -> None:
    """A Ready cluster keeps Ready until the third failure."""
    tenant = build.tenant(ok=False, failures=failures, span=3.0)
    assert READY == readiness.decide(observed(CREATED, READY, tenant=tenant)).ready


def test_an_outage_is_seen_at_the_third_failure() -> None:
    """Three failures over six seconds turn Ready to False with the probe's reason."""
    tenant = build.tenant(ok=False, failures=3)
    assert "Unreachable" == reason_of(readiness.decide(observed(CREATED, READY, tenant=tenant)))


def test_nothing_is_said_before_the_first_probe() -> None:
    """A cluster without a verdict settles instead of showing a False that means nothing."""
    verdict = readiness.decide(observed(CREATED, tenant=build.tenant(ok=None, version="")))
    assert readiness.Verdict(None, settling=True) == verdict


def test_a_restart_keeps_what_was_said() -> None:
    """A controller that starts again has no verdict yet and leaves Ready as it stands."""
    tenant = build.tenant(known=False, ok=None, version="")
    assert readiness.Verdict(READY) == readiness.decide(observed(CREATED, READY, tenant=tenant))


def test_a_bad_secret_is_told_even_beside_a_manager_that_does_not_look() -> None:
    """NVIDIA's static manager says Created for any name; the lifecycle's diagnosis decides."""
    tenant = build.tenant(problem=build.BAD_SECRET)
    assert "KubeconfigInvalid" == reason_of(readiness.decide(observed(CREATED, tenant=tenant)))


def test_more_nodes_than_max_nodes_is_a_warning() -> None:
    """MaxNodes is a promise of the user's; passing it is told and does not block."""
    seen = observed(CREATED, tenant=build.tenant(nodes_count=1001))
    assert ["TooManyNodes"] == [n.reason for n in readiness.notices(seen)]
    assert () == readiness.notices(observed(CREATED, tenant=build.tenant(nodes_count=1000)))


def test_a_deletion_names_its_blockers_and_stays_readable() -> None:
    """Ten DPUs are named, the rest is counted."""
    dpus = [Key("ns", f"dpu-{i:02}") for i in range(12)]
    said = deletion.waiting_for_dpus(dpus)
    assert "WaitingForDPUs" == said.reason
    assert "12 DPUs" in said.message
    assert "ns/dpu-09 and 2 more" in said.message


def test_ready_tells_of_new_credentials_that_fail() -> None:
    """While the old connection still serves, Ready says that the Secret's new content does not."""
    warning = Problem("NewKubeconfigFailing", "the new content does not work")
    verdict = readiness.decide(observed(CREATED, READY, tenant=build.tenant(warnings=(warning,))))
    assert verdict.ready is not None
    assert ("True", warning.message) == (verdict.ready.status, verdict.ready.message)
