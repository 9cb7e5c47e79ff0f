"""What a reflector does next, and how long it waits: pure decisions."""

from __future__ import annotations

import pytest

from dpucluster import errors
from dpucluster.runtime import backoff, watch_state
from dpucluster.runtime.watch_state import Broken, Empty, Listed, Outcome, Relist, State, Watching

LONG = watch_state.STEADY
GONE = errors.Gone("too old", status=410)
CUT = errors.ConnectFailed("cut")
SILENT = errors.TimedOut("silent")

FOLLOWING: dict[str, tuple[State, Outcome, State]] = {
    "a first list is watched on from": (Empty(), Listed("5"), Watching("5")),
    "a first list that fails is asked for again": (Empty(), Broken(CUT), Empty()),
    "a second list is watched on from": (Relist(), Listed("9"), Watching("9")),
    "a second list that fails is asked for again": (Relist(), Broken(GONE), Relist()),
    "closed: on from the last version": (Watching("5"), Broken(None, "7"), Watching("7")),
    "cut: on from the last version": (Watching("5"), Broken(CUT, "7"), Watching("7")),
    "silent: on from the last version": (Watching("5"), Broken(SILENT, "7"), Watching("7")),
    "no right: nothing was missed yet": (
        Watching("5"),
        Broken(errors.Forbidden("no", status=403), "5"),
        Watching("5"),
    ),
    "patience asked for: nothing was missed": (
        Watching("5"),
        Broken(errors.TooManyRequests("slow", status=429), "5"),
        Watching("5"),
    ),
    "down for a moment, it says: nothing was missed": (
        Watching("5"),
        Broken(errors.ServerError("down", status=503, retry_after=1), "5"),
        Watching("5"),
    ),
    "too old: list again": (Watching("5"), Broken(GONE, "5"), Relist()),
    "an error of the server: list again": (
        Watching("5"),
        Broken(errors.ServerError("oops", status=500), "5"),
        Relist(),
    ),
    "the kind is gone: list again": (
        Watching("5"),
        Broken(errors.NotFound("no such kind", status=404), "5"),
        Relist(),
    ),
    "no watch event: list again": (Watching("5"), Broken(errors.DecodeError("?"), "5"), Relist()),
    "an error of this program: list again": (Watching("5"), Broken(KeyError("x"), "5"), Relist()),
}


@pytest.mark.parametrize(("state", "outcome", "wanted"), FOLLOWING.values(), ids=FOLLOWING.keys())
def test_follow(state: State, outcome: Outcome, wanted: State) -> None:
    """Each outcome leads to the state its name says."""
    assert wanted == watch_state.follow(state, outcome)


def tired(failures: int = 6) -> backoff.Backoff:
    """A back-off without jitter that has seen some failures."""
    made = backoff.Backoff(dice=lambda: 0.0)
    for _ in range(failures):
        made.next()
    return made


PAUSES: dict[str, tuple[Outcome, float]] = {
    "a list was had: watch at once": (Listed("5"), 0.0),
    "closed after long: at once": (Broken(None, "5", LONG), 0.0),
    "silent for long: at once": (Broken(SILENT, "5", LONG), 0.0),
    "cut after long: shortly": (Broken(CUT, "5", LONG), 0.5),
    "too old after long: shortly": (Broken(GONE, "5", LONG), 0.5),
    "closed early, but it told something: shortly": (Broken(None, "6", 0.1, True), 0.5),
    "closed at once: longer and longer": (Broken(None, "5", 0.1), 30.0),
    "cut at once: longer and longer": (Broken(CUT, "5", 0.1), 30.0),
    "410 at once: longer and longer": (Broken(GONE, "5", 0.1), 30.0),
    "no list: longer and longer": (Broken(CUT), 30.0),
    "the server asks for more: no longer than the longest pause": (
        Broken(errors.TooManyRequests("slow", status=429, retry_after=86_400.0)),
        30.0,
    ),
}


@pytest.mark.parametrize(("outcome", "wanted"), PAUSES.values(), ids=PAUSES.keys())
def test_pause(outcome: Outcome, wanted: float) -> None:
    """After six failures in a row, each outcome is followed by the pause its name says."""
    assert wanted == watch_state.pause(outcome, tired())


def test_the_server_asks_for_patience() -> None:
    """A pause it asks for is kept, where it is longer than the next one would be anyway."""
    broken = Broken(errors.TooManyRequests("slow", status=429, retry_after=7.0))
    assert 7.0 == watch_state.pause(broken, tired(0))


def test_a_list_is_no_progress() -> None:
    """A server that lists well and refuses every watch is asked ever more slowly."""
    patience = tired(0)
    pauses = []
    for _ in range(8):
        watch_state.pause(Listed("5"), patience)
        pauses.append(watch_state.pause(Broken(GONE, "5", 0.1), patience))
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == pauses


def test_backoff_jitter() -> None:
    """Jitter makes a pause longer, by half at most, and never longer than the cap."""
    wild = backoff.Backoff(dice=lambda: 1.0)
    assert [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 30.0] == [wild.next() for _ in range(7)]
    assert 7 == wild.failures
    wild.reset()
    assert 0.75 == wild.next()


def test_backoff_for_ever() -> None:
    """However often it failed, the pause is a number."""
    patience = tired(5000)
    assert 30.0 == patience.next()
