"""``status.phase`` as a table. Pure.

========================  =====================================================
phase                     when
========================  =====================================================
Pending                   nobody has looked yet (the schema's default)
Creating                  at first sight, until the cluster was Ready once
Ready                     ``Ready`` is True
NotReady                  was Ready or NotReady, and ``Ready`` is not True
Failed                    the spec cannot work until the user edits it
========================  =====================================================

NVIDIA's managers act in every phase but Pending and Failed, so Failed is left (for Creating) in
the very look in which its cause is gone. An outage seen before the first success is NotReady, as
NVIDIA's controller has it: the control plane was made and does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpucluster.api.dpucluster import ConditionType, Phase
from dpucluster.api.meta import Condition

HOPELESS_REASONS = frozenset({"InvalidSpec"})
"""Reasons of ``Created=False`` that only an edit of the spec can mend."""


def decide(current: Phase, conditions: Sequence[Condition]) -> Phase:
    """The phase that follows from the conditions as they are about to be published."""
    by_type = {c.type: c for c in conditions}
    created = by_type.get(ConditionType.CREATED)
    ready = by_type.get(ConditionType.READY)
    if created is not None and not created.is_true and created.reason in HOPELESS_REASONS:
        return Phase.FAILED
    if ready is not None and ready.is_true:
        return Phase.READY
    if current in (Phase.READY, Phase.NOT_READY):
        return Phase.NOT_READY
    if ready is not None and created is not None and created.is_true:
        return Phase.NOT_READY
    return Phase.CREATING
