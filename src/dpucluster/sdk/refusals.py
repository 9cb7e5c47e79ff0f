"""Why the API server does not take an object, as something a user can act on. Pure."""

from __future__ import annotations

import enum
from typing import NamedTuple

from dpucluster import errors


class RefusalKind(enum.Enum):
    """What has to be done about it differs."""

    FOREIGN = "there is an object of that name which is not ours"
    DYING = "the object is being deleted"
    QUOTA = "a ResourceQuota is used up"
    NODE_PORT = "no node port is to be had"
    ADMISSION = "an admission policy or webhook refuses it"
    RIGHTS = "this controller lacks the right"
    INVALID = "the API server does not accept it"


class Refusal(NamedTuple):
    """An object that is not as it should be, and cannot be made so now."""

    kind: RefusalKind
    message: str


NODE_PORT_TEXTS = (
    "provided port is already allocated",
    "provided port is not in the valid range",
    "failed to allocate a nodePort",
    "range is full",
)
"""Words of the API server's port allocator, which has no machine-readable reason."""

ADMISSION_TEXTS = (
    "admission webhook",
    "failed calling webhook",
    "ValidatingAdmissionPolicy",
    "violates PodSecurity",
)


def from_error(error: errors.ApiError, what: str) -> Refusal | None:
    """The refusal behind ``error``; None when trying again is all there is to do."""
    text = str(error)
    if any(part in text for part in NODE_PORT_TEXTS):
        return Refusal(RefusalKind.NODE_PORT, f"{what} gets no node port: {text}")
    if any(part in text for part in ADMISSION_TEXTS):
        return Refusal(RefusalKind.ADMISSION, f"{what} was refused by admission: {text}")
    if isinstance(error, errors.Forbidden):
        return _forbidden(text, what)
    if isinstance(error, errors.Invalid | errors.BadRequest):
        return Refusal(RefusalKind.INVALID, f"{what} is not accepted: {text}")
    return None


def _forbidden(text: str, what: str) -> Refusal:
    if "because it is being terminated" in text:
        return Refusal(RefusalKind.DYING, f"{what} cannot be made, its namespace is being deleted")
    if "exceeded quota" in text:
        return Refusal(RefusalKind.QUOTA, f"{what} does not fit into the ResourceQuota: {text}")
    return Refusal(RefusalKind.RIGHTS, f"this controller may not write {what}: {text}")
