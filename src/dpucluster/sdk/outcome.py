"""What a stage of the pipeline says about one DPUCluster: plain values, no behaviour."""

from __future__ import annotations

import dataclasses
from typing import Literal

from dpucluster.api.dpucluster import Phase
from dpucluster.api.meta import Condition


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the user once, as an Event.

    The host tells a notice when it appears, and again when its note changes, which should
    therefore hold nothing that changes with time. Told again within the life of an Event (an hour
    by default), the same note about the same object makes no second one.
    """

    reason: str
    note: str
    type: Literal["Normal", "Warning"] = "Warning"
    action: str = "Reconcile"


@dataclasses.dataclass(frozen=True, slots=True)
class Lifecycle:
    """The part of ``status`` that only the lifecycle controller may say."""

    phase: Phase
    version: str | None = None
    """Version of the tenant's API server; None: not known now, keep what is there."""
    nodes_count: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The result of looking at one DPUCluster once.

    Guarantees:
        Everything said here is published before an error of the same look causes a back-off.

    Attributes:
        conditions: The conditions this stage owns, complete. ``observedGeneration`` and
            ``lastTransitionTime`` are stamped by the host.
        withdraw: Condition types this stage owns and that no longer apply.
        kubeconfig: Name of the admin kubeconfig Secret; written to ``spec.kubeconfig`` when that
            is empty, and before the conditions.
        notices: What to tell as Events.
        requeue_after: Look again after so many seconds at the latest; None: when something changes.
        settling: More will be known in a moment (a probe is under way): what is said here may be
            held back shortly, so that one write tells all of it.
        error: What went wrong beside what is said here: raised once that is published.
        done: Only asked of ``finalize``: nothing is left of what this stage made.
        lifecycle: Phase and tenant facts; refused from a cluster manager.
    """

    conditions: tuple[Condition, ...] = ()
    withdraw: tuple[str, ...] = ()
    kubeconfig: str = ""
    notices: tuple[Notice, ...] = ()
    requeue_after: float | None = None
    settling: bool = False
    error: Exception | None = None
    done: bool = True
    lifecycle: Lifecycle | None = None


def condition(type_: str, problem: tuple[str, str] | None, *, reason: str) -> Condition:
    """A condition of positive polarity: ``True`` with ``reason``, or ``False`` with the problem.

    ``problem`` is (reason, message), for instance a ``tenant.Problem``.
    """
    if problem is None:
        return Condition(type=type_, status="True", reason=reason)
    return Condition(type=type_, status="False", reason=problem[0], message=problem[1])
