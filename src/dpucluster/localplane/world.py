"""Namespaces in which a whole data centre fits: programs, nodes and addresses of their own.

Nothing of it can be seen or reached from outside but what is forwarded on purpose, and several
stand side by side with the same addresses. The kernel removes all of it, networks and mounts, when
the holder and everything that was started in it is gone; that the launcher sees to.

Works for root, and for anybody else where the kernel lets users make namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import files, process

SANDBOX = Path(__file__).with_name("sandbox.py")
COMMAND_TIMEOUT = 30.0
"""Seconds for one command that configures a network; a hundredth of one is usual."""
CAP_SYS_ADMIN = 21
UNPRIVILEGED_ADVICE = (
    "run as root, or let users make namespaces (sysctl user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
)


def script(form: str, *arguments: str) -> list[str]:
    """The command line of one form of ``sandbox.py``, as a child of this process."""
    return [sys.executable, "-I", "-S", str(SANDBOX), form, str(os.getpid()), *arguments]


def is_privileged() -> bool:
    """Whether this process may make namespaces without making itself a user namespace first."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


class World:
    """Namespaces, kept by a process that does nothing else.

    Attributes:
        hosts: The file that is ``/etc/hosts`` in there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = files.make_private_directory(directory)
        self.hosts = directory / "hosts"
        self._holder: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the namespaces.

        Raises:
            PlaneError: this machine does not let us; with what to do.
        """
        files.write(self.hosts, "127.0.0.1 localhost\n")
        self.hosts.chmod(0o644)
        kind = "root" if is_privileged() else "user"
        self._holder = subprocess.Popen(
            script("hold", kind, str(self.hosts)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        assert self._holder.stdout is not None  # noqa: S101 - asked for above
        if self._holder.stdout.readline() != b"ready\n":
            _, said = self._holder.communicate()
            reason = said.decode(errors="replace").strip()
            raise errors.PlaneError(f"no namespaces can be made: {reason}: {UNPRIVILEGED_ADVICE}")

    @property
    def pid(self) -> int:
        """The holder's process id."""
        return self._holder.pid if self._holder else 0

    @property
    def network(self) -> str:
        """The path of the network namespace."""
        return f"/proc/{self.pid}/ns/net"

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that becomes ``command`` in the namespaces."""
        return script("enter", str(self.pid), *command)

    def apart(self, command: Sequence[str]) -> list[str]:
        """The same, with a network of its own: that of a node."""
        return script("apart", str(self.pid), *command)

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a command in there to its end; what it prints.

        Raises:
            PlaneError: it failed; with what it said.
        """
        return run(self.inside(command), text)

    def check(self) -> None:
        """Raise ``PlaneError`` if the holder is gone."""
        if self._holder is None or self._holder.poll() is not None:
            raise errors.PlaneError("the holder of the namespaces has ended")

    def close(self) -> None:
        """Let go of the namespaces."""
        if self._holder is None:
            return
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()


class Inside(process.Program):
    """A program in the namespaces of a world, which need not be there when it is described."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        world: World,
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        apart: bool = False,
    ) -> None:
        super().__init__(name, command, log=log, cwd=cwd, env=env, descriptors=descriptors)
        self._world = world
        self._apart = apart

    def command_line(self) -> list[str]:
        """What gets it there."""
        into = self._world.apart if self._apart else self._world.inside
        return into(self._command)


def run(command: Sequence[str], text: str = "", *, env: Mapping[str, str] | None = None) -> str:
    """Run ``command`` to its end with ``text`` as its input; what it prints.

    Raises:
        PlaneError: it failed; with what it said.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            env=env,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.PlaneError(f"{' '.join(command[-4:])}: {error}") from error
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        raise errors.PlaneError(f"{text or ' '.join(command)}: {said}")
    return done.stdout
