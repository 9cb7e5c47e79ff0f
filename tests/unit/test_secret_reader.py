"""A Secret that is deleted: told once it has been missing for a while, not before."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta, PartialObject
from dpucluster.kube import client, kinds
from dpucluster.runtime import informer
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.secret import ABSENCE, SecretReader, Target
from tests.support.clock import FakeClock

KEY = Key("ns", "kc")


class Server:
    """One Secret, or none, as both the API server and the cache have it."""

    def __init__(self) -> None:
        self.version = ""
        self.synced = asyncio.Event()
        self.synced.set()

    def _metadata(self) -> ObjectMeta:
        return ObjectMeta(name=KEY.name, namespace=KEY.namespace, resource_version=self.version)

    def get_cached(self, _key: Key) -> PartialObject | None:
        """As the informer."""
        return PartialObject(metadata=self._metadata()) if self.version else None

    async def get(self, *_: object, **_options: object) -> kinds.Secret:
        """As the client."""
        if not self.version:
            raise errors.NotFound("no such Secret", status=404)
        data = {"admin.conf": base64.b64encode(b"[").decode()}
        return kinds.Secret(metadata=self._metadata(), data=data)


class Cache:
    """The informer's face of the same."""

    def __init__(self, server: Server) -> None:
        self.get = server.get_cached
        self.synced = server.synced


def reader(server: Server, clock: FakeClock) -> SecretReader:
    """A reader between the two."""
    cache: Any = Cache(server)
    return SecretReader(
        Target(Key("ns", "c"), "uid", "kamaji", KEY.name),
        cast("client.Client", server),
        cast("informer.Informer[PartialObject]", cache),
        clock,
    )


def reason(found: Diagnosis | None) -> str:
    """What is wrong, if anything was told."""
    return found.problem.reason if found is not None and found.problem is not None else ""


async def test_deleted_secret_is_told_after_a_while() -> None:
    """Missing for less than that it counts as being made anew; then it is told, once."""
    server, clock = Server(), FakeClock()
    server.version = "1"
    reads = reader(server, clock)
    assert "KubeconfigInvalid" == reason(await reads.changed())
    server.version = ""
    assert "" == reason(await reads.changed())
    assert reads.retry_after == ABSENCE
    await clock.advance(ABSENCE - 1)
    assert "" == reason(await reads.changed())
    await clock.advance(1)
    assert "SecretNotFound" == reason(await reads.changed())
    assert "" == reason(await reads.changed())
    assert reads.retry_after is None


async def test_secret_that_was_never_there_is_told_at_once() -> None:
    """There is nothing that could be made anew."""
    reads = reader(Server(), FakeClock())
    assert "SecretNotFound" == reason(await reads.changed())


async def test_secret_made_anew_is_read() -> None:
    """Nothing is said of the moment without it, and another absence gets its own patience."""
    server, clock = Server(), FakeClock()
    server.version = "1"
    reads = reader(server, clock)
    await reads.changed()
    for version in ("2", "3"):
        server.version = ""
        await clock.advance(ABSENCE - 1)
        assert "" == reason(await reads.changed())
        server.version = version
        assert "KubeconfigInvalid" == reason(await reads.changed())
    assert reads.retry_after is None
