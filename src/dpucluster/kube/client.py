"""Typed requests to one API server. Every failure is one of ``dpucluster.errors``."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import sys
import urllib.parse
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

import dpucluster
from dpucluster import errors
from dpucluster.api import contract
from dpucluster.kube import connection as connections
from dpucluster.kube import exchange, transport, wire
from dpucluster.kube.exchange import RawResponse
from dpucluster.kube.resource import Resource
from dpucluster.kube.wire import (
    Added,
    Bookmark,
    Deleted,
    Listing,
    Modified,
    Undecodable,
    WatchEvent,
)

__all__ = [
    "Added",
    "Bookmark",
    "Client",
    "Deleted",
    "Listing",
    "Modified",
    "RawResponse",
    "Undecodable",
    "WatchEvent",
]

T = TypeVar("T")

USER_AGENT: Final = f"dpucluster/{dpucluster.__version__} ({sys.platform})"

MAX_REPLY: Final = 2**30
"""Bytes of an answer that are read at most; a page of 500 objects of 1.4 MB still passes."""
MAX_RAW: Final = 2**20
"""Bytes that ``raw`` reads at most, unless told otherwise."""
MAX_LINE: Final = 2**25
"""Bytes of one watch event at most: far above what etcd can hold, also when fully escaped."""

_MERGE_PATCH: Final = "application/merge-patch+json"
_APPLY_PATCH: Final = "application/apply-patch+yaml"


class Client:
    """Requests to the API server of ``connection``. Close it, or use it as a context manager.

    ``timeout`` bounds each request but watches; ``max_reply`` the bytes of its answer. Without
    ``keep_alive`` every request has a connection of its own.

    Guarantees:
        At most 32 ordinary requests are under way; watches are not counted. With a guard every
        write asks it after a connection was got, directly before the first byte is sent. Reads
        are repeated a few times when the server asks for patience, writes never.

    Errors:
        ``ApiError`` and its kinds, ``TransportError`` and its kinds, ``DecodeError``;
        ``ConfigError`` when credentials cannot be had; whatever the guard raises.
    """

    def __init__(
        self,
        connection: connections.Connection,
        *,
        timeout: float = 30.0,
        user_agent: str = USER_AGENT,
        guard: transport.Guard | None = None,
        observe: exchange.Observer | None = None,
        keep_alive: bool = True,
        max_reply: int = MAX_REPLY,
    ) -> None:
        self.connection = connection
        own = transport.Transport(connection, user_agent, keep_alive)
        self._owned: transport.Transport | None = own
        self._exchange = exchange.Exchange(own, timeout, max_reply, guard, observe)

    def fenced(self, guard: transport.Guard) -> Client:
        """The same client, the same connections; ``guard`` is asked before every write.

        The guard raises what the write shall raise (``LeadershipLost``). Closing the original
        closes both; closing this one does nothing.
        """
        other: Client = copy.copy(self)
        other._owned = None
        other._exchange = dataclasses.replace(self._exchange, guard=guard)
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def disconnect(self) -> None:
        """Close every connection now and forget the TLS context; the next request makes both anew.

        Where a server is asked rarely, 2 ms of CPU each time cost less than an idle connection and
        a context do in memory.
        """
        await self._exchange.pool.disconnect()

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        if self._owned is not None:
            await self._owned.aclose()

    # Reading

    async def get(
        self, resource: Resource[T], name: str, namespace: str = "", *, not_older_than: str = ""
    ) -> T:
        """One object: the newest, or with ``not_older_than`` at least that resourceVersion.

        The latter the server takes from its cache; for the newest it has to ask etcd.
        """
        params = {"resourceVersion": not_older_than}
        call = exchange.call("GET", resource, namespace, name, params=params)
        return wire.decode(resource, await self._exchange.read(call))

    async def list(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
    ) -> Listing[T]:
        """All objects, fetched in pages of ``limit``.

        Should the pages expire while being read, everything is asked for again in one piece.
        """
        items: list[T] = []
        bad: list[Undecodable] = []
        continue_ = ""
        while True:
            try:
                page = await self.list_page(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=limit,
                    continue_=continue_,
                )
            except errors.Gone:
                if not continue_:
                    raise
                items, bad, continue_, limit = [], [], "", 0
                continue
            items += page.items
            bad += page.undecodable
            continue_ = page.continue_
            if not continue_:
                return Listing(items, bad, page.resource_version, remaining=0)

    async def list_page(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_: str = "",
    ) -> Listing[T]:
        """One page of at most ``limit`` objects (0: all there are)."""
        call = exchange.call(
            "GET",
            resource,
            namespace,
            verb="LIST",
            params={
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "limit": limit,
                "continue": continue_,
            },
        )
        return wire.decode_list(resource, await self._exchange.read(call))

    async def watch(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        server_timeout: int = 290,
        silence: float = 120.0,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Changes since ``resource_version``, until the server ends the watch.

        Use it under ``contextlib.aclosing`` when it may be left before its end. A server that is
        alive sends a bookmark about once a minute (measured: every 60 s, to idle kinds, too), so
        ``silence`` seconds without a byte mean that it is gone; go on from the last version then.

        Raises:
            Gone: the version is too old; list again.
            TimedOut: nothing came for ``silence`` seconds.
            ConnectFailed: the stream was cut, possibly inside an event.
        """
        call = exchange.call(
            "GET",
            resource,
            namespace,
            verb="WATCH",
            params={
                "watch": True,
                "allowWatchBookmarks": True,
                "resourceVersion": resource_version,
                "timeoutSeconds": server_timeout,
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
            },
        )
        lines = wire.Lines()
        async with contextlib.aclosing(self._exchange.stream(call, silence)) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    event = wire.decode_event(resource, line)
                    if isinstance(event, wire.Status):
                        raise self._exchange.ended(call, event)
                    yield event
                if len(lines.rest) > MAX_LINE:
                    raise errors.DecodeError(f"{call.what}: an event has no end")
        if lines.rest.strip():
            raise errors.ConnectFailed(f"{call.what}: cut off inside an event")

    # Writing

    async def create(
        self, resource: Resource[T], obj: T | Mapping[str, Any], namespace: str = ""
    ) -> T:
        """Create an object; AlreadyExists when there is one of its name."""
        call = exchange.call(
            "POST",
            resource,
            namespace,
            params={"fieldManager": contract.FIELD_MANAGER},
            body=wire.encode(resource, obj),
        )
        return wire.decode(resource, await self._exchange.once(call))

    async def merge_patch(
        self,
        resource: Resource[T],
        name: str,
        patch: Mapping[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> T:
        """Change fields; with ``metadata.resourceVersion`` in the patch, of that version only."""
        call = exchange.call(
            "PATCH",
            resource,
            namespace,
            name,
            subresource=subresource,
            params={"fieldManager": contract.FIELD_MANAGER},
            body=msgspec.json.encode(patch),
            content_type=_MERGE_PATCH,
        )
        return wire.decode(resource, await self._exchange.once(call))

    async def apply(
        self,
        resource: Resource[T],
        name: str,
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        field_manager: str = contract.FIELD_MANAGER,
        force: bool = True,
        subresource: str = "",
    ) -> T:
        """Server-side apply; with ``metadata.uid`` in ``obj`` it never creates."""
        metadata = {"name": name, **obj.get("metadata", {})}
        call = exchange.call(
            "PATCH",
            resource,
            namespace,
            name,
            verb="APPLY",
            subresource=subresource,
            params={"fieldManager": field_manager, "force": force},
            body=wire.encode(resource, {**obj, "metadata": metadata}),
            content_type=_APPLY_PATCH,
        )
        return wire.decode(resource, await self._exchange.once(call))

    async def replace(
        self,
        resource: Resource[T],
        name: str,
        obj: T | Mapping[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> T:
        """Put ``obj`` in place of what is there; what its type does not model is lost."""
        call = exchange.call(
            "PUT",
            resource,
            namespace,
            name,
            subresource=subresource,
            params={"fieldManager": contract.FIELD_MANAGER},
            body=wire.encode(resource, obj),
        )
        return wire.decode(resource, await self._exchange.once(call))

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None:
        """Ask for deletion, of exactly ``uid`` and ``resource_version`` where given (else 409)."""
        exactly = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {k: v for k, v in exactly.items() if v} or None,
            "propagationPolicy": propagation or None,
        }
        body = msgspec.json.encode({k: v for k, v in options.items() if v})
        await self._exchange.once(exchange.call("DELETE", resource, namespace, name, body=body))

    # Anything else

    async def raw(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,  # noqa: ASYNC109  (a limit of the request, as in __init__)
        max_bytes: int = MAX_RAW,
    ) -> RawResponse:
        """Any request; an answer of any status is returned as it is.

        At most ``max_bytes`` of the body are read. ``timeout`` covers all of it, also a body that
        never ends (TimedOut), unless ``max_bytes`` came first.
        """
        target = path + ("?" + urllib.parse.urlencode(params) if params else "")
        call = exchange.Call(f"{method} {path}", method, target, "*/*", body, content_type)
        seconds = self._exchange.timeout if timeout is None else timeout
        return await self._exchange.raw(call, max_bytes, seconds)
