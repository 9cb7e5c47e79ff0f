"""When a process node probes a container, and what comes of it."""

from __future__ import annotations

import pytest

from dpucluster.localplane.node import pods, probes

KIND = probes.Kind


def container(**kinds: pods.Probe) -> pods.Container:
    return pods.Container(name="c", **kinds)  # type: ignore[arg-type]


def probe(period: int = 10, failures: int = 3, delay: int = 0, successes: int = 1) -> pods.Probe:
    return pods.Probe(
        exec_=pods.Exec(("true",)),
        period_seconds=period,
        failure_threshold=failures,
        initial_delay_seconds=delay,
        success_threshold=successes,
    )


def told(health: probes.Health) -> tuple[bool, probes.Kind | None]:
    """Whether it is ready, and what ends it."""
    return health.is_ready, health.failed


def test_without_probes_a_container_is_ready_at_once() -> None:
    """Nothing is due, ever."""
    health = probes.Health(container(), now=0)
    assert (True, True, None) == (health.is_started, health.is_ready, health.failed)
    assert float("inf") == health.next_at()


def test_nothing_but_startup_runs_until_it_succeeds() -> None:
    """Then the others are due at once, and readiness begins with no."""
    whole = container(startup_probe=probe(), liveness_probe=probe(), readiness_probe=probe())
    health = probes.Health(whole, now=0)
    assert [KIND.STARTUP] == health.due(100)
    assert (False, None) == told(health)
    health.observe(KIND.STARTUP, 1, well=True)
    assert (False, None) == told(health)
    assert {KIND.LIVENESS, KIND.READINESS} == set(health.due(1))
    health.observe(KIND.READINESS, 1, well=True)
    assert (True, None) == told(health)


def test_eager_tries_count_only_when_they_succeed() -> None:
    """Twice a second until the first success; failures count once in a period."""
    health = probes.Health(container(startup_probe=probe(period=10, failures=3)), now=0)
    now = 0.0
    while health.failed is None and now < 100:
        now = health.next_at()
        health.observe(KIND.STARTUP, now, well=False)
    assert KIND.STARTUP is health.failed
    assert 20 == now


def test_liveness_begins_with_yes_and_takes_failures_in_a_row() -> None:
    """One success in between begins the count again."""
    health = probes.Health(container(liveness_probe=probe(failures=2)), now=0)
    for now, well in ((0, False), (10, True), (20, False)):
        health.observe(KIND.LIVENESS, now, well=well)
        assert health.failed is None
    health.observe(KIND.LIVENESS, 30, well=False)
    assert KIND.LIVENESS is health.failed


def test_readiness_comes_and_goes_and_ends_nothing() -> None:
    """As often as the thresholds say; a container that is not ready runs on."""
    health = probes.Health(container(readiness_probe=probe(failures=1, successes=2)), now=0)
    health.observe(KIND.READINESS, 0, well=True)
    assert (False, None) == told(health)
    health.observe(KIND.READINESS, 0.5, well=True)
    assert (True, None) == told(health)
    health.observe(KIND.READINESS, 10, well=False)
    assert (False, None) == told(health)


def test_the_initial_delay_is_waited_for() -> None:
    """Counted from the start of the container."""
    health = probes.Health(container(readiness_probe=probe(delay=7)), now=100)
    assert 107 == health.next_at()
    assert [] == health.due(106)


def test_ports_have_names() -> None:
    """A probe's port is a number, a number as text, or the name of a container's port."""
    named = pods.Container(name="c", ports=(pods.ContainerPort(8443, "api"),))
    assert [1, 2, 8443] == [probes.port_number(named, port) for port in (1, "2", "api")]
    with pytest.raises(ValueError, match="no port named 'web'"):
        probes.port_number(named, "web")
