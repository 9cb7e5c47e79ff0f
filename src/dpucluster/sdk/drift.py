"""Whether an object on the server still is what a manager wants it to be. Pure.

Wanted is only what the manager sets: fields that the server fills in and those of other people
do not count. So wanted must be contained in found. What was wanted before and is not any more
cannot be seen that way; a fingerprint of what was applied last, kept as an annotation, shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "ownerReferences": ("uid",),
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists to which others may add items, by field: an item is found again by these of its fields, as
the API server merges them. Every other list belongs to its writer as a whole."""


def fingerprint(wanted: Mapping[str, Any]) -> str:
    """Equal for equal content, whatever the order of its keys."""
    encoded = msgspec.json.encode(wanted, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]


def differs(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether ``found`` lacks anything of ``wanted``; both as on the wire."""
    return not _contains(found, wanted, "")


def _contains(found: Any, wanted: Any, field: str) -> bool:
    match wanted:
        case Mapping():
            return isinstance(found, Mapping) and all(
                _contains(found.get(name), value, name) for name, value in wanted.items()
            )
        case list() | tuple():
            if not isinstance(found, list | tuple):
                # the server leaves an empty list out
                return found is None and not wanted
            return _contains_items(found, wanted, MERGE_KEYS.get(field, ()))
        case _:
            return bool(found == wanted)


def _contains_items(found: Sequence[Any], wanted: Sequence[Any], keys: tuple[str, ...]) -> bool:
    if not keys:
        return len(found) == len(wanted) and all(
            _contains(f, w, "") for f, w in zip(found, wanted, strict=True)
        )
    by_key = {_key(item, keys): item for item in found}
    return all(_contains(by_key.get(_key(item, keys)), item, "") for item in wanted)


def _key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(name) for name in keys) if isinstance(item, Mapping) else (item,)
