"""Why pods do not run, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dpucluster.managers.kamaji.kinds import LABEL_KAMAJI_NAME, Pod

NORMAL: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
"""Reasons for waiting that every pod has for a moment."""
MAX_TEXT: Final = 300


def trouble(pods: Iterable[Pod], *, control_plane: bool) -> str:
    """What is wrong with the first pod that is in trouble, of the control plane or keepalived."""
    mine = [p for p in pods if (LABEL_KAMAJI_NAME in p.metadata.labels) is control_plane]
    for pod in sorted(mine, key=lambda p: p.metadata.name):
        if found := _trouble(pod):
            return f"pod {pod.metadata.name}: {found[:MAX_TEXT]}"
    return ""


def _trouble(pod: Pod) -> str:
    for scheduled in pod.status.conditions:
        if scheduled.type == "PodScheduled" and scheduled.status == "False":
            return f"{scheduled.reason}, {scheduled.message}"
    for container in pod.status.container_statuses:
        waiting = container.state.waiting
        if waiting is not None and waiting.reason not in NORMAL:
            told = f", {waiting.message}" if waiting.message else ""
            return f"container {container.name} waits, {waiting.reason}{told}"
    return ""
