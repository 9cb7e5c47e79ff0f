"""A listening port that can refuse connections for a while without losing its number."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

BACKLOG = 128


class Listener:
    """Listens on 127.0.0.1; to be used within one event loop."""

    def __init__(
        self, factory: Callable[[], asyncio.BaseProtocol] | None, tls: ssl.SSLContext | None = None
    ) -> None:
        assert factory is not None
        self._factory = factory
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = _bound(0)
        self.port: int = self._reserved.getsockname()[1]

    async def accept(self) -> None:
        """Accept connections (from now on, or again)."""
        if self._server is not None:
            return
        sock = self._reserved or _bound(self.port)
        self._reserved = None
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
        self._reserved = _bound(self.port)

    async def close(self) -> None:
        """Give the port back."""
        await self.refuse()
        if self._reserved is not None:
            self._reserved.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
