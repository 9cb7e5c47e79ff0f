"""Why pods do not run, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dpucluster.managers.kamaji.kinds import LABEL_KAMAJI_NAME, ContainerStatus, Pod

NORMAL: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
"""Reasons for waiting that every pod has for a moment."""
MAX_TEXT: Final = 300

CONFIG_END: Final = ("keepalived", 2)
"""keepalived's exit code for a configuration that it cannot use on this node."""
CONFIG_ADVICE: Final = " (is there an interface of that name on its node?)"


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
            return f"container {container.name} waits, {waiting.reason}{_end(container)}{told}"
    return ""


def _end(container: ContainerStatus) -> str:
    """How it ended before, for one that is started again and again."""
    ended = container.last_state.terminated
    if ended is None:
        return ""
    advice = CONFIG_ADVICE if (container.name, ended.exit_code) == CONFIG_END else ""
    return f", it ended with code {ended.exit_code}{advice}"
