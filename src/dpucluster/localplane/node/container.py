"""One container: started, probed, started again with back-off, ended gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpucluster.localplane import files, world
from dpucluster.localplane.node import pods, podstatus, probes, probing, security

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds before a container that ended is started again, doubled each time: less than kubelet's
10 s to 5 min, because somebody is watching."""
SETTLED = 60.0
"""Seconds after which a container that runs is forgiven its earlier ends."""


@dataclass(frozen=True)
class Prepared:
    """Everything that a run of a container needs.

    Attributes:
        mounts: Its file system.
        command: Program and arguments.
        env: All variables.
    """

    mounts: Sequence[Mapping[str, Any]]
    command: Sequence[str]
    env: Mapping[str, str]


class CannotStart(Exception):
    """The container cannot be started now. ``reason`` is a word for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Surroundings:
    """What a container has of its pod.

    Attributes:
        directory: For its files.
        log: Receives what it says.
        address: The pod's.
        network: The path of the pod's network namespace; empty for the node's own.
        hostname: The pod's.
        restart_policy: The pod's.
        grace: Seconds between SIGTERM and SIGKILL.
        changed: Called whenever ``facts`` have changed.
    """

    directory: Path
    log: Path
    address: str
    network: str
    hostname: str
    restart_policy: str
    grace: float
    changed: Callable[[], None]


class Container:
    """One container of a pod; ``prepare`` makes what a run needs, anew for each."""

    def __init__(
        self,
        container: pods.Container,
        surroundings: Surroundings,
        prepare: Callable[[pods.Container], Awaitable[Prepared]],
    ) -> None:
        self._container = container
        self._pod = surroundings
        self._prepare = prepare
        self._spec = surroundings.directory / f"{container.name}.json"
        self._prober = probing.Prober(container, surroundings.address, self._command_in)
        self._process: asyncio.subprocess.Process | None = None
        self._health: probes.Health | None = None
        self._stopping = asyncio.Event()
        self._state: podstatus.State = podstatus.CREATING
        self._last: podstatus.Terminated | None = None
        self._runs = 0
        self._pause = FIRST_PAUSE

    @property
    def facts(self) -> podstatus.ContainerFacts:
        """How it is."""
        health = self._health if isinstance(self._state, podstatus.Running) else None
        return podstatus.ContainerFacts(
            name=self._container.name,
            image=self._container.image,
            state=self._state,
            last=self._last if not isinstance(self._state, podstatus.Terminated) else None,
            restarts=max(self._runs - 1, 0),
            is_started=health is not None and health.is_started,
            is_ready=health is not None and health.is_ready and not self._stopping.is_set(),
            pid=self._process.pid if self._process else 0,
        )

    async def run(self) -> podstatus.Terminated | None:
        """Run it, again and again if the policy says so, until it is done or stopped."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            try:
                ended = await self._run_once()
            except CannotStart as error:
                self._tell(podstatus.Waiting(error.reason, str(error)))
                await self._wait_before_next()
                continue
            if loop.time() - began > SETTLED:
                self._pause = FIRST_PAUSE
            if not self._is_to_run_again(ended):
                return ended
            self._last = ended
            name = self._container.name
            message = f"back-off {self._pause:.0f}s restarting failed container={name}"
            self._tell(podstatus.Waiting("CrashLoopBackOff", message))
            await self._wait_before_next()
        return self._last

    async def stop(self) -> None:
        """End it gracefully; returns when nothing of it is left."""
        self._stopping.set()
        self._pod.changed()
        if self._process is not None:
            await self._end(self._process, self._pod.grace)

    def kill(self) -> None:
        """End it at once."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _run_once(self) -> podstatus.Terminated:
        prepared = await self._prepare(self._container)
        (self._pod.directory / f"{self._container.name}.failure").unlink(missing_ok=True)
        files.write(self._spec, json.dumps(self._describe(prepared)))
        with self._pod.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *world.script("run", str(self._spec)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._process = process
        if self._stopping.is_set():  # it was asked to end while it was being started
            process.kill()
        self._runs += 1
        started = timestamp()
        self._health = probes.Health(self._container, asyncio.get_running_loop().time())
        self._tell(podstatus.Running(started))
        failed = await self._attend(process, self._health)
        ended = self._obituary(process.returncode or 0, started, failed)
        self._tell(ended)
        return ended

    async def _attend(
        self, process: asyncio.subprocess.Process, health: probes.Health
    ) -> probes.Kind | None:
        """Probe it until it ends; the probe for whose sake it was ended."""
        clock = asyncio.get_running_loop().time
        waiter = asyncio.ensure_future(process.wait())
        failed = None
        try:
            while not waiter.done():
                pause = max(0.0, health.next_at() - clock())
                await asyncio.wait({waiter}, timeout=None if pause == float("inf") else pause)
                if waiter.done() or self._stopping.is_set():
                    await waiter
                    break
                for kind in health.due(clock()):
                    well = await self._prober.is_well(health.probe(kind))
                    health.observe(kind, clock(), well=well)
                self._pod.changed()
                if (failed := health.failed) is not None:
                    own = health.probe(failed).termination_grace_period_seconds
                    await self._end(process, self._pod.grace if own is None else own)
        finally:
            if not waiter.done():  # cancelled: nothing is waited for any more
                self.kill()
                await asyncio.shield(waiter)
        return failed

    async def _end(self, process: asyncio.subprocess.Process, grace: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            if grace > 0:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await process.wait()
                        return
            process.kill()
        await process.wait()

    def _describe(self, prepared: Prepared) -> dict[str, Any]:
        """What ``sandbox`` is told."""
        name, directory = self._container.name, self._pod.directory
        root = directory / f"{name}.root"
        root.mkdir(exist_ok=True)
        context = self._container.security_context
        return {
            "root": str(root),
            "network": self._pod.network,
            "host_network": not self._pod.network,
            "hostname": self._pod.hostname,
            "mounts": list(prepared.mounts),
            "read_only": ["/"] if context.read_only_root_filesystem else [],
            "command": list(prepared.command),
            "env": dict(prepared.env),
            "cwd": self._container.working_dir or "/",
            "capabilities": security.capabilities(context),
            "no_new_privileges": not context.allow_privilege_escalation,
            "pidfile": str(directory / f"{name}.pid"),
            "failure": str(directory / f"{name}.failure"),
        }

    def _command_in(self, command: Sequence[str]) -> list[str]:
        return world.script("exec", str(self._spec), *command)

    def _obituary(
        self, code: int, started: str, failed: probes.Kind | None
    ) -> podstatus.Terminated:
        code = code if code >= 0 else 128 - code
        failure = self._pod.directory / f"{self._container.name}.failure"
        why = failure.read_text(encoding="utf-8") if failure.exists() else ""
        if why:
            return podstatus.Terminated(code, "StartError", started, timestamp(), why)
        message = f"{failed.value.lower()} probe failed" if failed is not None else ""
        reason = "Completed" if code == 0 else "Error"
        return podstatus.Terminated(code, reason, started, timestamp(), message)

    def _is_to_run_again(self, ended: podstatus.Terminated) -> bool:
        if self._stopping.is_set() or self._pod.restart_policy == "Never":
            return False
        return self._pod.restart_policy == "Always" or ended.exit_code != 0

    async def _wait_before_next(self) -> None:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _tell(self, state: podstatus.State) -> None:
        self._state = state
        self._pod.changed()


def timestamp() -> str:
    """Now, as the API writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
