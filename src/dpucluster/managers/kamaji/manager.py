"""The Kamaji manager: observe, plan and make step by step, say what came of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from dpucluster import errors
from dpucluster.managers.kamaji import (
    endpoint,
    keepalived,
    objects,
    plan,
    schema,
    verdict,
    watches,
)
from dpucluster.managers.kamaji.kinds import (
    CONFIG_MAPS,
    CONTROL_PLANES,
    DAEMON_SETS,
    DATA_STORES,
    LABEL_KAMAJI_NAME,
    NODES,
    PODS,
    SERVICES,
    Pod,
    TenantControlPlane,
)
from dpucluster.managers.kamaji.observation import Observed, SecretState, Slot
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.managers.kamaji.plan import Plan
from dpucluster.sdk import (
    CRDS,
    DPUCLUSTERS,
    KEY_ADMIN_CONF,
    KEY_SUPER_ADMIN_CONF,
    LABEL_CLUSTER,
    SECRETS,
    SECRETS_METADATA,
    TYPE_KAMAJI,
    Child,
    Context,
    DPUCluster,
    Key,
    Outcome,
    Problem,
    Resource,
    ensure,
    is_owned,
    remove,
)

T = TypeVar("T")

CRD_NAME: Final = f"{CONTROL_PLANES.plural}.{CONTROL_PLANES.group}"
PODS_SECONDS: Final = 10.0
"""What is made needs that long at least; looking for the trouble any sooner finds none."""
SCHEMA_SECONDS: Final = 60.0
"""How long the schema of Kamaji's CRD counts as known; an upgrade of Kamaji takes longer."""
VIRTUAL_IP: Final[tuple[tuple[Slot, Callable[[Observed, Plan], Child[Any] | None]], ...]] = (
    (Slot.CHECK_SERVICE, keepalived.check_service),
    (Slot.CONFIG_MAP, keepalived.config_map),
    (Slot.DAEMON_SET, keepalived.daemon_set),
)
"""What holds a virtual IP, in the order in which it is made: each builder sees those before it."""
CHILDREN: Final[tuple[tuple[Resource[Any], Callable[[str], str]], ...]] = (
    (CONTROL_PLANES, str),
    (DAEMON_SETS, plan.keepalived_name),
    (CONFIG_MAPS, plan.keepalived_name),
    (SERVICES, plan.check_name),
    (SERVICES, str),
)
"""In the order in which they are removed, and each one's name after that of the cluster."""


class KamajiManager:
    """``type: kamaji``."""

    type = TYPE_KAMAJI
    watches = watches.WATCHES  # the host starts their caches with the role

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
        for resource, name_after in CHILDREN:
            try:
                left = await remove(resource, name_after(name), cluster, context)
            except (errors.Forbidden, errors.Invalid) as error:
                said = verdict.not_deleted(resource.kind, error)
                return Outcome(conditions=(said,), error=error, done=False)
            if left is not None:
                said = verdict.deletion(resource.kind, left)
                return Outcome(conditions=(said,), requeue_after=verdict.LATER, done=False)
        return Outcome(done=True)

    # Observe

    def _observe(self, cluster: DPUCluster, context: Context) -> Observed:
        """What the caches have; nothing of it waits."""
        caches = context.caches
        key, name = cluster.key, cluster.metadata.name
        virtual_ip = Key(key.namespace, plan.keepalived_name(name))

        def mine(resource: Resource[Any], at: Key, *makers: str) -> Any:
            found = caches.of(resource).get(at)
            is_mine = found is not None and is_owned(found.metadata, cluster, makers)
            return found if is_mine else None

        control_plane: TenantControlPlane | None = mine(CONTROL_PLANES, key)
        made_by = () if control_plane is None else (control_plane.metadata.uid,)
        store = control_plane.data_store if control_plane is not None else ""
        return Observed(
            cluster=cluster,
            options=self._options,
            is_kamaji_installed=caches.of(CONTROL_PLANES).is_installed,
            data_store=caches.of(DATA_STORES).get(Key("", store or self._options.datastore)),
            service=mine(SERVICES, key, *made_by),
            control_plane=control_plane,
            check_service=mine(SERVICES, Key(key.namespace, plan.check_name(name))),
            config_map=mine(CONFIG_MAPS, virtual_ip),
            daemon_set=mine(DAEMON_SETS, virtual_ip),
            nodes=tuple(caches.of(NODES).values()),
            rival=_rival(cluster, control_plane, context),
        )

    # Act

    async def _make(self, observed: Observed, context: Context) -> Observed:
        """One child after the other, each planned with what those before it have become."""
        decided = plan.make(observed)
        if decided.endpoint_problem is None:
            service = objects.service(observed, decided)
            observed = await _kept(Slot.SERVICE, service, observed, context)
            observed = await self._make_control_plane(observed, context)
            decided = plan.make(observed)
            for slot, build in VIRTUAL_IP:
                observed = await _kept(slot, build(observed, decided), observed, context)
        if endpoint.wanted(observed.cluster) is None or observed.rival is not None:
            observed = await _withdraw(observed, context)
        return observed

    async def _make_control_plane(self, observed: Observed, context: Context) -> Observed:
        is_possible = Slot.SERVICE not in observed.refusals and (
            observed.control_plane is not None or _has_data_store(observed)
        )
        if not is_possible:
            return observed
        known = await _guarded(self._schema.get(context))
        if isinstance(known, errors.DpuClusterError):
            return dataclasses.replace(observed, error=observed.error or known)
        observed = dataclasses.replace(observed, schema=known)
        child = objects.control_plane(observed, plan.make(observed))
        return await _kept(Slot.CONTROL_PLANE, child, observed, context)


async def _kept(
    slot: Slot, child: Child[Any] | None, observed: Observed, context: Context
) -> Observed:
    """Make or keep one child; what goes wrong with it holds up no other."""
    if child is None:
        return observed
    result = await _guarded(ensure(child, observed.cluster, context))
    if isinstance(result, errors.DpuClusterError):
        return dataclasses.replace(observed, error=observed.error or result)
    return observed.after(slot, result)


async def _guarded(asked: Awaitable[T]) -> T | errors.DpuClusterError:
    """What was asked for, or why not: what is known besides is published all the same."""
    try:
        return await asked
    except (errors.LeadershipLost, errors.Conflict):
        raise
    except errors.DpuClusterError as error:
        return error


async def _withdraw(observed: Observed, context: Context) -> Observed:
    """The virtual IP is not wanted, or not ours, any more."""
    cluster = observed.cluster
    name = plan.keepalived_name(cluster.metadata.name)
    check = plan.check_name(cluster.metadata.name)
    there: tuple[tuple[Resource[Any], str, object], ...] = (
        (DAEMON_SETS, name, observed.daemon_set),
        (CONFIG_MAPS, name, observed.config_map),
        (SERVICES, check, observed.check_service),
    )
    for resource, child, found in there:
        if found is not None:
            result = await _guarded(remove(resource, child, cluster, context))
            if isinstance(result, errors.DpuClusterError):
                observed = dataclasses.replace(observed, error=observed.error or result)
    return observed


async def _observe_closely(observed: Observed, said: Outcome, context: Context) -> Observed:
    """What is asked of the server only while something is not there or not well."""
    secret = await _guarded(_secret_state(observed, context))
    if isinstance(secret, errors.DpuClusterError):
        return dataclasses.replace(observed, error=observed.error or secret)
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
    return bool(made) and all(dt.datetime.fromisoformat(m) < since for m in made if m)


async def _secret_state(observed: Observed, context: Context) -> SecretState:
    """Read only until its name stands in the spec."""
    cluster, control_plane = observed.cluster, observed.control_plane
    name = plan.secret_name(cluster.metadata.name)
    if cluster.spec.kubeconfig == name:
        return SecretState.COMPLETE
    key = Key(cluster.metadata.namespace, name)
    cached = context.caches.of(SECRETS_METADATA).get(key)
    if cached is None or control_plane is None or not control_plane.installed:
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


def _rival(
    cluster: DPUCluster, mine: TenantControlPlane | None, context: Context
) -> Problem | None:
    """Who has what the cluster claims: of an address whoever serves on it, else the older one."""
    clusters, control_planes = context.caches.of(DPUCLUSTERS), context.caches.of(CONTROL_PLANES)
    for claim in endpoint.claims(cluster):
        if mine is not None and claim in watches.served(mine):
            continue
        found = endpoint.rival(cluster, clusters.by(watches.CLAIMS, claim), claim)
        served = (tcp.metadata for tcp in control_planes.by(watches.SERVED, claim))
        # one of the cluster's own name is in the way for another reason
        others = [m.key for m in served if m.key != cluster.key and not is_owned(m, cluster)]
        if found is None and others:
            found = endpoint.held(claim, others[0])
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
