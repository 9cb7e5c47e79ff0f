"""A proxy of bytes: TLS passes through, so client certificates work (tenants need that).

Runs in a thread of its own, like ``proxy.ApiProxy``; every method is synchronous.
"""

from __future__ import annotations

import asyncio
import time

from tests.support import background, listener

CHUNK = 65536


class TcpProxy(background.Served):
    """Forwards connections on a port of its own to ``host:port``."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[_Link] = set()
        self.accepted: list[float] = []
        """When each connection was accepted (monotonic)."""

    @property
    def port(self) -> int:
        """Where the proxy listens, on 127.0.0.1."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The same as an https address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def cut(self) -> None:
        """Reset all connections."""
        self._background.call(self._cut)

    def freeze(self) -> None:
        """Existing and new connections stay open and carry nothing: a black hole."""
        self._background.call(self._flow.clear)

    def thaw(self) -> None:
        """Carry bytes again, also those that waited."""
        self._background.call(self._flow.set)

    def refuse(self) -> None:
        """Reset all connections and refuse new ones: a dead server."""
        self._background.run(self._listener.refuse())
        self.cut()

    def accept(self) -> None:
        """Accept connections again."""
        self._background.run(self._listener.accept())

    async def _start(self) -> None:
        self._flow = asyncio.Event()
        self._flow.set()
        self._listener = listener.Listener(self._protocol)
        await self._listener.accept()

    async def _stop(self) -> None:
        await self._listener.close()
        self._cut()
        await asyncio.sleep(0)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._serve)

    def _cut(self) -> None:
        for link in tuple(self._links):
            link.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._flow.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            link.writers.append(far_writer)
            await asyncio.gather(
                self._pump(reader, far_writer),
                self._pump(far_reader, writer),
            )
        except OSError:
            pass  # one side is gone: the other one goes, too
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._flow.wait()
            writer.write(data)
            await writer.drain()
        await self._flow.wait()
        if writer.can_write_eof():
            writer.write_eof()


class _Link:
    """The two halves of one forwarded connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]

    def abort(self) -> None:
        """Reset both sides."""
        for writer in self.writers:
            writer.transport.abort()
