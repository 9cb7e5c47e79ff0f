"""What is said of one cluster: ``Created``, ``KeepalivedReady``, warnings. Pure.

A control plane that was up once stays ``Created``: that it is being upgraded, rotated, migrated,
asleep or in a state this version has never heard of is told in reason and message. Whether it
answers is the lifecycle's to say.
"""

from __future__ import annotations

from typing import Final

from dpucluster.managers.kamaji import endpoint, objects, pods, versions
from dpucluster.managers.kamaji.kinds import DaemonSet, TenantControlPlane
from dpucluster.managers.kamaji.nodes import Placement
from dpucluster.managers.kamaji.observation import Observed, SecretState, Slot
from dpucluster.managers.kamaji.plan import LOAD_BALANCER, Plan, secret_name
from dpucluster.sdk import (
    Condition,
    ConditionType,
    Notice,
    ObjectMeta,
    Outcome,
    Problem,
    Refusal,
    RefusalKind,
    condition,
)

PROVISIONING: Final = "Provisioning"
WAITING_FOR_ENDPOINT: Final = "WaitingForEndpoint"
WAITING_FOR_CONTROL_PLANE: Final = "WaitingForControlPlane"

WORKING_REASONS: Final = {
    "Upgrading": "Upgrading",
    "CertificateAuthorityRotating": "RotatingCertificates",
    "Migrating": "Migrating",
}
"""Kamaji's words for what goes on in a control plane that is up → reasons of ``Created=True``."""

REFUSAL_REASONS: Final = {
    RefusalKind.FOREIGN: "NameConflict",
    RefusalKind.DYING: PROVISIONING,
    RefusalKind.QUOTA: "QuotaExceeded",
    RefusalKind.NODE_PORT: "NodePortUnavailable",
    RefusalKind.ADMISSION: "AdmissionDenied",
    RefusalKind.RIGHTS: "NotPermitted",
    RefusalKind.INVALID: "NotAccepted",
}
REFUSAL_ADVICE: Final = {
    RefusalKind.QUOTA: "; raise the quota or free some of it",
    RefusalKind.NODE_PORT: "; delete a Service that uses one, or widen the API server's "
    "--service-node-port-range",
    RefusalKind.ADMISSION: "; change the policy or what it refuses",
    RefusalKind.RIGHTS: "; grant it, see the rights in the documentation of `dpucluster run`",
    RefusalKind.INVALID: "; correct what it names",
}

KAMAJI_WEBHOOK: Final = 'admission webhook "vtenantcontrolplane'
VERSION_WORDS: Final = ("version", "upgrade", "downgrade")

SOON: Final = 1.0
"""Until the next look at something that is a matter of moments and sends no event."""
LATER: Final = 10.0
"""Until the next look at what somebody else has to mend."""

SELDOM: Final = 60.0
"""The same where all is well but for a node: its DaemonSet is watched, only the reason is not."""

FINALIZERS: Final = {
    "finalizer.kamaji.clastix.io": "Kamaji empties the tenant's part of the DataStore; it waits "
    "for ever when the DataStore is gone or does not answer",
    "finalizer.kamaji.clastix.io/soot": "Kamaji stops its controllers for the tenant",
}
"""Kamaji's own, and what they wait for."""


def outcome(observed: Observed, plan: Plan) -> Outcome:
    """Everything this look comes to."""
    problem = _creation_problem(observed, plan)
    created = _created(observed, plan, problem)
    virtual_ip = _keepalived_ready(observed, plan)
    return Outcome(
        conditions=(created,) if virtual_ip is None else (created, virtual_ip),
        withdraw=(ConditionType.KEEPALIVED_READY,) if virtual_ip is None else (),
        kubeconfig=secret_name(observed.cluster.metadata.name) if created.is_true else "",
        notices=_notices(plan, problem, created),
        requeue_after=_requeue_after(observed, created, virtual_ip),
        settling=_is_settling(observed, created),
        error=observed.error,
    )


def _is_settling(observed: Observed, created: Condition) -> bool:
    """A control plane that has just come up is reached a few seconds later.

    keepalived holds the address only once the API server has answered it, and nobody is helped by
    being told of an outage meanwhile.
    """
    before = observed.cluster.condition(ConditionType.CREATED)
    is_new = before is None or not before.is_true
    return created.is_true and is_new and not observed.answers


def deletion(kind: str, left: ObjectMeta) -> Condition:
    """What the deletion of a cluster waits for: a child that is still there."""
    held = "; ".join(f"{f} ({FINALIZERS.get(f, 'not ours')})" for f in left.finalizers)
    text = f"{kind} {left.key} is being deleted, held by {held or 'nothing'}"
    problem = Problem(WAITING_FOR_CONTROL_PLANE, text)
    return condition(ConditionType.DELETION_COMPLETED, problem, reason="")


def not_deleted(kind: str, error: Exception) -> Condition:
    """A child that may not be deleted."""
    problem = Problem(WAITING_FOR_CONTROL_PLANE, f"the {kind} cannot be deleted: {error}")
    return condition(ConditionType.DELETION_COMPLETED, problem, reason="")


# Created


def _created(observed: Observed, plan: Plan, problem: Problem | None) -> Condition:
    control_plane = observed.control_plane
    if control_plane is None or not control_plane.installed:
        waiting = problem or _provisioning(observed, control_plane)
        return condition(ConditionType.CREATED, waiting, reason="Created")
    if not _has_kubeconfig(observed):
        return condition(ConditionType.CREATED, problem or _without_secret(observed), reason="")
    reason, message = _working(control_plane, plan)
    if problem is not None:
        message = "; ".join(text for text in (message, problem.message) if text)
    return Condition(ConditionType.CREATED, "True", reason, message)


def _has_kubeconfig(observed: Observed) -> bool:
    """Once named it counts: Kamaji rotates it in place, and its content is the lifecycle's."""
    named = observed.cluster.spec.kubeconfig == secret_name(observed.cluster.metadata.name)
    return named or observed.secret is SecretState.COMPLETE


def _working(control_plane: TenantControlPlane, plan: Plan) -> tuple[str, str]:
    """Reason and message of a control plane that was up."""
    state = control_plane.state
    if reason := WORKING_REASONS.get(state):
        return reason, _upgrade(control_plane, plan) if reason == "Upgrading" else ""
    if control_plane.installed != plan.version.text:
        return "Upgrading", _upgrade(control_plane, plan)
    if state in ("Ready", ""):
        return "Created", ""
    return "Created", f"Kamaji reports {state[:60]!a}"


def _upgrade(control_plane: TenantControlPlane, plan: Plan) -> str:
    return f"from {control_plane.installed} to {plan.version.text}"


def _creation_problem(observed: Observed, plan: Plan) -> Problem | None:
    """The first thing that stands in the way, what only the user can mend before all else."""
    if plan.spec_problem is not None:
        return plan.spec_problem
    if not observed.is_kamaji_installed:
        text = (
            "Kamaji is not installed: there is no kind TenantControlPlane (kamaji.clastix.io); "
            "install Kamaji, this goes on by itself"
        )
        return Problem("KamajiNotInstalled", text)
    if plan.endpoint_problem is not None:
        is_spec = plan.endpoint_problem.reason == endpoint.INVALID
        reason = versions.INVALID_SPEC if is_spec else WAITING_FOR_ENDPOINT
        return Problem(reason, plan.endpoint_problem.message)
    for slot in (Slot.SERVICE, Slot.CONTROL_PLANE):
        if (refusal := observed.refusals.get(slot)) is not None:
            return _refused(refusal, slot)
    return _data_store_problem(observed) or _address_problem(observed, plan) or plan.version.problem


def _refused(refusal: Refusal, slot: Slot) -> Problem:
    reason = REFUSAL_REASONS[refusal.kind]
    # Kamaji's own webhook says more about versions than can be known here.
    is_kamajis = slot is Slot.CONTROL_PLANE and KAMAJI_WEBHOOK in refusal.message
    if is_kamajis and any(word in refusal.message for word in VERSION_WORDS):
        reason = versions.UNSUPPORTED
    return Problem(reason, refusal.message + REFUSAL_ADVICE.get(refusal.kind, ""))


def _data_store_problem(observed: Observed) -> Problem | None:
    name, found = objects.data_store(observed), observed.data_store
    if found is None:
        text = (
            f"Kamaji's DataStore {name} does not exist; create it, or name one (--kamaji-datastore)"
        )
        return Problem("DataStoreNotReady", text)
    if found.status.ready is False:
        text = f"Kamaji's DataStore {name} is not ready; see its conditions and Kamaji's log"
        return Problem("DataStoreNotReady", text)
    return None


def _address_problem(observed: Observed, plan: Plan) -> Problem | None:
    if plan.address or plan.service_type != LOAD_BALANCER:
        return None
    service = observed.service
    ingress = service.status.load_balancer.ingress if service else ()
    where = f"Service {observed.cluster.key} of type LoadBalancer"
    if any(i.hostname for i in ingress):
        text = (
            f"{where} has a host name where Kamaji needs an IP address; use a load balancer that "
            "gives addresses, or set spec.clusterEndpoint.keepalived"
        )
    else:
        text = (
            f"{where} has no address yet; see that a load balancer (such as MetalLB) serves this "
            "cluster, or set spec.clusterEndpoint.keepalived"
        )
    return Problem(WAITING_FOR_ENDPOINT, text)


def _provisioning(observed: Observed, control_plane: TenantControlPlane | None) -> Problem:
    where = f"TenantControlPlane {observed.cluster.key}"
    if control_plane is None:
        why = f": {observed.error}" if observed.error is not None else ""
        return Problem(PROVISIONING, f"{where} is about to be made{why}")
    trouble = pods.trouble(observed.pods, control_plane=True)
    if trouble:
        return Problem(PROVISIONING, f"{where} comes up: {trouble}")
    if not control_plane.state and observed.is_late:
        text = f"{where} was made and Kamaji has not looked at it; see that Kamaji runs"
        return Problem(PROVISIONING, text)
    return Problem(PROVISIONING, f"{where} comes up")  # whatever Kamaji calls it meanwhile


def _without_secret(observed: Observed) -> Problem:
    name = secret_name(observed.cluster.metadata.name)
    where = f"Secret {observed.cluster.metadata.namespace}/{name}"
    if observed.secret is SecretState.FOREIGN:
        text = f"{where} exists and is not Kamaji's; remove it, Kamaji makes its own"
        return Problem("NameConflict", text)
    return Problem(PROVISIONING, f"{where} is not complete yet; Kamaji writes it")


# KeepalivedReady


def _keepalived_ready(observed: Observed, plan: Plan) -> Condition | None:
    if endpoint.wanted(observed.cluster) is None:
        return None
    problem = plan.endpoint_problem or _keepalived_problem(observed, plan)
    if problem is not None:
        return condition(ConditionType.KEEPALIVED_READY, problem, reason="")
    return Condition(ConditionType.KEEPALIVED_READY, "True", "Ready", _shortfall(observed))


def _keepalived_problem(observed: Observed, plan: Plan) -> Problem | None:
    if not plan.placement.nodes:
        return Problem("NoMatchingNodes", no_nodes(plan.placement))
    for slot in (Slot.CHECK_SERVICE, Slot.CONFIG_MAP, Slot.DAEMON_SET):
        if (refusal := observed.refusals.get(slot)) is not None:
            return _refused(refusal, slot)
    found = observed.daemon_set
    if found is None:
        return Problem("Progressing", "waiting for the node port of the control plane's Service")
    status = found.status
    if _is_seen(found) and _ready_and_updated(found):
        return None
    if not observed.is_late:
        return Problem("Progressing", "keepalived comes up")
    counted = (
        f"{status.number_ready} of {status.desired_number_scheduled} keepalived pods are ready"
    )
    trouble = pods.trouble(observed.pods, control_plane=False)
    return Problem("PodsNotReady", f"{counted}: {trouble}" if trouble else counted)


def no_nodes(placement: Placement) -> str:
    """Why no node fits, naming both sets."""
    selector = ", ".join(f"{k}={v}" for k, v in sorted(placement.selector.items()))
    fitting = _names(placement.fitting) if placement.selector else "all nodes"
    text = f"nodeSelector {{{selector}}} matches {fitting}"
    if placement.needs_role:
        text += f"; nodes with the control-plane role are {_names(placement.control_plane)}"
    return f"no node can hold the virtual IP: {text}; label a node, or change the nodeSelector"


def _names(found: tuple[str, ...]) -> str:
    shown = ", ".join(found[:10])
    return f"{shown} and {len(found) - 10} more" if len(found) > 10 else shown or "none"


def is_short(observed: Observed) -> bool:
    """Whether keepalived is not ready, or not up to date, on a node where it should be."""
    if observed.daemon_set is None:
        return False
    status = observed.daemon_set.status
    counts = (status.number_ready, status.updated_number_scheduled)
    return min(counts) < status.desired_number_scheduled or not _is_seen(observed.daemon_set)


def _is_seen(daemon_set: DaemonSet) -> bool:
    """Whether its status is about what it is now."""
    return daemon_set.status.observed_generation >= daemon_set.metadata.generation


def _ready_and_updated(daemon_set: DaemonSet) -> bool:
    """Whether at least one pod is surely both; the counts may be of different pods."""
    status = daemon_set.status
    wanted = status.desired_number_scheduled
    return status.number_ready + status.updated_number_scheduled > wanted > 0


def _shortfall(observed: Observed) -> str:
    """What is short of perfect while the address is held, once it had time to be perfect."""
    if observed.daemon_set is None or not observed.is_late:
        return ""
    status = observed.daemon_set.status
    wanted = status.desired_number_scheduled
    told = []
    if status.number_ready < wanted:
        told.append(f"{status.number_ready} of {wanted} pods ready")
    if status.updated_number_scheduled < wanted:
        told.append(f"{status.updated_number_scheduled} of {wanted} have the new configuration")
    if told and (trouble := pods.trouble(observed.pods, control_plane=False)):
        told.append(trouble)
    return "; ".join(told)


# Beside the conditions


def _notices(plan: Plan, problem: Problem | None, created: Condition) -> tuple[Notice, ...]:
    found = []
    if problem is not None and created.is_true:
        found.append(Notice(problem.reason, problem.message))
    if plan.endpoint is not None and len(plan.placement.nodes) == 1:
        text = (
            f"only node {plan.placement.nodes[0].name} can hold the virtual IP "
            f"{plan.endpoint.vip}: there is no fail-over; let the nodeSelector match a second "
            "control-plane node"
        )
        found.append(Notice("NoFailOver", text))
    return tuple(found)


def _requeue_after(
    observed: Observed, created: Condition, virtual_ip: Condition | None
) -> float | None:
    if observed.secret is SecretState.INCOMPLETE:
        return SOON
    if any(r.kind is RefusalKind.DYING for r in observed.refusals.values()):
        return SOON
    is_well = created.is_true and (virtual_ip is None or virtual_ip.is_true)
    if observed.refusals or not is_well:
        return LATER
    return SELDOM if is_short(observed) else None
