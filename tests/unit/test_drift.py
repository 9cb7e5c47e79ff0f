"""Wanted is contained in found, or it is not: with the API server's own ideas of lists."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpucluster.sdk import drift

Object = dict[str, Any]

CASES: dict[str, tuple[Object, Object, bool]] = {
    "equal": ({"a": 1}, {"a": 1}, False),
    "the server adds a field": ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}, False),
    "a leaf is another": ({"a": {"b": 1}}, {"a": {"b": 2}}, True),
    "a leaf is gone": ({"a": {"b": 1}}, {"a": {}}, True),
    "an object is gone": ({"a": {"b": 1}}, {}, True),
    "an object became a string": ({"a": {"b": 1}}, {"a": "b"}, True),
    "an empty object that is wanted is gone": ({"addons": {"coreDNS": {}}}, {"addons": {}}, True),
    "an empty object got content": ({"coreDNS": {}}, {"coreDNS": {"image": "x"}}, False),
    "an empty list is left out": ({"a": []}, {}, False),
    "an empty list got items": ({"a": []}, {"a": [1]}, True),
    "false is not absent": ({"a": False}, {}, True),
    "a list of its writer's grew": ({"values": ["a"]}, {"values": ["a", "b"]}, True),
    "a list of its writer's shrank": ({"values": ["a", "b"]}, {"values": ["a"]}, True),
    "a list of its writer's is in another order": ({"v": ["a", "b"]}, {"v": ["b", "a"]}, True),
    "items of such a list got defaults": (
        {"tolerations": [{"key": "a"}]},
        {"tolerations": [{"key": "a", "operator": "Exists"}]},
        False,
    ),
    "a sidecar was injected": (
        {"containers": [{"name": "mine", "image": "i"}]},
        {"containers": [{"name": "other"}, {"name": "mine", "image": "i", "tty": True}]},
        False,
    ),
    "our container is another": (
        {"containers": [{"name": "mine", "image": "i"}]},
        {"containers": [{"name": "mine", "image": "j"}]},
        True,
    ),
    "our container is gone": (
        {"containers": [{"name": "mine"}]},
        {"containers": [{"name": "other"}]},
        True,
    ),
    "another owner stands beside ours": (
        {"ownerReferences": [{"uid": "1", "name": "c"}]},
        {"ownerReferences": [{"uid": "2", "controller": True}, {"uid": "1", "name": "c"}]},
        False,
    ),
    "our owner reference is gone": (
        {"ownerReferences": [{"uid": "1"}]},
        {"ownerReferences": [{"uid": "2"}]},
        True,
    ),
    "a constraint is found by both of its keys": (
        {"topologySpreadConstraints": [{"topologyKey": "h", "whenUnsatisfiable": "DoNotSchedule"}]},
        {
            "topologySpreadConstraints": [
                {"topologyKey": "h", "whenUnsatisfiable": "ScheduleAnyway"},
            ]
        },
        True,
    ),
    "a list became an object": ({"containers": [{"name": "a"}]}, {"containers": {"a": 1}}, True),
    "an item is no object": ({"containers": [{"name": "a"}]}, {"containers": ["a"]}, True),
}


@pytest.mark.parametrize(("wanted", "found", "differs"), CASES.values(), ids=CASES.keys())
def test_differs(wanted: Object, found: Object, differs: bool) -> None:
    """Only what is wanted counts, and of lists with keys only the items that are."""
    assert differs is drift.differs(wanted, found)


def test_tuples_are_lists() -> None:
    """What was decoded from the wire may hold tuples where a builder writes lists."""
    assert not drift.differs({"a": [1, {"b": [2]}]}, {"a": (1, {"b": (2,)})})


def test_the_fingerprint_ignores_order_of_keys_only() -> None:
    """Equal content has one fingerprint; another order of a list is other content."""
    one = drift.fingerprint({"a": 1, "b": {"c": [1, 2], "d": 3}})
    assert one == drift.fingerprint({"b": {"d": 3, "c": [1, 2]}, "a": 1})
    assert one != drift.fingerprint({"a": 1, "b": {"c": [2, 1], "d": 3}})
    assert one != drift.fingerprint({"a": 1, "b": {"c": [1, 2]}})


# Properties

NAMES = st.sampled_from([*drift.MERGE_KEYS, "a", "b", "values", "spec"])
LEAVES = st.one_of(st.booleans(), st.integers(), st.text(max_size=4))


def item(number: int, inner: Object) -> Object:
    """An item that every list with keys finds again: it has all of their keys."""
    keys = {key for each in drift.MERGE_KEYS.values() for key in each}
    return {**inner, **{key: f"{key}-{number}" for key in keys}}


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(NAMES, inner, max_size=4)
    items = st.lists(st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2), max_size=3)
    numbered = items.map(lambda found: [item(n, each) for n, each in enumerate(found)])
    return st.one_of(plain, numbered)


WANTED = st.dictionaries(NAMES, st.recursive(LEAVES, objects, max_leaves=12), max_size=4)


def extended(value: Any, draw: st.DataObject, field: str = "") -> Any:
    """``value`` as a server gives it back: with defaults, and with items of other people."""
    if isinstance(value, dict):
        more = draw.draw(st.dictionaries(st.sampled_from(["default", "uid-x"]), LEAVES, max_size=2))
        return {**more, **{name: extended(each, draw, name) for name, each in value.items()}}
    if isinstance(value, list):
        found = [extended(each, draw) for each in value]
        if field in drift.MERGE_KEYS and draw.draw(st.booleans()):
            found.insert(draw.draw(st.integers(0, len(found))), item(99, {}))
        return found
    return value


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in ``value`` that is neither object nor list."""
    if isinstance(value, dict):
        return [leaf for name, each in value.items() for leaf in leaves(each, (*path, name))]
    if isinstance(value, list):
        return [leaf for n, each in enumerate(value) for leaf in leaves(each, (*path, n))]
    return [path]


@settings(deadline=None, max_examples=60)
@given(WANTED, st.data())
def test_what_the_server_adds_is_no_drift(wanted: Object, data: st.DataObject) -> None:
    """An object that the server has extended with defaults does not differ, however deep."""
    assert not drift.differs(wanted, extended(wanted, data))


@settings(deadline=None, max_examples=60)
@given(WANTED, st.data())
def test_any_changed_leaf_is_drift(wanted: Object, data: st.DataObject) -> None:
    """Whichever leaf that we own is changed or removed, also below defaults: it differs."""
    paths = leaves(wanted)
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    found = extended(copy.deepcopy(wanted), data)
    inner: Any = found
    for step in path[:-1]:
        inner = inner[position(inner, step)]
    last = position(inner, path[-1])
    inner[last] = "changed" if inner[last] != "changed" else "again"
    assert drift.differs(wanted, found)


def position(found: Any, step: Any) -> Any:
    """Where the item ``step`` of a list has moved to: items of others may stand before it."""
    if not isinstance(found, list):
        return step
    return [n for n, each in enumerate(found) if not is_foreign(each)][step]


def is_foreign(each: Any) -> bool:
    return isinstance(each, dict) and each.get("uid") == "uid-99"


@settings(deadline=None, max_examples=60)
@given(WANTED)
def test_the_wire_changes_no_fingerprint(wanted: Object) -> None:
    """What was sent and read again has the fingerprint it had."""
    again = msgspec.json.decode(msgspec.json.encode(wanted))
    assert drift.fingerprint(wanted) == drift.fingerprint(again)
