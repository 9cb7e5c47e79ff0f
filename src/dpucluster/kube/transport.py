"""One pool of connections to one API server.

Adds what every request needs: credentials (renewed once after a 401), TLS, impersonation, the
fence in front of writes, and the translation of library errors. It knows HTTP, but no objects.

Redirects are not followed, cookies not kept, environment variables not read, and compressed
answers not asked for: each of them would let a server reach further than its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import yarl

from dpucluster import errors
from dpucluster.kube import connection as connections
from dpucluster.kube import failures, fence, resolver, tls

MAX_CONNECTIONS: Final = 32
"""Ordinary requests at one time. Twice the default workers; an API server's fair share for one
client is of the same order. Watches do not count: they stay open and would use it up."""

READ_BUFFER: Final = 2**21
"""Bytes read ahead of the consumer: one object of the greatest size etcd takes (1.5 MiB)."""

ONE_PIECE: Final = 2**20
"""Bytes of a body up to which aiohttp takes it without a warning."""

KEEPALIVE_IDLE: Final = 30
KEEPALIVE_INTERVAL: Final = 10
KEEPALIVE_COUNT: Final = 3
"""A peer that vanished without a word is noticed by the kernel after 60 s, on watches too."""

Guard = fence.Guard


@dataclass(frozen=True)
class Request:
    """One request, before credentials are added. ``what`` names it in messages."""

    what: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    guard: Guard | None = None
    streaming: bool = False


async def _fence(
    guard: Guard, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    request.guard = guard  # type: ignore[attr-defined]  # sessions here make FencedRequest only
    return await handler(request)


@dataclass
class Transport:
    """See the module. Made before the event loop runs; connects on the first request."""

    connection: connections.Connection
    user_agent: str
    keep_alive: bool = True
    _sessions: dict[bool, aiohttp.ClientSession] = field(default_factory=dict, init=False)
    _tls: tuple[connections.Credentials, ssl.SSLContext] | None = field(default=None, init=False)
    _tls_lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _token: bytes = field(default=b"", init=False, repr=False)
    _resolver: resolver.Resolver = field(default_factory=resolver.Resolver, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def server(self) -> str:
        """The server's address, for messages and metrics."""
        return self.connection.server

    @contextlib.asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head; its body is the caller's to read. The caller also sets the time limit.

        Errors raised by reading the body inside the context are translated too.
        """
        try:
            response = await self._authenticated(request)
            try:
                yield response
            except BaseException:
                response.close()
                raise
            # An unread rest would block the connection's next user.
            response.release() if response.content.at_eof() else response.close()
        except (aiohttp.ClientError, ssl.SSLError, TimeoutError, OSError, UnicodeError) as error:
            raise failures.from_library(request.what, self.server, error) from error

    async def disconnect(self) -> None:
        """Close every connection, also those in use; the next request connects again."""
        self._tls = None
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def aclose(self) -> None:
        """Close every connection, also those in use, for good."""
        self._closed = True
        await self.disconnect()

    def redact(self, body: bytes) -> bytes:
        """``body`` without our own token, should the server have sent it back."""
        return body.replace(self._token, b"[redacted]") if self._token else body

    async def _authenticated(self, request: Request) -> aiohttp.ClientResponse:
        self._refuse_if_closed()
        source = self.connection.credentials
        own = await source.credentials() if source else connections.Credentials()
        response = await self._send_as(own, request)
        if response.status != 401 or source is None:
            return response
        renewed = await source.credentials(rejected=own)
        if renewed == own:
            return response
        response.close()
        return await self._send_as(renewed, request)

    async def _send_as(
        self, own: connections.Credentials, request: Request
    ) -> aiohttp.ClientResponse:
        url, server_name = self._url(request), self._server_name(request)
        headers = [*request.headers, *_impersonation(self.connection.impersonate)]
        if own.token:
            self._token = own.token.encode()
            headers.append(("Authorization", f"Bearer {own.token}"))
        guarded = () if request.guard is None else (functools.partial(_fence, request.guard),)
        context = await self._ssl(own)
        # A session got any earlier could have been closed in the meantime.
        return await self._session(streaming=request.streaming).request(
            request.method,
            url,
            headers=headers,
            data=_payload(request.body),
            ssl=context,
            server_hostname=server_name,
            proxy=self.connection.proxy_url or None,
            allow_redirects=False,
            middlewares=guarded,
        )

    def _url(self, request: Request) -> yarl.URL:
        if not self._has_host:
            raise errors.ConnectFailed(f"{request.what}: {self.server} has no valid host name")
        return yarl.URL(self.server.rstrip("/") + request.target, encoded=True)

    @functools.cached_property
    def _has_host(self) -> bool:
        try:
            return tls.is_name(yarl.URL(self.server, encoded=True).raw_host or "")
        except ValueError:
            return False

    def _server_name(self, request: Request) -> str | None:
        """What the certificate is checked against; None: the host of the URL."""
        name = self.connection.tls_server_name
        if name and not tls.is_name(name):
            told = f"tls-server-name {name!a} is no host name"
            raise errors.TlsFailed(f"{request.what}: {told}")
        return name or None

    async def _ssl(self, own: connections.Credentials) -> ssl.SSLContext | bool:
        """The context for these credentials, kept until other certificates come."""
        if not self.server.startswith("https:"):
            return True
        if (ready := self._ready_tls(own)) is not None:
            return ready
        async with self._tls_lock:
            if (ready := self._ready_tls(own)) is not None:
                return ready
            # Off the loop: reading the system's authorities takes tens of milliseconds.
            context = await asyncio.to_thread(tls.ssl_context, self.connection, own)
            self._tls = own, context
            return context

    def _ready_tls(self, own: connections.Credentials) -> ssl.SSLContext | None:
        if self._tls is None or not _same_certificate(self._tls[0], own):
            return None
        return self._tls[1]

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise errors.ConnectFailed(f"the client of {self.server} is closed")

    def _session(self, *, streaming: bool) -> aiohttp.ClientSession:
        self._refuse_if_closed()
        if streaming not in self._sessions:
            self._sessions[streaming] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0 if streaming else MAX_CONNECTIONS,
                    force_close=not self.keep_alive,
                    socket_factory=_keepalive_socket,
                    resolver=self._resolver,
                ),
                headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER,
                auto_decompress=False,
                trust_env=False,
                request_class=fence.FencedRequest,
            )
        return self._sessions[streaming]


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Large bodies as a stream: written in one piece they would hold up the loop."""
    return body if body is None or len(body) <= ONE_PIECE else io.BytesIO(body)


def _same_certificate(one: connections.Credentials, other: connections.Credentials) -> bool:
    return (one.client_cert, one.client_key) == (other.client_cert, other.client_key)


def _impersonation(who: connections.Impersonation) -> list[tuple[str, str]]:
    headers = [("Impersonate-User", who.user)] if who.user else []
    headers += [("Impersonate-Uid", who.uid)] if who.uid else []
    headers += [("Impersonate-Group", group) for group in who.groups]
    return headers + [(f"Impersonate-Extra-{name}", value) for name, value in who.extra]


def _keepalive_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = info
    made = socket.socket(family=family, type=kind, proto=protocol)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ):
        if hasattr(socket, option):  # not every system has all three
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
