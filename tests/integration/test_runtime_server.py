"""The server of metrics and probes, asked over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket

import pytest

from dpucluster import errors
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import server
from tests.support.patience import PATIENCE

ANY = "127.0.0.1:0"


def serving(**options: object) -> server.Server:
    given = {"metrics_address": ANY, "probes_address": ANY, **options}
    return server.Server(runtime_metrics.Metrics(), **given)  # type: ignore[arg-type]  # options of a test


async def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body; asked from a thread, as the loop serves."""

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_metrics() -> None:
    """Metrics are served in the text format, on their own port only."""
    async with serving() as running:
        status, text = await fetch(running.metrics_port, "/metrics")
        assert 200 == status
        assert "# TYPE workqueue_depth gauge" in text
        assert (404, 404) == (
            (await fetch(running.probes_port, "/metrics"))[0],
            (await fetch(running.metrics_port, "/healthz"))[0],
        )


async def test_probes() -> None:
    """Readiness follows its checks, liveness does not; each check can be asked by name."""
    ready = {"caches": False}
    async with serving(checks={"caches": lambda: ready["caches"]}) as running:
        port = running.probes_port
        for path in ("/healthz", "/livez", "/healthz/ping", "/readyz/ping"):
            assert (200, "ok") == await fetch(port, path)
        status, text = await fetch(port, "/readyz")
        assert 503 == status
        assert "[-]caches failed: reason withheld" in text
        assert 503 == (await fetch(port, "/readyz/caches"))[0]
        ready["caches"] = True
        assert (200, "ok") == await fetch(port, "/readyz")
        assert (200, "[+]ping ok\n[+]caches ok\nreadyz check passed\n") == await fetch(
            port, "/readyz?verbose"
        )
        assert 404 == (await fetch(port, "/readyz/nothing"))[0]
        assert 405 == (await fetch(port, "/readyz", "POST"))[0]


async def test_failing_check(caplog: pytest.LogCaptureFixture) -> None:
    """A check that raises has failed; the server goes on."""
    async with serving(checks={"odd": lambda: bool(1 // 0)}) as running:
        assert 503 == (await fetch(running.probes_port, "/readyz"))[0]
        assert 200 == (await fetch(running.probes_port, "/healthz"))[0]
    assert "check failed unexpectedly" in caplog.messages


async def test_off() -> None:
    """The address 0 means that nothing listens."""
    async with serving(metrics_address="0", probes_address="0") as running:
        assert (0, 0) == (running.metrics_port, running.probes_port)


async def test_port_taken() -> None:
    """A port that is taken is said clearly, and what was already opened is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        nobodys = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.1"  # noqa: S311 - any other
        with pytest.raises(errors.ConfigError, match=f"cannot listen on {address}"):
            async with serving(metrics_address=f"{nobodys}:{port}", probes_address=address):
                pytest.fail("it listens on a port that is taken")
        socket.create_server((nobodys, port)).close()


async def test_lag_is_measured() -> None:
    """The heart beats while the server runs."""
    made = serving()
    async with made as running:
        async with asyncio.timeout(PATIENCE):
            text = ""
            while "dpucluster_event_loop_lag_seconds " not in text:
                _, text = await fetch(running.metrics_port, "/metrics")
