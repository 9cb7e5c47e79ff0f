"""A role follows its switch, finishes its looks, and never dies in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.api.dpucluster import DPUCluster
from dpucluster.managers.static import StaticManager
from dpucluster.runtime import clock
from dpucluster.sdk import (
    Context,
    Lifecycle,
    ManagerStage,
    Outcome,
    Phase,
    TenantState,
    Watch,
    roles,
)
from dpucluster.sdk.stage import BoundLog
from tests.support import build

STAGE = ManagerStage(contract.COMPONENT_STATIC, StaticManager())


class Journal:
    """What happened, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def changed(self) -> None:
        """The role began or ended to lead."""
        self.entries.append("changed")

    async def flush(self) -> None:
        """Events are sent."""
        self.entries.append("flushed")


class Deadly(roles.Unelected):
    """An election with a fault of its own."""

    async def run(
        self, on_started: Callable[[], None], on_stopped: Callable[[], Awaitable[None]]
    ) -> None:
        """Die at once."""
        del on_started, on_stopped
        raise ValueError("no such namespace")


async def at_once() -> None:
    """The caches are complete."""


def runner(
    journal: Journal,
    election: roles.Election | None = None,
    ready: Callable[[], Awaitable[None]] = at_once,
) -> roles.RoleRunner:
    return roles.RoleRunner(
        STAGE,
        election or roles.Unelected(),
        ready=ready,
        on_changed=journal.changed,
        flush=journal.flush,
    )


def leads(role: roles.RoleRunner) -> bool:
    return role.held is not None


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_role_follows_its_switch() -> None:
    """On: it leads and every object is looked at. Off: Events first, then nothing is held."""
    journal = Journal()
    role = runner(journal)
    running = asyncio.create_task(role.run())
    await settle()
    assert not leads(role)
    role.want(True)
    await settle()
    assert leads(role)
    assert ["changed"] == journal.entries
    role.want(False)
    await settle()
    assert not leads(role)
    assert not role.is_running
    assert ["changed", "changed", "flushed"] == journal.entries
    running.cancel()


async def test_a_role_that_stops_finishes_its_looks() -> None:
    """The Lease is kept until the last look is over; no new one begins meanwhile."""
    role = runner(Journal())
    running = asyncio.create_task(role.run())
    role.want(True)
    await settle()
    with role.look():
        role.want(False)
        await settle()
        assert not leads(role)
        assert role.election.is_leader()
    await settle()
    assert not role.election.is_leader()
    running.cancel()


async def test_an_election_that_dies_ends_the_role_loudly() -> None:
    """Nobody is left to believe in a role that is silently dead."""
    role = runner(Journal(), Deadly())
    role.want(True)
    with pytest.raises(ValueError, match="no such namespace"):
        await role.run()


async def test_a_role_is_elected_only_with_complete_caches() -> None:
    """Before what its manager watches is complete it takes no Lease; switched off it stops."""
    complete = asyncio.Event()

    async def ready() -> None:
        await complete.wait()

    role = runner(Journal(), ready=ready)
    running = asyncio.create_task(role.run())
    role.want(True)
    await settle()
    assert (True, False) == (role.is_running, role.election.is_leader())
    role.want(False)
    await settle()
    assert (False, False) == (role.is_running, role.election.is_leader())
    role.want(True)
    complete.set()
    await settle()
    assert leads(role)
    running.cancel()


class Usurper:
    """A manager that says what belongs to the lifecycle."""

    type = "example.com/usurper"
    watches: Sequence[Watch[Any]] = ()

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    async def reconcile(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Say it."""
        del cluster, context
        return self.outcome  # type: ignore[return-value]  # the author's mistake

    async def cleanup(self, cluster: DPUCluster, context: Context) -> Outcome:
        """Nothing."""
        del cluster, context
        return Outcome()


def context(*, is_guarded: bool = True) -> Context:
    log = BoundLog(roles.log, {})
    nothing: Any = None  # neither is used here
    return Context(
        client=nothing,
        tenant=lambda _cluster: TenantState(),
        clock=clock.SystemClock(),
        caches=nothing,
        log=log,
        is_guarded=is_guarded,
    )


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (Outcome(conditions=(build.condition("Ready"),)), "set the phase or the condition Ready"),
        (Outcome(lifecycle=Lifecycle(Phase.READY)), "set the phase or the condition Ready"),
        (("c-admin-kubeconfig", []), "returned tuple where the contract asks for an Outcome"),
    ],
)
async def test_a_manager_is_held_to_the_contract(outcome: object, text: str) -> None:
    """A mistake of the author's is told with the manager's name."""
    stage = ManagerStage("usurper", Usurper(outcome))
    with pytest.raises(errors.ManagerError, match=text) as told:
        await stage.reconcile(build.cluster(type_="example.com/usurper"), context())
    assert "'example.com/usurper' (Usurper)" in str(told.value)


async def test_managers_wait_for_the_first_sight() -> None:
    """While the phase is Pending no manager is asked."""
    stage = ManagerStage("usurper", Usurper(None))
    assert Outcome() == await stage.reconcile(build.cluster(phase=Phase.PENDING), context())


BOTH = (contract.FINALIZER_MANAGER, contract.FINALIZER_LIFECYCLE)
DPUS = build.condition("DeletionCompleted", "False", "WaitingForDPUs")
MANAGER = build.condition("DeletionCompleted", "False", "WaitingForManager")


@pytest.mark.parametrize(
    ("cluster", "guarded", "waits", "why"),
    [
        (build.cluster(finalizers=BOTH), True, False, "the guard was asked in this very look"),
        (build.cluster(finalizers=BOTH), False, True, "the lifecycle has not looked yet"),
        (build.cluster(finalizers=BOTH, conditions=(DPUS,)), False, True, "DPUs are left"),
        (build.cluster(finalizers=BOTH, conditions=(MANAGER,)), False, False, "it is our turn"),
        (build.cluster(finalizers=BOTH[:1]), False, False, "there is no lifecycle, or it is done"),
    ],
)
async def test_a_manager_waits_for_the_guard(
    cluster: DPUCluster, guarded: bool, waits: bool, why: str
) -> None:
    """Nothing is taken apart before the lifecycle, wherever it runs, has had its say."""
    objection = await STAGE.may_finalize(cluster, context(is_guarded=guarded))
    assert waits is (objection is not None), why


def test_a_bound_log_keeps_the_fields_of_a_call() -> None:
    """A manager's own fields stand beside the object's key."""
    bound = BoundLog(roles.log, {"object": "ns/c"})
    _, kwargs = bound.process("text", {"extra": {"port": 6443}})
    assert {"object": "ns/c", "port": 6443} == kwargs["extra"]
