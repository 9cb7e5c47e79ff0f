"""Events as they are sent: names, limits, and what cannot be waited for. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster.kube.kinds import Event, ObjectReference
from dpucluster.runtime import events

REPORTER = events.Reporter("dpucluster", "pod-1")


def built(note: str = "n", *, fact: str = "", reason: str = "R", **about: str) -> Event:
    regarding = {"kind": "Thing", "namespace": "ns", "name": "a", "uid": "u", **about}
    return events.build(
        ObjectReference(**regarding),
        REPORTER,
        type_="Warning",
        reason=reason,
        action="Look",
        note=note,
        event_time="2026-01-01T00:00:00.000000Z",
        fact=fact,
    )


def test_build() -> None:
    """An Event carries who tells what about which object, in the object's namespace."""
    event = built()
    assert ("ns", "dpucluster", "pod-1") == (
        event.metadata.namespace,
        event.reporting_controller,
        event.reporting_instance,
    )
    assert ("Warning", "R", "Look", "n") == (event.type, event.reason, event.action, event.note)
    assert event.metadata.name.startswith("a.")


def test_cluster_scoped() -> None:
    """An Event about a cluster-scoped object lives in the namespace default."""
    assert "default" == built(namespace="").metadata.namespace


def test_same_fact_same_name() -> None:
    """The same fact about the same object has the same name; anything else has another one."""
    again = built()
    others = [built("other"), built(uid="v"), built(reason="S"), built(fact="2")]
    assert built("one", fact="2").metadata.name == built("two", fact="2").metadata.name
    assert built().metadata.name == again.metadata.name
    assert 5 == len({e.metadata.name for e in [again, *others]})


def test_long_name() -> None:
    """However long the object's name is, the Event's is one that the server accepts."""
    name = built(name="x" * 236 + "." + "y" * 16).metadata.name
    assert len(name) <= 253
    assert ".." not in name


@given(st.text(max_size=400), st.integers(3, 1024))
def test_cut(text: str, limit: int) -> None:
    """What is cut fits its bytes, is a beginning of the text, and shows that it was cut."""
    short = events.cut(text, limit)
    assert len(short.encode()) <= limit
    if len(text.encode(errors="replace")) <= limit:
        assert text.encode(errors="replace").decode() == short
    else:
        assert short.endswith("…")
        assert text.startswith(short[:-1]) or "?" in short


@pytest.mark.parametrize("text", ["é" * 1000, "\U0001f600" * 1000, "x" * 5000])
def test_note_in_bytes(text: str) -> None:
    """A note has at most 1,024 bytes, as the server counts, whatever its characters are."""
    assert 1000 < len(built(text).note.encode()) <= 1024
