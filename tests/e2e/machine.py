"""What this machine must be able to do, so that nodes with containers can run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e import cgroups

TOOLS = ("apt-get", "dpkg-deb", "ip", "ldd", "mount", "nsenter", "stat", "unshare")
TRY = """
set -e
mount -t tmpfs tmpfs /run
ip link add e2e0 type veth peer name e2e1
ip link add e2e2 type bridge
"""
"""Everything that is mounted and connected later, in namespaces that end with it."""


def lacking() -> list[str]:
    """What is missing, one sentence each; nothing when everything is there."""
    if os.geteuid() != 0:
        return ["it must be run as root"]
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return [f"programs are missing: {', '.join(missing)}"]
    return [text for text in (_namespaces(), _overlay(), _kernel_log(), _cgroups()) if text]


def _namespaces() -> str:
    unshare = ("unshare", "--mount", "--uts", "--pid", "--net", "--fork", "--mount-proc")
    said = _failure(*unshare, "sh", "-c", TRY)
    return f"namespaces with networks and mounts cannot be made: {said}" if said else ""


def _overlay() -> str:
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    return "" if "overlay" in known else "the kernel has no overlay file system"


def _kernel_log() -> str:
    """Kubelet reads there what the kernel kills, and does without it in no other way."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError as error:
        return f"kubelet needs the kernel's log: {error}"
    return ""


def _cgroups() -> str:
    name = cgroups.name_of("try")
    try:
        cgroups.create(name)
    except OSError as error:
        return f"cgroups cannot be made: {error}"
    finally:
        cgroups.remove(name)
    return ""


def _failure(*command: str) -> str:
    """What a command says when it fails; empty when it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
