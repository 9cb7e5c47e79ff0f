"""Bytes to values: lines, lists and watch events, one bad object at a time."""

from __future__ import annotations

import enum
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster import errors
from dpucluster.api.dpucluster import DPUCluster, DPUClusterSpec
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import kinds, wire
from dpucluster.kube.resource import Resource

ODD = "a\u0085b\u2028c\u000bd\u001ce"
"""Characters at which ``str.splitlines`` would cut, legal inside JSON."""


def cluster(name: str = "a", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"type": "static", **spec}}


def as_list(*items: Any, **metadata: Any) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": "9", **metadata}, "items": items}).encode()


def as_event(kind: str, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


@given(st.lists(st.binary(max_size=9).filter(bytes.strip)), st.lists(st.integers(1, 7)))
def test_lines(lines: list[bytes], cuts: list[int]) -> None:
    """However the stream is cut, its lines are the same, and no byte but LF ends one."""
    lines = [line.replace(b"\n", b"\r") for line in lines]
    lines = [line for line in lines if line.strip()]
    stream = b"".join(line + b"\n" for line in lines)
    feed = wire.Lines()
    found: list[bytes] = []
    for size in [*cuts, len(stream) + 1]:
        found += feed.feed(stream[:size])
        stream = stream[size:]
    assert lines == found
    assert not feed.rest


def test_rest_of_a_line() -> None:
    """What has no end yet is kept apart from the lines."""
    feed = wire.Lines()
    assert [b"a", b"b"] == list(feed.feed(b"a\n\nb\nhalf"))
    assert b"half" == feed.rest


def test_odd_characters_survive() -> None:
    """Line separators of Unicode are part of a value, not of the stream."""
    obj = cluster()
    obj["metadata"]["annotations"] = {"x": ODD}
    raw = json.dumps({"type": "ADDED", "object": obj}, ensure_ascii=False).encode()
    (line,) = wire.Lines().feed(raw + b"\n")
    event = wire.decode_event(kinds.DPUCLUSTERS, line)
    assert isinstance(event, wire.Added)
    assert {"x": ODD} == event.obj.metadata.annotations


def test_bad_item_spoils_itself() -> None:
    """The others of its list arrive, it is named, and nothing of its content is told."""
    bad = cluster("bad", maxNodes="secret-text")
    found = wire.decode_list(kinds.DPUCLUSTERS, as_list(cluster("a"), bad, cluster("c")))
    assert ["a", "c"] == [item.metadata.name for item in found.items]
    text = "DPUCluster: Expected `int`, got `str` - at `$.spec.maxNodes`"
    assert [wire.Undecodable(Key("n", "bad"), text, "7")] == found.undecodable


@pytest.mark.parametrize("item", [1, None, "text", [], {"metadata": 1}, {"metadata": {"name": 2}}])
def test_nameless_item(item: Any) -> None:
    """An object that does not even have a name spoils only itself, too."""
    found = wire.decode_list(kinds.DPUCLUSTERS, as_list(item, cluster()))
    assert (1, [None]) == (len(found.items), [bad.key for bad in found.undecodable])


class Colour(enum.StrEnum):
    """Two values and no other."""

    RED = "red"
    BLUE = "blue"


class Painted(msgspec.Struct):
    """A kind with an enumeration."""

    metadata: ObjectMeta
    colour: Colour


def test_enum_is_not_quoted() -> None:
    """The one message of the decoder that quotes a value is shortened."""
    painted = Resource(Painted, "example.com", "v1", "painted", "Painted")
    bad = {**cluster(), "colour": "it's 'secret' - at home"}
    (found,) = wire.decode_list(painted, as_list(bad)).undecodable
    assert "Painted: Invalid enum value - at `$.colour`" == found.error_text


def test_page() -> None:
    """A page tells how to go on and how much is left."""
    data = as_list(cluster(), **{"continue": "token", "remainingItemCount": 41})
    found = wire.decode_list(kinds.DPUCLUSTERS, data)
    assert ("token", 41, "9") == (found.continue_, found.remaining, found.resource_version)


def test_list_of_nothing() -> None:
    """``items: null`` is how Go writes an empty list."""
    data = b'{"metadata": {"resourceVersion": "1"}, "items": null}'
    assert wire.Listing([], [], "1") == wire.decode_list(kinds.DPUCLUSTERS, data)


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", b'{"items": 1}', b"\xff"])
def test_no_list(data: bytes) -> None:
    """Something that is no list at all is a DecodeError."""
    with pytest.raises(errors.DecodeError, match="list of dpuclusters"):
        wire.decode_list(kinds.DPUCLUSTERS, data)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ADDED", wire.Added), ("MODIFIED", wire.Modified), ("DELETED", wire.Deleted)],
)
def test_events(name: str, kind: type[Any]) -> None:
    """Each type of event carries the object."""
    event = wire.decode_event(kinds.DPUCLUSTERS, as_event(name, cluster()))
    expected = DPUCluster(
        ObjectMeta(name="a", namespace="n", resource_version="7"), DPUClusterSpec("static")
    )
    assert kind(expected) == event


@pytest.mark.parametrize(("name", "deleted"), [("ADDED", False), ("DELETED", True)])
def test_bad_event(name: str, *, deleted: bool) -> None:
    """A bad object in a watch is named, with its version, and whether it is gone."""
    event = wire.decode_event(kinds.DPUCLUSTERS, as_event(name, cluster(maxNodes="x")))
    assert isinstance(event, wire.Undecodable)
    assert (Key("n", "a"), "7", deleted) == (event.key, event.resource_version, event.deleted)


def test_bookmark() -> None:
    """A bookmark carries a version only, whatever the type of the resource asks for."""
    bookmark = {"kind": "DPUCluster", "metadata": {"resourceVersion": "12"}, "spec": {"type": ""}}
    assert wire.Bookmark("12") == wire.decode_event(
        kinds.DPUCLUSTERS, as_event("BOOKMARK", bookmark)
    )


def test_error_event() -> None:
    """The server's reason for ending a watch is a Status."""
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    found = wire.decode_event(kinds.DPUCLUSTERS, as_event("ERROR", status))
    assert wire.Status("Status", 410, "Expired", "too old") == found


@pytest.mark.parametrize("line", [b"{}", b"[", b'{"type": "OTHER", "object": {}}', b'{"type": 1}'])
def test_no_event(line: bytes) -> None:
    """A line that is no event is a DecodeError."""
    with pytest.raises(errors.DecodeError, match="watch of dpuclusters"):
        wire.decode_event(kinds.DPUCLUSTERS, line)


@given(st.binary(max_size=60))
def test_no_bytes_escape(data: bytes) -> None:
    """No line makes the reader fail in any other way."""
    try:
        wire.decode_event(kinds.DPUCLUSTERS, data)
    except errors.DecodeError as error:
        assert "watch of" in str(error)  # noqa: PT017  (most bytes raise, some need not)


def test_encode_names_the_kind() -> None:
    """Structs carry no kind; on the wire they have one."""
    sent = json.loads(wire.encode(kinds.LEASES, kinds.Lease(ObjectMeta(name="l"))))
    assert {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
    } == sent
