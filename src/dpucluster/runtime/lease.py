"""Leader election on a coordination.k8s.io/v1 Lease, with fencing.

Understands and is understood by client-go's elector on the same Lease. What is decided is in
``lease_state``; here it is carried out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import lease_state
from dpucluster.runtime import metrics as runtime_metrics

log = logging.getLogger(__name__)

JITTER: Final = 0.2
"""Waits are up to a fifth longer, so that candidates that began together drift apart."""

RELEASE_TIMEOUT: Final = 2.0
"""Seconds for the last request: the Lease runs out by itself if it fails."""

ATTEMPT_SHARE: Final = 0.5
"""One request gets half the renew deadline, so that a second one is possible after a black hole."""


class LeaderElector:
    """Takes part in the election for one Lease.

    Guarantees:
        ``check`` passes in at most one process at a time, as long as the machines' stopwatches
        run at the same speed within a third: the holder stops ``renew_deadline`` after the START
        of its last successful renewal, others wait ``lease_duration`` after they SAW it. Wall
        clocks are written for people and never read. A process that was frozen finds ``check``
        failing when it wakes, before anything else runs.

    Errors:
        ``run`` raises nothing of what the API answers: it goes on trying.

    Assumptions:
        Two processes have the same ``identity`` only if one is the other's successor.
    """

    def __init__(
        self,
        client: kube_client.Client,
        *,
        name: str,
        namespace: str,
        identity: str,
        lease_duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        clock: clocks.Clock = clocks.SYSTEM,
        metrics: runtime_metrics.Metrics | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._timing = lease_state.Timing(lease_duration, renew_deadline, retry_period)
        self._clock = clock
        self._gauge = (metrics or runtime_metrics.Metrics()).leader.labels(name=name)
        self._gauge.set(0)
        self._seen: lease_state.Sighting | None = None
        self._leads_until: float | None = None
        # A write was begun and no answer has told what became of it.
        self._is_unsure = False
        self._told = ""
        self._told_holder = ""

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last seen; empty: nobody, or not seen yet."""
        return "" if self._seen is None else self._seen.holder

    def is_leader(self) -> bool:
        """Whether this process surely holds the Lease now."""
        return self._leads_until is not None and self._clock.monotonic() < self._leads_until

    def check(self) -> None:
        """Guard of a write.

        Raises:
            LeadershipLost: this process does not surely hold the Lease now.
        """
        if not self.is_leader():
            raise errors.LeadershipLost(
                f"Lease {self._namespace}/{self._name} is not held by {self._identity}"
            )

    async def run(
        self, on_started: Callable[[], None], on_stopped: Callable[[], Awaitable[None]]
    ) -> None:
        """Take part until cancelled, winning and losing any number of times.

        ``on_started`` must return at once. ``on_stopped`` is awaited when leadership is lost (no
        write passes ``check`` any more) and when this is cancelled (writes still pass, until the
        renew deadline; the Lease is released after it has returned).
        """
        leading = False
        try:
            while True:
                await self._acquire()
                leading = True
                self._gauge.set(1)
                on_started()
                await self._hold()
                leading = False
                self._gauge.set(0)
                await on_stopped()
        finally:
            if leading:
                await on_stopped()
            await self._release()

    async def _acquire(self) -> None:
        while not await self._attempt(self._timing.renew_deadline):
            await self._clock.sleep(self._pause())
        log.info("became leader", extra=self._fields())

    def _pause(self) -> float:
        """Until the next attempt: not longer than until the Lease may be taken."""
        pause = self._timing.retry_period
        if self._seen is not None:
            match self._decide():
                case lease_state.Wait(seconds):
                    pause = min(pause, seconds)
                case _:
                    pass
        # At least a little, or an API that refuses every takeover is asked in a hot loop.
        return max(pause, 0.1 * self._timing.retry_period) * (1 + JITTER * random.random())  # noqa: S311 - no secret

    async def _hold(self) -> None:
        """Renew until that was not possible for ``renew_deadline``."""
        while self._leads_until is not None:
            left = self._leads_until - self._clock.monotonic()
            pause = self._timing.retry_period * (1 + JITTER * random.random())  # noqa: S311 - no secret
            await self._clock.sleep(min(pause, max(left, 0)))
            left = self._leads_until - self._clock.monotonic()
            if left <= 0:
                break
            await self._attempt(left)
        self._leads_until = None
        log.warning("lost leadership", extra=self._fields())

    async def _attempt(self, seconds: float) -> bool:
        """One try to take or renew the Lease; whether it is held for sure afterwards."""
        limit = min(seconds, self._timing.renew_deadline * ATTEMPT_SHARE)
        try:
            async with asyncio.timeout(limit):
                return await self._take_or_renew(limit)
        except TimeoutError:
            self._tell(f"no answer within {limit:.3g} s")
        except errors.DpuClusterError as error:
            self._tell(f"{type(error).__name__}: {error}")
        return False

    async def _take_or_renew(self, limit: float) -> bool:
        if not self.is_leader():
            await self._look()
        decision = self._decide()
        started = self._clock.monotonic()
        client = self._client.fenced(lambda: self._check_fresh(started + limit))
        try:
            match decision:
                case lease_state.Create():
                    self._is_unsure = True
                    lease = await client.create(kinds.LEASES, self._created(), self._namespace)
                case lease_state.Write():
                    self._is_unsure = True
                    lease = await self._write(client, decision)
                case lease_state.Wait():
                    self._is_unsure = False
                    self._told = ""
                    self._tell_holder()
                    self._leads_until = None
                    return False
        except (errors.AlreadyExists, errors.Conflict, errors.NotFound):
            # Somebody was faster, or the Lease was touched or deleted: look who holds it now. Not
            # a success: the deadline still counts from the last one.
            self._is_unsure = False
            await self._look()
            if self.holder != self._identity:
                self._leads_until = None
            return False
        self._is_unsure = False
        self._seen = lease_state.sight(self._seen, lease, self._clock.monotonic())
        self._leads_until = started + self._timing.renew_deadline
        self._told = ""
        self._told_holder = self._identity
        return self.is_leader()

    def _check_fresh(self, until: float) -> None:
        """Guard of an attempt's write: a process that was frozen meanwhile has to look again."""
        if self._clock.monotonic() >= until:
            raise errors.LeadershipLost(
                f"no answer in time on Lease {self._namespace}/{self._name}"
            )

    def _decide(self) -> lease_state.Decision:
        return lease_state.decide(
            self._seen, identity=self._identity, timing=self._timing, now=self._clock.monotonic()
        )

    async def _look(self) -> None:
        try:
            lease = await self._client.get(kinds.LEASES, self._name, self._namespace)
        except errors.NotFound:
            self._seen = None
        else:
            self._seen = lease_state.sight(self._seen, lease, self._clock.monotonic())

    def _created(self) -> dict[str, object]:
        return lease_state.create_body(
            name=self._name,
            namespace=self._namespace,
            identity=self._identity,
            timing=self._timing,
            now=self._clock.now(),
        )

    async def _write(self, client: kube_client.Client, decision: lease_state.Write) -> kinds.Lease:
        patch = lease_state.write_patch(
            decision, identity=self._identity, timing=self._timing, now=self._clock.now()
        )
        return await client.merge_patch(kinds.LEASES, self._name, patch, self._namespace)

    async def _release(self) -> None:
        held = self.is_leader()
        self._leads_until = None
        self._gauge.set(0)
        if not held and not self._is_unsure:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                if self._is_unsure:
                    await self._hand_back_if_held()
                else:
                    await self._hand_back()
        except (errors.DpuClusterError, TimeoutError) as error:
            log.warning("could not release the Lease", extra=self._fields(error=str(error)))
            return
        if not self.holder:
            log.info("released the Lease", extra=self._fields())

    async def _hand_back(self) -> None:
        try:
            await self._write_release()
        except errors.Conflict:
            await self._hand_back_if_held()

    async def _hand_back_if_held(self) -> None:
        """A write was under way when this was cancelled; it may have reached the server."""
        await self._look()
        if self.holder == self._identity:
            await self._write_release()

    async def _write_release(self) -> None:
        if self._seen is None:
            return
        patch = lease_state.release_patch(self._seen.lease, self._clock.now())
        lease = await self._client.merge_patch(kinds.LEASES, self._name, patch, self._namespace)
        self._seen = lease_state.sight(self._seen, lease, self._clock.monotonic())

    def _tell(self, text: str) -> None:
        """Log a failure once, not again until it changes."""
        if text != self._told:
            self._told = text
            log.warning("could not take or renew the Lease", extra=self._fields(error=text))

    def _tell_holder(self) -> None:
        if self.holder != self._told_holder:
            self._told_holder = self.holder
            log.info("another process leads", extra=self._fields(holder=self.holder))

    def _fields(self, **more: str) -> dict[str, str]:
        lease = f"{self._namespace}/{self._name}"
        return {"lease": lease, "identity": self._identity, **more}
