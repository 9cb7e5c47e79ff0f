"""Throw-away planes for one command: what ``dpucluster testenv`` does.

Guarantees: when it ends, whatever ends it, no process is left, neither of the planes nor of the
command. Files of a run that was killed are removed by the next one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import binaries, process, scratch, signals, stack
from dpucluster.localplane import progress as progress_

WATCH_EVERY = 0.2
"""Seconds between looks at the planes' programs while the command runs."""
COMMAND_GRACE = 10.0
"""Seconds that the command has to end after SIGTERM."""


def run(
    command: Sequence[str],
    *,
    progress: progress_.Progress,
    tenants: int = 0,
    controllers: bool = True,
) -> int:
    """Run ``command`` with throw-away planes; its exit code (128 + n for signal n).

    Raises:
        PlaneError: a plane did not start.
        BinaryError: a program could not be had.
    """
    wanted = stack.Wanted(tenants=tenants, controllers=controllers)
    try:
        with signals.handled(signals.interrupt):
            programs = binaries.ensure(progress=progress)
            with (
                scratch.directory() as directory,
                stack.Stack(wanted, binaries=programs, directory=directory) as running,
            ):
                running.start(progress)
                env = environment(running, programs["kubectl"], os.environ)
                return _Command(command, env).wait(running, progress)
    except signals.Interrupted as interrupted:
        return interrupted.exit_code


def has_program(name: str, env: Mapping[str, str] = os.environ) -> bool:
    """Whether a command that begins with ``name`` can be started, before any plane is."""
    # The command finds what lies beside kubectl, which itself may be yet to be got.
    kubectl = binaries.locate(("kubectl",), env).get("kubectl")
    path = _path(kubectl, env) if kubectl else env.get("PATH", os.defpath)
    return name in binaries.ALL or shutil.which(name, path=path) is not None


def environment(running: stack.Stack, kubectl: Path, env: Mapping[str, str]) -> dict[str, str]:
    """What the command sees."""
    tenants = {
        f"TENANT_{number}_KUBECONFIG": str(tenant.kubeconfig)
        for number, tenant in enumerate(running.tenants, start=1)
    }
    return {
        **env,
        "KUBECONFIG": str(running.management.kubeconfig),
        "PATH": _path(kubectl, env),
        **tenants,
    }


def _path(kubectl: Path, env: Mapping[str, str]) -> str:
    return os.pathsep.join([str(kubectl.parent), env.get("PATH", os.defpath)])


class _Command:
    """The user's command under its guard, with the signals that reach us passed on to it.

    On a terminal it shares our process group: Ctrl-C reaches it without us. Elsewhere it has a
    group of its own, and what is sent to our group reaches it once, through us.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._on_terminal = sys.stdin.isatty()
        self._guard = process.guarded(command, env=env, own_group=not self._on_terminal)
        self._deadline: float | None = None

    def wait(self, running: stack.Stack, progress: progress_.Progress) -> int:
        """Wait for the command's end; a plane that breaks meanwhile is told, once."""
        intact = True
        with signals.handled(self._pass_on):
            while True:
                try:
                    code = self._guard.wait(WATCH_EVERY)
                except subprocess.TimeoutExpired:
                    self._end_when_overdue()
                else:
                    return code if code >= 0 else 128 - code  # a signal may come before COMMAND
                if intact:
                    intact = _tell_if_broken(running, progress)

    def _pass_on(self, signum: int) -> None:
        if signum == signal.SIGINT:
            if not self._on_terminal:
                self._guard.send_signal(signal.SIGUSR1)
            return
        self._guard.send_signal(signum)
        self._deadline = time.monotonic() + COMMAND_GRACE

    def _end_when_overdue(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._guard.send_signal(signal.SIGUSR2)


def _tell_if_broken(running: stack.Stack, progress: progress_.Progress) -> bool:
    try:
        running.check()
    except errors.PlaneError as error:
        progress.note(f"warning: {error}")
        return False
    return True
