"""Which DPUClusters lead to the same cluster. Pure book-keeping.

Hundreds may (a test bench, a copied manifest), so what one of them is told about the others does
not change with each that comes or goes, and nobody has to look at all of them.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

from dpucluster.api.meta import Key


class Company(NamedTuple):
    """Who else is there: the first in the order of names, and whether there are more."""

    first: Key
    has_more: bool


class Identities:
    """From a tenant's identity (the UID of its ``kube-system``) to the DPUClusters that have it."""

    def __init__(self) -> None:
        self._keys: dict[str, list[Key]] = {}

    def add(self, key: Key, identity: str) -> tuple[Key, ...]:
        """``key`` leads there; returns those who should hear of it now.

        Those are few: to somebody who has more than one companion already, one more is no news.
        """
        keys = self._keys.setdefault(identity, [])
        concerned = tuple(keys) if len(keys) < 3 else ()
        bisect.insort(keys, key)
        return concerned

    def remove(self, key: Key, identity: str) -> tuple[Key, ...]:
        """``key`` leads there no more; returns those who should hear of it now.

        Others who were told its name learn it when they are looked at next.
        """
        keys = self._keys.get(identity, [])
        if key not in keys:
            return ()
        keys.remove(key)
        if not keys:
            del self._keys[identity]
        return tuple(keys) if len(keys) < 3 else ()

    def company(self, key: Key, identity: str) -> Company | None:
        """Who else leads there; None: nobody."""
        keys = self._keys.get(identity, [])
        others = [other for other in keys[:3] if other != key]
        return Company(others[0], len(others) > 1) if others else None

    def of(self, identity: str) -> tuple[Key, ...]:
        """Everybody who leads there."""
        return tuple(self._keys.get(identity, ()))
