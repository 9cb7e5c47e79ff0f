"""The cache: a model of a server, its watch, its lists and our own writes in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dpucluster.api.meta import Key, ObjectMeta, OwnerReference, PartialObject
from dpucluster.runtime import store


def thing(name: str = "a", version: str = "1", **meta: Any) -> PartialObject:
    metadata = ObjectMeta(
        name=name, namespace=meta.pop("namespace", "ns"), resource_version=version, **meta
    )
    return PartialObject(metadata)


A = Key("ns", "a")


def owners(obj: PartialObject) -> Iterable[Key]:
    return [Key(obj.metadata.namespace, o.name) for o in obj.metadata.owner_references]


def owned_by(*names: str) -> tuple[OwnerReference, ...]:
    return tuple(OwnerReference("v1", "Owner", name, f"uid-{name}") for name in names)


def filled(*objects: PartialObject) -> store.Store[PartialObject]:
    cache = store.Store({"owner": owners})
    cache.replace(objects)
    return cache


def test_list_diff() -> None:
    """A list delivers what is new, what changed and what is gone, and nothing else."""
    cache = filled(thing("same"), thing("changed"), thing("gone"))
    deltas = cache.replace([thing("same"), thing("changed", "2"), thing("new")])
    assert {
        "changed": ("1", "2"),
        "new": (None, "1"),
        "gone": ("1", None),
    } == {d.key.name: (version(d.old), version(d.new)) for d in deltas}


def version(obj: PartialObject | None) -> str | None:
    return None if obj is None else obj.metadata.resource_version


def test_own_creations() -> None:
    """The reply to a create is cached and told as own; its echo is nothing new."""
    cache = filled()
    delta = cache.add(thing("a", uid="u"))
    assert delta is not None
    assert (None, "1", True) == (version(delta.old), version(delta.new), delta.own)
    assert cache.observe(thing("a", uid="u")) is None
    assert cache.by("owner", A) == []


def test_a_creation_whose_reply_is_late() -> None:
    """When the watch has shown the object, or its end, before the reply, the watch is right."""
    cache = filled()
    cache.observe(thing("a", "2", uid="u"))
    assert cache.add(thing("a", "1", uid="u")) is None
    assert "2" == version(cache.get(A))
    cache.remove(A)
    assert cache.add(thing("a", "1", uid="u")) is None
    assert cache.get(A) is None
    assert cache.add(thing("a", "5", uid="another")) is not None


def test_list_of_one_namespace() -> None:
    """A list of one namespace says nothing about another one."""
    cache = filled(thing("a", namespace="one"), thing("b", namespace="two"))
    gone = cache.replace([], namespace="one")
    assert [Key("one", "a")] == [d.key for d in gone]
    assert [Key("two", "b")] == [o.metadata.key for o in cache.values()]


def test_list_keeps_what_it_could_not_read() -> None:
    """An object that exists but could not be read keeps its last readable state."""
    cache = filled(thing("a"))
    assert [] == cache.replace([], keep=[A])
    assert thing("a") == cache.get(A)


def test_own_write_is_seen_once() -> None:
    """The reply of an own write is a delta at once; its echo in the watch is none."""
    cache = filled(thing(version="1"))
    delta = cache.put(thing(version="2"), replacing="1")
    assert store.Delta(A, thing(version="1"), thing(version="2"), own=True) == delta
    assert cache.observe(thing(version="2")) is None


def test_echo_before_reply() -> None:
    """A reply that comes after its echo changes nothing, nor one after a later foreign write."""
    cache = filled(thing(version="1"))
    cache.observe(thing(version="2"))
    assert cache.put(thing(version="2"), replacing="1") is None
    cache.observe(thing(version="3"))
    assert cache.put(thing(version="2"), replacing="1") is None
    assert thing(version="3") == cache.get(A)


def test_superseded_versions_are_dropped() -> None:
    """Events of versions that own writes have replaced never bring the cache back."""
    cache = filled(thing(version="1"))
    cache.put(thing(version="2"), replacing="1")
    cache.put(thing(version="3"), replacing="2")
    assert cache.observe(thing(version="2")) is None
    assert thing(version="3") == cache.get(A)


def test_superseded_versions_in_a_list_are_dropped() -> None:
    """A list that was made before an own write and comes after its reply does not undo it."""
    cache = filled(thing(version="1"))
    cache.put(thing(version="2"), replacing="1")
    assert [] == cache.replace([thing(version="1")])
    assert thing(version="2") == cache.get(A)


def test_last_finalizer() -> None:
    """A reply that removes the last finalizer of a deleted object removes the object, for good."""
    held = thing(version="1", deletion_timestamp="2026-01-01T00:00:00Z", finalizers=("f",))
    free = thing(version="2", deletion_timestamp="2026-01-01T00:00:00Z")
    cache = filled(held)
    assert store.Delta(A, held, None, own=True) == cache.put(free, replacing="1")
    assert cache.observe(free) is None
    assert [] == cache.replace([held])
    assert cache.remove(A) is None
    assert cache.observe(thing(version="9", uid="new")) is not None


def test_reply_for_another_object_of_that_name() -> None:
    """A reply about an object that was deleted and created again meanwhile is dropped."""
    cache = filled(thing(version="5", uid="new"))
    assert cache.put(thing(version="2", uid="old"), replacing="5") is None


def test_index_follows_the_object() -> None:
    """An index finds an object under its present keys only, and nothing that is gone."""
    cache = filled(thing("a", owner_references=owned_by("x", "y")))
    cache.observe(thing("a", "2", owner_references=owned_by("y", "z")))
    found = {n: [o.key.name for o in by_owner(cache, n)] for n in "xyz"}
    assert {"x": [], "y": ["a"], "z": ["a"]} == found
    cache.remove(A)
    assert [] == by_owner(cache, "y")


def by_owner(cache: store.Store[PartialObject], name: str) -> list[ObjectMeta]:
    return [o.metadata for o in cache.by("owner", Key("ns", name))]


def test_unknown_index() -> None:
    """Asking an index that does not exist is an error of the program."""
    with pytest.raises(KeyError):
        filled().by("nothing", A)


@dataclasses.dataclass
class Write:
    """An own write that the server took; its reply is on its way."""

    replaced: str
    reply: PartialObject


class Server(RuleBasedStateMachine):
    """A server with two objects, one watcher, foreign writers and one writer of our own.

    Versions are numbers here, so that the test can see a cache that goes back; the store must not
    look at their order.
    """

    NAMES = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.truth: dict[Key, PartialObject] = {}
        self.stream: list[tuple[str, PartialObject]] = []
        self.replies: list[Write] = []
        self.snapshot: list[PartialObject] | None = None
        self.cache: store.Store[PartialObject] = store.Store({"owner": owners})
        self.told: dict[Key, PartialObject] = {}

    def tick(self) -> str:
        """The next version."""
        self.clock += 1
        return str(self.clock)

    def accept(self, deltas: Iterable[store.Delta[PartialObject] | None]) -> None:
        """Believe the deltas, as a handler does."""
        for delta in deltas:
            if delta is None:
                continue
            assert self.told.get(delta.key) == delta.old, "a delta's old is the new before it"
            assert delta.old is not None or delta.new is not None
            if delta.new is None:
                del self.told[delta.key]
                continue
            if delta.old is not None:
                before = int(delta.old.metadata.resource_version)
                assert before < int(delta.new.metadata.resource_version), "never back"
            self.told[delta.key] = delta.new

    @rule(name=st.sampled_from(NAMES), owner=st.sampled_from("xyz"))
    def foreign_write(self, name: str, owner: str) -> None:
        """Somebody creates or changes an object."""
        key = Key("ns", name)
        old = self.truth.get(key)
        version = self.tick()
        uid = version if old is None else old.metadata.uid
        new = thing(name, version, uid=uid, owner_references=owned_by(owner))
        if old is not None:
            new = msgspec.structs.replace(
                new,
                metadata=msgspec.structs.replace(
                    new.metadata,
                    deletion_timestamp=old.metadata.deletion_timestamp,
                    finalizers=old.metadata.finalizers,
                ),
            )
        self.truth[key] = new
        self.stream.append(("SET", new))

    @rule(name=st.sampled_from(NAMES), finalizer=st.booleans())
    def foreign_delete(self, name: str, finalizer: bool) -> None:
        """Somebody deletes an object, for which a finalizer of ours may have to go first."""
        old = self.truth.get(Key("ns", name))
        if old is None:
            return
        if not finalizer:
            del self.truth[Key("ns", name)]
            self.stream.append(("GONE", changed(old, resource_version=self.tick())))
            return
        new = changed(
            old, resource_version=self.tick(), deletion_timestamp="now", finalizers=("ours",)
        )
        self.truth[Key("ns", name)] = new
        self.stream.append(("SET", new))

    @property
    def writable(self) -> list[Key]:
        """Objects that are what we see: a write of ours would be taken."""
        return sorted(k for k, o in self.truth.items() if self.cache.get(k) == o)

    @precondition(lambda self: self.writable)
    @rule(data=st.data(), times=st.integers(1, 3), at_once=st.booleans())
    def own_write(self, data: st.DataObject, times: int, at_once: bool) -> None:
        """We write, maybe several times in a row; replies come at once or on their way."""
        key = data.draw(st.sampled_from(self.writable))
        for _ in range(times):
            truth = self.truth.get(key)
            if truth is None or self.cache.get(key) != truth:
                return
            self.replies.append(Write(truth.metadata.resource_version, self.taken(truth)))
            while at_once and self.replies:
                self.reply_arrives()

    def taken(self, truth: PartialObject) -> PartialObject:
        """What the server makes of a write of ours: our finalizer goes from a deleted object."""
        new = changed(truth, resource_version=self.tick())
        if truth.metadata.is_deleting:
            new = changed(new, finalizers=())
            del self.truth[truth.metadata.key]
            self.stream.append(("GONE", new))
        else:
            self.truth[truth.metadata.key] = new
            self.stream.append(("SET", new))
        return new

    @precondition(lambda self: self.replies)
    @rule()
    def reply_arrives(self) -> None:
        """The reply of our oldest write arrives."""
        write = self.replies.pop(0)
        self.accept([self.cache.put(write.reply, replacing=write.replaced)])

    @precondition(lambda self: self.stream and self.snapshot is None)
    @rule()
    def event_arrives(self) -> None:
        """The watch tells the next thing."""
        kind, obj = self.stream.pop(0)
        observe = kind == "SET"
        self.accept([self.cache.observe(obj) if observe else self.cache.remove(obj.metadata.key)])

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def list_is_made(self) -> None:
        """The watch is lost for good; the server makes a list, and a watch will follow it."""
        self.snapshot = list(self.truth.values())
        self.stream.clear()

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def list_arrives(self) -> None:
        """The list arrives."""
        assert self.snapshot is not None
        self.accept(self.cache.replace(self.snapshot))
        self.snapshot = None

    @invariant()
    def handlers_know_the_cache(self) -> None:
        """Whoever followed the deltas knows exactly what is cached."""
        assert self.told == {o.metadata.key: o for o in self.cache.values()}

    @invariant()
    def index_is_right(self) -> None:
        """The index finds exactly what a search of all objects finds."""
        for name in "xyz":
            wanted = {o.metadata.key for o in self.cache.values() if Key("ns", name) in owners(o)}
            assert wanted == {m.key for m in by_owner(self.cache, name)}

    def teardown(self) -> None:
        """When everything has arrived, the cache is the server's state."""
        if self.snapshot is not None:
            self.list_arrives()
        while self.replies or self.stream:
            if self.replies:
                self.reply_arrives()
            else:
                self.event_arrives()
        assert self.truth == {o.metadata.key: o for o in self.cache.values()}
        assert {} == self.cache._superseded


def changed(obj: PartialObject, **meta: Any) -> PartialObject:
    metadata = msgspec.structs.replace(obj.metadata, **meta)
    return msgspec.structs.replace(obj, metadata=metadata)


TestServer = Server.TestCase
TestServer.settings = settings(stateful_step_count=30)
