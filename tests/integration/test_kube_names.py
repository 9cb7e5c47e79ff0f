"""Connections that cannot be: names that are none, and clients that are closed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import connection, kinds
from tests.support import loops
from tests.support.patience import PATIENCE
from tests.support.zoo import Zoo


async def _ask(client: kube_client.Client, kind: str) -> Any:
    if kind == "watch":
        watch = client.watch(kinds.NAMESPACES, resource_version="1", silence=PATIENCE)
        return [event async for event in watch]
    return await client.raw("GET", "/readyz")


@pytest.mark.parametrize("kind", ["request", "watch"])
@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize("call", ["aclose", "disconnect"])
def test_closed_at_any_moment(zoo: Zoo, loop: str, kind: str, call: str) -> None:
    """Whoever is closed or disconnected in the middle of a request gets an error of this project.

    The moment moves on by one round of the event loop each time, past the thread that makes the
    TLS context, the handshake and the answer's head. After ``disconnect`` requests go on.
    """

    async def cut_after(rounds: int) -> BaseException | None:
        target = connection.Connection(zoo.url("unauthorized"), zoo.ca_pem)
        async with kube_client.Client(target, timeout=PATIENCE) as client:
            task = asyncio.create_task(_ask(client, kind))
            for _ in range(rounds):
                await asyncio.sleep(0)
            await getattr(client, call)()
            await asyncio.wait([task])
            if call == "disconnect":
                assert 401 == (await client.raw("GET", "/readyz")).status
            return task.exception()

    async def cut() -> list[BaseException | None]:
        return [await cut_after(rounds) for rounds in [*range(12), *range(20, 200, 20)]]

    with loops.runner(loops.KINDS[loop]) as runner:
        found = runner.run(cut())
    assert {errors.ConnectFailed} >= {type(e) for e in found} - {type(None), errors.Unauthorized}


NO_NAMES = [".", "..", ".foo", "a..b", "a" * 64, "\u3002", "XN--\u00fc.example", "a\0b"]


@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_names_that_are_none(zoo: Zoo, loop: str, name: str) -> None:
    """A name that no certificate can have fails the request, in place of switching checks off."""
    found = connection.Connection(zoo.url("wrong-san"), zoo.ca_pem, tls_server_name=name)
    with loops.runner(loops.KINDS[loop]) as runner:
        error = runner.run(_refused(found))
    assert errors.TlsFailed is type(error)
    assert f"tls-server-name {name!a} is no host name" in str(error)


async def _refused(target: connection.Connection) -> errors.DpuClusterError:
    async with kube_client.Client(target, timeout=PATIENCE) as client:
        with pytest.raises(errors.DpuClusterError) as caught:
            await client.raw("GET", "/readyz")
    return caught.value


@pytest.mark.parametrize("name", [".", ".foo", "a..b", "a" * 64, "\u3002"], ids=ascii)
@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
def test_addresses_that_are_none(loop: str, name: str, *, proxied: bool) -> None:
    """An address that no name server can know fails the request, also behind a proxy."""

    async def ask() -> errors.DpuClusterError:
        async with tunnel() as proxy:
            url = proxy if proxied else ""
            return await _refused(connection.Connection(f"https://{name}:6443", proxy_url=url))

    with loops.runner(loops.KINDS[loop]) as runner:
        error = runner.run(ask())
    assert errors.ConnectFailed is type(error)
    assert name in str(error)
    assert "no valid host name" in str(error)


@contextlib.asynccontextmanager
async def tunnel() -> AsyncIterator[str]:
    """A proxy that agrees to connect to anything, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
