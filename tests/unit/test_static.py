"""The static manager's decision."""

from __future__ import annotations

from dpucluster.api.dpucluster import ClusterEndpoint
from dpucluster.managers import static
from dpucluster.sdk import Outcome, Problem
from tests.support import build


def decide(**changes: object) -> Outcome:
    spec = {k: changes.pop(k) for k in ("version", "cluster_endpoint") if k in changes}
    cluster = build.cluster(kubeconfig="kc", **spec)  # type: ignore[arg-type]  # any field
    tenant = build.tenant(**changes)  # type: ignore[arg-type]  # any field
    return static.decide(static.Observed(cluster, tenant))


def test_a_usable_secret_is_created() -> None:
    """A kubeconfig without a fault makes Created True and says nothing else."""
    outcome = decide(version="v1.34.4")
    assert [("Created", "True", "Created")] == [
        (c.type, c.status, c.reason) for c in outcome.conditions
    ]
    assert () == outcome.notices


def test_a_fault_of_the_secret_is_the_reason_of_created() -> None:
    """The diagnosis' reason and message reach the user as they are."""
    (created,) = decide(problem=build.BAD_SECRET).conditions
    assert ("False", *build.BAD_SECRET) == (created.status, created.reason, created.message)


def test_nothing_is_said_before_the_secret_was_read() -> None:
    """Unknown is not False: a restart must not disturb a cluster."""
    assert Outcome(settling=True) == decide(known=False)


def test_oddities_are_warnings() -> None:
    """A wrong version, an endpoint and the tenant's own warnings are told and do not block."""
    outcome = decide(
        version="v1.30.2",
        cluster_endpoint=ClusterEndpoint(),
        warnings=(Problem("BearerToken", "use a client certificate"),),
    )
    assert all(c.is_true for c in outcome.conditions)
    assert ["BearerToken", "VersionMismatch", "ClusterEndpointIgnored"] == [
        n.reason for n in outcome.notices
    ]
