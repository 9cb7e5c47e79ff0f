"""The operator: one DPFOperatorConfig in force, its components switched, its status told.

Every replica follows the switches, since each role elects its own leader; only the holder of the
operator's Lease writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from dpucluster import errors
from dpucluster.api import conditions, contract, timestamps
from dpucluster.api.dpfoperatorconfig import DPFOperatorConfig, DPFOperatorConfigStatus
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Condition, Key
from dpucluster.dpfoperator import components, decide
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import events, informer
from dpucluster.sdk import Notice

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How soon a component that is starting or stopping, or a missing Secret, is looked at again."""
RELOOK_SECONDS = 30.0
"""While all is well: a Lease that nobody holds any more sends no event."""


class Switchboard(Protocol):
    """The components of this installation, as the operator may switch them."""

    managed: frozenset[str]

    def switch(self, wanted: frozenset[str]) -> None:
        """Let exactly ``wanted`` run; returns at once."""
        ...

    def waiting(self) -> Mapping[str, str]:
        """Why a component that should run does not yet, by component."""
        ...

    def is_idle(self) -> bool:
        """Whether no component runs in this process any more."""
        ...


class Leadership(Protocol):
    """The operator's own Lease."""

    def is_leader(self) -> bool:
        """Whether this process holds it."""
        ...

    def check(self) -> None:
        """Raise ``errors.LeadershipLost`` unless it is surely held."""
        ...


class Operator:
    """Reconciles DPFOperatorConfigs, one key at a time."""

    def __init__(
        self,
        client: kube_client.Client,
        configs: informer.Informer[DPFOperatorConfig],
        clusters: informer.Informer[DPUCluster],
        board: Switchboard,
        recorder: events.EventRecorder,
        *,
        clock: clocks.Clock,
        singleton: Key,
        leadership: Leadership,
    ) -> None:
        self._client = client.fenced(leadership.check)
        self._configs = configs
        self._clusters = clusters
        self._board = board
        self._recorder = recorder
        self._clock = clock
        self._singleton = singleton
        self._leadership = leadership
        self._has_switched = False

    async def reconcile(self, key: Key) -> float | None:
        """Look at one config; seconds until the next look, or None."""
        config = self._configs.get(key)
        if config is None:
            if key == self._singleton:
                self._switch(frozenset())
            return None
        if key != self._singleton:
            await self._refuse(config)
            return None
        if config.is_paused:
            self._keep(config)
            return None
        if config.metadata.is_deleting:
            return await self._take_apart(config)
        return await self._follow(config)

    def _switch(self, wanted: frozenset[str]) -> None:
        self._has_switched = True
        self._board.switch(wanted)

    def _keep(self, config: DPFOperatorConfig) -> None:
        """Paused: what runs goes on; a process that just started takes up what should run."""
        if not self._has_switched:
            self._switch(self._wanted(config))

    def _wanted(self, config: DPFOperatorConfig) -> frozenset[str]:
        return components.wanted(config.spec, managed=self._board.managed)

    async def _refuse(self, config: DPFOperatorConfig) -> None:
        """Another config is told, once, that it has no effect."""
        if self._leadership.is_leader():
            said = (decide.not_the_singleton(self._singleton),)
            await self._publish(config, said, Notice(said[0].reason, said[0].message))

    async def _follow(self, config: DPFOperatorConfig) -> float | None:
        missing = await self._missing_pull_secrets(config)
        if not missing:
            self._switch(self._wanted(config))
        if not self._leadership.is_leader():
            return POLL_SECONDS if missing else None
        config = await self._with_finalizer(config)
        not_managed = components.not_managed(config.spec, managed=self._board.managed)
        observed = decide.Observed(config, self._board.waiting(), not_managed, missing)
        said = decide.conditions(observed)
        await self._publish(config, said, decide.notice(observed))
        return RELOOK_SECONDS if all(c.is_true for c in said) else POLL_SECONDS

    async def _missing_pull_secrets(self, config: DPFOperatorConfig) -> list[str]:
        missing = []
        for name in config.spec.image_pull_secrets if config.spec else ():
            try:
                await self._client.get(kinds.SECRETS_METADATA, name, config.metadata.namespace)
            except errors.NotFound:
                missing.append(name)
        return missing

    async def _with_finalizer(self, config: DPFOperatorConfig) -> DPFOperatorConfig:
        held = config.metadata.finalizers
        if contract.FINALIZER_OPERATOR in held:
            return config
        return await self._patch_finalizers(config, (*held, contract.FINALIZER_OPERATOR))

    async def _take_apart(self, config: DPFOperatorConfig) -> float | None:
        """Deletion: the DPUClusters, then the components, then the finalizer.

        The components go on while there are DPUClusters: nobody else removes their finalizers.
        """
        clusters = self._clusters.values()
        self._switch(self._wanted(config) if clusters else frozenset())
        if not self._leadership.is_leader():
            return None if not clusters else POLL_SECONDS
        if contract.FINALIZER_OPERATOR not in config.metadata.finalizers:
            return None
        if not clusters and self._board.is_idle():
            left = [f for f in config.metadata.finalizers if f != contract.FINALIZER_OPERATOR]
            await self._patch_finalizers(config, left)
            return None
        doomed = [c for c in clusters if not c.metadata.is_deleting]
        keys = [c.key for c in clusters]
        notice = decide.deletion_notice(keys) if doomed else None
        observed = decide.Observed(config, {}, (), (), keys)
        await self._publish(config, decide.conditions(observed), notice)
        await self._recorder.flush(POLL_SECONDS)  # told before the first one is deleted
        await self._delete(doomed)
        return POLL_SECONDS

    async def _delete(self, clusters: Sequence[DPUCluster]) -> None:
        """Ask for the deletion of each; one that is refused does not save the others."""
        refused: errors.ApiError | None = None
        for meta in (c.metadata for c in clusters):
            try:
                await self._client.delete(
                    kinds.DPUCLUSTERS, meta.name, meta.namespace, uid=meta.uid
                )
            except (errors.NotFound, errors.Conflict):
                log.debug("cluster was gone already", extra={"object": str(meta.key)})
            except errors.ApiError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    async def _publish(
        self, config: DPFOperatorConfig, said: Sequence[Condition], notice: Notice | None
    ) -> None:
        """Write the status when it differs, and tell ``notice`` with a status that changed."""
        generation = config.metadata.generation
        now = timestamps.to_rfc3339(self._clock.now())
        stamped = [msgspec.structs.replace(c, observed_generation=generation) for c in said]
        merged = conditions.merge(config.status.conditions, stamped, now=now)
        status = DPFOperatorConfigStatus(observed_generation=generation, conditions=merged)
        if status == config.status:
            return
        patch = {
            "metadata": {"resourceVersion": config.metadata.resource_version},
            "status": {
                "observedGeneration": generation,
                "conditions": conditions.to_wire(merged),
            },
        }
        await self._write(config, patch, subresource="status")
        if notice is not None:
            self._recorder.emit(
                kinds.reference(kinds.DPFOPERATORCONFIGS, config.metadata),
                type_="Warning",
                reason=notice.reason,
                action="Reconcile",
                note=notice.note,
                guard=self._leadership.check,
            )

    async def _patch_finalizers(
        self, config: DPFOperatorConfig, finalizers: Sequence[str]
    ) -> DPFOperatorConfig:
        version = config.metadata.resource_version
        metadata = {"resourceVersion": version, "finalizers": list(finalizers)}
        return await self._write(config, {"metadata": metadata})

    async def _write(
        self, config: DPFOperatorConfig, patch: Mapping[str, object], *, subresource: str = ""
    ) -> DPFOperatorConfig:
        meta = config.metadata
        reply = await self._client.merge_patch(
            kinds.DPFOPERATORCONFIGS, meta.name, patch, meta.namespace, subresource=subresource
        )
        self._configs.put(reply, replacing=meta.resource_version)
        return reply
