"""One call and its answer: time limits, size limits, patience, failures.

Reads are repeated a few times when the server asks for patience (429, or 503 with
``Retry-After``). Writes never are: whether to write again is for the caller to say, who may have
to look first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from dpucluster import errors
from dpucluster.kube import failures, transport, wire
from dpucluster.kube.resource import Resource

log = logging.getLogger(__name__)
"""One debug line for each request; ``runtime.log`` shows them from the second ``-v`` on."""

MAX_ERROR: Final = 2**16
"""Bytes of a failure that are read at most."""
READ_ATTEMPTS: Final = 5
"""How often a read is sent in all while the server asks for patience."""
MIN_PATIENCE: Final = 0.1
MAX_PATIENCE: Final = 10.0
"""Seconds waited for one ``Retry-After``; a server that asks for more gets the error told."""

NO_ANSWER: Final = "<error>"
"""Told in place of a status when there was none."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Observer = Callable[[str, str, str], None]
"""Called with (method, server, status or ``NO_ANSWER``) after each request, for metrics."""


@dataclass(frozen=True)
class RawResponse:
    """An answer of any status; ``truncated`` when there was more of it than was to be read."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    truncated: bool = False


@dataclass(frozen=True)
class Call:
    """One request, ``what`` in the words of messages."""

    what: str
    method: str
    target: str
    accept: str = "application/json"
    body: bytes | None = None
    content_type: str = "application/json"


def call(
    method: str,
    resource: Resource[Any],
    namespace: str = "",
    name: str = "",
    *,
    subresource: str = "",
    verb: str = "",
    params: Mapping[str, str | int | bool] | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
) -> Call:
    """The call for one resource; ``params`` without a value are left out."""
    told = {k: _text(v) for k, v in (params or {}).items() if v}
    query = "?" + urllib.parse.urlencode(told) if told else ""
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    subject = "/".join(part for part in (namespace, name) if part)
    return Call(
        f"{verb or method} {plural} {subject}".rstrip(),
        method,
        resource.path(namespace, name, subresource) + query,
        _accept(resource, whole_list=not name and method == "GET" and verb != "WATCH"),
        body,
        content_type,
    )


def _text(value: str | int | bool) -> str:
    return "true" if value is True else str(value)


def _accept(resource: Resource[Any], *, whole_list: bool) -> str:
    if not resource.metadata_only:
        return "application/json"
    kind = "PartialObjectMetadataList" if whole_list else "PartialObjectMetadata"
    return f"application/json;as={kind};g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Exchange:
    """Sends calls over ``pool``. ``guard`` is asked before every write."""

    pool: transport.Transport
    timeout: float
    max_reply: int
    guard: transport.Guard | None = None
    observe: Observer | None = None

    async def read(self, what: Call) -> bytes:
        """The body of a successful answer, repeated while the server asks for patience."""
        for _ in range(READ_ATTEMPTS - 1):
            try:
                return await self.once(what)
            except (errors.TooManyRequests, errors.ServerError) as error:
                wait = _patience(error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        return await self.once(what)

    async def once(self, what: Call) -> bytes:
        """The body of a successful answer, asked for once."""
        answer = await self.raw(what, self.max_reply, self.timeout)
        if not 200 <= answer.status < 300:
            raise self._failure(what, answer.status, answer.body, answer.headers)
        if answer.truncated:
            raise errors.DecodeError(f"{what.what}: answer larger than {self.max_reply} bytes")
        return answer.body

    async def raw(self, what: Call, max_bytes: int, seconds: float) -> RawResponse:
        """An answer of any status, all of it within ``seconds``."""
        began = time.monotonic()
        try:
            async with self._within(what, seconds):
                answer = await self._whole(what, max_bytes)
        except errors.TransportError:
            self._tell(what, NO_ANSWER, began)
            raise
        self._tell(what, str(answer.status), began)
        return answer

    async def stream(self, what: Call, silence: float) -> AsyncGenerator[bytes, None]:
        """The body of a successful answer as it comes; ``silence`` seconds without end it."""
        request = self._request(what, streaming=True)
        began = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with self._within(what, self.timeout):
                    response = await stack.enter_async_context(self.pool.send(request))
            except errors.TransportError:
                self._tell(what, NO_ANSWER, began)
                raise
            self._tell(what, str(response.status), began)
            if response.status != 200:
                async with self._within(what, self.timeout):
                    body, _ = await _body(response, MAX_ERROR)
                shown = self.pool.redact(body)
                raise self._failure(what, response.status, shown, response.headers)
            while chunk := await self._chunk(what, response, silence):
                yield chunk

    def ended(self, what: Call, status: wire.Status) -> errors.ApiError:
        """The exception for a Status that ended a stream."""
        text = self.pool.redact((status.message or "").encode()).decode()
        return failures.from_status(what.what, msgspec.structs.replace(status, message=text))

    async def _chunk(self, what: Call, response: aiohttp.ClientResponse, silence: float) -> bytes:
        async with self._within(what, silence):
            return await response.content.readany()

    @contextlib.asynccontextmanager
    async def _within(self, what: Call, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds) as clock:
                yield
        except TimeoutError:
            if not clock.expired():
                raise
            raise failures.timed_out(what.what, self.pool.server, seconds) from None

    async def _whole(self, what: Call, max_bytes: int) -> RawResponse:
        async with self.pool.send(self._request(what)) as response:
            bound = max_bytes if response.status < 400 else min(max_bytes, MAX_ERROR)
            body, truncated = await _body(response, bound)
            shown = self.pool.redact(body)
            return RawResponse(response.status, shown, response.headers, truncated)

    def _request(self, what: Call, *, streaming: bool = False) -> transport.Request:
        headers = [("Accept", what.accept)]
        if what.body is not None:
            headers.append(("Content-Type", what.content_type))
        guard = None if what.method in _READS else self.guard
        return transport.Request(
            what.what, what.method, what.target, tuple(headers), what.body, guard, streaming
        )

    def _failure(
        self, what: Call, status: int, body: bytes, headers: Mapping[str, str]
    ) -> errors.ApiError:
        retry_after = _retry_after(headers.get("Retry-After", ""))
        return failures.from_answer(what.what, status, body, retry_after=retry_after)

    def _tell(self, what: Call, code: str, began: float) -> None:
        if self.observe is not None:
            self.observe(what.method, self.pool.server, code)
        if log.isEnabledFor(logging.DEBUG):
            path, _, _ = what.target.partition("?")
            took = round(1000 * (time.monotonic() - began))
            fields = {"method": what.method, "path": path, "status": code, "milliseconds": took}
            log.debug("request", extra={**fields, "server": self.pool.server})


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """At most ``max_bytes`` of the body, and whether there was more."""
    read = bytearray()
    while len(read) <= max_bytes and (chunk := await response.content.readany()):
        read += chunk
    return bytes(read[:max_bytes]), len(read) > max_bytes


def _retry_after(header: str) -> float | None:
    with contextlib.suppress(ValueError):  # a date: no API server sends one
        return max(0.0, float(int(header)))
    return None


def _patience(error: errors.ApiError) -> float | None:
    """Seconds until the read may be sent again; None when it should not be."""
    wait = error.retry_after
    if wait is None and error.status == 429:
        wait = 1.0
    return max(wait, MIN_PATIENCE) if wait is not None and wait <= MAX_PATIENCE else None
