"""The tenant pool on real control planes: Secrets, rotation, outages, neighbours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest

from dpucluster.api.dpucluster import DPUCluster, DPUClusterSpec
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.localplane import plane
from dpucluster.runtime import informer
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant import health as tenant_health
from dpucluster.tenant import pool as tenant_pool
from dpucluster.tenant.state import TenantState
from tests.support import clients, kubeapi, planes
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy
from tests.support.tcp_proxy import TcpProxy
from tests.support.zoo import Zoo

UIDS = itertools.count(1)


class Bench:
    """A pool on a management plane, and DPUClusters that exist only here."""

    def __init__(self, client: kube_client.Client, namespace: str, **options: Any) -> None:
        self.client = client
        self.namespace = namespace
        self.metrics = runtime_metrics.Metrics()
        self.secrets = informer.Informer(
            client, kinds.SECRETS_METADATA, namespaces=[namespace], metrics=self.metrics
        )
        self.history: dict[str, list[TenantState]] = {}
        self.pool = tenant_pool.TenantPool(
            client,
            self.secrets,
            options=tenant_pool.ProbeOptions(**{"interval": 0.5, "timeout": 60.0, **options}),
            notify=self._notified,
            metrics=self.metrics,
        )
        self._clusters: dict[str, DPUCluster] = {}

    def _notified(self, key: Key) -> None:
        self.history[key.name].append(self.state(key.name))

    def follow(self, name: str, *, secret: str | None = None) -> TenantState:
        """Want a static DPUCluster; its Secret has its name unless told otherwise."""
        metadata = ObjectMeta(name, self.namespace, uid=f"uid-{next(UIDS)}", generation=1)
        spec = DPUClusterSpec(type="static", kubeconfig=name if secret is None else secret)
        self._clusters[name] = DPUCluster(metadata, spec)
        self.history[name] = []
        return self.state(name)

    def forget(self, name: str) -> None:
        """The DPUCluster is gone."""
        self.pool.forget(self._clusters.pop(name).key)

    def state(self, name: str) -> TenantState:
        """What is known now."""
        return self.pool.want(self._clusters[name])

    async def write(self, name: str, text: str | bytes, key: str = "admin.conf") -> None:
        """Create or replace a Secret."""
        content = text if isinstance(text, bytes) else text.encode()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace},
            "data": {key: base64.b64encode(content).decode()},
        }
        await self.client.apply(kinds.SECRETS, name, secret, self.namespace, field_manager="test")

    async def until(self, name: str, holds: Callable[[TenantState], Any]) -> None:
        """Wait for a state."""
        try:
            await clients.eventually(lambda: bool(holds(self.state(name))), PATIENCE)
        except AssertionError:
            pytest.fail(f"the state stayed {self.state(name)}")

    def was_down(self, name: str) -> bool:
        """Whether a Ready cluster would have been turned over by anything that was told."""
        return any(tenant_health.is_down(s.health, was_ready=True) for s in self.history[name])


@contextlib.asynccontextmanager
async def watching(
    client: kube_client.Client, namespace: str, **options: Any
) -> AsyncIterator[Bench]:
    """A bench whose pool runs on ``client``."""
    async with client:
        made = Bench(client, namespace, **options)
        tasks = [asyncio.create_task(made.secrets.run()), asyncio.create_task(made.pool.run())]
        try:
            await asyncio.wait_for(made.secrets.synced.wait(), PATIENCE)
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.fixture
async def bench(management: plane.ControlPlane, namespace: str) -> AsyncIterator[Bench]:
    async with watching(kube_client.Client(management.connection), namespace) as made:
        yield made


def is_healthy(state: TenantState) -> bool:
    return state.health.ok is True


def is_surveyed(state: TenantState) -> bool:
    return bool(state.health.ok and state.version)


def ready_reason(state: TenantState) -> str:
    return state.health.problem.reason if state.health.problem else ""


def diagnosed(state: TenantState) -> str:
    problem = state.diagnosis.problem if state.diagnosis else None
    return problem.reason if problem else ""


def warned(state: TenantState) -> list[str]:
    return [warning.reason for warning in state.warnings]


async def test_good_tenant(bench: Bench, shared_tenant: plane.ControlPlane) -> None:
    """Health, identity, version and node count of a real cluster, and nothing to warn of."""
    await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
    assert TenantState() == bench.follow("a")
    await bench.until("a", is_surveyed)
    state = bench.state("a")
    assert state.version.startswith("v1.")
    assert 0 == state.nodes_count
    assert () == state.warnings
    async with kube_client.Client(shared_tenant.connection) as tenant:
        namespace = await tenant.get(kinds.NAMESPACES, "kube-system")
    assert namespace.metadata.uid == state.identity
    assert 1 == bench.metrics.sample("dpucluster_tenants", health="healthy")
    assert bench.metrics.sample("dpucluster_tenant_probes_total", result="ok") >= 1


async def test_nodes_are_counted(bench: Bench, tenants: planes.Tenants) -> None:
    """The count comes from one Node and what the server says remains."""
    (tenant,) = tenants(1)
    api = kubeapi.KubeApi(tenant.kubeconfig)
    for n in range(3):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{n}"}}
        api.create("nodes", node)
    api.close()
    await bench.write("a", tenant.client_kubeconfig(cluster="a"))
    bench.follow("a")
    await bench.until("a", is_surveyed)
    assert 3 == bench.state("a").nodes_count


async def test_secret_comes_changes_goes(bench: Bench, shared_tenant: plane.ControlPlane) -> None:
    """Every step is noticed by watching: missing, there, broken, right again, deleted."""
    good = shared_tenant.client_kubeconfig(cluster="a")
    assert bench.follow("a").diagnosis is None
    await bench.until("a", lambda s: diagnosed(s) == "SecretNotFound")
    await bench.write("a", good)
    await bench.until("a", is_healthy)
    await bench.write("a", "[")
    await bench.until("a", lambda s: diagnosed(s) == "KubeconfigInvalid")
    assert bench.state("a").health.ok is None
    await bench.write("a", good)
    await bench.until("a", lambda s: diagnosed(s) == "" and s.health.ok)
    await bench.client.delete(kinds.SECRETS, "a", bench.namespace)
    await bench.until("a", lambda s: diagnosed(s) == "SecretNotFound" and s.health.ok is None)
    await bench.write("a", good)
    await bench.until("a", is_healthy)
    assert not bench.was_down("a")


async def test_secret_younger_than_the_cache_is_not_missing(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """A Secret that the watch has not told of yet is asked for; and its end is noticed after."""
    with ApiProxy(management.kubeconfig) as proxy:
        async with watching(clients.through(proxy), namespace) as bench:
            proxy.hang(watch=True, times=99)
            proxy.cut_watches()
            await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
            bench.follow("a")
            await bench.until("a", is_healthy)
            assert "SecretNotFound" not in map(diagnosed, bench.history["a"])
            proxy.clear()
            proxy.cut_all()
            await bench.client.delete(kinds.SECRETS, "a", bench.namespace)
            await bench.until("a", lambda s: diagnosed(s) == "SecretNotFound")


async def test_secret_that_may_not_be_read(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """That the controller lacks a right is told; what works goes on; granting it is noticed."""
    good = [shared_tenant.client_kubeconfig(cluster="a", user=user) for user in ("one", "two")]
    with ApiProxy(management.kubeconfig) as proxy:
        async with watching(clients.through(proxy), namespace) as bench:
            await bench.write("a", good[0])
            bench.follow("a")
            await bench.until("a", is_surveyed)
            proxy.answer(403, times=99, method="GET", path="/secrets/a")
            await bench.write("a", good[1])
            await bench.until("a", lambda s: diagnosed(s) == "SecretNotFound")
            assert len(proxy.requests(method="GET", path="/secrets/a")) >= 4
            state = bench.state("a")
            assert state.health.ok
            assert state.diagnosis is not None
            assert state.diagnosis.problem is not None
            assert f"get secrets in namespace {namespace}" in state.diagnosis.problem.message
            proxy.clear()
            await bench.until("a", lambda s: diagnosed(s) == "" and user_of(s) == "two")
            assert not bench.was_down("a")


async def test_refusal_that_passes_is_not_told(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """An API server that has just started refuses for a moment: no reason to tell the user."""
    with ApiProxy(management.kubeconfig) as proxy:
        async with watching(clients.through(proxy), namespace) as bench:
            proxy.answer(403, times=2, method="GET", path="/secrets/a")
            await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
            bench.follow("a")
            await bench.until("a", is_healthy)
            assert {""} == set(map(diagnosed, bench.history["a"]))


async def test_secret_that_breaks_the_diagnosis(
    bench: Bench,
    shared_tenant: plane.ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unforeseen error is that Secret's problem, told without quoting it, until it changes."""

    def break_down(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("canary-5a1f")

    good = shared_tenant.client_kubeconfig(cluster="a")
    with monkeypatch.context() as patched:
        patched.setattr(tenant_diagnosis, "diagnose", break_down)
        await bench.write("a", good)
        bench.follow("a")
        await bench.until("a", lambda s: diagnosed(s) == "KubeconfigInvalid")
    assert "canary" not in repr(bench.state("a"))
    assert "canary" not in caplog.text
    assert ["RuntimeError"] == [vars(r)["error"] for r in caplog.records if r.levelname == "ERROR"]
    await bench.write("a", good + "\n")
    await bench.until("a", is_healthy)


async def test_new_tenant_is_looked_at_in_one_connection(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """Probe and survey share one TLS handshake, and leave nothing open."""
    client = kube_client.Client(management.connection)
    with TcpProxy("127.0.0.1", shared_tenant.port) as proxy:
        async with watching(client, namespace, interval=300.0) as bench:
            text = shared_tenant.client_kubeconfig(cluster="a")
            await bench.write("a", text.replace(shared_tenant.server, proxy.url))
            bench.follow("a")
            await bench.until("a", is_surveyed)
            await clients.eventually(lambda: proxy.connections == 0, PATIENCE)
            assert 1 == len(proxy.accepted)


async def test_no_secret_is_named(bench: Bench) -> None:
    """The answer needs no task and no request."""
    assert "EmptyKubeconfig" == diagnosed(bench.follow("a", secret=""))


async def test_healthy_cluster_notifies_nobody(
    bench: Bench, shared_tenant: plane.ControlPlane
) -> None:
    """Probe after probe, nothing is told after the first verdict and the survey."""
    await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
    bench.follow("a")
    await bench.until("a", is_surveyed)
    told, probes = len(bench.history["a"]), probes_of(bench)
    await clients.eventually(lambda: probes_of(bench) >= probes + 5, PATIENCE)
    assert told == len(bench.history["a"])
    assert told <= 2


def probes_of(bench: Bench) -> float:
    return bench.metrics.sample("dpucluster_tenant_probes_total", result="ok")


async def test_only_named_secrets_are_read(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """Each version of a named Secret is fetched once, others never."""
    with ApiProxy(management.kubeconfig) as proxy:
        async with watching(clients.through(proxy), namespace) as bench:
            await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
            await bench.write("other", shared_tenant.client_kubeconfig())
            bench.follow("a")
            await bench.until("a", is_surveyed)
            probes = probes_of(bench)
            await clients.eventually(lambda: probes_of(bench) >= probes + 3, PATIENCE)
        asked = [request.path for request in proxy.requests(method="GET")]
        reads = [path for path in asked if path.endswith(("/secrets/a", "/secrets/other"))]
        assert [f"/api/v1/namespaces/{namespace}/secrets/a"] == reads


async def test_shared_tenant_warns_both(bench: Bench, shared_tenant: plane.ControlPlane) -> None:
    """Two DPUClusters with one tenant are told its UID, until one goes."""
    for name in ("a", "b"):
        await bench.write(name, shared_tenant.client_kubeconfig(cluster=name))
        bench.follow(name)
    for name in ("a", "b"):
        await bench.until(name, lambda s: warned(s) == ["SharedTenant"])
        assert bench.state(name).identity in bench.state(name).warnings[0].message
    bench.forget("b")
    await bench.until("a", lambda s: warned(s) == [])


async def test_management_cluster_is_recognised(
    bench: Bench, management: plane.ControlPlane
) -> None:
    """A Secret that leads to the management cluster itself is warned of."""
    await bench.write("a", management.client_kubeconfig(cluster="a"))
    bench.follow("a")
    await bench.until("a", lambda s: warned(s) == ["ManagementCluster"])


async def test_user_without_rights(bench: Bench, shared_tenant: plane.ControlPlane) -> None:
    """``/readyz`` answers everybody; only kube-system shows that a user may do nothing."""
    text = shared_tenant.client_kubeconfig(user="nobody", groups=(), cluster="a")
    await bench.write("a", text)
    bench.follow("a")
    await bench.until("a", lambda s: ready_reason(s) == "Forbidden")
    message = bench.state("a").health.problem
    assert message is not None
    assert "cluster-admin" in message.message
    assert '"nobody"' in message.message


async def test_user_who_may_look_only(bench: Bench, shared_tenant: plane.ControlPlane) -> None:
    """A cluster whose user may do little is healthy, with a warning."""
    user = f"viewer-of-{bench.namespace}"
    grant(shared_tenant, user, "system:controller:namespace-controller")
    await bench.write("a", shared_tenant.client_kubeconfig(user=user, groups=(), cluster="a"))
    bench.follow("a")
    await bench.until("a", lambda s: warned(s) == ["NotClusterAdmin"])
    assert bench.state("a").health.ok
    revoke(shared_tenant, user)


def grant(tenant: plane.ControlPlane, user: str, role: str) -> None:
    api = kubeapi.KubeApi(tenant.kubeconfig)
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    api.create("clusterrolebindings", binding)
    api.close()


def revoke(tenant: plane.ControlPlane, user: str) -> None:
    api = kubeapi.KubeApi(tenant.kubeconfig)
    api.delete("clusterrolebindings", user)
    api.close()


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["grant", "write", "revoke"])), ids="-".join
)
async def test_rotation_in_any_order(
    bench: Bench, shared_tenant: plane.ControlPlane, order: tuple[str, ...]
) -> None:
    """Old rights revoked, new ones granted, Secret rotated: no order makes the cluster NotReady."""
    tenant, old, new = shared_tenant, f"old-{bench.namespace}", f"new-{bench.namespace}"
    grant(tenant, old, "cluster-admin")
    await bench.write("a", tenant.client_kubeconfig(user=old, groups=(), cluster="a"))
    bench.follow("a")
    await bench.until("a", is_healthy)
    for step in order:
        if step == "write":
            await bench.write("a", tenant.client_kubeconfig(user=new, groups=(), cluster="a"))
        elif step == "grant":
            await asyncio.to_thread(grant, tenant, new, "cluster-admin")
        else:
            await asyncio.to_thread(revoke, tenant, old)
        await asyncio.sleep(0.7)  # longer than the interval: every order is probed in between
    await bench.until("a", lambda s: user_of(s) == new and s.health.ok)
    assert not bench.was_down("a")
    revoke(tenant, new)


def user_of(state: TenantState) -> str:
    facts = state.diagnosis.facts if state.diagnosis else None
    return facts.user_name if facts else ""


async def test_dead_tenant_and_back(bench: Bench, tenants: planes.Tenants) -> None:
    """Killed: down after three failures in a row, not before; started again: up."""
    (tenant,) = tenants(1)
    await bench.write("a", tenant.client_kubeconfig(cluster="a"))
    bench.follow("a")
    await bench.until("a", is_surveyed)
    await asyncio.to_thread(tenant.kill)
    await bench.until("a", lambda s: ready_reason(s) == "Unreachable")
    assert not bench.was_down("a")
    await clients.eventually(lambda: bench.was_down("a"), what="down")
    tenant.launch()
    await clients.eventually(lambda: is_healthy(bench.state("a")), what="back")


async def test_black_hole_and_blip(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """A frozen connection is a Timeout; a blip of some seconds is never told as an outage."""
    client = kube_client.Client(management.connection)
    with TcpProxy("127.0.0.1", shared_tenant.port) as proxy:
        async with watching(client, namespace, timeout=2.0) as bench:
            text = shared_tenant.client_kubeconfig(cluster="a")
            await bench.write("a", text.replace(shared_tenant.server, proxy.url))
            bench.follow("a")
            await bench.until("a", is_surveyed)
            proxy.freeze()
            await bench.until("a", lambda s: ready_reason(s) == "Timeout")
            proxy.cut()
            proxy.thaw()
            await bench.until("a", is_healthy)
            assert not bench.was_down("a")


async def test_black_holes_delay_nobody(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """A tenant that answers is healthy while twenty others are still being waited for."""
    text = shared_tenant.client_kubeconfig(cluster="good")
    holes = [f"hole-{n}" for n in range(20)]
    with Zoo() as zoo:
        client = kube_client.Client(management.connection)
        async with watching(client, namespace, timeout=3 * PATIENCE) as bench:
            for n, name in enumerate(holes):
                url = zoo.url("black-hole" if n % 2 else "full-backlog")
                await bench.write(name, text.replace(shared_tenant.server, url))
                bench.follow(name)
            await bench.write("good", text)
            bench.follow("good")
            await bench.until("good", is_healthy)
            assert [None] * 20 == [bench.state(name).health.ok for name in holes]


async def test_expiry_is_noticed_when_it_comes(
    management: plane.ControlPlane, namespace: str, shared_tenant: plane.ControlPlane
) -> None:
    """No probe has to be due: credentials that end, or begin, are looked at in that moment."""
    client = kube_client.Client(management.connection)
    async with watching(client, namespace, interval=300.0) as bench:
        for name in ("a", "b"):
            await bench.write(name, "[")
            bench.follow(name)
        for count in (4, 8, 16, 32):  # the first will do, unless the machine is too busy to look
            now = dt.datetime.now(dt.UTC)
            ends = shared_tenant.client_kubeconfig(cluster="a", not_after=now + seconds(count))
            begins = shared_tenant.client_kubeconfig(
                cluster="b", not_before=now + seconds(count), not_after=now + seconds(9000)
            )
            await bench.write("a", ends)
            await bench.write("b", begins)
            await bench.until("a", lambda s: is_healthy(s) or has_expired(s))
            await bench.until("b", lambda s: is_healthy(s) or has_not_begun(s))
            if is_healthy(bench.state("a")) and has_not_begun(bench.state("b")):
                break
        else:
            pytest.fail("half a minute is not enough for one look")
        await bench.until("b", is_healthy)
        await bench.until("a", has_expired)
        assert "CredentialsExpired" == diagnosed(bench.state("a"))


def has_expired(state: TenantState) -> bool:
    return ready_reason(state) == "CredentialsExpired"


def has_not_begun(state: TenantState) -> bool:
    return ready_reason(state) == "CredentialsNotYetValid"


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


async def test_forgotten_cluster_leaves_nothing(
    bench: Bench, shared_tenant: plane.ControlPlane
) -> None:
    """No task, no probe, no notification after ``forget``; wanting it again starts anew."""
    await bench.write("a", shared_tenant.client_kubeconfig(cluster="a"))
    bench.follow("a")
    await bench.until("a", is_surveyed)
    bench.forget("a")
    await clients.eventually(
        lambda: not any(t.get_name().endswith(f"{bench.namespace}/a") for t in asyncio.all_tasks())
    )
    probes = probes_of(bench)
    await asyncio.sleep(1.2)
    assert probes == probes_of(bench)
    bench.follow("a")
    await bench.until("a", is_surveyed)
