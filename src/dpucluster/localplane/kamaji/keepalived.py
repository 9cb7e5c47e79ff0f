"""keepalived for the pods that ask for it: this machine's own, or unpacked Debian packages.

Nothing is installed. Packages are downloaded with apt, which checks its signatures, and unpacked
into the cache beside the binaries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import cache, lock
from dpucluster.localplane import progress as progress_

PROGRAM = "keepalived"
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
MERGED = ("bin", "lib", "lib64", "sbin")
"""Folders that are links into ``/usr`` on every system of today; packages may not know."""
APT_TIMEOUT = 300.0
ADVICE = "install keepalived (nothing of it need run on this machine itself)"
_ARCHIVE = re.compile(r"^'[^']*' (\S+\.deb) ", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """Where keepalived is.

    Attributes:
        root: Of the unpacked packages; empty if the machine itself has it, None if there is none.
        advice: Why there is none, and what to do.
    """

    root: str | None
    advice: str = ""


def find(progress: progress_.Progress, env: Mapping[str, str] = os.environ) -> Found:
    """keepalived, downloaded if need be. That there is none is no error: only its pods need it."""
    if shutil.which(PROGRAM, path=SYSTEM_PATH):
        return Found("")
    folder = cache.root(env) / "keepalived"
    if (folder / "usr/sbin" / PROGRAM).exists():
        return Found(str(folder))
    if not all(shutil.which(tool, path=SYSTEM_PATH) for tool in ("apt-get", "dpkg-deb")):
        return Found(None, f"there is no keepalived here, and no apt to download it: {ADVICE}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        purpose = "which downloads keepalived"
        with lock.hold(folder.with_name("keepalived.lock"), purpose=purpose, progress=progress):
            if not folder.exists():
                _download(folder, progress)
    except (errors.BinaryError, OSError) as error:
        return Found(None, f"keepalived cannot be downloaded ({error}): {ADVICE}")
    return Found(str(folder))


def packages(printed: str) -> list[str]:
    """The package names in what ``apt-get install --print-uris`` prints."""
    return [file.split("_")[0] for file in _ARCHIVE.findall(printed)]


def _download(folder: Path, progress: progress_.Progress) -> None:
    progress.start("keepalived: downloading Debian packages (nothing is installed)")
    partial = folder.with_name("keepalived.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _unpack(partial).rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress.finish("unpacked")


def _unpack(directory: Path) -> Path:
    """Download what apt would install, and unpack it below ``directory``; where it was put."""
    archives, root = directory / "archives", directory / "root"
    archives.mkdir(parents=True)
    root.mkdir()
    options = ("-qq", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=")
    install = ("install", "--no-install-recommends", "--print-uris", "-y", PROGRAM)
    wanted = packages(_run(("apt-get", *options, *install), archives))
    if not wanted:
        raise errors.BinaryError("apt knows no way to install it; apt-get update may help")
    _run(("apt-get", *options, "download", *wanted), archives)
    for archive in sorted(archives.glob("*.deb")):
        _run(("dpkg-deb", "--extract", str(archive), str(root)), archives)
    for name in MERGED:
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    return root


def _run(command: tuple[str, ...], cwd: Path) -> str:
    env = {**os.environ, "LC_ALL": "C", "PATH": SYSTEM_PATH, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.BinaryError(f"{command[0]} took too long") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise errors.BinaryError(f"{command[0]}: {last}")
    return done.stdout
