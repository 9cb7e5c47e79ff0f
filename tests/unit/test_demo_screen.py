from __future__ import annotations

import base64
import datetime as dt
import io
import json
from typing import Any

import pytest
import yaml

from dpucluster.api import timestamps
from dpucluster.api.dpucluster import DPUCluster, DPUClusterSpec, DPUClusterStatus, Phase
from dpucluster.api.meta import Condition, ObjectMeta
from dpucluster.cli import demo_manifests, demo_view, screen

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
CREATED = timestamps.to_rfc3339(NOW - dt.timedelta(seconds=7))
KUBECONFIG = yaml.safe_dump(
    {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"client-key-data": "a2V5"}}],
    }
)


def condition(type_: str, reason: str = "", message: str = "", generation: int = 1) -> Condition:
    """True without a reason, else False for that reason."""
    return Condition(
        type=type_,
        status="False" if reason else "True",
        reason=reason or "Fine",
        message=message,
        last_transition_time=CREATED,
        observed_generation=generation,
    )


def cluster(*conditions: Condition, phase: Phase = Phase.READY, **metadata: Any) -> DPUCluster:
    return DPUCluster(
        metadata=ObjectMeta(
            **{
                "name": "dpu-cluster-1",
                "namespace": "dpf-operator-system",
                "generation": 1,
                "creation_timestamp": CREATED,
                **metadata,
            }
        ),
        spec=DPUClusterSpec(type="static", max_nodes=10, version="v1.30.2"),
        status=DPUClusterStatus(phase=phase, conditions=conditions),
    )


def view(*conditions: Condition, **changes: Any) -> demo_view.View:
    return demo_view.of(cluster(*conditions, **changes))


READY = (condition("Created"), condition("Ready"))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (-3, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (660, "11m"),
        (3 * 3600, "3h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, expected: str) -> None:
    """Seconds, minutes, hours, days; a clock that differs gives no negative age."""
    since = timestamps.to_rfc3339(NOW - dt.timedelta(seconds=seconds))
    assert expected == demo_view.age(since, NOW)


def test_an_age_without_a_time_is_unknown() -> None:
    """An object that has no time yet is shown all the same."""
    assert "<unknown>" == demo_view.age("", NOW)


def test_the_row_has_the_columns_of_the_crd() -> None:
    """One cell for each printer column."""
    row = demo_view.row(view(*READY), NOW)
    expected = ("dpu-cluster-1", "True", "Ready", "static", "10", "v1.30.2", "7s")
    assert expected == row
    assert len(demo_view.COLUMNS) == len(row)


def test_a_new_cluster_is_told_with_headings_and_conditions() -> None:
    """The first lines are the table's; each condition follows with reason and age."""
    assert [
        "NAME           READY  PHASE     TYPE    MAXNODES  VERSION  AGE",
        "dpu-cluster-1  True   Ready     static  10        v1.30.2  7s",
        "  Created            True     Fine                      7s",
        "  Ready              True     Fine                      7s",
    ] == demo_view.changes(None, view(*READY), NOW)


def test_nothing_is_told_twice() -> None:
    """A write that no reader can notice, and the passing of time, are no changes."""
    later = NOW + dt.timedelta(seconds=90)
    again = view(*READY, resource_version="2")
    assert [] == demo_view.changes(view(*READY), again, later)


def test_only_what_changed_is_told() -> None:
    """A condition that turns False takes its own line, its message, and the row's."""
    broken = condition("Ready", "Unreachable", "nobody there")
    lines = demo_view.changes(view(*READY), view(READY[0], broken, phase=Phase.NOT_READY), NOW)
    assert [
        "dpu-cluster-1  False  NotReady  static  10        v1.30.2  7s",
        "  Ready              False    Unreachable               7s",
        "    nobody there",
    ] == lines


def test_a_message_is_not_repeated_by_the_condition_that_quotes_it() -> None:
    """Ready=False/WaitingForControlPlane quotes its cause, which is told once."""
    cause = condition("Created", "SecretNotFound", "create it")
    effect = condition("Ready", "WaitingForControlPlane", "Created is False: create it")
    shown = view(effect, cause)
    assert [cause] == list(demo_view.problems(shown))
    assert 1 == sum("create it" in line for line in demo_view.changes(None, shown, NOW))


def test_ready_comes_after_its_causes() -> None:
    """The order on the screen is cause and effect, whatever the object's is."""
    assert ["Created", "Ready"] == [c.type for c in view(*reversed(READY)).conditions]


def test_deletion_and_its_end_are_told() -> None:
    """Deletion is a change of its own, and so is that the object is not there any more."""
    deleting = view(*READY, deletion_timestamp=CREATED)
    assert ["  deletion was asked for"] == demo_view.changes(view(*READY), deleting, NOW)
    assert ["dpu-cluster-1 is gone"] == demo_view.changes(deleting, None, NOW)
    assert [] == demo_view.changes(None, None, NOW)


def test_a_condition_that_goes_is_told() -> None:
    """A condition that is taken away is a change."""
    assert ["  Ready is gone"] == [
        line
        for line in demo_view.changes(view(*READY), view(READY[0]), NOW)
        if not line.startswith("dpu-cluster-1")
    ]


def test_plain_lines_fit_80_columns() -> None:
    """However long a message is, it is wrapped, and nothing of it is lost."""
    message = " ".join(f"word-{i}" for i in range(100))
    lines = demo_view.changes(None, view(condition("Ready", "Unreachable", message)), NOW)
    assert all(len(line) <= 80 for line in lines)
    assert message in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (cluster(*READY), True),
        (cluster(READY[0]), False),
        (cluster(READY[0], condition("Ready", "Unreachable")), False),
        (cluster(*READY, generation=2), False),
        (cluster(*READY, deletion_timestamp=CREATED), False),
        (None, False),
    ],
    ids=["ready", "no verdict", "not ready", "of an older spec", "being deleted", "not there"],
)
def test_ready_is_read_not_assumed(seen: DPUCluster | None, expected: bool) -> None:
    """Only a True ``Ready`` for the spec as it stands counts."""
    assert expected == demo_view.is_ready(seen)


def test_a_failure_says_where_the_cluster_stands() -> None:
    """The message names phase, conditions, reasons and what to do."""
    text = demo_view.situation(
        cluster(condition("Created", "SecretNotFound", "create it"), phase=Phase.CREATING)
    )
    assert "its phase is Creating; Created is False (SecretNotFound): create it" == text
    assert "there is no such DPUCluster" == demo_view.situation(None)
    assert "no controller has set a condition" in demo_view.situation(cluster())


def test_the_plain_screen_has_no_control_characters() -> None:
    """What a pipe gets is text, 80 columns wide but for commands."""
    stream = io.StringIO()
    with screen.for_stream(stream) as shown:
        shown.step("A sentence that is so long that it has to be wrapped, which it is, twice. " * 2)
        shown.command("kubectl get dpuclusters")
        shown.note("note")
        shown.waiting("something")
        shown.show(cluster(*READY))
        shown.result("done")
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert "==> A sentence" == lines[0][:14]
    assert ["    $ kubectl get dpuclusters", "    note"] == lines[2:4]
    assert "--> done" == lines[-1]


def test_changes_come_after_what_the_command_said() -> None:
    """A change that is seen before kubectl came back is told after it, and none is lost."""
    stream = io.StringIO()
    with screen.for_stream(stream) as shown:
        shown.command("kubectl apply")
        with shown.held():
            shown.show(cluster(READY[0]))
            shown.show(cluster(*READY))
            shown.note("created")
        shown.show(None)
    lines = [line.split()[:2] for line in stream.getvalue().splitlines()]
    assert [
        ["$", "kubectl"],
        ["created"],
        ["NAME", "READY"],
        ["dpu-cluster-1", "Ready"],
        ["Created", "True"],
        ["dpu-cluster-1", "True"],
        ["Ready", "True"],
        ["dpu-cluster-1", "is"],
    ] == lines


def test_the_manifests_name_what_the_demo_watches() -> None:
    """The names in the code are those of the guide's manifests."""
    named = yaml.safe_load(demo_manifests.guide(demo_manifests.CLUSTER))
    secret = yaml.safe_load(demo_manifests.secret(KUBECONFIG))
    namespace, name = demo_manifests.DPUCLUSTER
    assert (namespace, name) == (named["metadata"]["namespace"], named["metadata"]["name"])
    assert demo_manifests.SECRET_NAME == named["spec"]["kubeconfig"] == secret["metadata"]["name"]
    assert KUBECONFIG == base64.b64decode(secret["data"]["admin.conf"]).decode()


def test_the_secret_is_broken_in_the_ways_that_are_told() -> None:
    """One form lacks the key, the other has a program where credentials were."""
    manifest = demo_manifests.secret(KUBECONFIG)
    assert ["config"] == list(yaml.safe_load(demo_manifests.without_key(manifest))["data"])
    (user,) = yaml.safe_load(demo_manifests.with_program(KUBECONFIG))["users"]
    assert ["exec"] == list(user["user"])


def test_only_whole_probes_of_the_controllers_with_the_certificate_count() -> None:
    """Other requests, other clients, other certificates and half a line do not."""

    def line(uri: str = "/readyz", agent: str = "dpucluster/1 (linux)", who: str = "X=1") -> str:
        return json.dumps({"requestURI": uri, "userAgent": agent, "user": who}) + "\n"

    log = [line(), line(uri="/version"), line(agent="kubectl"), line(who="X=2"), line()[:-5]]
    assert 1 == demo_manifests.times_probed(log, "X=1")
