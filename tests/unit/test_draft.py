"""From what the stages say to what is written."""

from __future__ import annotations

import msgspec

from dpucluster.api import conditions as api_conditions
from dpucluster.api.dpucluster import DPUClusterStatus, Phase
from dpucluster.sdk import Lifecycle, Outcome, condition, draft
from tests.support import build


def test_nothing_to_say_writes_nothing() -> None:
    """An outcome that repeats what stands gives no patch."""
    cluster = build.cluster(conditions=(build.condition("Created"),), finalizers=("a",))
    said = Outcome(conditions=(condition("Created", None, reason="Created"),))
    after = draft.with_outcome(cluster, said, now=build.NOW)
    after = draft.with_finalizers(after, "a")
    assert None is draft.main_patch(cluster, after)
    assert None is draft.status_patch(cluster, after)


def test_patches_carry_the_version_that_was_read() -> None:
    """Both patches are refused by the server when the object has moved on."""
    cluster = build.cluster()
    after = draft.with_finalizers(cluster, "a", "b")
    after = draft.with_outcome(after, Outcome(lifecycle=Lifecycle(Phase.READY)), now=build.NOW)
    assert {"metadata": {"resourceVersion": "7", "finalizers": ["a", "b"]}} == draft.main_patch(
        cluster, after
    )
    assert {
        "metadata": {"resourceVersion": "7"},
        "status": {"phase": "Ready"},
    } == draft.status_patch(cluster, after)


def test_conditions_of_others_are_carried_over_whole() -> None:
    """The list is written complete: a foreign condition comes out as it went in."""
    foreign = msgspec.structs.replace(build.condition("Foreign"), observed_generation=0)
    cluster = build.cluster(conditions=(foreign,))
    said = Outcome(conditions=(condition("Created", None, reason="Created"),))
    patch = draft.status_patch(cluster, draft.with_outcome(cluster, said, now=build.NOW))
    assert patch is not None
    written = patch["status"]["conditions"]
    assert ["Foreign", "Created"] == [c["type"] for c in written]
    assert "observedGeneration" not in written[0]
    assert (build.NOW, 1) == (written[1]["lastTransitionTime"], written[1]["observedGeneration"])


def test_the_transition_time_changes_only_with_the_status() -> None:
    """A new reason or message leaves lastTransitionTime as it is."""
    old = build.condition("Created", "False", "SecretNotFound")
    (merged,) = api_conditions.merge(
        [old], [build.condition("Created", "False", "KubeconfigInvalid")], now=build.NOW
    )
    assert (build.BEFORE, "KubeconfigInvalid") == (merged.last_transition_time, merged.reason)
    (merged,) = api_conditions.merge([old], [build.condition("Created")], now=build.NOW)
    assert build.NOW == merged.last_transition_time


def test_kubeconfig_is_set_once_and_never_changed() -> None:
    """A manager fills an empty spec.kubeconfig; a value that stands is the user's."""
    said = Outcome(kubeconfig="c-admin-kubeconfig")
    empty = build.cluster(type_="kamaji")
    patch = draft.main_patch(empty, draft.with_outcome(empty, said, now=build.NOW))
    assert {
        "metadata": {"resourceVersion": "7"},
        "spec": {"kubeconfig": "c-admin-kubeconfig"},
    } == patch
    preset = build.cluster(type_="kamaji", kubeconfig="mine")
    assert None is draft.main_patch(preset, draft.with_outcome(preset, said, now=build.NOW))


def test_fields_the_server_prunes_are_not_asked_for_again() -> None:
    """NVIDIA's CRD has no status.nodesCount; the difference must not be written for ever."""
    cluster = build.cluster(status=DPUClusterStatus(phase=Phase.READY))
    said = Outcome(lifecycle=Lifecycle(Phase.READY, version="v1.34.4", nodes_count=3))
    after = draft.with_outcome(cluster, said, now=build.NOW)
    patch = draft.status_patch(cluster, after)
    assert patch is not None
    pruned = draft.pruned_fields(patch, reply=cluster)
    assert {"version", "nodesCount"} == pruned
    assert None is draft.status_patch(cluster, after, pruned=pruned)


def test_unknown_tenant_facts_keep_what_stands() -> None:
    """An unreachable tenant does not blank its version."""
    cluster = build.cluster(status=DPUClusterStatus(phase=Phase.READY, version="v1", nodes_count=2))
    said = Outcome(lifecycle=Lifecycle(Phase.NOT_READY))
    after = draft.with_outcome(cluster, said, now=build.NOW)
    assert ("v1", 2) == (after.status.version, after.status.nodes_count)


def test_a_pruned_zero_is_noticed() -> None:
    """A cluster without nodes is the first thing an NVIDIA CRD prunes: 0 is not 'nothing'."""
    cluster = build.cluster(status=DPUClusterStatus(phase=Phase.READY))
    said = Outcome(lifecycle=Lifecycle(Phase.READY, nodes_count=0))
    after = draft.with_outcome(cluster, said, now=build.NOW)
    patch = draft.status_patch(cluster, after)
    assert patch is not None
    assert {"nodesCount"} == draft.pruned_fields(patch, reply=cluster)


def test_an_unknown_phase_reads_as_pending() -> None:
    """A phase of a newer DPF must not make the object unreadable."""
    wire = b'{"phase":"Deleting","conditions":[]}'
    assert Phase.PENDING is msgspec.json.decode(wire, type=DPUClusterStatus).phase
