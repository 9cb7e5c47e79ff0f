"""Who leads, decided from a Lease and a stopwatch. Pure.

The wall clocks of two machines are never compared: a Lease is taken over when this process has
watched it stay unchanged for as long as its holder promised to renew it within.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from dpucluster import errors
from dpucluster.api import timestamps
from dpucluster.kube.kinds import Lease

RELEASED_DURATION: Final = 1
"""Seconds a released Lease is good for, as client-go leaves it: the least the schema accepts."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The three times of an election, in seconds; their order is what keeps leaders apart.

    Attributes:
        lease_duration: How long others wait after the last renewal they saw.
        renew_deadline: How long the holder may write after the start of its last renewal.
        retry_period: The time between two renewals, or two attempts.
    """

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_period < self.renew_deadline < self.lease_duration:
            raise errors.ConfigError(
                "leader election needs 0 < retry period < renew deadline < lease duration, got "
                f"{self.retry_period:g}, {self.renew_deadline:g}, {self.lease_duration:g} s"
            )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A Lease, and when (stopwatch) this process first saw it like this."""

    lease: Lease
    since: float

    @property
    def holder(self) -> str:
        """Who holds it; empty when nobody does."""
        return self.lease.spec.holder_identity or ""


@dataclass(frozen=True, slots=True)
class Create:
    """There is no Lease: create it."""


@dataclass(frozen=True, slots=True)
class Write:
    """Take the Lease over, or renew it (``takes_over`` False), if it is still ``lease``."""

    lease: Lease
    takes_over: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else holds the Lease; it may be taken in ``seconds`` unless it changes."""

    seconds: float


Decision: TypeAlias = Create | Write | Wait


def sight(before: Sighting | None, lease: Lease, now: float) -> Sighting:
    """What is known after reading ``lease`` at ``now``: an unchanged one keeps its time."""
    if before is not None and before.lease.metadata.uid == lease.metadata.uid:
        if before.lease.metadata.resource_version == lease.metadata.resource_version:
            return before
        if before.lease.spec == lease.spec:
            # Somebody changed a label: no sign of life of the holder.
            return replace(before, lease=lease)
    return Sighting(lease, now)


def decide(seen: Sighting | None, *, identity: str, timing: Timing, now: float) -> Decision:
    """What ``identity`` does at ``now``."""
    if seen is None:
        return Create()
    if seen.holder == identity:
        return Write(seen.lease, takes_over=False)
    if not seen.holder:
        return Write(seen.lease, takes_over=True)
    # The holder's own promise counts: it may have been started with other times than this process.
    promised = seen.lease.spec.lease_duration_seconds or math.ceil(timing.lease_duration)
    left = seen.since + promised - now
    return Wait(left) if left > 0 else Write(seen.lease, takes_over=True)


def create_body(
    *, name: str, namespace: str, identity: str, timing: Timing, now: dt.datetime
) -> dict[str, Any]:
    """The Lease to create."""
    spec = _spec(identity, timing, now) | {
        "acquireTime": timestamps.to_micro(now),
        "leaseTransitions": 0,
    }
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def write_patch(
    decision: Write, *, identity: str, timing: Timing, now: dt.datetime
) -> dict[str, Any]:
    """The patch that takes the Lease over or renews it, and only the version that was seen."""
    spec = _spec(identity, timing, now)
    if decision.takes_over:
        spec["acquireTime"] = timestamps.to_micro(now)
        spec["leaseTransitions"] = (decision.lease.spec.lease_transitions or 0) + 1
    return _patch(decision.lease, spec)


def release_patch(lease: Lease, now: dt.datetime) -> dict[str, Any]:
    """The patch that lets anybody take the Lease at once."""
    spec = {
        "holderIdentity": "",
        "leaseDurationSeconds": RELEASED_DURATION,
        "renewTime": timestamps.to_micro(now),
    }
    return _patch(lease, spec)


def _spec(identity: str, timing: Timing, now: dt.datetime) -> dict[str, Any]:
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": math.ceil(timing.lease_duration),
        "renewTime": timestamps.to_micro(now),
    }


def _patch(lease: Lease, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
