"""Commands of this project as processes, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dpucluster.localplane import stack
from tests.support.patience import PATIENCE

PAUSE = 0.05


class Commands:
    """Runs ``dpucluster`` with a home of its own: ``directory`` occurs in all its processes."""

    def __init__(self, directory: Path, binaries: Mapping[str, Path]) -> None:
        self.directory = directory
        self.prefix: Sequence[str] = ()
        scratch = directory / "tmp"
        scratch.mkdir()
        self.env = {
            **stack.python_environment(),
            "XDG_STATE_HOME": str(directory / "state"),
            "TMPDIR": str(scratch),
            "KUBEBUILDER_ASSETS": str(binaries["etcd"].parent),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; output and errors are pipes."""
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "dpucluster", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def processes(self) -> dict[int, str]:
        """All processes that have to do with ``directory``, and their command lines."""
        return related_to(str(self.directory))

    def wait_gone(self) -> None:
        """No process is left, give or take the moment one needs to end."""
        eventually("no process is left", lambda: not self.processes())


def related_to(marker: str) -> dict[int, str]:
    """Processes whose command line or working directory holds ``marker`` (not this one)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue  # gone meanwhile, or a zombie: nothing of it is left but its exit code
        if command and (marker in command or marker in cwd):  # empty: about to end, or to begin
            found[int(entry.name)] = command
    return found


def running() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process; one that has ended counts no more."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z":
            found[int(entry.name)] = (int(fields[1]), command)
    return found


def descendants(pid: int) -> dict[int, str]:
    """All processes below ``pid``, with their command lines, and ``pid`` itself."""
    there = running()
    found = {pid}
    while more := {each for each, (parent, _) in there.items() if parent in found} - found:
        found |= more
    return {each: there[each][1] for each in found if each in there}


def eventually(what: str, is_so: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until ``is_so()``; fails with ``what``."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(PAUSE)
