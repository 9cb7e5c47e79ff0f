"""What a request leaves behind: one line in the log, and no token anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.api.meta import ObjectMeta
from dpucluster.kube import client as kube_client
from dpucluster.kube import connection, exchange, kinds
from tests.support.patience import PATIENCE

TOKEN = "canary-of-our-own-9b1d"


@contextlib.asynccontextmanager
async def answering(*parts: bytes, status: str = "200 OK") -> AsyncIterator[str]:
    """A server that gives everybody this answer; without any, it sends dots for ever."""
    serving: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
            for part in parts:
                writer.write(part)
            if not parts:
                while not reader.at_eof():
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*filter(None, serving))


def known(url: str, **options: Any) -> kube_client.Client:
    """A client that sends the token."""
    source = connection.StaticCredentials(connection.Credentials(token=TOKEN))
    return kube_client.Client(connection.Connection(url, credentials=source), **options)


async def watched(client: kube_client.Client) -> list[Any]:
    watch = client.watch(kinds.NAMESPACES, resource_version="1", silence=PATIENCE)
    return [event async for event in watch]


STATUS = json.dumps(
    {"kind": "Status", "code": 403, "reason": "Forbidden", "message": f"you sent {TOKEN}"}
).encode()


async def test_a_failed_watch_tells_no_token() -> None:
    """A server that sends our token back with a refusal does not get it into a message."""
    async with answering(STATUS, status="403 Forbidden") as url, known(url) as client:
        with pytest.raises(errors.Forbidden, match=r"you sent \[redacted\]"):
            await watched(client)


async def test_the_end_of_a_watch_tells_no_token() -> None:
    """Nor with the event that ends a watch."""
    event = b'{"type":"ERROR","object":' + STATUS + b"}\n"
    async with answering(event) as url, known(url) as client:
        with pytest.raises(errors.Forbidden, match=r"you sent \[redacted\]"):
            await watched(client)


async def test_a_refusal_without_end() -> None:
    """The text of a refused watch that never ends costs the time of a request and no more."""
    async with answering(status="403 Forbidden") as url, known(url, timeout=0.5) as client:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(errors.TimedOut, match=r"WATCH namespaces: .* within 0\.5 s"):
                await watched(client)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("msg", "method", "path", "status", "server")
    return [{name: vars(record)[name] for name in names} for record in caplog.records]


async def test_every_request_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Answered, refused or in vain: a line with method, path, status and duration, no more."""
    caplog.set_level(logging.DEBUG, exchange.__name__)
    secret = kinds.Secret(ObjectMeta(name="s"), data={"password": "canary-in-a-body"})
    async with answering(b'{"metadata":{}}') as url, known(url) as client:
        await client.list(kinds.NAMESPACES, label_selector="canary=query")
        await client.create(kinds.SECRETS, secret, "ns")
        with pytest.raises(errors.ConnectFailed, match="inside an event"):
            await watched(client)
    with socket.socket() as bound:  # and never listens
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with known(closed) as client:
            with pytest.raises(errors.ConnectFailed, match="refused"):
                await client.get(kinds.NAMESPACES, "a")
            with pytest.raises(errors.ConnectFailed, match="refused"):
                await watched(client)
    expected = [
        ("GET", url, "/api/v1/namespaces", "200"),
        ("POST", url, "/api/v1/namespaces/ns/secrets", "200"),
        ("GET", url, "/api/v1/namespaces", "200"),
        ("GET", closed, "/api/v1/namespaces/a", "<error>"),
        ("GET", closed, "/api/v1/namespaces", "<error>"),
    ]
    assert [
        {"msg": "request", "method": method, "path": path, "status": status, "server": server}
        for method, server, path, status in expected
    ] == lines(caplog)
    assert all(0 <= vars(record)["milliseconds"] < 60_000 for record in caplog.records)
    assert "canary" not in repr([vars(record) for record in caplog.records])
