"""Follows the kubeconfig Secret of one DPUCluster.

The informer knows the metadata of every Secret; the data of one is fetched only when a DPUCluster
names it, and again only when its resourceVersion is another.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from dpucluster import errors
from dpucluster.api.meta import Key, PartialObject
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import informer
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant.diagnosis import Diagnosis

log = logging.getLogger(__name__)

RETRY_MAX = 30.0
"""Between two tries to fetch a Secret that is there and cannot be read."""

PATIENCE = 3
"""Refusals in a row, three seconds, before they are told: an API server that has just started
refuses everybody until it has read its roles."""

ABSENCE = 3.0
"""Seconds for which a Secret that was there must be missing before that is told. Whoever rotates by
deleting makes it anew at once (Kamaji takes two thirds of a second), and the credentials that are
in use are not revoked by it."""

CONFIRM = 5.0
"""A Secret that was read before the cache knew it may be deleted before the cache knows, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What is watched: one DPUCluster and the Secret it names. Another value, another watcher."""

    cluster: Key
    uid: str
    type: str
    secret_name: str

    @property
    def secret(self) -> Key:
        """The Secret's key."""
        return Key(self.cluster.namespace, self.secret_name)


class SecretReader:
    """Says when the Secret is another, and what it is worth then."""

    def __init__(
        self,
        target: Target,
        client: kube_client.Client,
        secrets: informer.Informer[PartialObject],
        clock: clocks.Clock,
    ) -> None:
        self._target = target
        self._client = client
        self._secrets = secrets
        self._clock = clock
        # Of the cache when it was last compared, and of what was read then, which may be newer.
        self._judged: str | None = None
        self._read_version: str | None = None
        self._missing_since: float | None = None
        self._failures = 0
        self._refusals = 0
        self._is_refusal_told = False

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next try, when the last one failed or may be outdated unnoticed."""
        if self._failures:
            return min(2.0 ** (self._failures - 1), RETRY_MAX)
        if self._missing_since is not None:
            return max(0.0, self._missing_since + ABSENCE - self._clock.monotonic())
        return CONFIRM if self._is_ahead(self._cached_version()) else None

    async def changed(self) -> Diagnosis | None:
        """The diagnosis of the Secret if it is another than at the last call, else None.

        Also None when it cannot be read now (see ``retry_after``); that it may not be read is
        another diagnosis. What the cache does not have is asked for before it counts as missing,
        for a Secret may be younger than the cache, and once more after a while if it was there.
        """
        if not self._secrets.synced.is_set():
            return None
        cached = self._cached_version()
        if cached in (self._judged, self._read_version) and not self._is_ahead(cached):
            self._judged = cached
            return None
        try:
            secret = await self._read(cached)
        except errors.DpuClusterError as error:
            return self._failed(error)
        if secret is None and self._read_version and not self._is_gone():
            self._failures, self._refusals = 0, 0
            return None
        version = secret.metadata.resource_version if secret else ""
        self._missing_since = None
        # Remembered only when there is a diagnosis: who is cancelled meanwhile reads it again.
        is_other = version != self._read_version or self._is_refusal_told
        found = await asyncio.to_thread(self._diagnose, secret) if is_other else None
        self._failures, self._refusals, self._is_refusal_told = 0, 0, False
        self._judged, self._read_version = cached, version
        return found

    def _failed(self, error: errors.DpuClusterError) -> Diagnosis | None:
        self._failures += 1
        extra = {"secret": str(self._target.secret), "error": str(error)}
        log.warning("Secret cannot be read, trying again", extra=extra)
        self._refusals = self._refusals + 1 if isinstance(error, errors.Forbidden) else 0
        if self._refusals < PATIENCE or self._is_refusal_told:
            return None
        self._is_refusal_told = True
        return tenant_diagnosis.withheld(
            cluster=self._target.cluster, secret_name=self._target.secret_name, refusal=str(error)
        )

    def unnamed(self) -> Diagnosis | None:
        """The diagnosis when no Secret is named, which needs no reading."""
        return None if self._target.secret_name else self._diagnose(None)

    def _is_gone(self) -> bool:
        """Whether a Secret that was there has been missing for long enough."""
        now = self._clock.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        return now - self._missing_since >= ABSENCE

    def _is_ahead(self, cached: str) -> bool:
        """Whether a Secret was read that the cache does not have: yet, or any more."""
        return not cached and bool(self._read_version)

    def _cached_version(self) -> str:
        """The version that the cache knows; empty when there is no such Secret."""
        found = self._secrets.get(self._target.secret)
        return found.metadata.resource_version if found else ""

    async def _read(self, cached: str) -> kinds.Secret | None:
        """At least the version ``cached``; the newest where the cache has none."""
        name, namespace = self._target.secret_name, self._target.secret.namespace
        try:
            return await self._client.get(kinds.SECRETS, name, namespace, not_older_than=cached)
        except errors.NotFound:
            return None

    def _diagnose(self, secret: kinds.Secret | None) -> Diagnosis:
        try:
            return tenant_diagnosis.diagnose(
                secret,
                cluster=self._target.cluster,
                cluster_type=self._target.type,
                secret_name=self._target.secret_name,
                now=self._clock.now(),
            )
        except Exception as error:  # noqa: BLE001 - the content is a stranger's
            # Neither message nor traceback: both may quote the content.
            extra = {"secret": str(self._target.secret), "error": type(error).__name__}
            log.error("Secret cannot be diagnosed", extra=extra)  # noqa: TRY400 - see above
            return tenant_diagnosis.unreadable(
                cluster=self._target.cluster, secret_name=self._target.secret_name
            )
