"""The cgroups of a node: one in each hierarchy, so that no kubelet ends the pods of another."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "dpucluster-e2e-"
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
UNIFIED = ("cpu", "cpuset", "memory", "pids")
EMPTY_AT_FIRST = ("cpuset.cpus", "cpuset.mems")
"""A new cpuset has none, and takes no process before it does."""
PATIENCE = 10.0
PAUSE = 0.1


def is_unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The roots of all hierarchies that a kubelet works in."""
    if is_unified():
        return [ROOT]
    return [ROOT / name for name in (*CONTROLLERS, "systemd") if (ROOT / name).is_dir()]


def create(name: str) -> None:
    """Make the cgroup ``name`` everywhere.

    Raises:
        OSError: this machine does not let us.
    """
    if is_unified():
        wanted = " ".join(f"+{controller}" for controller in UNIFIED)
        (ROOT / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
    for hierarchy in hierarchies():
        made = hierarchy / name
        made.mkdir(exist_ok=True)
        if hierarchy.name == "cpuset":
            for file in EMPTY_AT_FIRST:
                (made / file).write_text((hierarchy / file).read_text())


def remove(name: str) -> None:
    """Remove the cgroup ``name`` and all below; its processes are ended, or about to be."""
    deadline = time.monotonic() + PATIENCE
    while found := existing(name):
        for top in found:
            below = sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True)
            for each in (*below, top):
                with contextlib.suppress(OSError):  # busy, until the kernel has cleaned up
                    each.rmdir()
        if time.monotonic() > deadline:
            break
        time.sleep(PAUSE)


def name_of(purpose: str) -> str:
    """A name of this process's own."""
    return f"{PREFIX}{os.getpid()}-{purpose}"


def sweep() -> None:
    """Remove what runs that were killed have left behind."""
    for path in (*ROOT.glob(f"{PREFIX}*"), *ROOT.glob(f"*/{PREFIX}*")):
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            remove(path.name)


def existing(name: str) -> list[Path]:
    """Where the cgroup ``name`` is; runc makes it in hierarchies that we do not."""
    return [path for path in (ROOT / name, *ROOT.glob(f"*/{name}")) if path.is_dir()]
