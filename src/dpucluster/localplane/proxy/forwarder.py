"""Listens on addresses, and carries bytes from there to where they lead."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import struct
from collections.abc import Mapping

from dpucluster.localplane.proxy import routes

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3.0
"""Seconds for a backend on this machine; the next one is tried then."""
CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: the peer sees a reset, as from a port where nobody listens."""


class Forwarder:
    """A table of routes that connections follow; it may change at any time."""

    def __init__(self) -> None:
        self._routes: dict[routes.Listen, routes.Route] = {}
        self._servers: dict[routes.Listen, asyncio.Server] = {}
        self._turn = itertools.count()

    async def follow(self, table: Mapping[routes.Listen, routes.Route]) -> None:
        """Listen on exactly what ``table`` has; connections under way are left alone."""
        self._routes = dict(table)
        for gone in self._servers.keys() - table.keys():
            self._servers.pop(gone).close()
        for listen in table.keys() - self._servers.keys():
            try:
                self._servers[listen] = await self._listen(listen)
            except OSError as error:
                # A program of this node has the port; it is tried again at the next change.
                log.warning("cannot listen", extra={"where": str(listen), "error": str(error)})

    async def _listen(self, listen: routes.Listen) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(listen, reader, writer)

        # Shared, because a cluster IP may have the number of a node port, which is everywhere.
        return await asyncio.start_server(
            accept, listen.address, listen.port, reuse_port=True, limit=CHUNK
        )

    async def _carry(
        self,
        listen: routes.Listen,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        route = self._routes.get(listen)
        here, peer = (writer.get_extra_info(name)[0] for name in ("sockname", "peername"))
        choices = route.choices(from_outside=here != peer) if route else ()
        turn = next(self._turn)
        for offset in range(len(choices)):
            backend = choices[(turn + offset) % len(choices)]
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    ends = await asyncio.open_connection(*backend, limit=CHUNK)
            except (OSError, TimeoutError):
                continue
            await join((reader, writer), ends)
            return
        reset(writer)


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: End, other: End) -> None:
    """Carry bytes both ways until both sides have ended, or one is cut."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(one[0], other[1]))
            group.create_task(_pump(other[0], one[1]))
    except* OSError:
        pass
    finally:
        for _, writer in (one, other):
            with contextlib.suppress(OSError):
                writer.transport.abort() if writer.transport.is_closing() else writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the way a port does where nobody listens."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
