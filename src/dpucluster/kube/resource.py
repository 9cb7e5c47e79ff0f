"""A kind of object on an API server: its type here, its path there."""

from __future__ import annotations

import builtins
import urllib.parse
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dpucluster.api.meta import PartialObject

T = TypeVar("T")


@dataclass(frozen=True)
class Resource(Generic[T]):
    """Objects of one kind, read as ``type``.

    ``metadata_only`` asks the server for nothing but metadata (``PartialObjectMetadata``), whatever
    else the objects hold; ``type`` must then be able to do without the rest.
    """

    type: builtins.type[T]
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    metadata_only: bool = False

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of one object, of a namespace's objects, or of all (nothing given).

        Raises:
            ValueError: a namespaced object was named without its namespace.
        """
        if self.namespaced and name and not namespace:
            raise ValueError(f"{self.plural} {name}: namespace missing")
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", _quoted(namespace)]
        parts += [p for p in (self.plural, _quoted(name), subresource) if p]
        return "/".join(parts)

    def as_unstructured(self) -> Resource[dict[str, Any]]:
        """The same objects with everything they hold, as the server sends them."""
        kind = dict[str, Any]
        return Resource(
            kind, self.group, self.version, self.plural, self.kind, namespaced=self.namespaced
        )

    def as_metadata(self) -> Resource[PartialObject]:
        """The same objects, of which the server sends only the metadata."""
        return Resource(
            PartialObject,
            group=self.group,
            version=self.version,
            plural=self.plural,
            kind=self.kind,
            namespaced=self.namespaced,
            metadata_only=True,
        )


def _quoted(name: str) -> str:
    """A name that leads nowhere else, whatever it holds."""
    return urllib.parse.quote(name, safe=":")
