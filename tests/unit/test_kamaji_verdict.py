"""What is said of a Kamaji cluster, for whatever may be observed."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import msgspec
import pytest

from dpucluster.api import meta
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.managers.kamaji import kinds, plan, pods, verdict
from dpucluster.managers.kamaji.observation import Observed, SecretState, Slot
from dpucluster.sdk import Condition, ObjectMeta, Outcome, Problem, Refusal, RefusalKind
from tests.support import build, kamaji

HELD = kamaji.cluster()
FREE = kamaji.cluster(held=False)
NAMED = kamaji.cluster(kubeconfig="c-admin-kubeconfig")
STATES = (
    "", "Provisioning", "Ready", "NotReady", "Upgrading", "Migrating", "Sleeping", "WriteLimited",
    "CertificateAuthorityRotating", "Unknown", "SomethingNew\n{}",
)  # fmt: skip
"""Kamaji's words so far, none, and one of a release to come."""


def look(observed: Observed) -> Outcome:
    return verdict.outcome(observed, plan.make(observed))


def created(observed: Observed) -> Condition:
    (found,) = [c for c in look(observed).conditions if c.type == "Created"]
    return found


def virtual_ip(observed: Observed) -> Condition:
    (found,) = [c for c in look(observed).conditions if c.type == "KeepalivedReady"]
    return found


# Created


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "refusal", [None, *(Refusal(kind, f"TenantControlPlane: {kind.value}") for kind in RefusalKind)]
)
@pytest.mark.parametrize("slot", [Slot.SERVICE, Slot.CONTROL_PLANE])
def test_once_up_it_stays_created(state: str, refusal: Refusal | None, slot: Slot) -> None:
    """K11: No state of Kamaji's and no refusal turns a control plane that was up Created=False."""
    up = kamaji.running(
        NAMED,
        control_plane=kamaji.control_plane(NAMED, state=state),
        refusals={slot: refusal} if refusal else {},
        secret=SecretState.ABSENT,
    )
    found = created(up)
    assert "True" == found.status
    assert refusal is None or refusal.message in found.message
    assert found.message.isprintable()


@pytest.mark.parametrize(
    ("state", "version", "reason", "message"),
    [
        ("Ready", "v1.30.2", "Created", ""),
        ("Ready", "v1.31.0", "Upgrading", "from v1.30.2 to v1.31.0"),
        ("Upgrading", "v1.31.0", "Upgrading", "from v1.30.2 to v1.31.0"),
        ("NotReady", "v1.31.0", "Upgrading", "from v1.30.2 to v1.31.0"),
        ("CertificateAuthorityRotating", "v1.30.2", "RotatingCertificates", ""),
        ("Migrating", "v1.30.2", "Migrating", ""),
        ("Sleeping", "v1.30.2", "Created", "Kamaji reports 'Sleeping'"),
        ("WriteLimited", "v1.30.2", "Created", "Kamaji reports 'WriteLimited'"),
        ("New\n", "v1.30.2", "Created", r"Kamaji reports 'New\n'"),
    ],
)
def test_what_goes_on_is_told(state: str, version: str, reason: str, message: str) -> None:
    """K11: Upgrading, rotating, migrating, sleeping are reasons and words of Created=True."""
    mine = kamaji.cluster(kubeconfig="c-admin-kubeconfig", version=version)
    control_plane = kamaji.control_plane(mine, state=state, version=version)
    found = created(kamaji.running(mine, control_plane=control_plane))
    assert ("True", reason, message) == (found.status, found.reason, found.message)


@pytest.mark.parametrize(("state", "secret"), list(itertools.product(STATES, SecretState)), ids=str)
def test_never_up_is_not_created(state: str, secret: SecretState) -> None:
    """K29: Before it was up once nothing but Provisioning is said, whatever Kamaji calls it."""
    coming = kamaji.control_plane(HELD, state=state, installed="")
    found = created(kamaji.running(HELD, control_plane=coming, secret=secret))
    assert ("False", "Provisioning") == (found.status, found.reason)


@pytest.mark.parametrize(
    ("secret", "status", "reason"),
    [
        (SecretState.ABSENT, "False", "Provisioning"),
        (SecretState.INCOMPLETE, "False", "Provisioning"),
        (SecretState.FOREIGN, "False", "NameConflict"),
        (SecretState.COMPLETE, "True", "Created"),
    ],
)
def test_the_secret_comes_first(secret: SecretState, status: str, reason: str) -> None:
    """K29: Created, and the name in the spec, only with a complete Secret of Kamaji's own."""
    observed = kamaji.running(HELD, secret=secret)
    found = created(observed)
    assert (status, reason) == (found.status, found.reason)
    is_complete = secret is SecretState.COMPLETE
    assert ("c-admin-kubeconfig" if is_complete else "") == look(observed).kubeconfig


def refused(kind: RefusalKind, message: str = "it") -> dict[Slot, Refusal]:
    return {Slot.CONTROL_PLANE: Refusal(kind, message)}


NOT_ACCEPTED = (
    'admission webhook "vtenantcontrolplane.kb.io" denied the request: unable to downgrade a '
    "TenantControlPlane from v1.30.2 to v1.29.0"
)
PROBLEMS: dict[str, tuple[Observed, str, str]] = {
    "K5: nothing there yet": (kamaji.observed(), "Provisioning", "is about to be made"),
    "K30: the name": (kamaji.observed(kamaji.cluster("1a")), "InvalidSpec", "another name"),
    "the kubeconfig": (
        kamaji.observed(kamaji.cluster(kubeconfig="mine")), "InvalidSpec", "without spec.kubeconfig"
    ),
    "the version": (
        kamaji.observed(kamaji.cluster(version="latest")), "InvalidSpec", "write it as v1.30.2"
    ),
    "K18: the address": (
        kamaji.observed(kamaji.cluster(endpoint=kamaji.keepalived(vip="x"))),
        "InvalidSpec",
        "'x' is no IP address",
    ),
    "K32: Kamaji is not installed": (
        kamaji.observed(is_kamaji_installed=False, data_store=None),
        "KamajiNotInstalled",
        "install Kamaji, this goes on by itself",
    ),
    "K23: another has the address": (
        kamaji.observed(rival=Problem("EndpointConflict", "vip belongs to ns/old")),
        "WaitingForEndpoint",
        "vip belongs to ns/old",
    ),
    "K27: no DataStore": (
        kamaji.observed(data_store=None, datastore="mine"),
        "DataStoreNotReady",
        "DataStore mine does not exist; create it, or name one (--kamaji-datastore)",
    ),
    "the DataStore is not ready": (
        kamaji.observed(data_store=kamaji.data_store(ready=False)), "DataStoreNotReady", "not ready"
    ),
    "K10: no load balancer": (
        kamaji.observed(FREE, service=kamaji.service(FREE, type_="LoadBalancer")),
        "WaitingForEndpoint",
        "Service ns/c of type LoadBalancer has no address yet; see that a load balancer",
    ),
    "K10: a load balancer with a name": (
        kamaji.observed(FREE, service=kamaji.service(FREE, type_="LoadBalancer", host="lb.x")),
        "WaitingForEndpoint",
        "has a host name where Kamaji needs an IP address",
    ),
    "K7: a foreign object": (
        kamaji.observed(refusals=refused(RefusalKind.FOREIGN)), "NameConflict", "it"
    ),
    "K13: one that goes": (
        kamaji.observed(refusals=refused(RefusalKind.DYING)), "Provisioning", "it"
    ),
    "a quota": (
        kamaji.observed(refusals=refused(RefusalKind.QUOTA)), "QuotaExceeded", "raise the quota"
    ),
    "no node port": (
        kamaji.observed(refusals={Slot.SERVICE: Refusal(RefusalKind.NODE_PORT, "it")}),
        "NodePortUnavailable",
        "--service-node-port-range",
    ),
    "a policy": (
        kamaji.observed(refusals=refused(RefusalKind.ADMISSION, "policy p denied it")),
        "AdmissionDenied",
        "policy p denied it; change the policy",
    ),
    "Kamaji's webhook and a version": (
        kamaji.observed(refusals=refused(RefusalKind.ADMISSION, NOT_ACCEPTED)),
        "UnsupportedVersion",
        NOT_ACCEPTED,
    ),
    "a policy on a Service that speaks of versions": (
        kamaji.observed(
            refusals={Slot.SERVICE: Refusal(RefusalKind.ADMISSION, "the label version is missing")}
        ),
        "AdmissionDenied",
        "the label version is missing",
    ),
    "no right": (
        kamaji.observed(refusals=refused(RefusalKind.RIGHTS)), "NotPermitted", "grant it"
    ),
    "not accepted": (
        kamaji.observed(refusals=refused(RefusalKind.INVALID)), "NotAccepted", "correct what it"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("observed", "reason", "text"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_each_problem_has_a_reason(observed: Observed, reason: str, text: str) -> None:
    """K28: What stands in the way is a reason of its own, with what to do, and no error."""
    found = created(observed)
    assert ("False", reason) == (found.status, found.reason)
    assert text in found.message
    assert look(observed).error is None


def test_every_refusal_has_a_reason() -> None:
    """A kind of refusal that is added later needs a word for users, too."""
    assert set(RefusalKind) == set(verdict.REFUSAL_REASONS)


def test_a_release_of_kamaji_without_readiness() -> None:
    """A DataStore that says nothing of its readiness holds nothing up."""
    observed = kamaji.observed(data_store=kamaji.data_store(ready=None))
    assert "Provisioning" == created(observed).reason


def test_a_problem_of_a_working_cluster_is_an_event() -> None:
    """K28: What stands in the way of a cluster that is up is told as a warning, too."""
    wrong = kamaji.cluster(kubeconfig="c-admin-kubeconfig", version="v1.33.0")
    observed = kamaji.running(wrong)
    assert ["UnsupportedVersion"] == [n.reason for n in look(observed).notices]
    assert "v1.33.0 is more than one minor version ahead" in created(observed).message


@pytest.mark.parametrize(
    ("late", "state", "text"),
    [
        (False, "", "TenantControlPlane ns/c comes up"),
        (True, "", "Kamaji has not looked at it; see that Kamaji runs"),
        (True, "NotReady", "TenantControlPlane ns/c comes up"),
    ],
)
def test_kamaji_does_not_run(late: bool, state: str, text: str) -> None:
    """A control plane at which Kamaji does not look is told as such, after a while."""
    coming = kamaji.control_plane(HELD, state=state, installed="")
    observed = kamaji.running(HELD, control_plane=coming, is_late=late)
    assert created(observed).message.endswith(text)


# KeepalivedReady


COUNTED: dict[str, tuple[dict[str, int], bool, tuple[str, str, str]]] = {
    "all well": ({}, False, ("True", "Ready", "")),
    "the first of them": ({"ready": 1}, False, ("True", "Ready", "")),
    "one is missing": ({"ready": 2}, True, ("True", "Ready", "2 of 3 pods ready")),
    "rolling": ({"updated": 1}, True, ("True", "Ready", "1 of 3 have the new configuration")),
    "a single node": ({"desired": 1, "ready": 1, "updated": 1}, False, ("True", "Ready", "")),
    "nothing scheduled yet": (
        {"desired": 0, "ready": 0, "updated": 0}, False,
        ("False", "Progressing", "keepalived comes up"),
    ),
    "none ready yet": ({"ready": 0}, False, ("False", "Progressing", "keepalived comes up")),
    "none ready": (
        {"ready": 0}, True, ("False", "PodsNotReady", "0 of 3 keepalived pods are ready"),
    ),
    "nothing scheduled": (
        {"desired": 0, "ready": 0, "updated": 0}, True,
        ("False", "PodsNotReady", "0 of 0 keepalived pods are ready"),
    ),
    "perhaps not the same ones": (
        {"ready": 2, "updated": 1}, False, ("False", "Progressing", "keepalived comes up"),
    ),
    "none has the new configuration": (
        {"updated": 0}, True, ("False", "PodsNotReady", "3 of 3 keepalived pods are ready"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("counts", "late", "said"), COUNTED.values(), ids=COUNTED.keys())
def test_pods_count(counts: dict[str, int], late: bool, said: tuple[str, str, str]) -> None:
    """K3: KeepalivedReady is what the pods are, not that a DaemonSet exists."""
    daemon_set = kamaji.daemon_set(NAMED, **counts)
    found = virtual_ip(kamaji.running(NAMED, daemon_set=daemon_set, is_late=late))
    assert said == (found.status, found.reason, found.message)


def test_pods_of_an_older_configuration_do_not_count() -> None:
    """K2, K3: What the status says of another generation of the DaemonSet proves nothing."""
    changed = kamaji.daemon_set(NAMED)
    newer = msgspec.structs.replace(changed.metadata, generation=2)
    changed = msgspec.structs.replace(changed, metadata=newer)
    assert "False" == virtual_ip(kamaji.running(NAMED, daemon_set=changed)).status


def test_no_node_matches() -> None:
    """K3: With nowhere to run it is not ready; the message names both sets of nodes."""
    mine = kamaji.cluster(endpoint=kamaji.keepalived(node_selector={"zone": "1"}))
    workers = tuple(kamaji.node(f"w{i:02}", roles=(), zone="1") for i in range(12))
    said = virtual_ip(kamaji.running(mine, nodes=(kamaji.node("cp"), *workers)))
    assert ("False", "NoMatchingNodes") == (said.status, said.reason)
    assert "nodeSelector {zone=1} matches w00, w01," in said.message
    assert "w09 and 2 more; nodes with the control-plane role are cp;" in said.message
    assert "label a node, or change the nodeSelector" in said.message


def test_no_keepalived_no_condition() -> None:
    """K4: Without a virtual IP the condition is withdrawn, not kept as it was."""
    outcome = look(kamaji.observed(FREE))
    assert ("KeepalivedReady",) == outcome.withdraw
    assert ["Created"] == [c.type for c in outcome.conditions]


@pytest.mark.parametrize("slot", [Slot.CONFIG_MAP, Slot.DAEMON_SET])
def test_a_refusal_of_keepalived_leaves_created_alone(slot: Slot) -> None:
    """K12: What is wrong with keepalived is its condition's, and the control plane's is True."""
    refusal = Refusal(RefusalKind.ADMISSION, "hostNetwork is not allowed")
    observed = kamaji.running(NAMED, refusals={slot: refusal}, daemon_set=None)
    said = virtual_ip(observed)
    assert ("False", "AdmissionDenied") == (said.status, said.reason)
    assert "True" == created(observed).status


def test_a_rival_is_told_in_both() -> None:
    """K23: EndpointConflict in KeepalivedReady; Created waits, as nothing is made."""
    observed = kamaji.observed(rival=Problem("EndpointConflict", "belongs to ns/old"))
    said = virtual_ip(observed)
    assert ("False", "EndpointConflict", "belongs to ns/old") == (
        said.status, said.reason, said.message,
    )  # fmt: skip


def test_one_node_is_told_not_blocked() -> None:
    """With one node there is a virtual IP and no fail-over: a warning, and all else goes on."""
    observed = kamaji.running(NAMED, nodes=kamaji.nodes(1))
    assert ["NoFailOver"] == [n.reason for n in look(observed).notices]
    assert "True" == virtual_ip(observed).status
    assert () == look(kamaji.running(NAMED, nodes=kamaji.nodes(2))).notices


# When to look again


@pytest.mark.parametrize(
    ("observed", "seconds"),
    [
        (kamaji.running(NAMED), None),
        (kamaji.running(NAMED, control_plane=kamaji.control_plane(NAMED, state="Upgrading")), None),
        (kamaji.running(HELD, secret=SecretState.INCOMPLETE), verdict.SOON),
        (kamaji.observed(refusals=refused(RefusalKind.DYING)), verdict.SOON),
        (kamaji.observed(refusals=refused(RefusalKind.FOREIGN)), verdict.LATER),
        (kamaji.running(NAMED, refusals=refused(RefusalKind.FOREIGN)), verdict.LATER),
        (kamaji.observed(), verdict.LATER),
        (kamaji.running(NAMED, daemon_set=kamaji.daemon_set(NAMED, ready=1)), verdict.SELDOM),
    ],
)
def test_when_to_look_again(observed: Observed, seconds: float | None) -> None:
    """K17: Nothing well is polled; what somebody else must mend is looked at without haste."""
    assert seconds == look(observed).requeue_after


def test_what_failed_is_raised_beside_what_is_known() -> None:
    """K12: An error of one child is passed on, and the other's state is said all the same."""
    error: Any = ValueError("oops")
    outcome = look(dataclasses.replace(kamaji.running(NAMED), error=error))
    assert error is outcome.error
    assert ["True", "True"] == [c.status for c in outcome.conditions]


@pytest.mark.parametrize(
    ("of", "answers", "settling"),
    [
        (HELD, False, True),
        (HELD, True, False),
        (kamaji.cluster(conditions=(build.condition("Created", "False"),)), False, True),
        (kamaji.cluster(conditions=(build.condition("Created"),)), False, False),
    ],
)
def test_a_new_control_plane_is_told_once_it_is_reached(
    of: DPUCluster, answers: bool, settling: bool
) -> None:
    """K22: Until keepalived holds the address nobody is told of an outage; later ones are."""
    assert settling is look(kamaji.running(of, answers=answers)).settling


# The end


def test_what_the_deletion_waits_for() -> None:
    """K13: Each finalizer is named, Kamaji's with what it waits for."""
    held = ("finalizer.kamaji.clastix.io", "finalizer.kamaji.clastix.io/soot", "x.io/y")
    said = verdict.deletion(
        "TenantControlPlane", ObjectMeta(name="c", namespace="ns", finalizers=held)
    )
    assert ("DeletionCompleted", "False", "WaitingForControlPlane") == (
        said.type, said.status, said.reason,
    )  # fmt: skip
    assert "TenantControlPlane ns/c is being deleted" in said.message
    assert "waits for ever when the DataStore is gone" in said.message
    assert "x.io/y (not ours)" in said.message


# Pods


def pod(name: str, *, of_control_plane: bool = True, **status: Any) -> kinds.Pod:
    labels = {kinds.LABEL_KAMAJI_NAME: "c"} if of_control_plane else {}
    return kinds.Pod(ObjectMeta(name=name, labels=labels), kinds.PodStatus(**status))


def waiting(reason: str, message: str = "") -> kinds.ContainerStatus:
    return kinds.ContainerStatus("api", kinds.ContainerState(kinds.Waiting(reason, message)))


PENDING = kinds.PodCondition("PodScheduled", "False", "Unschedulable", "0/3 nodes")
PODS: dict[str, tuple[list[kinds.Pod], str]] = {
    "none": ([], ""),
    "well": ([pod("a", container_statuses=(kinds.ContainerStatus("api"),))], ""),
    "just created": ([pod("a", container_statuses=(waiting("ContainerCreating"),))], ""),
    "nowhere to run": ([pod("a", conditions=(PENDING,))], "pod a: Unschedulable, 0/3 nodes"),
    "no image": (
        [pod("a", container_statuses=(waiting("ErrImagePull", "not found"),))],
        "pod a: container api waits, ErrImagePull, not found",
    ),
    "crashing": (
        [pod("a", container_statuses=(waiting("CrashLoopBackOff"),))],
        "pod a: container api waits, CrashLoopBackOff",
    ),
    "the first by name": (
        [pod("b", conditions=(PENDING,)), pod("a", container_statuses=(waiting("X"),))],
        "pod a: container api waits, X",
    ),
    "of keepalived": ([pod("a", of_control_plane=False, conditions=(PENDING,))], ""),
}


@pytest.mark.parametrize(("found", "text"), PODS.values(), ids=PODS.keys())
def test_trouble(found: list[kinds.Pod], text: str) -> None:
    """K28: Why the first pod in trouble does not run, in one sentence; nothing when all is well."""
    assert text == pods.trouble(found, control_plane=True)


def test_trouble_is_short_and_in_its_condition() -> None:
    """A long message is cut, and stands in the condition whose pods they are."""
    long = pod("a", of_control_plane=False, container_statuses=(waiting("X", "y" * 9999),))
    assert len(pods.trouble([long], control_plane=False)) < 400
    none = kamaji.daemon_set(NAMED, ready=0)
    observed = kamaji.running(NAMED, daemon_set=none, is_late=True, pods=(long,))
    assert "0 of 3 keepalived pods are ready: pod a: container api" in virtual_ip(observed).message
    assert "" == created(observed).message


def test_reasons_are_what_the_api_server_accepts() -> None:
    """Every reason that may be written fits the schema of conditions."""
    reasons = [*verdict.REFUSAL_REASONS.values(), *verdict.WORKING_REASONS.values()]
    assert all(re.fullmatch(meta.REASON, reason) for reason in reasons)
