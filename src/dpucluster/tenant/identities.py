"""Which DPUClusters lead to the same cluster. Pure book-keeping.

Hundreds may (a test bench, a copied manifest), so what one of them is told does not change with
each that comes or goes, and nobody has to look at all of them.
"""

from __future__ import annotations

from dpucluster.api.meta import Key


class Identities:
    """From a tenant's identity (the UID of its ``kube-system``) to the DPUClusters that have it."""

    def __init__(self) -> None:
        self._keys: dict[str, set[Key]] = {}

    def add(self, key: Key, identity: str) -> tuple[Key, ...]:
        """``key`` leads there; returns who else should hear of it: the one who was alone."""
        keys = self._keys.setdefault(identity, set())
        concerned = tuple(keys - {key}) if len(keys) == 1 else ()
        keys.add(key)
        return concerned

    def remove(self, key: Key, identity: str) -> tuple[Key, ...]:
        """``key`` leads there no more; returns who should hear of it: the one left alone."""
        keys = self._keys.get(identity, set())
        if key not in keys:
            return ()
        keys.remove(key)
        if not keys:
            del self._keys[identity]
        return tuple(keys) if len(keys) == 1 else ()

    def is_shared(self, key: Key, identity: str) -> bool:
        """Whether somebody else leads there, too."""
        return bool(self._keys.get(identity, set()) - {key})

    def of(self, identity: str) -> tuple[Key, ...]:
        """Everybody who leads there."""
        return tuple(self._keys.get(identity, ()))
