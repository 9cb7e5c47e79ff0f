"""The Kamaji manager: observe, plan and make step by step, say what came of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from dpucluster import errors
from dpucluster.managers.kamaji import endpoint, keepalived, objects, plan, schema, verdict
from dpucluster.managers.kamaji.kinds import (
    CONFIG_MAPS,
    CONTROL_PLANES,
    DAEMON_SETS,
    DATA_STORES,
    LABEL_KAMAJI_NAME,
    NODES,
    PODS,
    SERVICES,
    DataStore,
    Node,
    Pod,
)
from dpucluster.managers.kamaji.observation import Observed, SecretState, Slot
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.sdk import (
    CRDS,
    DPUCLUSTERS,
    KEY_ADMIN_CONF,
    KEY_SUPER_ADMIN_CONF,
    LABEL_CLUSTER,
    SECRETS,
    SECRETS_METADATA,
    TYPE_KAMAJI,
    Cached,
    Child,
    Context,
    Delta,
    DPUCluster,
    Key,
    Outcome,
    PartialObject,
    Problem,
    Resource,
    Watch,
    ensure,
    is_owned,
    remove,
)

T = TypeVar("T")

CLAIMS: Final = "kamaji-claims"
SECRET_SUFFIX: Final = "-admin-kubeconfig"  # noqa: S105 - of a name
CRD_NAME: Final = f"{CONTROL_PLANES.plural}.{CONTROL_PLANES.group}"
PODS_SECONDS: Final = 10.0
"""What is made needs that long at least; looking for the trouble any sooner finds none."""
SCHEMA_SECONDS: Final = 60.0
"""How long the schema of Kamaji's CRD counts as known; an upgrade of Kamaji takes longer."""
CHILDREN: Final[tuple[tuple[Resource[Any], Callable[[str], str]], ...]] = (
    (DAEMON_SETS, plan.keepalived_name),
    (CONFIG_MAPS, plan.keepalived_name),
    (SERVICES, plan.check_name),
    (SERVICES, str),
)
"""What is removed after the control plane, and its name after that of the cluster."""


def _all_kamaji(clusters: Cached[DPUCluster]) -> Iterable[Key]:
    return (c.key for c in clusters.values() if c.spec.type == TYPE_KAMAJI)


def _nodes_changed(delta: Delta[Node], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    """Only what a plan rests on counts: a node tells of itself every few minutes."""
    old, new = (_facts(node) for node in (delta.old, delta.new))
    return () if old == new else _all_kamaji(clusters)


def _facts(node: Node | None) -> object:
    return None if node is None else (node.metadata.labels, node.status)


def _stores_changed(delta: Delta[DataStore], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    old, new = ((None if d is None else d.status) for d in (delta.old, delta.new))
    return () if old == new else _all_kamaji(clusters)


def _secrets_changed(delta: Delta[PartialObject], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    name = delta.key.name.removesuffix(SECRET_SUFFIX)
    if name == delta.key.name:
        return ()
    found = clusters.get(Key(delta.key.namespace, name))
    return (found.key,) if found is not None and found.spec.type == TYPE_KAMAJI else ()


def _clusters_changed(delta: Delta[DPUCluster], clusters: Cached[DPUCluster]) -> Iterable[Key]:
    """What a cluster claims no more may be had by the others that wanted it."""
    old = endpoint.claims(delta.old) if delta.old is not None else []
    new = endpoint.claims(delta.new) if delta.new is not None else []
    if old == new:
        return
    for claim in {*old, *new}:
        for other in clusters.by(CLAIMS, claim):
            if other.key != delta.key:
                yield other.key


WATCHES: Final[tuple[Watch[Any], ...]] = (
    Watch(DPUCLUSTERS, concerned=_clusters_changed, indexes={CLAIMS: endpoint.claims}),
    Watch(SECRETS_METADATA, concerned=_secrets_changed),
    Watch(SERVICES, label_selector=LABEL_CLUSTER),
    Watch(CONFIG_MAPS, label_selector=LABEL_CLUSTER),
    Watch(DAEMON_SETS, label_selector=LABEL_CLUSTER),
    Watch(NODES, concerned=_nodes_changed),
    Watch(CONTROL_PLANES, optional=True),
    Watch(DATA_STORES, concerned=_stores_changed, optional=True),
)


class KamajiManager:
    """``type: kamaji``."""

    type = TYPE_KAMAJI
    watches = WATCHES

    def __init__(self, options: KamajiOptions = KamajiOptions()) -> None:  # noqa: B008 - frozen
        self._options = options
        self._schema = InstalledSchema()

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Make what is wanted, as far as it can be made now, and say how far it is."""
        observed = self._observe(cluster, context)
        decided = plan.make(observed)
        if decided.can_go_on and observed.is_kamaji_installed:
            observed = await self._make(observed, context)
            decided = plan.make(observed)
        observed = await _observe_closely(observed, verdict.outcome(observed, decided), context)
        return verdict.outcome(observed, decided)

    async def cleanup(self, cluster: DPUCluster, context: Context) -> Outcome:
        """The control plane first; the rest goes when it has gone."""
        name = cluster.metadata.name
        left = await remove(CONTROL_PLANES, name, cluster, context)
        if left is not None:
            said = verdict.deletion(name, left)
            return Outcome(conditions=(said,), requeue_after=verdict.LATER, done=False)
        for resource, name_after in CHILDREN:
            if await remove(resource, name_after(name), cluster, context) is not None:
                return Outcome(requeue_after=verdict.SOON, done=False)
        return Outcome(done=True)

    # Observe

    def _observe(self, cluster: DPUCluster, context: Context) -> Observed:
        """What the caches have; nothing of it waits."""
        caches = context.caches
        key, name = cluster.key, cluster.metadata.name
        virtual_ip = Key(key.namespace, plan.keepalived_name(name))

        def mine(resource: Resource[Any], at: Key) -> Any:
            found = caches.of(resource).get(at)
            return found if found is not None and is_owned(found.metadata, cluster) else None

        return Observed(
            cluster=cluster,
            options=self._options,
            is_kamaji_installed=caches.of(CONTROL_PLANES).is_installed,
            data_store=caches.of(DATA_STORES).get(Key("", self._options.datastore)),
            service=mine(SERVICES, key),
            control_plane=mine(CONTROL_PLANES, key),
            check_service=mine(SERVICES, Key(key.namespace, plan.check_name(name))),
            config_map=mine(CONFIG_MAPS, virtual_ip),
            daemon_set=mine(DAEMON_SETS, virtual_ip),
            nodes=tuple(caches.of(NODES).values()),
            rival=_rival(cluster, caches.of(DPUCLUSTERS)),
        )

    # Act

    async def _make(self, observed: Observed, context: Context) -> Observed:
        """One child after the other, each planned with what those before it have become."""
        decided = plan.make(observed)
        if decided.endpoint_problem is None:
            child: Child[Any] | None = objects.service(observed, decided)
            observed = await _kept(Slot.SERVICE, child, observed, context)
            observed = await self._make_control_plane(observed, context)
            decided = plan.make(observed)
            child = keepalived.check_service(observed, decided)
            observed = await _kept(Slot.CHECK_SERVICE, child, observed, context)
            child = keepalived.config_map(observed, decided)
            observed = await _kept(Slot.CONFIG_MAP, child, observed, context)
            child = keepalived.daemon_set(observed, decided)
            observed = await _kept(Slot.DAEMON_SET, child, observed, context)
        if endpoint.wanted(observed.cluster) is None or observed.rival is not None:
            await _withdraw(observed, context)
        return observed

    async def _make_control_plane(self, observed: Observed, context: Context) -> Observed:
        is_possible = Slot.SERVICE not in observed.refusals and (
            observed.control_plane is not None or _has_data_store(observed)
        )
        if not is_possible:
            return observed
        known = await self._schema.get(context)
        observed = dataclasses.replace(observed, schema=known)
        child = objects.control_plane(observed, plan.make(observed))
        return await _kept(Slot.CONTROL_PLANE, child, observed, context)


async def _kept(
    slot: Slot, child: Child[Any] | None, observed: Observed, context: Context
) -> Observed:
    """Make or keep one child; what goes wrong with it holds up no other."""
    if child is None:
        return observed
    try:
        return observed.after(slot, await ensure(child, observed.cluster, context))
    except (errors.LeadershipLost, errors.Conflict):
        raise
    except errors.DpuClusterError as error:
        return dataclasses.replace(observed, error=observed.error or error)


async def _withdraw(observed: Observed, context: Context) -> None:
    """The virtual IP is not wanted, or not ours, any more."""
    name = plan.keepalived_name(observed.cluster.metadata.name)
    if observed.daemon_set is not None:
        await remove(DAEMON_SETS, name, observed.cluster, context)
    if observed.config_map is not None:
        await remove(CONFIG_MAPS, name, observed.cluster, context)
    if observed.check_service is not None:
        name = plan.check_name(observed.cluster.metadata.name)
        await remove(SERVICES, name, observed.cluster, context)


async def _observe_closely(observed: Observed, said: Outcome, context: Context) -> Observed:
    """What is asked of the server only while something is not there or not well."""
    secret = await _secret_state(observed, context)
    is_complete = secret is SecretState.COMPLETE
    answers = is_complete and _answers(observed.cluster, context)
    observed = dataclasses.replace(observed, secret=secret, answers=answers)
    is_well = all(c.is_true for c in said.conditions) and not verdict.is_short(observed)
    if is_well or not _is_late(observed, context):
        return observed
    return dataclasses.replace(observed, is_late=True, pods=await _pods(observed, context))


async def _pods(observed: Observed, context: Context) -> tuple[Pod, ...]:
    """Those of the control plane and of keepalived; they only make a message better."""
    key = observed.cluster.key
    selectors = (
        f"{LABEL_KAMAJI_NAME}={key.name}",
        f"app.kubernetes.io/name=keepalived,{LABEL_CLUSTER}={key.name}",
    )
    found: list[Pod] = []
    try:
        for selector in selectors:
            listing = await context.client.list(PODS, key.namespace, label_selector=selector)
            found += listing.items
    except errors.DpuClusterError as error:
        context.log.info("pods cannot be listed", extra={"error": str(error)})
    return tuple(found)


def _is_late(observed: Observed, context: Context) -> bool:
    """Whether something was made long enough ago to wonder why it is not well."""
    since = context.clock.now() - dt.timedelta(seconds=PODS_SECONDS)
    made = [
        child.metadata.creation_timestamp
        for child in (observed.control_plane, observed.daemon_set)
        if child is not None
    ]
    return any(dt.datetime.fromisoformat(moment) < since for moment in made if moment)


async def _secret_state(observed: Observed, context: Context) -> SecretState:
    """Read only until its name stands in the spec."""
    cluster, control_plane = observed.cluster, observed.control_plane
    name = plan.secret_name(cluster.metadata.name)
    if cluster.spec.kubeconfig == name:
        return SecretState.COMPLETE
    key = Key(cluster.metadata.namespace, name)
    cached = context.caches.of(SECRETS_METADATA).get(key)
    if cached is None or control_plane is None:
        return SecretState.ABSENT
    if all(o.uid != control_plane.metadata.uid for o in cached.metadata.owner_references):
        return SecretState.FOREIGN
    try:
        secret = await context.client.get(SECRETS, name, key.namespace)
    except errors.NotFound:
        return SecretState.ABSENT
    except errors.Forbidden:
        return SecretState.COMPLETE  # whoever follows the tenant tells that it may not be read
    is_complete = all(secret.value(k) for k in (KEY_ADMIN_CONF, KEY_SUPER_ADMIN_CONF))
    return SecretState.COMPLETE if is_complete else SecretState.INCOMPLETE


def _answers(cluster: DPUCluster, context: Context) -> bool:
    """What the tenant pool knows; of the Secret that is about to be named, if none is yet."""
    name = plan.secret_name(cluster.metadata.name)
    spec = msgspec.structs.replace(cluster.spec, kubeconfig=name)
    return context.tenant(msgspec.structs.replace(cluster, spec=spec)).health.ok is True


def _rival(cluster: DPUCluster, clusters: Cached[DPUCluster]) -> Problem | None:
    for claim in endpoint.claims(cluster):
        found = endpoint.rival(cluster, clusters.by(CLAIMS, claim), claim)
        if found is not None:
            return found
    return None


def _has_data_store(observed: Observed) -> bool:
    return observed.data_store is not None and observed.data_store.status.ready is not False


class InstalledSchema:
    """The schema of the Kamaji that is installed, read again when its CRD has changed."""

    def __init__(self) -> None:
        self._version = ""
        self._checked_at: float | None = None
        self._schema: Mapping[str, Any] | None = None

    async def get(self, context: Context) -> Mapping[str, Any] | None:
        """The schema; None when it may not be read."""
        now = context.clock.monotonic()
        if self._checked_at is not None and now - self._checked_at < SCHEMA_SECONDS:
            return self._schema
        try:
            found = await context.client.get(CRDS.as_metadata(), CRD_NAME)
            if found.metadata.resource_version != self._version:
                crd = await context.client.get(CRDS, CRD_NAME)
                self._schema = schema.of_version(crd, CONTROL_PLANES.version)
                self._version = found.metadata.resource_version
        except errors.Forbidden as error:
            context.log.info("Kamaji's schema may not be read", extra={"error": str(error)})
        self._checked_at = now
        return self._schema
