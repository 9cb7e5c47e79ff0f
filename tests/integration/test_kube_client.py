"""The client on the real API server: objects of every shape arrive, and nothing else happens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import config, connection, kinds
from dpucluster.kube.resource import Resource
from dpucluster.localplane.plane import ControlPlane
from tests.support.patience import PATIENCE

CONFIGMAPS = Resource(dict[str, Any], "", "v1", "configmaps", "ConfigMap")
ODD = "a\u0085b\u2028c\u2029d\u001ce\x7f\U0001f600"
LARGEST = 2**20
"""Bytes in a Secret at most: 1.4 MB as they travel."""


class Picky(msgspec.Struct):
    """A ConfigMap whose values must be ``x``: what else there is cannot be decoded."""

    metadata: ObjectMeta
    data: dict[str, dict[str, str]]


@pytest.fixture
def found(management: ControlPlane) -> connection.Connection:
    return config.load(str(management.kubeconfig))


@pytest.fixture
async def client(found: connection.Connection) -> AsyncIterator[kube_client.Client]:
    async with kube_client.Client(found) as running:
        yield running


def secret(name: str, value: bytes = b"v") -> kinds.Secret:
    return kinds.Secret(ObjectMeta(name=name), data={"k": base64.b64encode(value).decode()})


async def test_life_of_an_object(client: kube_client.Client, namespace: str) -> None:
    """Create, read, patch, replace, apply and delete, as structs and as mappings."""
    made = await client.create(kinds.SECRETS, secret("s"), namespace)
    assert made == await client.get(kinds.SECRETS, "s", namespace)
    patched = await client.merge_patch(
        kinds.SECRETS, "s", {"metadata": {"labels": {"a": "b"}}}, namespace
    )
    assert {"a": "b"} == patched.metadata.labels
    changed = msgspec.structs.replace(patched, data={"k": "eg=="})
    assert b"z" == (await client.replace(kinds.SECRETS, "s", changed, namespace)).value("k")
    applied = await client.apply(kinds.SECRETS, "s", {"data": {"l": "eg=="}}, namespace)
    assert {"k", "l"} == set(applied.data)
    await client.delete(kinds.SECRETS, "s", namespace)
    with pytest.raises(errors.NotFound, match=f"GET secrets {namespace}/s: NotFound: "):
        await client.get(kinds.SECRETS, "s", namespace)


async def test_create_twice(client: kube_client.Client, namespace: str) -> None:
    """A name that is taken is told apart from a conflict."""
    await client.create(kinds.SECRETS, secret("s"), namespace)
    with pytest.raises(errors.AlreadyExists, match="AlreadyExists"):
        await client.create(kinds.SECRETS, secret("s"), namespace)


async def test_preconditions(client: kube_client.Client, namespace: str) -> None:
    """Deletes, patches and applies hit exactly the object that was meant."""
    made = await client.create(kinds.SECRETS, secret("s"), namespace)
    with pytest.raises(errors.Conflict):
        await client.delete(kinds.SECRETS, "s", namespace, uid="other")
    with pytest.raises(errors.Conflict):
        await client.delete(kinds.SECRETS, "s", namespace, resource_version="1")
    stale = {"metadata": {"resourceVersion": "1"}}
    with pytest.raises(errors.Conflict):
        await client.merge_patch(kinds.SECRETS, "s", stale, namespace)
    gone = {"metadata": {"uid": made.metadata.uid}}
    with pytest.raises(errors.Conflict):
        await client.apply(kinds.SECRETS, "another", gone, namespace)
    exact = made.metadata
    await client.delete(
        kinds.SECRETS, "s", namespace, uid=exact.uid, resource_version=exact.resource_version
    )


async def test_apply_tells_conflicts(client: kube_client.Client, namespace: str) -> None:
    """Without force another manager's field is a conflict; with it the field changes hands."""
    await client.apply(CONFIGMAPS, "c", {"data": {"a": "1"}}, namespace, field_manager="other")
    with pytest.raises(errors.Conflict):
        await client.apply(CONFIGMAPS, "c", {"data": {"a": "2"}}, namespace, force=False)
    assert (
        "2" == (await client.apply(CONFIGMAPS, "c", {"data": {"a": "2"}}, namespace))["data"]["a"]
    )


async def test_invalid(client: kube_client.Client, namespace: str) -> None:
    """What validation says reaches the caller."""
    with pytest.raises(errors.Invalid, match=r"metadata\.name: Invalid value"):
        await client.create(kinds.SECRETS, secret("S_1"), namespace)


async def test_unknown_kind(client: kube_client.Client) -> None:
    """A resource that is not installed is not found."""
    with pytest.raises(errors.NotFound):
        await client.list(Resource(PartialObject, "none.example", "v1", "things", "Thing"))


async def test_pages(client: kube_client.Client, furnished: str) -> None:
    """A list is whole, however many pages it takes; one page tells what is left."""
    names = [f"c{n:02}" for n in range(7)]
    for name in names:
        await client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {}}, furnished)
    everything = await client.list(CONFIGMAPS, furnished, limit=3)
    made = [item["metadata"]["name"] for item in everything.items]
    assert names == [name for name in made if name != "kube-root-ca.crt"]
    page = await client.list_page(CONFIGMAPS, furnished, limit=2)
    assert (2, len(made) - 2) == (len(page.items), page.remaining)
    only = await client.list(CONFIGMAPS, furnished, field_selector="metadata.name=c03")
    assert ["c03"] == [item["metadata"]["name"] for item in only.items]


async def test_metadata_only(client: kube_client.Client, namespace: str) -> None:
    """The server leaves out the data, in answers, lists and watches alike."""
    made = await client.create(kinds.SECRETS, secret("s"), namespace)
    one = await client.get(kinds.SECRETS_METADATA, "s", namespace)
    assert ("PartialObjectMetadata", made.metadata) == (one.kind, one.metadata)
    listing = await client.list(kinds.SECRETS_METADATA, namespace)
    assert [one.metadata] == [item.metadata for item in listing.items]
    raw = dict[str, Any]
    bare = Resource(raw, "", "v1", "secrets", "Secret", metadata_only=True)
    assert "data" not in (await client.get(bare, "s", namespace))
    async with contextlib.aclosing(
        client.watch(bare, namespace, resource_version="0", server_timeout=60)
    ) as events:
        event = await anext(events)
    assert isinstance(event, kube_client.Added)
    assert "data" not in event.obj


async def test_watch(client: kube_client.Client, namespace: str) -> None:
    """Every change is told once and in order; then the server ends the watch, which is no error."""
    start = (await client.list(kinds.SECRETS, namespace)).resource_version
    made = await client.create(kinds.SECRETS, secret("s"), namespace)
    patched = await client.merge_patch(
        kinds.SECRETS, "s", {"metadata": {"labels": {"a": "b"}}}, namespace
    )
    await client.delete(kinds.SECRETS, "s", namespace)
    seen = [
        event
        async for event in client.watch(
            kinds.SECRETS, namespace, resource_version=start, server_timeout=4
        )
        if not isinstance(event, kube_client.Bookmark)
    ]
    assert [kube_client.Added(made), kube_client.Modified(patched)] == seen[:2]
    assert isinstance(seen[2], kube_client.Deleted)
    assert 3 == len(seen)


async def test_watch_from_nowhere(client: kube_client.Client) -> None:
    """A version that makes no sense is refused before the first event."""
    events = client.watch(kinds.SECRETS, resource_version="none", server_timeout=2)
    with pytest.raises(errors.ApiError, match="WATCH secrets"):
        await anext(events)


@pytest.mark.parametrize("size", [10, LARGEST])
async def test_odd_and_large(client: kube_client.Client, namespace: str, size: int) -> None:
    """The largest object and the oddest characters pass through writes, lists and watches."""
    start = (await client.list(kinds.SECRETS, namespace)).resource_version
    made = await client.create(
        kinds.SECRETS,
        kinds.Secret(
            ObjectMeta(name="odd", annotations={"odd": ODD}),
            data={"k": base64.b64encode(b"x" * size).decode()},
        ),
        namespace,
    )
    assert ({"odd": ODD}, b"x" * size) == (made.metadata.annotations, made.value("k"))
    assert [made] == (await client.list(kinds.SECRETS, namespace)).items
    watch = client.watch(kinds.SECRETS, namespace, resource_version=start, server_timeout=60)
    async with contextlib.aclosing(watch) as events:
        assert kube_client.Added(made) == await anext(events)


async def test_bad_object_spoils_itself(client: kube_client.Client, furnished: str) -> None:
    """An object that does not fit its type leaves the rest of a list and of a watch alone."""
    picky = Resource(Picky, "", "v1", "configmaps", "ConfigMap")
    start = (await client.list(CONFIGMAPS, furnished)).resource_version
    await client.create(CONFIGMAPS, {"metadata": {"name": "bad"}, "data": {"a": "b"}}, furnished)
    await client.create(CONFIGMAPS, {"metadata": {"name": "nil"}}, furnished)
    listing = await client.list(picky, furnished, field_selector="metadata.name=bad")
    assert [Key(furnished, "bad")] == [bad.key for bad in listing.undecodable]
    watch = client.watch(picky, furnished, resource_version=start, server_timeout=60)
    async with contextlib.aclosing(watch) as events:
        both = [await anext(events), await anext(events)]
    keys = [event.key for event in both if isinstance(event, kube_client.Undecodable)]
    assert [Key(furnished, "bad"), Key(furnished, "nil")] == keys


async def test_watches_starve_nobody(client: kube_client.Client, namespace: str) -> None:
    """Many more watches than connections for requests leave requests alone, and end as one."""

    async def watch() -> None:
        async for _ in client.watch(kinds.SECRETS, namespace, resource_version="0"):
            pass

    watches = [asyncio.create_task(watch()) for _ in range(40)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                *(client.get(kinds.NAMESPACES, namespace) for _ in range(100)),
            )
    finally:
        for task in watches:
            task.cancel()
        ended = await asyncio.gather(*watches, return_exceptions=True)
    assert {asyncio.CancelledError} == {type(end) for end in ended}


async def test_raw(client: kube_client.Client) -> None:
    """Any answer is returned as it is, and no more of it than asked for."""
    ready = await client.raw("GET", "/readyz")
    assert (200, b"ok", False) == (ready.status, ready.body, ready.truncated)
    missing = await client.raw("GET", "/nowhere", params={"a": "b c"})
    assert 404 == missing.status
    openapi = await client.raw("GET", "/openapi/v2", max_bytes=1000)
    assert (1000, True) == (len(openapi.body), openapi.truncated)


async def test_impersonation(found: connection.Connection) -> None:
    """The server sees the user that is impersonated, with groups and extra."""
    who = connection.Impersonation("jane", "42", ("g1", "g2"), (("scope", "a b"),))
    async with kube_client.Client(dataclasses.replace(found, impersonate=who)) as client:
        with pytest.raises(errors.Forbidden, match='User "jane" cannot list'):
            await client.list(kinds.SECRETS, "default")


async def test_closed(found: connection.Connection) -> None:
    """A closed client says so instead of connecting again; its fenced twin does, too."""
    client = kube_client.Client(found)
    twin = client.fenced(lambda: None)
    await client.get(kinds.NAMESPACES, "default")
    await twin.aclose()
    await client.get(kinds.NAMESPACES, "default")
    await client.aclose()
    for either in (client, twin):
        with pytest.raises(errors.ConnectFailed, match="is closed"):
            await either.get(kinds.NAMESPACES, "default")
