"""Who may lead when: decisions from a Lease and a stopwatch, times as numbers."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster import errors
from dpucluster.api.meta import ObjectMeta
from dpucluster.kube.kinds import Lease, LeaseSpec
from dpucluster.runtime import lease_state
from dpucluster.runtime.lease_state import Create, Sighting, Timing, Wait, Write

TIMING = Timing(15, 10, 2)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ME, OTHER = "me", "other"


def lease(
    holder: str | None = OTHER,
    *,
    version: str = "1",
    duration: int | None = 15,
    renewed: str = "t0",
) -> Lease:
    return Lease(
        ObjectMeta(name="l", namespace="ns", uid="u", resource_version=version),
        LeaseSpec(
            holder_identity=holder,
            lease_duration_seconds=duration,
            renew_time=renewed,
            lease_transitions=4,
        ),
    )


CASES = {
    "no Lease: create it": (None, 100.0, Create()),
    "mine: renew it, however old it is": (
        Sighting(lease(ME), 0.0),
        100.0,
        Write(lease(ME), takes_over=False),
    ),
    "released: take it at once": (
        Sighting(lease(""), 100.0),
        100.0,
        Write(lease(""), takes_over=True),
    ),
    "never held: take it at once": (
        Sighting(lease(None), 100.0),
        100.0,
        Write(lease(None), takes_over=True),
    ),
    "just seen alive: wait its whole duration": (Sighting(lease(), 100.0), 100.0, Wait(15.0)),
    "almost run out: wait the rest": (Sighting(lease(), 100.0), 114.0, Wait(1.0)),
    "run out: take it": (Sighting(lease(), 100.0), 115.0, Write(lease(), takes_over=True)),
    "its holder promised for longer: that counts": (
        Sighting(lease(duration=60), 100.0),
        130.0,
        Wait(30.0),
    ),
    "its holder promised for shorter: that counts": (
        Sighting(lease(duration=5), 100.0),
        105.0,
        Write(lease(duration=5), takes_over=True),
    ),
    "no duration given: mine counts": (Sighting(lease(duration=None), 100.0), 110.0, Wait(5.0)),
}


@pytest.mark.parametrize(("seen", "now", "wanted"), CASES.values(), ids=CASES.keys())
def test_decide(seen: Sighting | None, now: float, wanted: lease_state.Decision) -> None:
    """Each situation has the decision its name says."""
    assert wanted == lease_state.decide(seen, identity=ME, timing=TIMING, now=now)


def test_unchanged_lease_grows_old() -> None:
    """Reading the same version again is no sign of life of its holder."""
    seen = lease_state.sight(None, lease(), 100.0)
    assert seen == lease_state.sight(seen, lease(), 110.0)


def test_renewed_lease_is_young() -> None:
    """A renewal is a sign of life, counted from when it was seen here."""
    seen = lease_state.sight(None, lease(), 100.0)
    renewed = lease(version="2", renewed="t1")
    assert Sighting(renewed, 110.0) == lease_state.sight(seen, renewed, 110.0)


def test_label_is_no_sign_of_life() -> None:
    """Somebody who changes a label of the Lease keeps no dead holder alive."""
    seen = lease_state.sight(None, lease(), 100.0)
    touched = lease(version="2")
    assert Sighting(touched, 100.0) == lease_state.sight(seen, touched, 110.0)


def test_new_lease_is_young() -> None:
    """A Lease that was deleted and created again is another one."""
    seen = lease_state.sight(None, lease(), 100.0)
    again = msgspec.structs.replace(lease(), metadata=ObjectMeta(uid="v", resource_version="1"))
    assert 110.0 == lease_state.sight(seen, again, 110.0).since


@given(
    lead=st.floats(0, 8),
    slack=st.floats(0, 3),
    skew=st.floats(-1e9, 1e9),
    drift=st.floats(0.75, 1.25),
)
def test_never_two(lead: float, slack: float, skew: float, drift: float) -> None:
    """The holder's last moment is over before anybody else may take the Lease.

    The renewal is sent at ``lead`` and arrives ``slack`` later; the other one's stopwatch starts
    anywhere and runs up to a quarter fast or slow.
    """
    holder_until = lead + TIMING.renew_deadline
    seen = Sighting(lease(), (lead + slack + skew) * drift)
    earliest = (seen.since + 15) / drift - skew
    assert isinstance(
        lease_state.decide(seen, identity=ME, timing=TIMING, now=seen.since + 14.999), Wait
    )
    assert holder_until < earliest


def test_bodies() -> None:
    """A takeover counts a transition; a renewal keeps it; both are for the version seen only."""
    taken = lease_state.write_patch(
        Write(lease(), takes_over=True), identity=ME, timing=TIMING, now=NOW
    )
    assert {
        "metadata": {"resourceVersion": "1"},
        "spec": {
            "holderIdentity": ME,
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": 5,
        },
    } == taken
    renewed = lease_state.write_patch(
        Write(lease(ME), takes_over=False), identity=ME, timing=TIMING, now=NOW
    )
    assert {"holderIdentity", "leaseDurationSeconds", "renewTime"} == set(renewed["spec"])
    created = lease_state.create_body(name="l", namespace="ns", identity=ME, timing=TIMING, now=NOW)
    assert 0 == created["spec"]["leaseTransitions"]
    released = lease_state.release_patch(lease(ME), NOW)
    assert "" == released["spec"]["holderIdentity"]


@pytest.mark.parametrize("times", [(10, 10, 2), (15, 2, 2), (15, 10, 0), (5, 10, 2)])
def test_impossible_times(times: tuple[float, float, float]) -> None:
    """Times with which two could lead at once are refused."""
    with pytest.raises(errors.ConfigError):
        Timing(*times)


def test_fraction_of_a_second_is_rounded_up() -> None:
    """A Lease knows whole seconds; what is promised to others is never too short."""
    timing = Timing(2.5, 1.5, 0.5)
    body = lease_state.create_body(name="l", namespace="n", identity=ME, timing=timing, now=NOW)
    assert 3 == body["spec"]["leaseDurationSeconds"]
