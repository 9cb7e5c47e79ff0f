"""Pure arithmetic on lists of conditions.

The order of a list is kept and one type stands in it once, so that an unchanged list is equal
to the one that was read and nothing is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from dpucluster.api.meta import Condition

MAX_MESSAGE = 32768
"""metav1.Condition: the longest message the schema accepts."""


class Transition(NamedTuple):
    """A condition whose status or reason is not what it was (``old`` is None for a new one)."""

    old: Condition | None
    new: Condition


def merge(
    existing: Iterable[Condition],
    wanted: Iterable[Condition],
    *,
    now: str,
    remove: Collection[str] = (),
) -> tuple[Condition, ...]:
    """``existing`` with each of ``wanted`` put in its place.

    ``lastTransitionTime`` becomes ``now`` (RFC 3339) only where ``status`` changes; conditions of
    other types are carried over as they are, types in ``remove`` are left out. Of a type that
    stands twice (NVIDIA's CRD allows it) the last one is kept.
    """
    merged = {c.type: c for c in existing if c.type not in remove}
    for condition in wanted:
        old = merged.get(condition.type)
        keeps_time = old is not None and old.status == condition.status
        since = old.last_transition_time if old is not None and keeps_time else now
        merged[condition.type] = msgspec.structs.replace(
            condition, last_transition_time=since, message=condition.message[:MAX_MESSAGE]
        )
    return tuple(merged.values())


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Transition, ...]:
    """Every condition of ``after`` that differs from ``before`` in status or reason."""
    old = {c.type: c for c in before}
    return tuple(
        Transition(old.get(c.type), c)
        for c in after
        if (o := old.get(c.type)) is None or (o.status, o.reason) != (c.status, c.reason)
    )


def to_wire(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """The list as it is written; a condition read without observedGeneration goes back so."""
    return [_fields(c) for c in conditions]


def _fields(condition: Condition) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(condition)
    if not condition.observed_generation:
        del fields["observedGeneration"]
    return fields
