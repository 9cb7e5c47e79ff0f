"""A hundred bad Secrets at once, end to end: everybody is told, nothing leaks, nobody else suffers.

Everything happens once, in a fixture; the tests look at what came out of it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import datetime as dt
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from dpucluster.localplane.plane import ControlPlane
from tests.support import audit, cluster, corpus
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.planes import new_namespace
from tests.support.zoo import Zoo

HEALTHY = "healthy"
WITHIN = 10.0
"""Seconds from a DPUCluster's creation to its reason, as promised; twice that is a failure, unless
the machine is so busy that a verdict without any server takes half of it."""
WRITES = 4
"""Finalizers, phase Creating, verdict; and a second verdict where a first look came too early."""

INTERNALS = re.compile(r"0x[0-9a-f]{6,}|Traceback|_ssl\.c|\[Errno|<class|object at|\bNoneType\b")
ACTION = re.compile(
    r"\b(put|create|correct|give|name|make|keep|remove|use|store|encode|write|set|check|compare"
    r"|shorten|start|wait|export|take|bind|renew|see|must|need)\b"
)


@dataclass(frozen=True)
class Outcome:
    """What was found when everybody had been given a verdict, and a while later."""

    cases: list[corpus.Case]
    clusters: dict[str, dict[str, Any]]
    healthy_since: str
    events: list[dict[str, Any]]
    log: str
    writes: dict[str, int]


@pytest.fixture(scope="module")
def cases(shared_tenant: ControlPlane, zoo: Zoo) -> list[corpus.Case]:
    good = yaml.safe_load(shared_tenant.client_kubeconfig())
    powerless = yaml.safe_load(shared_tenant.client_kubeconfig(user="nobody", groups=()))
    ground = corpus.Ground(good, zoo.url, zoo.ca_pem, powerless)
    return corpus.cases(ground)


@pytest.fixture(scope="module")
def outcome(
    management: ControlPlane,
    shared_tenant: ControlPlane,
    cases: list[corpus.Case],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcome]:
    namespace = new_namespace(management)
    log = tmp_path_factory.mktemp("corpus") / "run.log"
    flags = [f"--namespace={namespace}", f"--leader-elect-namespace={namespace}", "-vv"]
    running = Controllers(management.kubeconfig, log, "static", "lifecycle", *flags)
    with contextlib.closing(KubeApi(management.kubeconfig)) as api, running:
        running.wait_log("became leader", times=2)
        good = shared_tenant.client_kubeconfig(cluster=HEALTHY)
        create(api, namespace, HEALTHY, {"admin.conf": good.encode()})
        since = cluster.condition(cluster.wait_ready(api, HEALTHY, namespace=namespace), "Ready")[
            "lastTransitionTime"
        ]
        assert management.audit_log is not None
        log_of_writes = audit.AuditLog(management.audit_log)
        log_of_writes.mark()
        create_all(api, namespace, cases)
        clusters = wait_for_verdicts(api, namespace, cases)
        time.sleep(5)  # time for anything that should not come
        writes = log_of_writes.writes(resource="dpuclusters", namespace=namespace, user_agent="dpu")
        yield Outcome(
            cases=cases,
            clusters={**clusters, **everything(api, namespace)},
            healthy_since=since,
            events=api.list("events", namespace),
            log=running.text,
            writes={name: sum(1 for w in writes if w.name == name) for name in clusters},
        )
        delete_all(api, namespace)
        assert 0 == running.stop()


def create(
    api: KubeApi, namespace: str, name: str, data: dict[str, bytes] | None, *, named: bool = True
) -> None:
    if data is not None:
        api.create("secrets", cluster.raw_secret(cluster.secret_name(name), namespace, data))
    secret = cluster.secret_name(name) if named else ""
    api.create("dpuclusters", cluster.dpucluster(name, namespace, kubeconfig=secret))


def create_all(api: KubeApi, namespace: str, cases: list[corpus.Case]) -> None:
    """Side by side, or the first would long be done when the last begins."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for case in cases:
            data = None if case.data is None else dict(case.data)
            pool.submit(create, api, namespace, case.name, data, named=case.named)


def everything(api: KubeApi, namespace: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in api.list("dpuclusters", namespace)}


def wait_for_verdicts(
    api: KubeApi, namespace: str, cases: list[corpus.Case]
) -> dict[str, dict[str, Any]]:
    """All DPUClusters, when each has its verdict or the time is up (the tests say which one)."""
    end = time.monotonic() + PATIENCE
    while True:
        found = everything(api, namespace)
        missing = [c for c in cases if verdict(found[c.name], c.condition)[1] != c.reason]
        if not missing or time.monotonic() > end:
            return found
        time.sleep(0.5)


def verdict(obj: dict[str, Any], type_: str) -> tuple[str, str, str]:
    found = cluster.condition(obj, type_)
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def delete_all(api: KubeApi, namespace: str) -> None:
    """A cluster that never worked can be deleted all the same."""
    for name in everything(api, namespace):
        api.delete("dpuclusters", name, namespace)
    cluster.wait_until(lambda: sorted(everything(api, namespace)), lambda left: not left)


def age(obj: dict[str, Any], type_: str) -> float:
    """Seconds (whole ones, the API has no others) from creation to the condition."""
    at = dt.datetime.fromisoformat(cluster.condition(obj, type_)["lastTransitionTime"])
    return (at - dt.datetime.fromisoformat(obj["metadata"]["creationTimestamp"])).total_seconds()


def test_each_gets_its_reason(outcome: Outcome) -> None:
    """Each bad Secret gives the reason that the table of the architecture has for it."""
    wrong = {}
    for case in outcome.cases:
        status, reason, message = verdict(outcome.clusters[case.name], case.condition)
        if (status, reason) != ("False", case.reason):
            wrong[case.name] = (case.condition, case.reason, status, reason, message)
        if case.condition == "Ready":  # the Secret itself is good
            assert "True" == verdict(outcome.clusters[case.name], "Created")[0], case.name
    assert {} == wrong


def test_in_time(outcome: Outcome) -> None:
    """Nobody waits long for a verdict, although a dozen servers never answer."""
    ages = {c.name: age(outcome.clusters[c.name], c.condition) for c in outcome.cases}
    alone = max(ages[c.name] for c in outcome.cases if c.condition == "Created")
    bound = max(2 * WITHIN, 3 * alone + WITHIN / 2)
    assert {} == {name: seconds for name, seconds in ages.items() if seconds > bound}


def test_messages_help(outcome: Outcome) -> None:
    """Each message names the Secret or the server and says what to do, in plain words."""
    poor = {}
    for case in outcome.cases:
        _, _, message = verdict(outcome.clusters[case.name], case.condition)
        hints = [hint for hint in case.hints if hint not in message]
        if hints or INTERNALS.search(message) or not ACTION.search(message):
            poor[case.name] = (hints, message)
    assert {} == poor


def test_no_secret_leaks(outcome: Outcome) -> None:
    """No secret text stands in a DPUCluster, in an Event or in the log."""
    places = {
        "status": json.dumps(outcome.clusters),
        "events": json.dumps(outcome.events),
        "log": outcome.log,
    }
    canaries = {canary for case in outcome.cases for canary in case.canaries}
    leaks = [(place, c) for place, text in places.items() for c in canaries if c in text]
    assert [] == leaks


def test_nothing_crashes(outcome: Outcome) -> None:
    """No Secret is a surprise to the program."""
    assert "Traceback" not in outcome.log
    assert [] == [line for line in outcome.log.splitlines() if " ERROR " in line]


def test_the_healthy_one_is_not_disturbed(outcome: Outcome) -> None:
    """It stays Ready all the time, beside a hundred that are not."""
    healthy = outcome.clusters[HEALTHY]
    assert ("True", "Ready") == (verdict(healthy, "Ready")[0], cluster.phase(healthy))
    assert outcome.healthy_since == cluster.condition(healthy, "Ready")["lastTransitionTime"]
    about = [e for e in outcome.events if e["regarding"]["name"] == HEALTHY]
    assert [] == [e for e in about if e["type"] == "Warning"]


def test_nobody_is_ready_who_is_not(outcome: Outcome) -> None:
    """A bad Secret never passes for a good one."""
    ready = [name for name, obj in outcome.clusters.items() if verdict(obj, "Ready")[0] == "True"]
    assert [HEALTHY] == ready


def test_each_is_told_once(outcome: Outcome) -> None:
    """A transition is one Event, however often the failure repeats."""
    told = collections.Counter((e["regarding"]["name"], e["reason"]) for e in outcome.events)
    assert {} == {what: times for what, times in told.items() if times > 1}
    silent = {c.name for c in outcome.cases} - {name for name, _ in told}
    assert set() == silent


def test_few_writes(outcome: Outcome) -> None:
    """A verdict costs a handful of writes, and repeated failures cost none."""
    assert {} == {name: count for name, count in outcome.writes.items() if count > WRITES}
