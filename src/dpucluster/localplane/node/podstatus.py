"""What a node tells of a pod. Pure: facts in, ``status`` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dpucluster.localplane.node import environment, pods

RUNTIME = "process"
"""Scheme of container ids."""


@dataclass(frozen=True)
class Waiting:
    """The container does not run, and why."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """The container runs."""

    since: str


@dataclass(frozen=True)
class Terminated:
    """A run of the container that has ended; above 128 the code tells a signal."""

    exit_code: int
    reason: str
    started: str
    finished: str
    message: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerFacts:
    """Everything that is told of one container."""

    name: str
    image: str
    state: State
    last: Terminated | None = None
    restarts: int = 0
    is_started: bool = False
    is_ready: bool = False
    pid: int = 0


CREATING = Waiting("ContainerCreating")
INITIALIZING = Waiting("PodInitializing")


def status(
    pod: pods.Pod,
    placement: environment.Placement,
    facts: Sequence[ContainerFacts],
    *,
    initial: Sequence[ContainerFacts] = (),
    start_time: str,
    now: str,
) -> dict[str, Any]:
    """The pod's ``status``; conditions that stay keep their time."""
    initialized = all(_succeeded(each.state) for each in initial)
    told: dict[str, Any] = {
        "phase": phase(pod, facts, initial),
        "startTime": start_time,
        "hostIP": placement.node_ip,
        "hostIPs": [{"ip": placement.node_ip}],
        "conditions": _conditions(
            pod, facts, initialized, has_network=bool(placement.pod_ip), now=now
        ),
        "containerStatuses": [_container(each) for each in facts],
    }
    if placement.pod_ip:
        told |= {"podIP": placement.pod_ip, "podIPs": [{"ip": placement.pod_ip}]}
    if initial:
        done = (dataclasses.replace(each, is_ready=_succeeded(each.state)) for each in initial)
        told["initContainerStatuses"] = [_container(each) for each in done]
    return told


def phase(
    pod: pods.Pod, facts: Sequence[ContainerFacts], initial: Sequence[ContainerFacts] = ()
) -> str:
    """The pod's phase."""
    policy = pod.spec.restart_policy
    if any(isinstance(each.state, Terminated) and not _succeeded(each.state) for each in initial):
        return "Failed" if policy == "Never" else "Pending"
    if not all(_succeeded(each.state) for each in initial):
        return "Pending"
    if any(_has_never_run(each) for each in facts):
        return "Pending"
    if all(isinstance(each.state, Terminated) for each in facts):
        if all(_succeeded(each.state) for each in facts):
            return "Running" if policy == "Always" else "Succeeded"
        return "Failed" if policy == "Never" else "Running"
    return "Running"


def _has_never_run(facts: ContainerFacts) -> bool:
    return isinstance(facts.state, Waiting) and facts.last is None


def _succeeded(state: State) -> bool:
    return isinstance(state, Terminated) and state.exit_code == 0


def _conditions(
    pod: pods.Pod,
    facts: Sequence[ContainerFacts],
    initialized: bool,
    *,
    has_network: bool,
    now: str,
) -> list[dict[str, Any]]:
    unready = [each.name for each in facts if not each.is_ready]
    is_over = phase(pod, facts) in ("Succeeded", "Failed")
    reason = "PodCompleted" if is_over else "ContainersNotReady"
    message = "" if is_over else f"containers with unready status: [{' '.join(unready)}]"
    ready = (not unready and initialized, reason, message)
    wanted = {
        "PodReadyToStartContainers": (has_network, "", ""),
        "Initialized": (initialized, "ContainersNotInitialized", ""),
        "ContainersReady": ready,
        "Ready": ready,
        "PodScheduled": (True, "", ""),
    }
    before = {each.type: each for each in pod.status.conditions}
    return [
        _condition(kind, before.get(kind), is_so=is_so, why_not=(reason, message), now=now)
        for kind, (is_so, reason, message) in wanted.items()
    ]


def _condition(
    kind: str,
    before: pods.PodCondition | None,
    *,
    is_so: bool,
    why_not: tuple[str, str],
    now: str,
) -> dict[str, Any]:
    value = "True" if is_so else "False"
    stays = before is not None and before.status == value and before.last_transition_time
    made: dict[str, Any] = {
        "type": kind,
        "status": value,
        "lastTransitionTime": before.last_transition_time if before and stays else now,
        # Explicit, because a merge would keep what was said before.
        "reason": None,
        "message": None,
    }
    if not is_so:
        made |= {"reason": why_not[0] or None, "message": why_not[1] or None}
    return made


def _container(facts: ContainerFacts) -> dict[str, Any]:
    is_running = isinstance(facts.state, Running)
    return {
        "name": facts.name,
        "image": facts.image,
        "imageID": facts.image if is_running else "",
        "containerID": f"{RUNTIME}://{facts.pid}" if facts.pid else "",
        "ready": facts.is_ready,
        "started": facts.is_started and is_running,
        "restartCount": facts.restarts,
        "state": _state(facts.state),
        "lastState": _state(facts.last) if facts.last else {},
    }


def _state(state: State) -> dict[str, Any]:
    match state:
        case Waiting(reason, message):
            return {"waiting": _without_empty({"reason": reason, "message": message})}
        case Running(since):
            return {"running": {"startedAt": since}}
        case Terminated():
            made = {
                "exitCode": state.exit_code,
                "reason": state.reason,
                "startedAt": state.started,
                "finishedAt": state.finished,
                "message": state.message,
            }
            return {"terminated": {"exitCode": state.exit_code, **_without_empty(made)}}


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value != ""}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two statuses say the same, whenever they say it."""
    return _timeless(one) == _timeless(other)


def _timeless(told: dict[str, Any]) -> dict[str, Any]:
    def conditions(each: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in c.items() if k != "lastTransitionTime"} for c in each]

    return {**told, "conditions": conditions(told["conditions"])}
