"""What the process says of itself over HTTP: metrics, liveness, readiness.

The answers are those of Kubernetes' own components, so that probes, ``curl`` and people read them
as they are used to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from dpucluster import errors
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import metrics as runtime_metrics

log = logging.getLogger(__name__)

BEAT: Final = 1.0
"""Seconds between two heart-beats of the event loop."""

DEAD_AFTER: Final = 10.0
"""Seconds without a heart-beat after which the process had better be restarted: by then a leader
has lost its Lease."""

OFF: Final = "0"
"""As an address: do not listen."""

Check = Callable[[], bool]
"""Whether something is as it should be; returns at once."""


class Heart:
    """Beats in the event loop: late beats show that something blocks it."""

    def __init__(self, clock: clocks.Clock, metrics: runtime_metrics.Metrics) -> None:
        self._clock = clock
        self._lag = metrics.loop_lag
        self._last = clock.monotonic()

    @property
    def is_alive(self) -> bool:
        """Whether the last beat was not long ago."""
        return self._clock.monotonic() - self._last < DEAD_AFTER

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last = self._clock.monotonic()
            await self._clock.sleep(BEAT)
            self._lag.set(max(0.0, self._clock.monotonic() - self._last - BEAT))


class Server:
    """Listens while it is entered.

    ``/metrics`` on one address; ``/healthz`` (and ``/livez``) and ``/readyz`` on the other, each
    with ``?verbose`` and with the name of one check behind it. ``0`` as an address: off.

    Raises:
        ConfigError: on entering, when an address makes no sense or cannot be listened on.
    """

    def __init__(
        self,
        metrics: runtime_metrics.Metrics,
        *,
        metrics_address: str = ":8080",
        probes_address: str = ":8081",
        checks: Mapping[str, Check] | None = None,
        clock: clocks.Clock = clocks.SYSTEM,
    ) -> None:
        self._metrics = metrics
        self._metrics_address = metrics_address
        self._probes_address = probes_address
        self._heart = Heart(clock, metrics)
        self._healthz: dict[str, Check] = {"ping": lambda: self._heart.is_alive}
        self._readyz: dict[str, Check] = self._healthz | dict(checks or {})
        self._stack = contextlib.AsyncExitStack()
        self.metrics_port = 0
        self.probes_port = 0

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            beat = asyncio.create_task(self._heart.beat(), name="heart-beat")
            stack.push_async_callback(_end, beat)
            self.metrics_port = await _serve(stack, self._metrics_address, self._metrics_app())
            self.probes_port = await _serve(stack, self._probes_address, self._probes_app())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _metrics_app(self) -> web.Application:
        async def expose(_request: web.Request) -> web.Response:
            text = self._metrics.expose()
            return web.Response(
                body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            )

        app = web.Application()
        app.router.add_get("/metrics", expose)
        return app

    def _probes_app(self) -> web.Application:
        app = web.Application()
        for name, checks in (
            ("healthz", self._healthz),
            ("livez", self._healthz),
            ("readyz", self._readyz),
        ):
            handler = _probe(name, checks)
            app.router.add_get(f"/{name}", handler)
            app.router.add_get(f"/{name}/{{check}}", handler)
        return app


def parse_address(address: str) -> tuple[str | None, int]:
    """Host (None: all) and port of ``:8080``, ``127.0.0.1:8080`` or ``[::1]:8080``.

    Raises:
        ConfigError: it is none of these.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise errors.ConfigError(f"bind address {address!r}: write IPv6 as [address]:port")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise errors.ConfigError(
            f'bind address {address!r}: must be host:port, :port, or "0" (off)'
        )
    return host or None, int(port)


def report(name: str, verdicts: Mapping[str, bool], *, verbose: bool) -> tuple[int, str]:
    """Pure: status and body, as a Kubernetes API server words them."""
    healthy = all(verdicts.values())
    if healthy and not verbose:
        return 200, "ok"
    lines = [
        f"[+]{check} ok" if ok else f"[-]{check} failed: reason withheld"
        for check, ok in verdicts.items()
    ]
    verdict = "passed" if healthy else "failed"
    return (200 if healthy else 503), "\n".join([*lines, f"{name} check {verdict}", ""])


def _probe(
    name: str, checks: Mapping[str, Check]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        only = request.match_info.get("check")
        if only is not None and only not in checks:
            raise web.HTTPNotFound
        asked = checks if only is None else {only: checks[only]}
        verdicts = {check: _ask(ask) for check, ask in asked.items()}
        status, text = report(name, verdicts, verbose="verbose" in request.query)
        return web.Response(status=status, text=text)

    return answer


def _ask(check: Check) -> bool:
    try:
        return check()
    except Exception:
        log.exception("check failed unexpectedly")
        return False


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def _serve(stack: contextlib.AsyncExitStack, address: str, app: web.Application) -> int:
    """Listen until ``stack`` is closed; the port, which may have been left to the system."""
    if address == OFF:
        return 0
    host, port = parse_address(address)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise errors.ConfigError(
            f"cannot listen on {address}: {error.strerror or error}; "
            'choose another bind address, or "0" for none'
        ) from error
    return int(runner.addresses[0][1])
