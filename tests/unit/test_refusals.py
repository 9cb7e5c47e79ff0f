"""Answers of a real API server, and what has to be done about each."""

from __future__ import annotations

import pytest

from dpucluster import errors
from dpucluster.sdk import refusals
from dpucluster.sdk.refusals import RefusalKind

WHAT = "Service ns/c"
PORTS = 'Service "c" is invalid: spec.ports[0].nodePort: Invalid value: 30001: '
CASES: dict[str, tuple[errors.ApiError, RefusalKind | None]] = {
    "another Service has the port": (
        errors.Invalid(PORTS + "provided port is already allocated", status=422),
        RefusalKind.NODE_PORT,
    ),
    "the port is outside of the range": (
        errors.Invalid(
            PORTS + "provided port is not in the valid range. The range of valid ports is 30000-1",
            status=422,
        ),
        RefusalKind.NODE_PORT,
    ),
    "the range is used up": (
        errors.ServerError(
            "failed to allocate a nodePort: range is full", status=500, reason="InternalError"
        ),
        RefusalKind.NODE_PORT,
    ),
    "a quota": (
        errors.Forbidden('services "c" is forbidden: exceeded quota: small, …', status=403),
        RefusalKind.QUOTA,
    ),
    "a policy": (
        errors.Invalid("ValidatingAdmissionPolicy 'p' with binding 'b' denied request", status=422),
        RefusalKind.ADMISSION,
    ),
    "a webhook": (
        errors.Forbidden('admission webhook "x.example.com" denied the request: no', status=403),
        RefusalKind.ADMISSION,
    ),
    "pod security": (
        errors.Forbidden('violates PodSecurity "restricted:latest": hostNetwork', status=403),
        RefusalKind.ADMISSION,
    ),
    "the namespace goes": (
        errors.Forbidden("unable to create new content in namespace ns because it is being "
                         "terminated", status=403),
        RefusalKind.DYING,
    ),
    "no right": (
        errors.Forbidden('User "x" cannot create resource "services"', status=403),
        RefusalKind.RIGHTS,
    ),
    "a rule of the schema": (
        errors.Invalid("spec.replicas: Invalid value: -1", status=422),
        RefusalKind.INVALID,
    ),
    "nonsense": (errors.BadRequest("cannot unmarshal", status=400), RefusalKind.INVALID),
    "the server is down": (errors.ServerError("etcd has no leader", status=500), None),
    "too many requests": (errors.TooManyRequests("slow down", status=429), None),
    "not there": (errors.NotFound("no such kind", status=404), None),
    "moved on": (errors.Conflict("the object has been modified", status=409), None),
    "not known": (errors.Unauthorized("who are you", status=401), None),
}  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), CASES.values(), ids=CASES.keys())
def test_from_error(error: errors.ApiError, kind: RefusalKind | None) -> None:
    """An answer is a refusal of its kind that names the object, or a matter of trying again."""
    found = refusals.from_error(error, WHAT)
    assert kind is (found.kind if found else None)
    if found is not None:
        assert WHAT in found.message
    if found is not None and kind is not RefusalKind.DYING:
        assert str(error) in found.message
