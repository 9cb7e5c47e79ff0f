"""The cache behind an informer: objects by key, indexes, and what changed. Pure.

Three sources feed it: complete lists, watch events in the order of the server, and the replies of
this process's own writes and creations, which arrive before or after their own echo in the watch.
It never goes back to a version it has already replaced, and it compares resourceVersions for
equality only.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, Protocol, TypeVar

from dpucluster.api.meta import Key, ObjectMeta


class HasMetadata(Protocol):
    """What the store must know of an object."""

    @property
    def metadata(self) -> ObjectMeta:
        """The object's metadata."""
        ...


T = TypeVar("T", bound=HasMetadata)

REMEMBERED: Final = 256
"""Objects gone that are remembered: more than are created and deleted while one reply travels."""

IndexFunction = Callable[[T], Iterable[Key]]
"""Names the keys under which an object is to be found; pure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Delta(Generic[T]):
    """One object changed in the cache.

    ``old`` is None for an object that was not cached, ``new`` is None for one that is gone.
    ``own`` tells that the change is the reply of a write of this process.
    """

    key: Key
    old: T | None
    new: T | None
    own: bool = False


class Store(Generic[T]):
    """Objects of one kind.

    Guarantees:
        Applying every list and event of a server in order ends in the server's state, whenever
        the replies of own writes come in between. One key's deltas are a chain: ``old`` is the
        ``new`` before it. A write of this process is seen once, not again when its echo comes.

    Assumptions:
        Objects are frozen. Own writes whose replies are put carried the version they replace as
        a precondition, and lists are as new as any event before them (a consistent read).
    """

    def __init__(self, indexes: Mapping[str, IndexFunction[T]] | None = None) -> None:
        self._objects: dict[Key, T] = {}
        self._index_functions = dict(indexes or {})
        # Inner dicts serve as ordered sets: results come in a stable order.
        self._indexes: dict[str, dict[Key, dict[Key, None]]] = {
            name: {} for name in self._index_functions
        }
        # Versions that own writes have replaced and whose events may still be on their way.
        self._superseded: dict[Key, set[str]] = {}
        # UIDs of objects that are gone, the last ones: the reply to their creation may be late.
        self._gone: collections.deque[str] = collections.deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> T | None:
        """The cached object, or None."""
        return self._objects.get(key)

    def values(self) -> list[T]:
        """All objects."""
        return list(self._objects.values())

    def by(self, index: str, key: Key) -> list[T]:
        """The objects that ``index`` files under ``key``; an unknown index is a KeyError."""
        return [self._objects[k] for k in self._indexes[index].get(key, ())]

    def observe(self, obj: T) -> Delta[T] | None:
        """A watch event or list item says that the object is like this."""
        key, version = obj.metadata.key, obj.metadata.resource_version
        if version in self._superseded.get(key, ()):
            return None
        # The stream has passed every version replaced so far; none of them can come any more.
        self._superseded.pop(key, None)
        old = self._objects.get(key)
        if old is not None and _is_same(old, obj):
            return None
        self._set(key, old, obj)
        return Delta(key, old, obj)

    def remove(self, key: Key) -> Delta[T] | None:
        """A watch event says that the object is gone."""
        self._superseded.pop(key, None)
        return self._drop(key, own=False)

    def replace(
        self, items: Iterable[T], *, namespace: str = "", keep: Iterable[Key] = ()
    ) -> list[Delta[T]]:
        """Take over a complete list; what is not in it any more is delivered as gone.

        With ``namespace`` the list speaks for that namespace only and others stay as they are.
        Objects named in ``keep`` exist, but could not be read: their last readable state stays.
        """
        deltas: list[Delta[T]] = []
        present = set(keep)
        for obj in items:
            present.add(obj.metadata.key)
            if (delta := self.observe(obj)) is not None:
                deltas.append(delta)
        known = [*self._objects, *(k for k in self._superseded if k not in self._objects)]
        for key in known:
            in_scope = not namespace or key.namespace == namespace
            if in_scope and key not in present and (gone := self.remove(key)) is not None:
                deltas.append(gone)
        return deltas

    def put(self, obj: T, *, replacing: str) -> Delta[T] | None:
        """Take in the reply of an own write that replaced version ``replacing``.

        Ignored unless exactly that version of the same object (UID) is cached: the watch was
        faster otherwise, and knows more. A reply that says that the last finalizer of a deleted
        object is gone removes the object.
        """
        key = obj.metadata.key
        old = self._objects.get(key)
        if old is None or old.metadata.uid != obj.metadata.uid:
            return None
        if old.metadata.resource_version != replacing or _is_same(old, obj):
            return None
        superseded = self._superseded.setdefault(key, set())
        superseded.add(replacing)
        if obj.metadata.is_deleting and not obj.metadata.finalizers:
            superseded.add(obj.metadata.resource_version)
            return self._drop(key, own=True)
        self._set(key, old, obj)
        return Delta(key, old, obj, own=True)

    def add(self, obj: T) -> Delta[T] | None:
        """Take in the reply of an own create.

        Ignored when an object of that name is cached, or this very one was seen to go: the watch
        was faster, and knows more.
        """
        key = obj.metadata.key
        if key in self._objects or obj.metadata.uid in self._gone:
            return None
        self._set(key, None, obj)
        return Delta(key, None, obj, own=True)

    def _set(self, key: Key, old: T | None, new: T) -> None:
        self._objects[key] = new
        for name, function in self._index_functions.items():
            index = self._indexes[name]
            before = set() if old is None else set(function(old))
            after = dict.fromkeys(function(new))
            for entry in before - after.keys():
                _unfile(index, entry, key)
            for entry in after:
                index.setdefault(entry, {})[key] = None

    def _drop(self, key: Key, *, own: bool) -> Delta[T] | None:
        old = self._objects.pop(key, None)
        if old is None:
            return None
        self._gone.append(old.metadata.uid)
        for name, function in self._index_functions.items():
            for entry in set(function(old)):
                _unfile(self._indexes[name], entry, key)
        return Delta(key, old, None, own=own)


def _is_same(one: HasMetadata, other: HasMetadata) -> bool:
    a, b = one.metadata, other.metadata
    return a.uid == b.uid and a.resource_version == b.resource_version


def _unfile(index: dict[Key, dict[Key, None]], entry: Key, key: Key) -> None:
    filed = index[entry]
    del filed[key]
    if not filed:
        del index[entry]
