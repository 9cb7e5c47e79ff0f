"""YAML from strangers: plain values only, bounded in size, depth and number.

No aliases (a few lines of them expand to gigabytes), no tags, no merge keys, no duplicate keys,
one document. Scalars become str, bool or None; every other type YAML knows becomes an ``Odd``,
so that a number where a string belongs is told instead of guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

MAX_BYTES: Final = 2**20
"""A Secret holds no more than 1 MiB."""
MAX_DEPTH: Final = 24
"""Three times what the deepest extension seen in a kubeconfig needs."""
MAX_NODES: Final = 20_000
"""A kubeconfig has some dozens; this bounds the time spent on junk."""

MAX_TYPED: Final = 64
"""Characters up to which a scalar may be anything but text (keeps big junk off the patterns)."""

_TAG: Final = "tag:yaml.org,2002:"
_BOOLEANS: Final = frozenset({"true", "yes", "on"})
_TEXT: Final = frozenset({"str", "timestamp", "value", "merge"})


class NotPlain(ValueError):
    """The text is not YAML, or not of the plain kind; the message quotes nothing of it."""


@dataclass(frozen=True)
class Odd:
    """A scalar of a type that has no use here (``int``, ``float`` …)."""

    kind: str


Value: TypeAlias = "str | bool | Odd | list[Value] | dict[str, Value] | None"


def load(data: bytes) -> Value:
    """The one document in ``data``.

    Raises:
        NotPlain: see the module.
    """
    if len(data) > MAX_BYTES:
        raise NotPlain("larger than 1 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotPlain("not UTF-8 text") from None
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise NotPlain(f"not YAML{_place(error.problem_mark)}") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, NotPlain):
            raise
        raise NotPlain("not YAML: it holds characters that YAML does not allow") from None
    return builder.document


def _events(text: str) -> Iterator[yaml.Event]:
    # parse, not compose: the composer recurses, and a stranger chooses how deep.
    return yaml.parse(text, Loader=yaml.CSafeLoader)


def _place(mark: Any) -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""


@dataclass
class _Builder:
    """Takes parser events, one at a time; keeps open containers on a stack."""

    document: Value = None
    documents: int = 0
    nodes: int = 0
    stack: list[_Open] = field(default_factory=list)
    resolver: yaml.resolver.Resolver = field(default_factory=yaml.resolver.Resolver)

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise NotPlain("more than one YAML document")
            case yaml.AliasEvent():
                raise NotPlain("YAML anchors and aliases are not accepted")
            case yaml.NodeEvent():
                self._node(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                closed = self.stack.pop()
                if isinstance(closed, _OpenMapping) and closed.key is not None:
                    raise NotPlain("a YAML mapping is incomplete")

    def _node(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise NotPlain("more YAML values than any kubeconfig has")
        if event.anchor is not None:
            raise NotPlain("YAML anchors and aliases are not accepted")
        if event.tag is not None and event.tag != "!":
            raise NotPlain("YAML tags are not accepted")
        if isinstance(event, yaml.ScalarEvent):
            self._put(self._scalar(event))
            return
        opened = _OpenMapping({}) if isinstance(event, yaml.MappingStartEvent) else _OpenList([])
        self._put(opened.value)
        self.stack.append(opened)
        if len(self.stack) > MAX_DEPTH:
            raise NotPlain("YAML nested more deeply than any kubeconfig is")

    def _put(self, value: Value) -> None:
        if self.stack:
            self.stack[-1].put(value)
        else:
            self.document = value

    def _scalar(self, event: yaml.ScalarEvent) -> Value:
        if len(event.value) > MAX_TYPED:
            return str(event.value)
        kind: str = self.resolver.resolve(  # type: ignore[no-untyped-call]  # the stubs leave it out
            yaml.ScalarNode, event.value, event.implicit
        )
        match kind.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return event.value.lower() in _BOOLEANS
            case name if name in _TEXT:
                return str(event.value)
            case name:
                return Odd(name)


@dataclass
class _OpenList:
    value: list[Value]

    def put(self, value: Value) -> None:
        self.value.append(value)


@dataclass
class _OpenMapping:
    value: dict[str, Value]
    key: str | None = None

    def put(self, value: Value) -> None:
        if self.key is not None:
            self.value[self.key], self.key = value, None
            return
        if not isinstance(value, str):
            raise NotPlain("a YAML key is no text")
        if value == "<<":
            raise NotPlain("YAML merge keys are not accepted")
        if value in self.value:
            raise NotPlain("a YAML key stands twice in one mapping")
        self.key = value


_Open: TypeAlias = _OpenList | _OpenMapping
