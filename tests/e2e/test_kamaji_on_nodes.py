"""A Kamaji DPUCluster from its creation to its end, on nodes that run containers.

The tests are steps of one story, in the order in which they stand here.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.outage import Probe
from tests.e2e.rack import OLDER_VERSION
from tests.e2e.user import User, seconds_since, wait
from tests.support import cluster
from tests.support.watchlog import WatchLog

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NAME = "dpu-cluster-1"
VERSION = "v1.30.2"
"""The guide's; the cluster begins with an older one, and is upgraded to it."""
VIP = 1
KEEPALIVED = "app.kubernetes.io/name=keepalived"
LABEL_CLUSTER = "dpu.nvidia.com/cluster"
TENANT = f"kamaji.clastix.io/name={NAME}"

POD_DELETED = 1.5
"""Seconds without an answer through the virtual IP that the deletion of its keepalived may cost."""
LINK_CUT = 5.0
CHECKED = 10.0
"""The same for the end of an API server: keepalived looks every two seconds, twice, three tries
each."""
LOSS = 2
"""Questions in a row without an answer; a single one is a busy machine's."""
SETTLED = 12.0
"""Seconds in which a second loss would show: two checks, and the end of a dead node's endpoints."""


@pytest.fixture(scope="module")
def history(user: User) -> Iterator[WatchLog]:
    """Every version of every DPUCluster of this module."""
    with WatchLog(user.rack.plane.kubeconfig, "dpuclusters", cluster.NAMESPACE) as log:
        yield log


@pytest.fixture(scope="module")
def created(user: User, history: WatchLog) -> str:
    """The guide's cluster, Ready; its name."""
    begin = time.monotonic()
    user.api.create("dpuclusters", user.guide(NAME, VIP, version=OLDER_VERSION))
    cluster.wait_ready(user.api, NAME, timeout=150)
    user.report("Ready", seconds_since(begin))
    del history
    return NAME


def statuses(found: dict[str, Any] | None) -> dict[str, str]:
    """Status by condition."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    return {c["type"]: c["status"] for c in conditions}


def false_alarms(history: WatchLog, since: float) -> list[str]:
    """Versions of the cluster in which ``Ready`` was not True, and why."""
    seen = [cluster.condition(s.object, "Ready") for s in history.select(NAME, since=since)]
    return [c.get("message", "no condition") for c in seen if c.get("status") != "True"]


def test_guide_manifest_becomes_ready(user: User, created: str) -> None:
    """The guide's manifest comes to phase Ready, all conditions True, the virtual IP on a node."""
    found = user.api.get("dpuclusters", created, cluster.NAMESPACE)
    expected = {"Created": "True", "KeepalivedReady": "True", "Ready": "True"}
    assert ("Ready", expected) == (cluster.phase(found), statuses(found))
    assert user.holder(user.rack.plane.vip(VIP))


def test_nothing_failed_on_the_way(user: User, created: str) -> None:
    """From nothing to Ready, our controllers log no error."""
    assert created
    user.report("writes until Ready", user.writes())
    assert [] == [line for line in user.log.read_text().splitlines() if " ERROR " in line]


def test_kubectl_works_through_the_virtual_ip(user: User, created: str) -> None:
    """With the Secret's admin.conf as it is, kubectl makes a namespace in the tenant."""
    kubeconfig = user.tenant_kubeconfig(created)
    assert user.rack.plane.vip(VIP) in kubeconfig.read_text()
    said = user.kubectl("create", "namespace", "made-by-e2e", kubeconfig=kubeconfig)
    assert "namespace/made-by-e2e created" == said.strip()


def test_keepalived_runs_its_check(user: User, created: str) -> None:
    """Keepalived complains about nothing: a check that cannot be run counts as a good one."""
    assert created
    said = "\n".join(user.keepalived_logs(NAME))
    assert [] == [line for line in said.splitlines() if "Couldn't" in line or "nsafe" in line]


def test_deleted_pod_moves_the_virtual_ip(user: User, created: str, history: WatchLog) -> None:
    """When keepalived's pod on the holder is deleted, clients miss the API for 1.5 s at most."""
    holder = user.settled_holder(user.rack.plane.vip(VIP))
    since = time.monotonic()
    with user.probe(created) as probe:
        user.delete_pod(KEEPALIVED, holder)
        time.sleep(SETTLED)
    user.report(f"keepalived pod on {holder} deleted", probe.outages)
    assert_outage(probe, POD_DELETED)
    assert [] == false_alarms(history, since)


def test_rotation_costs_no_false_alarm(user: User, created: str, history: WatchLog) -> None:
    """Kamaji makes a kubeconfig anew, in place: the cluster stays Ready.

    Kamaji 1.0.0 knows no annotation to ask for it; it makes what is missing.
    """
    before, since = user.secret(created), time.monotonic()
    key = "super-admin.conf"  # which our lifecycle uses
    name = cluster.secret_name(created)
    user.api.patch("secrets", name, cluster.NAMESPACE, {"data": {key: None}})
    after = wait(
        lambda: user.secret(created),
        lambda s: s["data"].get(key) not in {None, before["data"][key]},
        60.0,
        f"another {key}",
    )
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert_usable(user, created)
    assert [] == false_alarms(history, since)


def test_deleted_secret_costs_no_false_alarm(user: User, created: str, history: WatchLog) -> None:
    """Kamaji makes a deleted Secret again within a second: the cluster stays Ready."""
    before, since = user.secret(created), time.monotonic()
    assert user.api.delete("secrets", cluster.secret_name(created), cluster.NAMESPACE)
    wait(
        lambda: user.api.get("secrets", cluster.secret_name(created), cluster.NAMESPACE) or {},
        lambda s: is_another(s, before) and "super-admin.conf" in s.get("data", {}),
        60.0,
        "another Secret",
    )
    assert_usable(user, created)
    assert [] == false_alarms(history, since)


def test_second_cluster_with_the_same_address_is_told(user: User, created: str) -> None:
    """Of two clusters that want one virtual IP the younger gets none, and is told who has it."""
    name = "dpu-cluster-2"
    manifest = user.guide(name, VIP)
    manifest["spec"]["clusterEndpoint"]["keepalived"]["virtualRouterID"] = 7
    user.api.create("dpuclusters", manifest)
    told = cluster.is_condition("KeepalivedReady", "False", "EndpointConflict")
    found = cluster.wait_for(user.api, name, told)
    message = cluster.condition(found, "KeepalivedReady")["message"]
    assert f"{cluster.NAMESPACE}/{created}" in message
    assert [] == user.select("daemonsets,services,tenantcontrolplanes", f"{LABEL_CLUSTER}={name}")
    user.api.delete("dpuclusters", name, cluster.NAMESPACE)
    cluster.wait_gone(user.api, name)


def test_cut_link_moves_the_virtual_ip(user: User, created: str, history: WatchLog) -> None:
    """When the holder's cable is pulled, the API is back within 5 s, and is not lost again."""
    holder = user.settled_holder(user.rack.plane.vip(VIP))
    since = time.monotonic()
    with user.probe(created) as probe:
        user.rack.node(holder).cut_link()
        time.sleep(LINK_CUT + SETTLED)
    user.report(f"link of {holder} cut", probe.outages)
    with user.probe(created) as back:
        user.rack.node(holder).restore_link()
        time.sleep(SETTLED)
    user.report(f"link of {holder} restored", back.outages)
    assert_outage(probe, LINK_CUT)
    assert_outage(back, POD_DELETED)
    assert [] == false_alarms(history, since)


def test_upgrade_goes_through(user: User, created: str, history: WatchLog) -> None:
    """A newer version is rolled out while the API answers, and the cluster stays Ready."""
    since = time.monotonic()
    with user.probe(created) as probe:
        user.api.patch("dpuclusters", created, cluster.NAMESPACE, {"spec": {"version": VERSION}})
        wait(lambda: user.running_version(created), lambda v: v == VERSION, 120.0, VERSION)
        user.wait_for_pods(TENANT, len(user.rack.nodes))
        user.report("upgraded", seconds_since(since))
        time.sleep(SETTLED)
    user.report("upgrade", probe.outages)
    assert history.first(created, cluster.is_condition("Created", "True", "Upgrading"), since=since)
    assert [] == false_alarms(history, since)
    assert_short(probe, CHECKED)


def test_deleted_api_server_moves_the_virtual_ip(user: User, created: str) -> None:
    """When the API server on the holder ends, the other one takes over with the virtual IP."""
    holder = user.settled_holder(user.rack.plane.vip(VIP))
    with user.probe(created) as probe:
        user.delete_pod(TENANT, holder)
        time.sleep(CHECKED + SETTLED)
    user.report(f"API server on {holder} deleted", probe.outages)
    assert_short(probe, CHECKED)


def test_deletion_leaves_nothing(user: User, created: str) -> None:
    """A deleted cluster is gone with everything that was made for it, on nodes too."""
    begin = time.monotonic()
    user.api.delete("dpuclusters", created, cluster.NAMESPACE)
    cluster.wait_gone(user.api, created, timeout=60)
    user.report("deleted", seconds_since(begin))
    kinds = "services,configmaps,secrets,daemonsets,deployments,pods,tenantcontrolplanes"
    for selector in (f"{LABEL_CLUSTER}={created}", f"kamaji.clastix.io/name={created}"):
        cluster.wait_until(
            functools.partial(user.select, kinds, selector), operator.not_, timeout=60
        )
    assert [] == user.rack.holders(user.rack.plane.vip(VIP))


def assert_outage(probe: Probe, limit: float) -> None:
    """At most one loss, and not longer than ``limit``."""
    losses = [outage for outage in probe.outages if len(outage.problems) >= LOSS]
    assert len(losses) <= 1, losses
    assert all(outage.seconds <= limit for outage in losses), losses


def assert_short(probe: Probe, limit: float) -> None:
    """No loss longer than ``limit``; API servers that start beside it may cost some moments."""
    assert [] == [outage for outage in probe.outages if outage.seconds > limit]


def assert_usable(user: User, name: str) -> None:
    """The Secret's admin.conf opens the tenant, through the virtual IP."""
    kubeconfig = user.tenant_kubeconfig(name)
    assert "made-by-e2e" in user.kubectl("get", "namespaces", kubeconfig=kubeconfig)


def is_another(found: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether an object is there, and is not the same."""
    return bool(found) and found["metadata"]["uid"] != before["metadata"]["uid"]
