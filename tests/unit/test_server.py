"""Probes: what they say, and when the process counts as dead."""

from __future__ import annotations

import asyncio

import pytest

from dpucluster import errors
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.runtime import server
from tests.support.clock import FakeClock

ADDRESSES = {
    ":8080": (None, 8080),
    "127.0.0.1:0": ("127.0.0.1", 0),
    "localhost:65535": ("localhost", 65535),
    "[::1]:8081": ("::1", 8081),
}


@pytest.mark.parametrize(("address", "wanted"), ADDRESSES.items())
def test_address(address: str, wanted: tuple[str | None, int]) -> None:
    """Addresses are written as controller-runtime's flags take them."""
    assert wanted == server.parse_address(address)


@pytest.mark.parametrize("address", ["", "8080", "::1:80", "a:b", ":", ":65536", ":-1", "a:²"])
def test_bad_address(address: str) -> None:
    """An address that makes no sense is refused with what would."""
    with pytest.raises(errors.ConfigError, match="bind address"):
        server.parse_address(address)


def test_report() -> None:
    """Healthy is "ok"; otherwise each check has its line, as in Kubernetes."""
    good, mixed = {"ping": True}, {"ping": True, "caches": False}
    assert (200, "ok") == server.report("readyz", good, verbose=False)
    assert (200, "[+]ping ok\nreadyz check passed\n") == server.report("readyz", good, verbose=True)
    failed = "[+]ping ok\n[-]caches failed: reason withheld\nreadyz check failed\n"
    for verbose in (False, True):
        assert (503, failed) == server.report("readyz", mixed, verbose=verbose)


async def test_heart() -> None:
    """A loop that was blocked is late by that long; one that does not beat any more is dead."""
    clock, metrics = FakeClock(), runtime_metrics.Metrics()
    heart = server.Heart(clock, metrics)
    beating = asyncio.create_task(heart.beat())
    await clock.advance(5)
    assert 0.0 == metrics.sample("dpucluster_event_loop_lag_seconds")
    clock.skip(3)
    await clock.advance(0)
    assert 2.0 == metrics.sample("dpucluster_event_loop_lag_seconds")
    assert heart.is_alive
    beating.cancel()
    clock.skip(9.9)
    assert heart.is_alive
    clock.skip(0.1)
    assert not heart.is_alive
