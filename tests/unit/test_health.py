"""The debounce: when a failing tenant is down, and when it is asked again."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster.tenant import health as tenant_health
from dpucluster.tenant.health import Health, ProbeOptions, ProbeResult
from dpucluster.tenant.problem import Problem

OPTIONS = ProbeOptions()
REFUSED = Problem("Unreachable", "connection refused")


@dataclasses.dataclass(frozen=True)
class Outage:
    """The tenant fails every try that overlaps this time."""

    start: float
    end: float

    def hits(self, start: float, end: float) -> bool:
        """Whether a try from ``start`` to ``end`` meets the outage."""
        return start < self.end and end > self.start


def play(
    outage: Outage, *, until: float, slow: float = 0.01, answer: float = 0.01, jitter: float = 0.0
) -> list[tuple[float, Health]]:
    """Every verdict up to ``until``.

    A try takes ``answer`` seconds, or fails ``slow`` seconds after it met the outage, at most
    after the timeout.
    """
    now, health, seen = 0.0, Health(), []
    while now < until:
        failed = outage.hits(now, now + answer)
        met = max(outage.start - now, 0.0)
        took = min(met + slow, OPTIONS.timeout) if failed else answer
        result = ProbeResult(not failed, REFUSED if failed else None, started=now)
        health = tenant_health.record(health, result, now + took)
        seen.append((now + took, health))
        now += took + tenant_health.next_delay(health, OPTIONS, jitter)
    return seen


def down_at(seen: list[tuple[float, Health]]) -> float | None:
    """The first moment at which a Ready cluster turns NotReady."""
    return next((t for t, h in seen if tenant_health.is_down(h, was_ready=True)), None)


def test_nothing_known_is_neither_up_nor_down() -> None:
    """Before the first answer no verdict is given, whatever was said before."""
    assert tenant_health.is_down(Health(), was_ready=True) is False
    assert tenant_health.is_down(Health(), was_ready=False) is False
    assert tenant_health.next_delay(Health(), OPTIONS) == 0.0


def test_first_failure_counts_at_once_without_a_verdict() -> None:
    """A cluster that was never Ready is NotReady after a single failure."""
    failed = tenant_health.record(Health(), ProbeResult(ok=False, problem=REFUSED), 0.1)
    assert tenant_health.is_down(failed, was_ready=False) is True
    assert tenant_health.is_down(failed, was_ready=True) is False


def test_refused_tenant_is_down_at_the_third_try() -> None:
    """Tries at 0, 3 and 6 seconds: down at the third."""
    seen = play(Outage(0, 1000), until=7)
    assert [0.01, 3.01, 6.01] == pytest.approx([t for t, _ in seen])
    assert down_at(seen) == pytest.approx(6.01)


def test_black_hole_is_tried_again_at_once() -> None:
    """A try that took longer than the pause is followed at once: down after 15 seconds."""
    seen = play(Outage(0, 1000), until=14, slow=5.0)
    assert [5.0, 10.0, 15.0] == pytest.approx([t for t, _ in seen])
    assert down_at(seen) == pytest.approx(15.0)


def test_one_success_turns_it_back() -> None:
    """After a success nothing of the failures is left."""
    failed = tenant_health.record(Health(), ProbeResult(ok=False, problem=REFUSED), 1.0)
    assert tenant_health.record(failed, ProbeResult(ok=True, identity="u"), 2.0) == Health(ok=True)
    back = tenant_health.record(failed, ProbeResult(ok=True, identity="u"), 2.0)
    assert 0 == back.failures


def test_healthy_cluster_is_probed_about_every_interval() -> None:
    """30 seconds, ten percent up or down."""
    healthy = Health(ok=True)
    assert [27.0, 30.0, 33.0] == pytest.approx(
        [tenant_health.next_delay(healthy, OPTIONS, jitter) for jitter in (-1, 0, 1)]
    )


def test_back_off_doubles_up_to_two_minutes() -> None:
    """Once down, the pause doubles from three seconds and stays at two minutes."""
    times = [t for t, _ in play(Outage(0, 10_000), until=600)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert [3, 3, 3, 6, 12, 24, 48, 96, 120, 120] == pytest.approx(gaps[:10])


def test_quick_failures_on_changes_of_the_secret_are_no_outage() -> None:
    """Three failures within a second (a Secret edited three times) do not turn Ready over."""
    health = Health()
    for started in (0.0, 0.3, 0.6):
        result = ProbeResult(ok=False, problem=REFUSED, started=started)
        health = tenant_health.record(health, result, started + 0.01)
    assert 3 == health.failures
    assert tenant_health.is_down(health, was_ready=True) is False


def test_a_threshold_of_one_asks_for_no_patience() -> None:
    """Who asks for one failure gets the verdict of one."""
    failed = tenant_health.record(Health(), ProbeResult(ok=False, problem=REFUSED), 0.01)
    assert tenant_health.is_down(failed, was_ready=True, threshold=1) is True


def test_equality_ignores_times_and_counters() -> None:
    """Two states that a reader cannot tell apart are equal; a new problem is a difference."""
    first = tenant_health.record(Health(), ProbeResult(ok=False, problem=REFUSED), 1.0)
    second = tenant_health.record(first, ProbeResult(ok=False, problem=REFUSED, started=3), 4.0)
    assert first == second
    other = ProbeResult(ok=False, problem=Problem("Timeout", "t"), started=6)
    assert second != tenant_health.record(second, other, 7.0)


@given(
    start=st.floats(min_value=40, max_value=100),
    length=st.floats(min_value=0, max_value=4.9),
    slow=st.floats(min_value=0.001, max_value=5),
    jitter=st.floats(min_value=-1, max_value=1),
    answer=st.floats(min_value=0.001, max_value=5),
)
def test_a_blip_is_never_seen(
    start: float, length: float, slow: float, jitter: float, answer: float
) -> None:
    """No outage shorter than five seconds turns Ready over, however slow the tries are."""
    outage = Outage(start, start + length)
    seen = play(outage, until=200, slow=slow, answer=answer, jitter=jitter)
    assert down_at(seen) is None


@given(
    start=st.floats(min_value=1, max_value=200),
    slow=st.floats(min_value=0.001, max_value=5),
    jitter=st.floats(min_value=-1, max_value=1),
)
def test_a_lasting_outage_is_seen_in_time(start: float, slow: float, jitter: float) -> None:
    """Dead: interval + 10 s, or + 20 s where every try hangs up to its timeout."""
    seen = play(Outage(start, 1e9), until=start + 100, slow=slow, jitter=jitter)
    noticed = down_at(seen)
    assert noticed is not None
    budget = 10 if slow < 0.5 else 20
    assert noticed - start <= OPTIONS.interval + budget


@given(
    answers=st.lists(st.booleans(), max_size=40),
    took=st.floats(min_value=0, max_value=5),
    jitter=st.floats(min_value=-1, max_value=1),
)
def test_delays_are_bounded_and_success_is_final(
    answers: list[bool], took: float, jitter: float
) -> None:
    """Whatever was answered: 0 ≤ delay ≤ 2 min, and a success is never down."""
    now, health = 0.0, Health()
    for ok in answers:
        result = ProbeResult(ok, None if ok else REFUSED, started=now)
        health = tenant_health.record(health, result, now + took)
        delay = tenant_health.next_delay(health, OPTIONS, jitter)
        assert 0 <= delay <= tenant_health.BACKOFF_MAX
        assert health.ok is ok
        assert not (ok and tenant_health.is_down(health, was_ready=False))
        now += took + delay
