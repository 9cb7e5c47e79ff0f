"""Small servers that are no good tenant: everything a kubeconfig may point at by mistake.

``Zoo`` starts them all at once (each is a socket, not a process) in a thread of its own. Those
that speak TLS show a certificate of ``Zoo.ca`` for 127.0.0.1, unless their fault is another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable

from tests.support import background, certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

JUNK_BYTES = 2**20
BACKLOG_FILLERS = 8
DRIP_PAUSE = 0.3
"""Slower than a probe's patience for a whole answer, faster than its patience for one byte."""

HTML = b"<!doctype html><html><title>It works!</title><body>nginx</body></html>"
OK = b"HTTP/1.1 200 OK\r\n"

CANARY = "canary-from-the-server-5d1e"
"""In bodies of servers that are not Kubernetes: their text must not be carried into a status."""


class Zoo(background.Served):
    """All the servers; ``url(name)`` leads to one of them."""

    def __init__(self) -> None:
        self.authority = certificates.Authority("zoo-ca")
        self._urls: dict[str, str] = {}
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []

    @property
    def ca_pem(self) -> bytes:
        """What a client of the zoo trusts."""
        return self.authority.pem

    @property
    def names(self) -> list[str]:
        """All servers there are."""
        return sorted(self._urls)

    def url(self, name: str) -> str:
        """Where ``name`` listens, with https."""
        return self._urls[name]

    async def _start(self) -> None:
        good = certificates.server_context(self.authority.server("127.0.0.1"))
        await self._speakers(good)
        await self._bad_certificates()
        for name, serve in {"plain-http": _plain, "tls-junk": _junk_bytes, "slam": _slam}.items():
            await self._open(name, serve, None)
        self._add("closed-port", _bound())
        hole = _bound()
        hole.listen(128)  # the kernel accepts, nobody reads: no answer will ever come
        self._add("black-hole", hole)
        self._add("full-backlog", self._full())

    async def _speakers(self, good: ssl.SSLContext) -> None:
        speakers: dict[str, Serve] = {
            "html": _html,
            "redirect": _redirect,
            "empty-404": _empty_404,
            "json-but-not-kubernetes": _json,
            "unauthorized": _kubernetes(401, 401),
            "forbidden": _kubernetes(200, 403),
            "not-ready": _kubernetes(500, 200),
            "endless": _endless,
            "drip": _drip,
            "junk": _junk_body,
            "not-http": _junk_bytes,
            "silent": _silent,
            "slam-after-tls": _slam,
        }
        for name, serve in speakers.items():
            await self._open(name, serve, good)

    async def _bad_certificates(self) -> None:
        stranger = certificates.Authority("stranger-ca")
        pairs = {
            "wrong-ca": stranger.server("127.0.0.1"),
            "wrong-san": self.authority.server("other.example"),
            "expired-certificate": self.authority.server("127.0.0.1", starts=-9, ends=-1),
        }
        for name, pair in pairs.items():
            tls = certificates.server_context(pair)
            await self._open(name, _kubernetes(200, 200), tls)

    async def _open(self, name: str, serve: Serve, tls: ssl.SSLContext | None) -> None:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
                pass  # the visitor left
            finally:
                writer.transport.abort()

        sock = _bound()
        server = await asyncio.start_server(guarded, sock=sock, ssl=tls)
        self._servers.append(server)
        self._urls[name] = f"https://127.0.0.1:{sock.getsockname()[1]}"

    def _add(self, name: str, sock: socket.socket) -> None:
        self._sockets.append(sock)
        self._urls[name] = f"https://127.0.0.1:{sock.getsockname()[1]}"

    def _full(self) -> socket.socket:
        sock = _bound()
        sock.listen(0)
        for _ in range(BACKLOG_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            self._sockets.append(filler)
        return sock

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


async def _request(reader: asyncio.StreamReader) -> str:
    """The path of the next request (bodies are not expected)."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ", 2)[1].decode()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes = b""
) -> None:
    """The same answer to every request of a connection."""
    while True:
        await _request(reader)
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


async def _html(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = HTML + f"<!-- {CANARY} -->".encode()
    await _answer(reader, writer, OK + b"Content-Type: text/html\r\n", body)


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As HTTP servers answer to a TLS greeting: in plain text, at once."""
    await reader.read(1)
    writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent no HTTP request\n")
    await writer.drain()
    await reader.read()


async def _redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: https://login.example/?next=" + CANARY.encode()
    await _answer(reader, writer, head + b"\r\n")


async def _empty_404(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _answer(reader, writer, b"HTTP/1.1 404 Not Found\r\n")


async def _json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"status": "up", "note": CANARY}).encode()
    await _answer(reader, writer, OK + b"Content-Type: application/json\r\n", body)


def _kubernetes(readyz: int, other: int) -> Serve:
    """As kube-apiserver answers: ``readyz`` for health paths, ``other`` for resources."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = await _request(reader)
            is_health = path.startswith(("/readyz", "/livez", "/healthz"))
            writer.write(_health(readyz) if is_health else _resource(other))
            await writer.drain()

    return serve


def _health(status: int) -> bytes:
    if status in {401, 403}:
        return _resource(status)
    body = b"ok" if status == 200 else b"[+]ping ok\n[-]etcd failed: reason withheld\n"
    head = b"HTTP/1.1 %d X\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _resource(status: int) -> bytes:
    reasons = {401: "Unauthorized", 403: "Forbidden"}
    content: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": reasons.get(status, ""),
        "reason": reasons.get(status, ""),
        "code": status,
    }
    if status == 200:
        metadata = {"name": "kube-system", "uid": "00000000-0000-4000-8000-000000000200"}
        content = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    body = json.dumps(content).encode()
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(OK + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"x" * 4096
    while True:
        writer.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)  # endless is enough, it need not take a whole core


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(OK + b"Content-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"o")
        await writer.drain()
        await asyncio.sleep(DRIP_PAUSE)


async def _junk_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = random.Random(1).randbytes(JUNK_BYTES)  # noqa: S311 - junk, no cryptography
    await _answer(reader, writer, OK + b"Content-Type: application/octet-stream\r\n", body)


async def _junk_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(os.urandom(JUNK_BYTES))
    await writer.drain()
    await reader.read()


async def _silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def _slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
