"""A fence directly in front of the network: asked when everything else has been done.

To ask a guard before a request is written is not enough. The library writes the body in a task
of its own, the event loop hands it to the kernel at the end of its round, and a process that is
frozen in between sends it when it wakes, long after it should have gone silent. So the kernel is
told to hold the last bytes back, the guard is asked once more when all of them are there, and
only then they go. What remains is the moment between one function call and the next.

The kernel holds bytes back for 200 ms at most (where it can at all: Linux), counted from when it
got them, also while the process is frozen: late by no more than that, never by the length of a
freeze.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

import aiohttp

Guard = Callable[[], None]
"""Raises when what it guards must not be sent any more."""

CORK: Final = getattr(socket, "TCP_CORK", None)
ROUNDS: Final = 2
"""Of the event loop: the body's task runs in the first, uvloop hands its bytes over after it."""
DISCARD: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing throws away what the kernel still holds."""


class FencedRequest(aiohttp.ClientRequest):
    """Reaches the server as a whole only if ``guard`` (None: anything goes) lets it pass."""

    guard: Guard | None = None

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send it.

        Errors:
            What the guard raises; the connection is reset then.
        """
        if self.guard is None:
            return await super().send(conn)
        self.guard()
        _cork(conn, held=True)
        try:
            response = await super().send(conn)
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            self.guard()
        except BaseException:
            _discard(conn)
            raise
        _cork(conn, held=False)
        return response


def _cork(conn: aiohttp.connector.Connection, *, held: bool) -> None:
    if CORK is not None and (found := _socket(conn)) is not None:
        found.setsockopt(socket.IPPROTO_TCP, CORK, int(held))


def _discard(conn: aiohttp.connector.Connection) -> None:
    if (found := _socket(conn)) is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DISCARD)
    transport: Any = conn.transport  # uvloop's are no subclass of asyncio's
    if transport is not None:
        transport.abort()


def _socket(conn: aiohttp.connector.Connection) -> Any:
    """The socket of an open connection; what stands behind a transport has no common type."""
    transport = conn.transport
    if transport is None or transport.is_closing():
        return None
    return transport.get_extra_info("socket")
