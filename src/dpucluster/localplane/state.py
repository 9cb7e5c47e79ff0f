"""Where a kept plane's state lies, and which process supervises it.

The truth about liveness is a lock that the kernel holds for the supervisor: a killed one holds
nothing. The process id is written beside it only to be signalled, together with the process's
start time, so that a stale number never hits somebody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dpucluster import errors
from dpucluster.localplane import files

POLL = 0.05
LAST_WORDS = 8
"""Lines of a log that a message shows."""
STARTTIME_FIELD = 19
"""Of ``/proc/<pid>/stat``, counted after the program's name."""


def root(env: Mapping[str, str] = os.environ) -> Path:
    """Where all kept planes are: ``$XDG_STATE_HOME/dpucluster``, else ``~/.local/state/…``."""
    # The specification says that a relative path is to be ignored.
    if (configured := env.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(configured) / "dpucluster"
    return Path.home() / ".local" / "state" / "dpucluster"


@dataclass(frozen=True)
class Process:
    """A process that cannot be confused with a later one of the same number."""

    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(os.getpid(), _started(os.getpid()))

    def signal(self, signum: signal.Signals) -> bool:
        """Send a signal; whether the process was there to get it."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor stays with one process, so what is compared is what is signalled.
            if _started(self.pid) != self.started:
                return False
            signal.pidfd_send_signal(descriptor, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


class State:
    """The directory of one kept plane.

    Attributes:
        directory: All its files.
        log: What a supervisor in the background says.
    """

    def __init__(self, name: str, env: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self.directory = root(env) / name
        self.log = self.directory / "supervisor.log"
        self._lock = self.directory / "lock"
        self._settings = self.directory / "plane.json"
        self._ready = self.directory / "ready.json"
        self._failure = self.directory / "failure.txt"

    def prepare(self) -> Self:
        """Make the directory."""
        try:
            files.make_private_directory(self.directory)
        except errors.PlaneError as error:
            raise errors.PlaneError(
                f"cannot create {error}; set XDG_STATE_HOME to a writable directory elsewhere"
            ) from error
        return self

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """Be the plane's supervisor during a ``with`` block.

        Raises:
            PlaneError: another process is.
        """
        descriptor = self._open_lock()
        try:
            if not _try_lock(descriptor):
                raise errors.PlaneError(
                    f"the control plane {self.name!r} runs already{self._described()}; "
                    f"`dpucluster down --name {self.name}` stops it"
                )
            for path in (self._ready, self._failure):
                path.unlink(missing_ok=True)
            me = Process.current()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps([me.pid, me.started]).encode(), 0)
            yield
            self._ready.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor lives, now."""
        if not self._lock.exists():
            return False
        descriptor = self._open_lock()
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    @property
    def supervisor(self) -> Process | None:
        """Who wrote itself down as supervisor last; see ``is_supervised`` for whether it lives."""
        match _read_json(self._lock):
            case [int(pid), int(started)]:
                return Process(pid, started)
        return None

    def wait_until_free(self, seconds: float) -> bool:
        """Whether the supervisor is gone within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.is_supervised:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True

    @property
    def port(self) -> int:
        """The port of this run, or of the one before; 0 if there was none."""
        port = self._setting("port")
        return port if isinstance(port, int) and 0 < port < 1 << 16 else 0

    @property
    def controllers(self) -> bool | None:
        """Whether this run, or the one before, has controllers; None if nobody wrote it down."""
        controllers = self._setting("controllers")
        return controllers if isinstance(controllers, bool) else None

    @property
    def kamaji(self) -> bool:
        """Whether this run, or the one before, has Kamaji."""
        return self._setting("kamaji") is True

    def keep(self, *, port: int, controllers: bool, kamaji: bool = False) -> None:
        """Remember the port, because kubeconfigs name it, and what else there is."""
        settings = {"port": port, "controllers": controllers, "kamaji": kamaji}
        files.write(self._settings, json.dumps(settings))

    def mark_ready(self) -> None:
        """Tell that this process, the supervisor, has the plane ready."""
        files.write(self._ready, json.dumps(os.getpid()))

    @property
    def is_ready(self) -> bool:
        """Whether a supervisor that lives has the plane ready."""
        supervisor = self.supervisor
        return (
            supervisor is not None
            and _read_json(self._ready) == supervisor.pid
            and self.is_supervised
        )

    def note_failure(self, text: str) -> None:
        """Keep why the plane ended by itself, for the next command that asks."""
        # A full disk may be what there is to tell; the message itself is on standard error.
        with contextlib.suppress(errors.PlaneError):
            files.write(self._failure, text)

    def take_failure(self) -> str:
        """Why the plane ended by itself the last time; told once."""
        try:
            text = self._failure.read_text(encoding="utf-8")
        except OSError:
            return ""
        self._failure.unlink(missing_ok=True)
        return text

    def last_words(self) -> str:
        """The end of the log of a supervisor in the background."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return "\n".join(lines[-LAST_WORDS:]) or "it said nothing"

    def remove(self) -> None:
        """Delete everything that was kept."""
        try:
            shutil.rmtree(self.directory)
        except OSError as error:
            raise errors.PlaneError(f"{self.directory} cannot be removed: {error}") from error

    def remove_if_unused(self) -> None:
        """Delete the directory unless etcd ever ran in it, or a supervisor lives."""
        with contextlib.suppress(errors.PlaneError, OSError):
            descriptor = self._open_lock()
            try:
                if _try_lock(descriptor) and not any((self.directory / "etcd").glob("*")):
                    shutil.rmtree(self.directory)
            finally:
                os.close(descriptor)

    def _setting(self, name: str) -> object:
        settings = _read_json(self._settings)
        return settings.get(name) if isinstance(settings, dict) else None

    def _open_lock(self) -> int:
        try:
            return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise errors.PlaneError(f"{self._lock}: {error.strerror}") from error

    def _described(self) -> str:
        return f" (process {known.pid})" if (known := self.supervisor) else ""


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _started(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return -1
    return int(stat.rpartition(b")")[2].split()[STARTTIME_FIELD])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
