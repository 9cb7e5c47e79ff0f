"""Paths of resources, and the kinds that are known."""

from __future__ import annotations

import pytest

from dpucluster.api.meta import ObjectMeta, PartialObject
from dpucluster.kube import kinds


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (kinds.SECRETS.path(), "/api/v1/secrets"),
        (kinds.SECRETS.path("a"), "/api/v1/namespaces/a/secrets"),
        (kinds.SECRETS.path("a", "b"), "/api/v1/namespaces/a/secrets/b"),
        (kinds.NODES.path(name="n"), "/api/v1/nodes/n"),
        (kinds.NAMESPACES.path("ignored", "n"), "/api/v1/namespaces/n"),
        (
            kinds.DPUCLUSTERS.path("a", "b", "status"),
            "/apis/provisioning.dpu.nvidia.com/v1alpha1/namespaces/a/dpuclusters/b/status",
        ),
        (kinds.SECRETS.path("a", "../../b?x"), "/api/v1/namespaces/a/secrets/..%2F..%2Fb%3Fx"),
    ],
)
def test_path(made: str, expected: str) -> None:
    """One object, a namespace's, or all; no name leads out of its place."""
    assert expected == made


def test_namespace_is_needed() -> None:
    """A namespaced object without its namespace is a mistake of the caller, told at once."""
    with pytest.raises(ValueError, match="namespace missing"):
        kinds.SECRETS.path(name="b")


def test_api_version() -> None:
    """The core group has no name."""
    assert ("v1", "coordination.k8s.io/v1") == (
        kinds.SECRETS.api_version,
        kinds.LEASES.api_version,
    )


def test_as_metadata() -> None:
    """Only the type and the request differ, not the place."""
    assert (PartialObject, True, kinds.SECRETS.path("a")) == (
        kinds.SECRETS_METADATA.type,
        kinds.SECRETS_METADATA.metadata_only,
        kinds.SECRETS_METADATA.path("a"),
    )


def test_secret_keeps_its_data_to_itself() -> None:
    """A Secret in a log line or traceback shows its keys only."""
    secret = kinds.Secret(ObjectMeta(name="s", namespace="a"), data={"k": "c2VjcmV0"})
    assert "Secret(a/s, keys=['k'])" == repr(secret)
    assert b"secret" == secret.value("k")


def test_secret_value_that_is_none() -> None:
    """A key that is missing and one that is no base64 have no value."""
    secret = kinds.Secret(ObjectMeta(), data={"k": "%"})
    assert (None, None) == (secret.value("k"), secret.value("other"))
