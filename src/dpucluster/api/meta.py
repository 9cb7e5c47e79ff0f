"""Metadata shared by every Kubernetes object, and the key a work queue carries.

Only the fields this project reads are modelled; the others are skipped while decoding, which is
what makes a cache of thousands of objects small. Structs are frozen and hold no cycles, so the
garbage collector need not look at them (``gc=False``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec

QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
"""What the API server accepts as a condition's type."""
REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""What the API server accepts as a condition's reason."""


class Key(NamedTuple):
    """Names one object of a kind; ``namespace`` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


LISTED_AT_MOST = 10
"""Objects named in a message; thousands would make it unreadable."""


def listed(keys: Iterable[Key]) -> str:
    """The first few of ``keys`` in order, and how many more there are."""
    ordered = sorted(keys)
    shown = ", ".join(str(k) for k in ordered[:LISTED_AT_MOST])
    more = len(ordered) - LISTED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``metadata.ownerReferences[]``."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``metadata`` as far as this project reads it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> Key:
        """The object's key."""
        return Key(self.namespace, self.name)

    @property
    def is_deleting(self) -> bool:
        """Whether deletion has been asked for."""
        return self.deletion_timestamp is not None


class Condition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``metav1.Condition``. ``status`` is ``True``, ``False`` or ``Unknown``, as a string.

    No default is omitted on the wire: the schema requires ``message``, also an empty one. What
    the schema restricts is told here and not enforced while reading.
    """

    type: Annotated[
        str, msgspec.Meta(extra_json_schema={"maxLength": 316, "pattern": QUALIFIED_NAME})
    ]
    status: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["True", "False", "Unknown"]})]
    reason: Annotated[
        str,
        msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": 1024, "pattern": REASON}),
    ] = ""
    message: Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": 32768})] = ""
    last_transition_time: str = ""
    observed_generation: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})] = 0

    @property
    def is_true(self) -> bool:
        """Whether the status is ``True``."""
        return self.status == "True"


class PartialObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An object of any kind of which only the metadata was asked for."""

    metadata: ObjectMeta
    api_version: str = ""
    kind: str = ""
