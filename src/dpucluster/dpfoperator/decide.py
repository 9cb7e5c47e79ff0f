"""What a DPFOperatorConfig asks for and what its conditions say. Pure.

Conditions, reasons and the summary are NVIDIA DPF's: every condition starts as
``Unknown/Pending``; ``Ready`` is the summary, its reason the graver of ``AwaitingDeletion`` and
``Pending`` (and is what the Phase column prints). NVIDIA's third reason, ``Failure``, has no cause
here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from dpucluster.api.dpfoperatorconfig import ConfigConditionType, DPFOperatorConfig
from dpucluster.api.meta import Condition, Key, listed
from dpucluster.sdk import Notice


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """Everything the decision rests on.

    Attributes:
        waiting: Why a component that should run does not yet, by component.
        not_managed: Components asked for by name that are not ours.
        missing_pull_secrets: Names in ``spec.imagePullSecrets`` without a Secret.
        clusters: DPUClusters that still exist, when the config is being deleted.
    """

    config: DPFOperatorConfig
    waiting: Mapping[str, str]
    not_managed: Sequence[str]
    missing_pull_secrets: Sequence[str]
    clusters: Sequence[Key] = ()


def not_the_singleton(singleton: Key) -> Condition:
    """What another config is told."""
    return Condition(
        type=ConfigConditionType.ACCEPTED,
        status="False",
        reason="NotTheSingleton",
        message=f"only the DPFOperatorConfig {singleton} is acted on; move what you need there "
        "and delete this one",
    )


def conditions(observed: Observed) -> tuple[Condition, ...]:
    """All four conditions, ``Ready`` first."""
    parts = (_pull_secrets(observed), *_components(observed))
    return (_summary(parts), *parts)


def notice(observed: Observed) -> Notice | None:
    """The Event that goes with the conditions of a config that is not being deleted."""
    if observed.missing_pull_secrets:
        return Notice("ImagePullSecretsMissing", _pull_secrets(observed).message)
    if observed.not_managed:
        return Notice("NotManagedHere", _not_managed(observed.not_managed))
    return None


def deletion_notice(clusters: Sequence[Key]) -> Notice:
    """Told before the first DPUCluster is deleted along with its config."""
    return Notice(
        "DeletingDPUClusters",
        f"deleting the DPFOperatorConfig deletes all DPUClusters: {_awaiting(clusters)}",
    )


def _pull_secrets(observed: Observed) -> Condition:
    if not observed.missing_pull_secrets:
        return _true(ConfigConditionType.IMAGE_PULL_SECRETS_RECONCILED)
    names = ", ".join(observed.missing_pull_secrets)
    namespace = observed.config.metadata.namespace
    return _false(
        ConfigConditionType.IMAGE_PULL_SECRETS_RECONCILED,
        "Error",
        f"Secrets named in spec.imagePullSecrets do not exist in namespace {namespace}: {names}",
    )


def _components(observed: Observed) -> tuple[Condition, Condition]:
    if observed.config.metadata.is_deleting:
        message = _awaiting(observed.clusters)
        return (
            _false(ConfigConditionType.SYSTEM_COMPONENTS_RECONCILED, "AwaitingDeletion", message),
            _false(ConfigConditionType.SYSTEM_COMPONENTS_READY, "AwaitingDeletion", message),
        )
    if observed.missing_pull_secrets:  # NVIDIA's operator stops here, and so do we
        message = "waiting for the image pull secrets"
        return _unknown(ConfigConditionType.SYSTEM_COMPONENTS_RECONCILED, message), _false(
            ConfigConditionType.SYSTEM_COMPONENTS_READY, "Error", message
        )
    return _true(
        ConfigConditionType.SYSTEM_COMPONENTS_RECONCILED, _not_managed(observed.not_managed)
    ), _readiness(observed)


def _readiness(observed: Observed) -> Condition:
    if not observed.waiting:
        return _true(ConfigConditionType.SYSTEM_COMPONENTS_READY)
    listed = ", ".join(f"{name}: {why}" for name, why in sorted(observed.waiting.items()))
    return _false(
        ConfigConditionType.SYSTEM_COMPONENTS_READY,
        "Error",
        f"System components are not ready: {listed}",
    )


def _summary(parts: Sequence[Condition]) -> Condition:
    waiting = [c for c in parts if not c.is_true]
    if not waiting:
        return _true(ConfigConditionType.READY)
    names = ", ".join(c.type for c in waiting)
    deleting = any(c.reason == "AwaitingDeletion" for c in waiting)
    reason = "AwaitingDeletion" if deleting else "Pending"  # DPF: Error is recoverable
    return _false(
        ConfigConditionType.READY, reason, f"The following conditions are not ready: {names}"
    )


def _awaiting(clusters: Sequence[Key]) -> str:
    if not clusters:
        return "waiting for the components to stop"
    return f"{len(clusters)} DPUClusters awaiting deletion: {listed(clusters)}"


def _not_managed(names: Sequence[str]) -> str:
    if not names:
        return ""
    return (
        f"not managed here: {', '.join(names)}; dpucluster runs the lifecycle "
        "controller and the static cluster manager, the other components are NVIDIA DPF's"
    )


def _true(type_: str, message: str = "") -> Condition:
    return Condition(type=type_, status="True", reason="Success", message=message)


def _false(type_: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="False", reason=reason, message=message)


def _unknown(type_: str, message: str) -> Condition:
    return Condition(type=type_, status="Unknown", reason="Pending", message=message)
