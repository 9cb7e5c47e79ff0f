"""Which DPUCluster leads to which cluster. Pure book-keeping."""

from __future__ import annotations

from dpucluster.api.meta import Key


class Identities:
    """From a tenant's identity to the DPUClusters that have it."""

    def __init__(self) -> None:
        self._keys: dict[str, set[Key]] = {}

    def move(self, key: Key, old: str, new: str) -> frozenset[Key]:
        """``key`` has ``new`` instead of ``old`` (empty: unknown); who else is concerned."""
        concerned = {*self._keys.get(old, ()), *self._keys.get(new, ())} - {key}
        self._keys.get(old, set()).discard(key)
        if old in self._keys and not self._keys[old]:
            del self._keys[old]
        if new:
            self._keys.setdefault(new, set()).add(key)
        return frozenset(concerned)

    def others(self, key: Key, identity: str) -> tuple[Key, ...]:
        """Who else has that identity, in order."""
        return tuple(sorted(self._keys.get(identity, set()) - {key}))

    def of(self, identity: str) -> frozenset[Key]:
        """Everybody who has that identity."""
        return frozenset(self._keys.get(identity, ()))
