"""Bytes to values: listings, watch events, and the objects in them.

Pure. Objects are decoded one by one, so that one that does not fit its type spoils only itself:
it becomes an ``Undecodable`` beside the others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec

from dpucluster import errors
from dpucluster.api.meta import Key
from dpucluster.kube.resource import Resource

T = TypeVar("T")

_QUOTED_VALUE = re.compile(r"(enum value) .*?( - at `\$[^`]*`)?$", re.DOTALL)
"""The one place where msgspec's messages quote the object instead of naming the path in it."""


@dataclass(frozen=True)
class Undecodable:
    """An object that does not fit its type.

    ``key`` is None where not even the name could be read. ``error_text`` names the path, never the
    content. ``deleted``: a watch told that it is gone.
    """

    key: Key | None
    error_text: str
    resource_version: str = ""
    deleted: bool = False


@dataclass(frozen=True)
class Listing(Generic[T]):
    """The objects of a list, or of one page of it.

    ``remaining`` is how many more the server says there are (None: it does not say);
    ``continue_`` asks for the next page, empty on the last one.
    """

    items: list[T]
    undecodable: list[Undecodable]
    resource_version: str
    remaining: int | None = None
    continue_: str = ""


@dataclass(frozen=True)
class Added(Generic[T]):
    """The object is new (or new to this watch)."""

    obj: T


@dataclass(frozen=True)
class Modified(Generic[T]):
    """The object changed."""

    obj: T


@dataclass(frozen=True)
class Deleted(Generic[T]):
    """The object is gone; ``obj`` is its last state."""

    obj: T


@dataclass(frozen=True)
class Bookmark:
    """Everything up to ``resource_version`` has been told."""

    resource_version: str


WatchEvent: TypeAlias = Added[T] | Modified[T] | Deleted[T] | Bookmark | Undecodable


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """``details`` of a Status."""

    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True):
    """metav1.Status: how an API server tells a failure."""

    kind: str = ""
    code: int = 0
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Named(msgspec.Struct, frozen=True):
    metadata: _Identity = _Identity()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


@functools.cache
def _decoder(type_: Hashable) -> msgspec.json.Decoder[Any]:
    """One decoder for each type: they cost more to build than to use."""
    return msgspec.json.Decoder(cast("type[Any]", type_))


def explain(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """What did not fit, without a word of the content."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return _QUOTED_VALUE.sub(r"\1\2", str(error))


def decode(resource: Resource[T], data: bytes | msgspec.Raw) -> T:
    """One object.

    Raises:
        DecodeError: it does not fit the resource's type.
    """
    try:
        decoder = _decoder(cast("Hashable", resource.type))
        return cast("T", decoder.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.DecodeError(f"{resource.kind}: {explain(error)}") from None


def decode_list(resource: Resource[T], data: bytes) -> Listing[T]:
    """One page of a list.

    Raises:
        DecodeError: the answer as a whole is no list.
    """
    try:
        page = _decoder(_List).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.DecodeError(f"list of {resource.plural}: {explain(error)}") from None
    items: list[T] = []
    bad: list[Undecodable] = []
    for raw in page.items or ():
        try:
            items.append(decode(resource, raw))
        except errors.DecodeError as error:
            bad.append(undecodable(raw, error))
    meta = page.metadata
    return Listing(
        items, bad, meta.resource_version, meta.remaining_item_count, continue_=meta.continue_
    )


def undecodable(
    raw: bytes | msgspec.Raw, error: errors.DecodeError, *, deleted: bool = False
) -> Undecodable:
    """What can be told of an object that ``error`` was raised for."""
    try:
        meta = _decoder(_Named).decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Undecodable(None, str(error), deleted=deleted)
    key = Key(meta.namespace, meta.name) if meta.name else None
    return Undecodable(key, str(error), meta.resource_version, deleted)


def decode_event(resource: Resource[T], line: bytes) -> WatchEvent[T] | Status:
    """One line of a watch; a Status is the server's reason for ending it.

    Raises:
        DecodeError: the line is no watch event at all.
    """
    try:
        event = _decoder(_Event).decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.DecodeError(f"watch of {resource.plural}: {explain(error)}") from None
    match event.type:
        case "ADDED":
            return _wrap(Added, resource, event.object)
        case "MODIFIED":
            return _wrap(Modified, resource, event.object)
        case "DELETED":
            return _wrap(Deleted, resource, event.object)
        case "BOOKMARK":
            return Bookmark(decode_identity(event.object).resource_version)
        case "ERROR":
            return decode_status(bytes(event.object)) or Status(message="no reason given")
        case _:
            raise errors.DecodeError(f"watch of {resource.plural}: unknown type of event")


def _wrap(
    kind: type[Added[T] | Modified[T] | Deleted[T]],
    resource: Resource[T],
    raw: msgspec.Raw,
) -> WatchEvent[T]:
    try:
        return kind(decode(resource, raw))
    except errors.DecodeError as error:
        return undecodable(raw, error, deleted=kind is Deleted)


def decode_identity(raw: bytes | msgspec.Raw) -> _Identity:
    """Name and version of any object.

    Raises:
        DecodeError: it has no metadata that could be read.
    """
    try:
        return cast("_Identity", _decoder(_Named).decode(raw).metadata)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.DecodeError(explain(error)) from None


def decode_status(data: bytes) -> Status | None:
    """The Status in an answer; None when it is something else."""
    try:
        status: Status = _decoder(Status).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return status if status.kind == "Status" else None


def encode(resource: Resource[Any], obj: object) -> bytes:
    """An object as a request body, with the ``apiVersion`` and ``kind`` it is sent under."""
    fields = obj if isinstance(obj, Mapping) else msgspec.to_builtins(obj)
    names = {"apiVersion": resource.api_version, "kind": resource.kind}
    return msgspec.json.encode({**fields, **names})


@dataclass
class Lines:
    r"""Cuts a stream of bytes at ``\n``, and nowhere else, into lines of any length.

    Not ``str.splitlines``: U+0085 and U+2028 are ordinary characters inside JSON values. ``rest``
    is what has come since the last newline.
    """

    rest: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that ``chunk`` completes."""
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            whole = bytes(self.rest) + head
            self.rest = bytearray(tail)
            yield from (line for line in whole.split(b"\n") if line.strip())
        else:
            self.rest += chunk
