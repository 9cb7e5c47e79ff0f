"""Programs of a local plane: started, watched, ended, and never left behind.

Guarantees: a program ends when the process that started it ends, also after ``kill -9``; a
program that ends by itself is told with its exit code and the last lines of its log.

The kernel counts the *thread* that started a program as its parent, so programs are started from
the main thread only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import files

LAUNCHER = Path(__file__).with_name("launcher.py")
TAIL_LINES = 8
TAIL_BYTES = 8192
"""More than ``TAIL_LINES`` of any log line here that a person would read."""


class Program:
    """One program, with a log file of its own; may be started again after it was stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Describe the program.

        Args:
            name: How messages call it.
            command: The program and its arguments.
            log: Receives both output streams; kept over restarts, appended to.
            cwd: Its working directory.
            env: Its whole environment; None: a bare one, with nothing that changes Go programs.
            descriptors: What it inherits beyond the standard streams, under the same numbers.
        """
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._cwd = cwd
        self._env = dict(env) if env is not None else _bare_environment()
        self._descriptors = tuple(descriptors)
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; 0 while it was never started."""
        return self._popen.pid if self._popen else 0

    @property
    def is_running(self) -> bool:
        """Whether the process is there (a frozen one is)."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended (-n for signal n); None while it runs, or was never started."""
        return self._popen.poll() if self._popen else None

    def command_line(self) -> list[str]:
        """What is started: the program by way of the launcher."""
        return [*_launcher("exec"), *self._command]

    def start(self) -> None:
        """Start it.

        Raises:
            PlaneError: it runs already, the log cannot be written, or this is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise errors.PlaneError(f"{self.name} must be started from the main thread")
        if self.is_running:
            raise errors.PlaneError(f"{self.name} runs already (process {self.pid})")
        try:
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self._popen = subprocess.Popen(
                    self.command_line(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._cwd,
                    env=self._env,
                    pass_fds=self._descriptors,
                    process_group=0,  # Ctrl-C at the terminal is for us, not for it
                )
        except OSError as error:
            raise errors.PlaneError(f"{self.name} cannot be started: {error}") from error

    def check(self) -> None:
        """Raise ``PlaneError`` with the reason unless it is running."""
        if not self.is_running:
            raise errors.PlaneError(self.obituary())

    def obituary(self) -> str:
        """How it ended, and the last that it said."""
        text = f"{self.name} {_ending(self._popen.returncode if self._popen else None)}"
        if files.free_space(self.log.parent) < files.MEBIBYTE:
            text = f"{text}: the disk of {self.log.parent} is full"
        said = self.tail()
        return f"{text}; the end of {self.log}:\n{said}" if said else f"{text}, without a word"

    def tail(self) -> str:
        """The last lines of its log since it was started."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._popen is not None:
            self._popen.send_signal(signum)

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): connections stay open and nothing answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once and wait until it is gone."""
        self.stop(grace=0)

    def stop(self, *, grace: float) -> None:
        """Ask it to end, and kill it after ``grace`` seconds; returns when it is gone."""
        popen = self._popen
        if popen is None:
            return
        if grace > 0 and popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
            popen.send_signal(signal.SIGCONT)  # a frozen one would not hear it
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(grace)
        popen.kill()
        popen.wait()


def guarded(
    command: Sequence[str], *, env: Mapping[str, str], own_group: bool
) -> subprocess.Popen[bytes]:
    """Run a user's command under a guard, which ends all that it leaves behind.

    Signals for the command go to the guard: SIGTERM and SIGHUP as they are, SIGUSR1 for SIGINT.
    """
    return subprocess.Popen(guard(command), env=dict(env), process_group=0 if own_group else None)


def guard(command: Sequence[str]) -> list[str]:
    """The command line of such a guard, as a child of this process."""
    return [*_launcher("guard"), *command]


def _launcher(form: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(LAUNCHER), form, str(os.getpid())]


def _bare_environment() -> dict[str, str]:
    # Go programs read proxies, GODEBUG, KUBECONFIG and more out of it.
    return {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "TZ") if key in os.environ}


def _ending(code: int | None) -> str:
    if code is None:
        return "was never started"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
