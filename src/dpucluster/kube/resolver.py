"""Names to addresses, each in a thread of its own.

The event loop's thread pool has a handful of threads, and the system's resolver blocks each for up
to 30 s when a name server is silent: a few tenants with such names would stop every other lookup,
and whatever else is done off the loop. A thread costs 0.1 ms; a lookup comes with a TLS handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

from aiohttp import abc

_Question = tuple[str, int, int]


class Resolver(abc.AbstractResolver):
    """The system's resolver.

    A name that is being looked up is not looked up again at the same time, so one that hangs holds
    one thread, however often it is asked for. Threads are daemons: none keeps a process from
    ending.
    """

    def __init__(self) -> None:
        self._running: dict[_Question, asyncio.Future[list[abc.ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[abc.ResolveResult]:
        """The addresses of ``host``; OSError when there are none."""
        question = (host, port, int(family))
        running = self._running.get(question)
        if running is None:
            running = self._start(question)
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Nothing to do: threads end with their lookups."""

    def _start(self, question: _Question) -> asyncio.Future[list[abc.ResolveResult]]:
        answer: asyncio.Future[list[abc.ResolveResult]]
        answer = asyncio.get_running_loop().create_future()
        try:
            threading.Thread(
                target=_answer, args=(question, answer), name=f"lookup-{question[0]}", daemon=True
            ).start()
        except RuntimeError as error:
            raise OSError(f"no thread to look up {question[0]}: {error}") from error
        self._running[question] = answer
        answer.add_done_callback(lambda answer: self._answered(question, answer))
        return answer

    def _answered(
        self, question: _Question, answer: asyncio.Future[list[abc.ResolveResult]]
    ) -> None:
        del self._running[question]
        if not answer.cancelled():
            answer.exception()  # everybody who asked may have gone since


def _answer(question: _Question, future: asyncio.Future[list[abc.ResolveResult]]) -> None:
    """Runs in the thread."""
    found: list[abc.ResolveResult] = []
    failed: OSError | UnicodeError | None = None
    try:
        found = _lookup(*question)
    except (OSError, UnicodeError) as error:
        failed = error

    def tell() -> None:
        if failed is not None:
            future.set_exception(
                OSError("no valid host name") if isinstance(failed, UnicodeError) else failed
            )
        else:
            future.set_result(found)

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        future.get_loop().call_soon_threadsafe(tell)


def _lookup(host: str, port: int, family: int) -> list[abc.ResolveResult]:
    infos = socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [_result(host, port, info) for info in infos]


def _result(
    host: str, port: int, info: tuple[socket.AddressFamily, int, int, str, Any]
) -> abc.ResolveResult:
    family, _, protocol, _, address = info
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    shown, _ = socket.getnameinfo(address, numeric)  # keeps the zone of a link-local address
    return abc.ResolveResult(
        hostname=host,
        host=shown,
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
