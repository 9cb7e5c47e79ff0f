"""Follows one tenant cluster: its Secret, its connection, its health.

Expected Flow:
    read the Secret if it changed → try what is to be tried → publish → wait.

A changed Secret gives a *candidate*. It is tried beside the connection in use and takes its place
when it answers; until then health is that of the connection in use. When both have failed for so
long that the cluster is down, the old one goes: from then on only the Secret's content counts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable
from typing import Any, Protocol

from dpucluster.kube.untrusted import UntrustedKubeconfig
from dpucluster.runtime import clock as clocks
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant import health as tenant_health
from dpucluster.tenant import state as tenant_state
from dpucluster.tenant import surveyor
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import Health, ProbeOptions, ProbeResult
from dpucluster.tenant.pace import Pace
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.secret import Target
from dpucluster.tenant.state import TenantState

log = logging.getLogger(__name__)

IDLE = 3600.0
"""The wait where only a change of the Secret can bring news."""


class Connection(surveyor.Source, Protocol):
    """What a watcher needs of a ``TenantConnection``."""

    kubeconfig: UntrustedKubeconfig

    async def probe(self) -> ProbeResult:
        """One verdict."""
        ...

    async def rest(self) -> None:
        """Close until the next question."""
        ...

    async def aclose(self) -> None:
        """Close for good."""
        ...


class Secret(Protocol):
    """What a watcher needs of a ``SecretReader``."""

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next try, when the last one failed."""
        ...

    async def changed(self) -> Diagnosis | None:
        """The diagnosis, if it is another Secret than at the last call."""
        ...

    def unnamed(self) -> Diagnosis | None:
        """The diagnosis when no Secret is named."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What all watchers of a pool are given."""

    options: ProbeOptions
    clock: clocks.Clock
    pace: Pace
    connect: Callable[[Diagnosis], Connection]
    probed: Callable[[ProbeResult], None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Answers:
    """Of the connection in use and of the one that may replace it, asked at the same time."""

    current: ProbeResult
    candidate: ProbeResult | None

    @property
    def verdict(self) -> ProbeResult:
        """The cluster answers if either does; if none, the Secret's content is what is wrong."""
        if self.candidate is None or (self.current.ok and not self.candidate.ok):
            return self.current
        return self.candidate


class Watcher:
    """The life of one tenant cluster in this process; ``run`` until cancelled.

    Guarantees:
        ``changed`` is called with the state before and after, only when they differ for a reader.
        No error of one tenant leaves ``run``.
    """

    def __init__(
        self,
        target: Target,
        secret: Secret,
        shared: Shared,
        *,
        changed: Callable[[TenantState, TenantState], None],
        kinship: Callable[[Diagnosis, str], tuple[Problem, ...]],
    ) -> None:
        """``kinship`` adds what only the pool knows: who else has that identity."""
        self.target = target
        self._secret = secret
        self._shared = shared
        self._options = shared.options
        self._clock = shared.clock
        self._changed = changed
        self._kinship = kinship
        self._woken = asyncio.Event()
        self._diagnosis = secret.unnamed()
        self._current: Connection | None = None
        self._candidate: Connection | None = None
        self._health = Health()
        self._candidate_health = Health()
        self._identity = ""
        self._is_looking = False
        self._surveyor = surveyor.Surveyor(
            clock=shared.clock,
            retry=shared.options.interval,
            told=self._publish,
            ended=self._rest,
        )
        self.state = self._told = self._compose()

    def wake(self) -> None:
        """Look again at once: the Secret or the spec has changed."""
        self._woken.set()

    def refresh(self) -> None:
        """Publish again: what the pool knows about others has changed."""
        self._publish()

    async def run(self) -> None:
        """Look, wait, look again."""
        try:
            while True:
                self._woken.clear()
                delay = await self._guarded_look()
                alarm = asyncio.create_task(self._alarm(delay))
                try:
                    await self._woken.wait()
                finally:
                    alarm.cancel()
        finally:
            await self._drop()

    async def _alarm(self, delay: float) -> None:
        await self._clock.sleep(delay)
        self._woken.set()

    async def _guarded_look(self) -> float:
        try:
            await self._look()
            return self._delay()
        except Exception:  # one tenant's oddity must not end the others' care
            log.exception("looking at a tenant failed", extra={"cluster": str(self.target.cluster)})
            return self._options.interval

    async def _look(self) -> None:
        self._is_looking = True
        try:
            await self._read()
            answers = await self._tried()
            if answers is not None:
                await self._judge(answers)
            self._publish()
        finally:
            self._is_looking = False
            await self._rest()

    # The Secret

    async def _read(self) -> bool:
        """Take over a changed Secret; whether there is something else to try now."""
        found = await self._secret.changed()
        if found is None:
            return False
        self._diagnosis = found
        if found.kubeconfig is None:
            await self._lose(found)
            is_other = True
        else:
            is_other = await self._take(found)
        # What is wrong with the Secret is told at once; that nothing is, together with the answer.
        self._publish(tell=found.problem is not None)
        return is_other

    async def _lose(self, found: Diagnosis) -> None:
        """There is no kubeconfig any more; one we may not read may be the one in use, though."""
        if found.is_withheld and self._is_worth_keeping():
            await self._drop_candidate()
        else:
            await self._drop()

    async def _take(self, found: Diagnosis) -> bool:
        """Try this content from now on: beside the connection in use, while that one works.

        A connection to another server says nothing of what the Secret names now.
        """
        tried = self._candidate or self._current
        if tried is not None and tried.kubeconfig == found.kubeconfig:
            return False
        await self._drop_candidate()
        if self._current is None or not self._is_worth_keeping(found):
            await self._drop_current()
            self._current = self._shared.connect(found)
            self._health = dataclasses.replace(self._health, failures=0)
        elif self._current.kubeconfig != found.kubeconfig:  # else it was changed back
            self._candidate = self._shared.connect(found)
        return True

    def _is_worth_keeping(self, found: Diagnosis | None = None) -> bool:
        named = found.kubeconfig if found else None
        used = self._current.kubeconfig if self._current else None
        if named is not None and used is not None and named.server != used.server:
            return False
        return self._health.ok is not None and not self._is_down(self._health)

    # The API server

    async def _tried(self) -> _Answers | None:
        """The answers of what there is to try; starts anew when the Secret changes meanwhile."""
        while self._current is not None:
            probing = asyncio.create_task(self._asked(self._current, self._candidate))
            try:
                while not await self._is_answered(probing):
                    if await self._read():
                        break
                else:
                    return probing.result()
            finally:
                probing.cancel()
                await asyncio.wait({probing})
                if not probing.cancelled():
                    probing.exception()  # of one given up: nobody else will ask for it
        return None

    async def _is_answered(self, probing: asyncio.Task[_Answers]) -> bool:
        """True when the answers are there, False when somebody woke us before."""
        woken = asyncio.create_task(self._woken.wait())
        try:
            tasks: set[asyncio.Task[Any]] = {probing, woken}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        if not probing.done():
            self._woken.clear()
        return probing.done()

    async def _asked(self, current: Connection, candidate: Connection | None) -> _Answers:
        await self._shared.pace.turn()
        if candidate is None:
            return _Answers(await current.probe(), None)
        return _Answers(*await asyncio.gather(current.probe(), candidate.probe()))

    async def _judge(self, answers: _Answers) -> None:
        """Make a verdict of the answers, and one connection of two as soon as that is clear."""
        now = self._clock.monotonic()
        self._shared.probed(answers.verdict)
        if answers.candidate is not None:
            self._candidate_health = tenant_health.record(
                self._candidate_health, answers.candidate, now
            )
        if answers.candidate is not None and answers.candidate.ok:
            await self._swap()
        self._health = tenant_health.record(self._health, answers.verdict, now)
        self._identity = answers.verdict.identity or self._identity
        if self._is_down(self._health) and self._is_stale():
            await self._give_up_old()
        if self._health.ok and self._current is not None:
            self._surveyor.begin(self._current)

    async def _swap(self) -> None:
        """The new credentials answer: the old connection has served."""
        await self._drop_current()
        self._current, self._candidate = self._candidate, None
        self._candidate_health = Health()

    async def _give_up_old(self) -> None:
        """The old connection has failed for good: what the Secret holds now is all there is."""
        await self._swap()
        if self._current is None:
            await self._drop()

    def _is_stale(self) -> bool:
        """Whether the connection in use is not what the Secret holds."""
        wanted = self._diagnosis.kubeconfig if self._diagnosis else None
        return self._current is not None and self._current.kubeconfig != wanted

    def _is_down(self, health: Health) -> bool:
        return tenant_health.is_down(
            health, was_ready=True, threshold=self._options.failure_threshold
        )

    # Letting go

    async def _rest(self) -> None:
        """No connection stays open that is not used; of a look and a survey the last one rests."""
        if self._current is not None and self._is_idle:
            await self._current.rest()
        if self._candidate is not None and self._is_idle:
            await self._candidate.rest()

    @property
    def _is_idle(self) -> bool:
        return not self._is_looking and not self._surveyor.is_asking

    async def _drop(self) -> None:
        """Forget everything that was learned through the Secret."""
        self._identity = ""
        self._surveyor.forget()
        try:
            await self._drop_candidate()
        finally:  # whoever is cancelled twice closes everything all the same
            await self._drop_current()
            self._health = Health()

    async def _drop_candidate(self) -> None:
        dropped, self._candidate = self._candidate, None
        self._candidate_health = Health()
        if dropped is not None:
            await dropped.aclose()

    async def _drop_current(self) -> None:
        dropped, self._current = self._current, None
        self._surveyor.stop()
        if dropped is not None:
            await dropped.aclose()

    # What comes of it

    def _delay(self) -> float:
        """Seconds until something is to be looked at again without being woken."""
        jitter = random.uniform(-1, 1)  # noqa: S311 - spreads load, hides nothing
        delays = [IDLE]
        if self._current is not None:
            delays.append(tenant_health.next_delay(self._health, self._options, jitter))
        if self._candidate is not None:
            delays.append(tenant_health.next_delay(self._candidate_health, self._options, jitter))
        if self._secret.retry_after is not None:
            delays.append(self._secret.retry_after)
        now = self._clock.now()
        change = tenant_diagnosis.next_change(self._diagnosis, now) if self._diagnosis else None
        if change is not None:
            delays.append((change - now).total_seconds())
        return min(delays)

    def _compose(self) -> TenantState:
        if self._diagnosis is None:
            return TenantState()
        survey = self._surveyor.found
        return TenantState(
            diagnosis=self._diagnosis,
            health=self._health,
            version=survey.version,
            nodes_count=survey.nodes_count,
            identity=self._identity,
            warnings=(*self._diagnosis.warnings, *self._warnings(self._diagnosis)),
        )

    def _warnings(self, diagnosis: Diagnosis) -> tuple[Problem, ...]:
        found = list(self._kinship(diagnosis, self._identity)) if self._identity else []
        if self._surveyor.found.is_cluster_admin is False:
            found.append(tenant_state.not_cluster_admin(diagnosis))
        refused = self._candidate_health.problem
        if refused is not None and self._is_down(self._candidate_health):
            found.append(tenant_state.new_kubeconfig_failing(diagnosis, refused))
        return tuple(found)

    def _publish(self, *, tell: bool = True) -> None:
        if self._diagnosis is not None:
            self._diagnosis = tenant_diagnosis.reassess(self._diagnosis, self._clock.now())
        self.state = self._compose()
        threshold = self._options.failure_threshold
        if tell and tenant_state.differs(self._told, self.state, threshold=threshold):
            old, self._told = self._told, self.state
            self._changed(old, self.state)
