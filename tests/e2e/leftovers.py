"""What a run has left on the machine, although everything in it should have ended with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from tests.e2e import cgroups
from tests.support import processes

PATIENCE = 10.0
PAUSE = 0.1
STARTED = 19
"""Of ``/proc/<pid>/stat``, counted after the program's name."""
KINDS = ("mnt", "net", "pid", "uts")


def namespaces_of(pids: Iterable[int]) -> frozenset[str]:
    """The namespaces of processes that live, less those of this process."""
    found = {name for pid in pids for name in _namespaces(Path(f"/proc/{pid}"))}
    return frozenset(found - _namespaces(Path("/proc/self")))


def now() -> float:
    """Seconds since the machine was started, as the start of a process is told in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def left(
    directory: Path, namespaces: frozenset[str], groups: Iterable[str], *, ended: float
) -> list[str]:
    """What is still there once it has had the time to go: one line each.

    ``ended``: the moment from which on everything was made by others.
    """
    deadline = time.monotonic() + PATIENCE
    wanted = tuple(groups)
    while found := _left(directory, namespaces, ended, wanted):
        if time.monotonic() > deadline:
            return found
        time.sleep(PAUSE)
    return []


def _left(
    directory: Path, namespaces: frozenset[str], ended: float, groups: tuple[str, ...]
) -> list[str]:
    holders = {
        f"namespace {name}: process {path.name}"
        for path in Path("/proc").glob("[0-9]*")
        # the names of namespaces that are gone are given to the next ones
        if _started(path) < ended
        for name in _namespaces(path) & namespaces
    }
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [
        *sorted(holders),
        *(f"mount {line}" for line in mounts if str(directory) in line),
        *(f"cgroup {path}" for group in groups for path in cgroups.existing(group)),
        *(f"process {pid}: {line}" for pid, line in processes.related_to(str(directory)).items()),
    ]


def _started(process: Path) -> float:
    """When a process was started, in seconds since the machine was; late if it has ended."""
    try:
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return float("inf")
    return int(fields[STARTED]) / os.sysconf("SC_CLK_TCK")


def _namespaces(process: Path) -> set[str]:
    found = set()
    for kind in KINDS:
        try:
            found.add(str((process / "ns" / kind).readlink()))
        except OSError:
            continue  # it has just ended
    return found
