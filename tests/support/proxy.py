"""A scriptable proxy in front of a real API server: where all faults of tests come from.

It ends TLS with a certificate of its own and forwards every request. A caller that shows the
token of ``kubeconfig()`` acts with the credentials of the upstream kubeconfig; any other
``Authorization`` is passed on as it is. Runs in a thread of its own; every method is synchronous
and may be called from a coroutine test, too (the proxy goes on meanwhile).

Watches are forwarded in whole lines: no fault cuts an event in two that is not told to.

Order of faults for one request: a held gate, then a frozen connection, then the first
``Fault`` that matches, then the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import pathlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp
import yarl
from aiohttp import web

from tests.support import background, certificates, journal, kubeconfigs, listener, upstream

TOKEN = "the-proxy-shall-use-its-own"
MAX_BODY = 16 * 2**20
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "host"})


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match.

    ``status`` answers without asking the server; with ``as_event`` the answer is a 200 whose
    body is one ERROR watch event of that status. ``delay`` waits before anything else. ``lose``
    lets the server do its work and cuts the connection instead of answering. ``hang`` never
    answers. ``empty`` answers 200 with an empty body (a watch that is closed at once).
    """

    match: journal.Match
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    as_event: bool = False
    delay: float = 0.0
    lose: bool = False
    hang: bool = False
    empty: bool = False


class ApiProxy(background.Served):
    """The proxy; a context manager that listens while it is entered."""

    def __init__(self, server: pathlib.Path | str) -> None:
        self._upstream = upstream.Upstream.read(pathlib.Path(server))
        self._authority = certificates.Authority("proxy-ca")
        self._faults: list[Fault] = []
        self._journal = journal.Journal()
        self._frozen: set[asyncio.BaseTransport] = set()
        self._watches: dict[web.StreamResponse, web.Request] = {}
        self._rate: float | None = None
        self._cuts_late = False
        """A connection that was in the middle of its handshake when all were cut is cut, too."""

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"https://127.0.0.1:{self._listener.port}"

    @property
    def ca_pem(self) -> bytes:
        """The authority that the proxy's clients must trust."""
        return self._authority.pem

    def kubeconfig(self, *, token: str = TOKEN) -> dict[str, Any]:
        """A kubeconfig that leads through the proxy (``token``: sent on as it is)."""
        return kubeconfigs.build(self.url, self.ca_pem, name="proxied", token=token)

    def write_kubeconfig(self, path: pathlib.Path) -> pathlib.Path:
        """``kubeconfig()`` as a file."""
        path.write_text(json.dumps(self.kubeconfig()))
        return path

    def requests(
        self,
        method: str = "",
        path: str = "",
        *,
        watch: bool | None = None,
        status: int | None = None,
        since: float = 0.0,
        until: float = math.inf,
    ) -> list[journal.Seen]:
        """The requests that match, oldest first (``path`` is searched; query not included)."""
        return self._journal.select(
            method, path, watch=watch, status=status, since=since, until=until
        )

    @property
    def open_watches(self) -> int:
        """How many watches stream at this moment."""
        return len(self._watches)

    def answer(
        self,
        status: int,
        *,
        times: int = 1,
        method: str = "",
        path: str = "",
        watch: bool | None = None,
        retry_after: int | None = None,
    ) -> Fault:
        """Answer the next ``times`` matching requests with ``status`` (a Status object)."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        match = journal.Match(method, path, watch)
        return self._add(Fault(match, times, status=status, headers=headers))

    def error_event(self, status: int = 410, *, times: int = 1, path: str = "") -> Fault:
        """Answer the next ``times`` watches with 200 and one ERROR event of ``status``."""
        return self._add(
            Fault(journal.Match("GET", path, True), times, status=status, as_event=True)
        )

    def empty_watches(self, *, times: int = 1, path: str = "") -> Fault:
        """Accept the next ``times`` watches and end them at once."""
        return self._add(Fault(journal.Match("GET", path, True), times, empty=True))

    def delay(
        self,
        seconds: float,
        *,
        times: int = 1,
        method: str = "",
        path: str = "",
        watch: bool | None = None,
    ) -> Fault:
        """Let the next ``times`` matching requests wait before they are forwarded."""
        return self._add(Fault(journal.Match(method, path, watch), times, delay=seconds))

    def lose_reply(self, *, times: int = 1, method: str = "", path: str = "") -> Fault:
        """Let the server do what is asked, and cut the connection instead of answering."""
        return self._add(Fault(journal.Match(method, path), times, lose=True))

    def hang(
        self, *, times: int = 1, method: str = "", path: str = "", watch: bool | None = None
    ) -> Fault:
        """Never answer the next ``times`` matching requests."""
        return self._add(Fault(journal.Match(method, path, watch), times, hang=True))

    def clear(self) -> None:
        """Forget all faults, thaw, full speed, open the gate, accept connections."""
        self._background.run(self._clear())

    def cut_watches(self, path: str = "", *, half_line: bool = False) -> int:
        """Cut all open watches (after half of an event's line, if wanted); how many there were."""
        return self._background.run(self._cut_watches(path, half_line=half_line))

    def end_watches(self, path: str = "", *, error: int | None = None) -> int:
        """End all open watches as a server does (after an ERROR event); how many there were."""
        return self._background.run(self._end_watches(path, error))

    def cut_all(self) -> None:
        """Cut every connection."""
        self._background.call(self._cut_all)

    def freeze(self) -> None:
        """Existing connections stay open and say nothing more; new ones work (half-open)."""
        self._background.call(self._freeze)

    def trickle(self, bytes_per_second: float | None) -> None:
        """Answer that slowly from now on (None: at full speed)."""
        self._rate = bytes_per_second

    def refuse(self, *, cut: bool = True) -> None:
        """Refuse new connections, and cut the existing ones unless told otherwise."""
        self._background.run(self._refuse(cut=cut))

    def accept(self) -> None:
        """Accept connections again."""
        self._background.run(self._accept())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No new request is forwarded or answered inside of this block."""
        self._background.call(self._gate.clear)
        try:
            yield
        finally:
            self._background.call(self._gate.set)

    def _add(self, fault: Fault) -> Fault:
        self._background.call(lambda: self._faults.append(fault))
        return fault

    async def _start(self) -> None:
        self._gate = asyncio.Event()
        self._gate.set()
        self._thawed = asyncio.Event()
        self._own = self._upstream.session(with_credentials=True)
        self._plain = self._upstream.session(with_credentials=False)
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=3600,
            shutdown_timeout=0.1,
        )
        await self._runner.setup()
        tls = certificates.server_context(self._authority.server("127.0.0.1", "localhost"))
        self._listener = listener.Listener(self._runner.server, tls)
        await self._listener.accept()

    async def _stop(self) -> None:
        await self._listener.close()
        self._cut_all()
        await self._runner.cleanup()
        await self._own.close()
        await self._plain.close()
        await asyncio.sleep(0.05)  # TLS transports of the sessions close in the next iterations

    async def _refuse(self, *, cut: bool) -> None:
        await self._listener.refuse()
        self._cuts_late = cut
        if cut:
            self._cut_all()

    async def _accept(self) -> None:
        self._cuts_late = False
        await self._listener.accept()

    async def _clear(self) -> None:
        self._faults.clear()
        self._frozen.clear()
        self._thawed.set()
        self._rate = None
        self._gate.set()
        await self._accept()

    def _freeze(self) -> None:
        self._thawed.clear()
        self._frozen.update(self._transports())

    def _transports(self) -> list[asyncio.BaseTransport]:
        server = self._runner.server
        handlers = server.connections if server is not None else []
        return [h.transport for h in handlers if h.transport is not None]

    def _cut_all(self) -> None:
        for transport in self._transports():
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    def _open(self, path: str) -> list[tuple[web.StreamResponse, web.Request]]:
        match = journal.Match(path=path)
        return [(w, r) for w, r in self._watches.items() if match.accepts(_seen(r))]

    async def _cut_watches(self, path: str, *, half_line: bool) -> int:
        found = self._open(path)
        for response, _ in found if half_line else ():
            del self._watches[response]  # what the server says meanwhile must not end the line
            await response.write(b'{"type":"MODIFIED","object":{"kind":"Na')
        for _, request in found:
            if half_line:
                await _flushed(request)
            _abort(request)
        return len(found)

    async def _end_watches(self, path: str, error: int | None) -> int:
        found = self._open(path)
        for response, _ in found:
            del self._watches[response]
            if error is not None:
                await response.write(upstream.error_event(error))
            await response.write_eof()
        return len(found)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = _seen(request)
        if self._cuts_late:
            _cut(request, seen)
        self._journal.add(seen)
        await self._gate.wait()
        await self._silent_if_frozen(request)
        fault = self._take(seen)
        if fault is not None:
            response = await self._fail(request, seen, fault)
            if response is not None:
                return response
        try:
            return await self._forward(request, seen, lose=fault is not None and fault.lose)
        except (aiohttp.ClientError, OSError):
            _cut(request, seen)

    def _take(self, seen: journal.Seen) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.match.accepts(seen):
                fault.times -= 1
                return fault
        return None

    async def _fail(
        self, request: web.Request, seen: journal.Seen, fault: Fault
    ) -> web.StreamResponse | None:
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await asyncio.Event().wait()
        if fault.empty:
            seen.status = 200
            return web.Response(content_type="application/json")
        if fault.status == 0:
            return None
        await request.read()
        seen.status = 200 if fault.as_event else fault.status
        answer = upstream.error_event if fault.as_event else upstream.status
        return web.Response(
            body=answer(fault.status),
            status=seen.status,
            headers=fault.headers,
            content_type="application/json",
        )

    async def _forward(
        self, request: web.Request, seen: journal.Seen, *, lose: bool
    ) -> web.StreamResponse:
        own = request.headers.get("Authorization", f"Bearer {TOKEN}") == f"Bearer {TOKEN}"
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        if own:
            headers.pop("Authorization", None)
        url = yarl.URL(self._upstream.server + request.raw_path, encoded=True)
        session = self._own if own else self._plain
        async with session.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            if lose:
                if not seen.is_watch:  # which would end in minutes
                    await answer.read()
                _cut(request, seen)
            return await self._stream(request, seen, answer)

    async def _stream(
        self, request: web.Request, seen: journal.Seen, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        seen.status = answer.status
        await self._silent_if_frozen(request)
        await response.prepare(request)
        if seen.is_watch:
            self._watches[response] = request
        try:
            data = _lines(answer) if seen.is_watch else answer.content.iter_any()
            async for piece in self._pieces(data):
                await self._silent_if_frozen(request)
                if seen.is_watch and response not in self._watches:
                    return response  # ended by end_watches
                await response.write(piece)
        finally:
            self._watches.pop(response, None)
        await self._silent_if_frozen(request)
        await response.write_eof()
        return response

    async def _pieces(self, whole: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in whole:
            rest = data
            while self._rate is not None and rest:
                step = max(1, int(self._rate / 20))
                yield rest[:step]
                rest = rest[step:]
                await asyncio.sleep(step / self._rate)
            if rest:
                yield rest

    async def _silent_if_frozen(self, request: web.Request) -> None:
        while request.transport in self._frozen:
            await self._thawed.wait()


def _seen(request: web.Request) -> journal.Seen:
    return journal.Seen(
        at=journal.now(),
        method=request.method,
        path=request.path,
        query=dict(request.query),
        user_agent=request.headers.get("User-Agent", ""),
    )


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The answer as it comes, but never a part of a line; what has no end comes at the end."""
    rest = b""
    async for data in answer.content.iter_any():
        whole, end, begun = data.rpartition(b"\n")
        if end:
            yield rest + whole + end
            rest = begun
        else:
            rest += begun
    if rest:
        yield rest


async def _flushed(request: web.Request) -> None:
    """Return when the kernel has what was written: an abort throws away what it has not."""
    transport = request.transport
    while isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _cut(request: web.Request, seen: journal.Seen) -> NoReturn:
    if seen.status == journal.PENDING:
        seen.status = journal.CUT
    _abort(request)
    raise asyncio.CancelledError
