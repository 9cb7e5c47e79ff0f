"""A listening port that can refuse connections for a while without losing its number."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

BACKLOG = 128


class Listener:
    """Listens on 127.0.0.1; to be used within one event loop.

    One socket is bound to the port from beginning to end and never listens; those that listen
    come and go beside it (``SO_REUSEPORT``). So nobody else can get the port, not even for the
    moment between two of them.
    """

    def __init__(
        self, factory: Callable[[], asyncio.BaseProtocol] | None, tls: ssl.SSLContext | None = None
    ) -> None:
        assert factory is not None
        self._factory = factory
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._reserved = socket.socket()
        self._reserved.bind(("127.0.0.1", 0))
        # Only now: before, the kernel could have given us a port that others share.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port: int = self._reserved.getsockname()[1]

    async def accept(self) -> None:
        """Accept connections (from now on, or again)."""
        if self._server is not None:
            return
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", self.port))
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._factory, sock=sock, ssl=self._tls, backlog=BACKLOG
        )

    async def refuse(self) -> None:
        """Refuse connections; the port stays ours. Existing connections stay."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Give the port back."""
        await self.refuse()
        self._reserved.close()
