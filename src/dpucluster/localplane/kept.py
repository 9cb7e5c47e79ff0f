"""Planes that are kept between runs: what ``dpucluster up`` and ``down`` do.

Guarantees: a plane has at most one supervisor, and no process outlives it, whatever ends it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dpucluster import errors
from dpucluster.localplane import binaries, plane, ports, signals, stack, state
from dpucluster.localplane import progress as progress_
from dpucluster.localplane.kamaji import access, keepalived
from dpucluster.localplane.kamaji import stack as kamaji_stack

WATCH_EVERY = 0.2
"""Seconds between looks at the programs: their end is told at once, to human eyes."""
STOP_TIMEOUT = 45.0
"""Seconds in which a supervisor that was asked to end must be gone: all its grace periods."""
KILL_TIMEOUT = 10.0
PORT_PATIENCE = 2.0
"""Seconds for the programs of a supervisor that was just killed to let go of the port."""


@dataclass(frozen=True)
class Running:
    """A plane that is ready for use.

    Attributes:
        port: Of its API server.
        was_running: Whether it was there before it was asked for.
        kamaji: Whether it has Kamaji.
    """

    name: str
    kubeconfig: Path
    port: int
    was_running: bool = False
    kamaji: bool = False


class Built(Protocol):
    """What can be kept: a plane alone, or one with Kamaji."""

    @property
    def management(self) -> plane.ControlPlane:
        """The management plane."""

    def start(self, progress: progress_.Progress) -> None:
        """Start everything and wait until it is ready."""

    def check(self) -> None:
        """Raise ``PlaneError`` if something that was started is gone."""

    def close(self) -> None:
        """End everything."""


def up(
    name: str,
    *,
    progress: progress_.Progress,
    on_ready: Callable[[Running], None],
    controllers: bool = True,
    kamaji: bool = False,
    port: int = 0,
) -> int:
    """Run the plane ``name`` until a signal comes; the exit code.

    Raises:
        PlaneError: it runs already, did not start, or one of its programs ended; everything else
            has been stopped.
        BinaryError: a program could not be had.
    """
    kept = _state(name).prepare()
    ready = False
    try:
        with (
            # In the background there is a log, and who started us reads the reason before removing.
            contextlib.nullcontext() if kept.log.exists() else _nothing_left_of_a_failure(kept),
            signals.handled(signals.interrupt),
            kept.supervised(),
            _failure_noted(kept),
        ):
            programs = binaries.ensure(_names(kamaji), progress=progress)
            port = port or kept.port
            _require_port(port)
            with _built(
                kept, programs, progress, controllers=controllers, kamaji=kamaji, port=port
            ) as running:
                taken = running.management.port
                kept.keep(port=taken, controllers=controllers, kamaji=kamaji)
                running.start(progress)
                ready = True
                kept.mark_ready()
                on_ready(_running(kept))
                _watch(running)
    except signals.Interrupted as interrupted:
        # Once it was ready, a signal is how it is meant to end.
        return 0 if ready else interrupted.exit_code
    return 0


def detach(
    name: str,
    *,
    progress: progress_.Progress,
    controllers: bool = True,
    kamaji: bool = False,
    port: int = 0,
) -> Running:
    """Run the plane ``name`` in the background; returns when it is ready.

    A plane that runs already is left as it is.

    Raises:
        PlaneError: it did not start, or runs already in another way than is asked for.
        BinaryError: a program could not be had.
    """
    kept = _state(name).prepare()
    if kept.is_supervised:
        if not kept.is_ready:
            _wait_until_ready(kept, lambda: kept.is_supervised, progress)
        _require_same(kept, port=port, controllers=controllers, kamaji=kamaji)
        return _running(kept, was_running=True)
    with _nothing_left_of_a_failure(kept):
        binaries.ensure(_names(kamaji), progress=progress)  # here, where its progress is seen
        command = ["up", "--name", name, "--port", str(port)]
        command += [] if controllers else ["--no-controllers"]
        _supervise([*command, "--with-kamaji"] if kamaji else command, kept, progress)
    return _running(kept)


def down(name: str, *, purge: bool = False) -> bool:
    """Stop the plane ``name``; whether it ran. ``purge`` also deletes its state.

    Raises:
        PlaneError: there is no such plane, or it does not end; or it had ended by itself, with
            the reason (told once).
    """
    kept = _state(name)
    if not kept.directory.is_dir():
        raise errors.PlaneError(f"there is no control plane {name!r} ({kept.directory})")
    ran = kept.is_supervised
    if ran:
        _end_supervisor(kept)
    failure = kept.take_failure()
    if purge:
        kept.remove()
    elif failure and not ran:
        raise errors.PlaneError(f"the control plane {name!r} had ended by itself: {failure}")
    return ran


def _state(name: str) -> state.State:
    if not plane.NAME.fullmatch(name):
        raise errors.PlaneError(
            f"{name!r} is no name for a control plane: use small letters, digits and '-', "
            "at most 63 characters"
        )
    return state.State(name)


def _running(kept: state.State, *, was_running: bool = False) -> Running:
    return Running(kept.name, _kubeconfig(kept), kept.port, was_running, kept.kamaji)


def _kubeconfig(kept: state.State) -> Path:
    return kept.directory / stack.MANAGEMENT / "kubeconfig"


def _names(kamaji: bool) -> tuple[str, ...]:
    return binaries.WITH_KAMAJI if kamaji else binaries.ALL


@contextlib.contextmanager
def _built(
    kept: state.State,
    programs: Mapping[str, Path],
    progress: progress_.Progress,
    *,
    controllers: bool,
    kamaji: bool,
    port: int,
) -> Iterator[Built]:
    """Everything prepared and nothing started; ended with the block."""
    made: Built
    if kamaji:
        wanted = kamaji_stack.Wanted(
            name=kept.name, controllers=controllers, durable=True, port=port
        )
        found = keepalived.find(progress)
        made = kamaji_stack.KamajiStack(kept.directory, programs, wanted, keepalived_found=found)
    else:
        alone = stack.Wanted(name=kept.name, controllers=controllers, durable=True, port=port)
        made = stack.Stack(alone, binaries=programs, directory=kept.directory)
    try:
        yield made
    finally:
        with signals.handled(signals.ignore):
            made.close()


def tenant_kubeconfig(plane_name: str, namespace: str, tenant: str) -> str:
    """The kubeconfig of a tenant's administrator, for programs outside.

    Raises:
        PlaneError: the plane does not run or has no Kamaji, or there is no such tenant (yet).
    """
    kept = _state(plane_name)
    if not kept.is_ready or not kept.kamaji:
        raise errors.PlaneError(
            f"the control plane {plane_name!r} does not run with Kamaji: "
            "dpucluster up --with-kamaji --detach"
        )
    api = plane.endpoint_of(kept.directory / stack.MANAGEMENT, kept.port)
    return access.fetch(api, namespace=namespace, name=tenant, port=kept.port)


def _require_same(kept: state.State, *, port: int, controllers: bool, kamaji: bool) -> None:
    """Raise ``PlaneError`` if the plane that runs is not what the flags ask for."""
    has_controllers = controllers if kept.controllers is None else kept.controllers
    # Whoever does not ask for Kamaji is not hurt by it.
    if port in (0, kept.port) and controllers == has_controllers and kept.kamaji >= kamaji:
        return
    raise errors.PlaneError(
        f"the control plane {kept.name!r} runs already on port {kept.port}, "
        f"{'with' if has_controllers else 'without'} controllers, "
        f"{'with' if kept.kamaji else 'without'} Kamaji (kubeconfig: "
        f"{_kubeconfig(kept)}); to change that, stop it: dpucluster down --name {kept.name}"
    )


@contextlib.contextmanager
def _failure_noted(kept: state.State) -> Iterator[None]:
    try:
        yield
    except errors.LocalPlaneError as error:
        kept.note_failure(str(error))
        raise


@contextlib.contextmanager
def _nothing_left_of_a_failure(kept: state.State) -> Iterator[None]:
    """Remove the directory of a plane that never came to be."""
    try:
        yield
    except BaseException:
        kept.remove_if_unused()
        raise


def _require_port(port: int) -> None:
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            ports.Reservation(port).close()
        except errors.PlaneError as error:
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise errors.PlaneError(
                f"{error}; end the program that has it, or choose another with --port "
                "(copies of the plane's kubeconfig then lead nowhere)"
            ) from error
        return


def _watch(running: Built) -> None:
    while True:
        time.sleep(WATCH_EVERY)
        try:
            running.check()
        except errors.PlaneError as error:
            raise errors.PlaneError(
                f"{error}\nEverything else of the control plane was stopped; its state is kept"
            ) from error


def _supervise(arguments: list[str], kept: state.State, progress: progress_.Progress) -> None:
    supervisor = _in_background(arguments, kept)
    try:
        with signals.handled(signals.interrupt):
            _wait_until_ready(kept, lambda: supervisor.poll() is None, progress)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise
    supervisor.returncode = 0  # it goes on without us, and Popen must not complain of that


def _in_background(arguments: list[str], kept: state.State) -> subprocess.Popen[bytes]:
    try:
        with kept.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dpucluster", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=kept.directory,
                env=stack.python_environment(),
                start_new_session=True,
            )
    except OSError as error:
        raise errors.PlaneError(f"the supervisor cannot be started: {error}") from error


def _wait_until_ready(
    kept: state.State, is_alive: Callable[[], bool], progress: progress_.Progress
) -> None:
    progress.start("starting the control plane in the background")
    while not kept.is_ready:
        if not is_alive():
            reason = kept.take_failure() or kept.last_words()
            raise errors.PlaneError(f"the control plane {kept.name!r} did not start: {reason}")
        progress.tick()
        time.sleep(state.POLL)
    progress.finish("ready")


def _end_supervisor(kept: state.State) -> None:
    for signum, patience in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, KILL_TIMEOUT)):
        if supervisor := kept.supervisor:
            supervisor.signal(signum)
        if kept.wait_until_free(patience):
            return
    raise errors.PlaneError(f"the supervisor of control plane {kept.name!r} does not end")
