"""Objects that a manager makes for one DPUCluster: made, kept as wanted, removed.

Expected Flow:
    ``ensure`` at every look, with what is wanted → the object, or why it cannot be.
    ``remove`` when it is not wanted any more → whether it is gone.

Guarantees:
    A child has an ownerReference to its DPUCluster. What has none to this very object (by UID) is
    somebody else's: never taken over, never changed, never deleted. An object that is as wanted
    costs no request. Fields that others set survive.

A child is created by POST, so that a foreign object of its name answers AlreadyExists, and kept by
server-side apply under the version that was just read, so that one deleted meanwhile is not made
again by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key, ObjectMeta, OwnerReference
from dpucluster.kube import kinds
from dpucluster.kube.resource import Resource
from dpucluster.runtime.store import HasMetadata
from dpucluster.sdk import drift, refusals
from dpucluster.sdk.refusals import Refusal, RefusalKind
from dpucluster.sdk.stage import Context

T = TypeVar("T", bound=HasMetadata)

Wire = Mapping[str, Any]
"""An object, or a part of one, as it is sent."""

ANNOTATION_APPLIED: Final = "provisioning.dpu.nvidia.com/applied"
"""Fingerprint of what was applied last; see ``drift``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Child(Generic[T]):
    """One wanted object, without the metadata that every child has.

    Attributes:
        resource: Its kind.
        name: In the namespace of the DPUCluster.
        content: Everything but ``metadata``, as it is created.
        kept: The part of ``content`` that is kept up afterwards, always with the same fields, for
            one that is left out stays; None: all of it, and what is left out goes.
        labels: Beside those that every child has.
        makers: UIDs of other children that may have made it: what they own is ours, too.
    """

    resource: Resource[T]
    name: str
    content: Wire
    kept: Wire | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    makers: tuple[str, ...] = ()

    def what(self, cluster: DPUCluster) -> str:
        """Its name in messages."""
        return f"{self.resource.kind} {cluster.metadata.namespace}/{self.name}"


def owner_reference(cluster: DPUCluster) -> OwnerReference:
    """What makes an object a child of ``cluster``; not as its controller, others may be that."""
    return OwnerReference(
        api_version=kinds.DPUCLUSTERS.api_version,
        kind=kinds.DPUCLUSTERS.kind,
        name=cluster.metadata.name,
        uid=cluster.metadata.uid,
    )


def is_owned(metadata: ObjectMeta, cluster: DPUCluster, makers: Collection[str] = ()) -> bool:
    """Whether the object was made for this very DPUCluster, not one of the same name before it.

    ``makers``: UIDs of children of the cluster that may have made it.
    """
    mine = {cluster.metadata.uid, *makers}
    return any(reference.uid in mine for reference in metadata.owner_references)


async def ensure(child: Child[T], cluster: DPUCluster, context: Context) -> T | Refusal:
    """The object as it is now, or why it cannot be as wanted.

    Errors:
        ``Conflict`` when it changed while being looked at; what is no refusal of the server.
    """
    cached = context.caches.of(child.resource)
    found = cached.get(Key(cluster.metadata.namespace, child.name))
    try:
        if found is None:
            found = await _create(child, cluster, context)
        refusal = foreign(child, found.metadata, cluster)
        if refusal is not None or not _has_drifted(child, found, cluster):
            return refusal or found
        return await _repair(child, cluster, context)
    except errors.ApiError as error:
        refusal = refusals.from_error(error, child.what(cluster))
        if refusal is None:
            raise
        return refusal


def foreign(child: Child[Any], found: ObjectMeta, cluster: DPUCluster) -> Refusal | None:
    """Why an object that is there is not to be touched, or None."""
    what = child.what(cluster)
    if not is_owned(found, cluster, child.makers):
        state = "is being deleted and " if found.is_deleting else ""
        return Refusal(
            RefusalKind.FOREIGN,
            f"{what} exists, {state}was not made for this DPUCluster; it is not touched: remove or "
            "rename it, or give the DPUCluster another name",
        )
    if found.is_deleting:
        held = ", ".join(found.finalizers) or "nothing"
        text = f"{what} is being deleted (held by {held}) and is made again afterwards"
        return Refusal(RefusalKind.DYING, text)
    return None


async def remove(
    resource: Resource[Any], name: str, cluster: DPUCluster, context: Context
) -> ObjectMeta | None:
    """Delete the child of that name; its metadata while it is still there, None when it is gone.

    Asks the server, not the cache: a child made a moment ago may not be cached yet.
    """
    namespace = cluster.metadata.namespace
    try:
        found = (await context.client.get(resource.as_metadata(), name, namespace)).metadata
        if not is_owned(found, cluster):
            return None
        if found.is_deleting:
            return found
        await context.client.delete(resource, name, namespace, uid=found.uid)
        # somebody may have put a finalizer there in the meantime
        left = (await context.client.get(resource.as_metadata(), name, namespace)).metadata
    except errors.NotFound:
        return None
    return left if left.uid == found.uid else None


async def _create(child: Child[T], cluster: DPUCluster, context: Context) -> T:
    namespace = cluster.metadata.namespace
    body = {**child.content, **_metadata(child, cluster)}
    try:
        made = await context.client.create(child.resource, body, namespace)
    except errors.AlreadyExists:
        # somebody else's, or ours and not cached yet
        return await context.client.get(child.resource, child.name, namespace)
    context.caches.of(child.resource).add(made)
    context.log.info("created", extra={"child": child.what(cluster)})
    return made


def _has_drifted(child: Child[T], found: T, cluster: DPUCluster) -> bool:
    return drift.differs(_kept(child, cluster), msgspec.to_builtins(found))


async def _repair(child: Child[T], cluster: DPUCluster, context: Context) -> T | Refusal:
    """Apply what is wanted to the object as the server has it now."""
    client, name, namespace = context.client, child.name, cluster.metadata.namespace
    live = await client.get(child.resource.as_unstructured(), name, namespace)
    found = msgspec.convert(live, child.resource.type)
    refusal = foreign(child, found.metadata, cluster)
    if refusal is not None or not _has_drifted(child, found, cluster):
        return refusal or found
    version = await _disown_creation(child, live, cluster, context)
    wanted = _kept(child, cluster)
    exactly = {"uid": found.metadata.uid, "resourceVersion": version}
    body = {**wanted, "metadata": {**wanted["metadata"], **exactly}}
    applied = await client.apply(child.resource, name, body, namespace)
    context.caches.of(child.resource).put(applied, replacing=found.metadata.resource_version)
    context.log.info("brought back to what is wanted", extra={"child": child.what(cluster)})
    return applied


async def _disown_creation(
    child: Child[T], live: Wire, cluster: DPUCluster, context: Context
) -> str:
    """Hand what the creation set over to the apply; the object's version afterwards.

    The API server keeps a POST and an apply of one manager apart, and a field that the POST still
    owns would not go away when the apply leaves it out.
    """
    metadata = live["metadata"]
    entries = metadata.get("managedFields", [])
    is_created = any(_is_ours(e, "Update") for e in entries)
    is_applied = any(_is_ours(e, "Apply") for e in entries)
    # Where only a part is kept up, the rest must stay with the creation, or it would go at once.
    if child.kept is not None or is_applied or not is_created:
        return str(metadata["resourceVersion"])
    handed = [{**e, "operation": "Apply"} if _is_ours(e, "Update") else e for e in entries]
    patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "managedFields": handed}}
    reply = await context.client.merge_patch(
        child.resource.as_metadata(), child.name, patch, cluster.metadata.namespace
    )
    return reply.metadata.resource_version


def _is_ours(entry: Wire, operation: str) -> bool:
    return (
        entry.get("manager") == contract.FIELD_MANAGER
        and entry.get("operation") == operation
        and not entry.get("subresource")
    )


def _kept(child: Child[Any], cluster: DPUCluster) -> dict[str, Any]:
    content = child.content if child.kept is None else child.kept
    return {**content, **_metadata(child, cluster)}


def _metadata(child: Child[Any], cluster: DPUCluster) -> dict[str, Any]:
    kept = child.content if child.kept is None else child.kept
    applied = drift.fingerprint({"content": kept, "labels": child.labels})
    metadata = ObjectMeta(
        name=child.name,
        namespace=cluster.metadata.namespace,
        labels={**child.labels, contract.LABEL_CLUSTER: cluster.metadata.name},
        annotations={ANNOTATION_APPLIED: applied},
        owner_references=(owner_reference(cluster),),
    )
    return {"metadata": msgspec.to_builtins(metadata)}
